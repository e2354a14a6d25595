from __future__ import annotations

import base64
import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlencode, urlsplit
from urllib.request import urlopen

import alipay as sdk
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from chalicelib.edge import web
from chalicelib.payments import alipay_bill
from chalicelib.payments.adapters import alipay
from chalicelib.payments.alipay_signature import (
    from_china_time,
    is_signed,
    read_answer,
    sign_request,
    split_keys,
    string_of_notice,
    string_to_sign,
    to_china_time,
    to_minor,
    to_yuan,
)
from chalicelib.payments.errors import BadNotice, BadStatement, NoStatement, ProviderRefused, ProviderUnavailable
from chalicelib.payments.model import Account, Found, Notice, Payment, RefundResult, StatementLine
from chalicelib.payments.rsa_signature import verify_sha256
from infra.local.simulator import alipay as alipay_simulator
from infra.local.simulator.server import Simulator
from tests.payments.adapters.alipay_server import APP_ID, SELLER_ID, AlipayServer, sign

SAMPLES = json.loads((Path(__file__).parent / "samples/alipay.json").read_text())
NOTICES = {case["name"]: case for case in SAMPLES["notifications"]}
KEYS = SAMPLES["keys"]
NOW = 1_781_500_000
DAY = "2026-06-15"
OURS = "pay_0123456789abcdef"
TXN = "2026061522001425331400001234"
LOST = ["drop_after", "slow", "html", "unsigned", "tampered", "sha1", "other_key", "system", "status"]
NEVER_DONE = ["drop_before", "error"]


def number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def private_key(name: str) -> rsa.RSAPrivateKey:
    parts = {part: number(KEYS[name][part]) for part in ("n", "e", "d", "p", "q", "dp", "dq", "qi")}
    public = rsa.RSAPublicNumbers(parts["e"], parts["n"])
    return rsa.RSAPrivateNumbers(
        parts["p"], parts["q"], parts["d"], parts["dp"], parts["dq"], parts["qi"], public
    ).private_key()


def private_pem(key: rsa.RSAPrivateKey, form: serialization.PrivateFormat) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def public_pem(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def bare(pem: str) -> str:
    return "".join(line for line in pem.splitlines() if not line.startswith("-----"))


APP_KEY, ALIPAY_KEY = private_key("app_private_key_pkcs8"), private_key("alipay_signer_private_key_for_tests_pkcs1")
PKCS8 = private_pem(APP_KEY, serialization.PrivateFormat.PKCS8)
PKCS1 = private_pem(APP_KEY, serialization.PrivateFormat.TraditionalOpenSSL)
ACCOUNT = Account(
    "alipay",
    settings={"app_id": APP_ID, "seller_id": SELLER_ID, "alipay_public_key": KEYS["alipay_public_key"]},
    secrets={"private_key": PKCS8},
)
PAYMENT = Payment(
    payment_id=OURS,
    order_id="ord_0123456789abcdef",
    total_minor=4999,
    currency="CNY",
    title="点券 500",
    expires_at=NOW + 900,
    base_url="https://pay.example",
    account=ACCOUNT,
    method="page",
    notify_url="https://pay.example/v1/notices/alipay/pac_1",
    return_url="https://shop.example/return?a=1&b=2",
)


@pytest.fixture(scope="session")
def other_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def server(other_key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[AlipayServer]:
    monkeypatch.setattr(web, "READ_SECONDS", 0.3)
    one = AlipayServer(APP_KEY.public_key(), ALIPAY_KEY, other_key)
    one.slow_seconds = 0.8
    yield one
    one.close()


@pytest.fixture
def payment(server: AlipayServer) -> Payment:
    return at_server(PAYMENT, server)


def at_server(payment: Payment, server: AlipayServer, **settings: str) -> Payment:
    changed = {**payment.account.settings, "api_base": server.url, **settings}
    return replace(payment, account=replace(payment.account, settings=changed))


def with_settings(**settings: str | None) -> Account:
    changed = {name: value for name, value in {**ACCOUNT.settings, **settings}.items() if value is not None}
    return replace(ACCOUNT, settings=changed)


# amounts and times


@pytest.mark.parametrize(("minor", "yuan"), [(1, "0.01"), (10, "0.10"), (4999, "49.99"), (100, "1.00"), (29, "0.29")])
def test_an_amount_is_written_and_read_without_loss(minor: int, yuan: str):
    assert (to_yuan(minor), to_minor(yuan)) == (yuan, minor)


def test_every_amount_up_to_a_hundred_yuan_survives_the_way_there_and_back():
    assert [to_minor(to_yuan(minor)) for minor in range(10_001)] == list(range(10_001))


@pytest.mark.parametrize(
    "text", ["49.999", "", " 1", "1 ", "1.", ".5", "1e2", "0x1", "１", "+1", "1,000", "NaN", "1" * 13, None, 49.99, 49]
)
def test_what_is_no_amount_with_two_places_at_most_is_refused(text: object):
    with pytest.raises(ValueError):
        to_minor(text)


def test_times_are_those_of_china():
    assert to_china_time(NOW) == "2026-06-15 13:06:40"
    assert from_china_time("2026-01-01 00:00:00") == 1_767_196_800
    assert to_china_time(1_767_196_800) == "2026-01-01 00:00:00"


# the recorded requests


@pytest.mark.parametrize("recorded", SAMPLES["requests"], ids=lambda one: one["name"])
@pytest.mark.parametrize("key", [PKCS8, PKCS1, bare(PKCS8), bare(PKCS1)], ids=["pkcs8", "pkcs1", "bare8", "bare1"])
def test_a_recorded_request_is_signed_to_the_letter(recorded: dict, key: str):
    params = dict(parse_qsl(recorded["encoded"], keep_blank_values=True))
    assert params.pop("sign") == recorded["sign"]
    assert string_to_sign(params) == recorded["string_to_sign"].encode()
    signed = sign_request(dict(sorted(params.items())), key)
    assert signed["sign"] == recorded["sign"]
    assert urlencode(signed) == recorded["encoded"]


# the recorded answers


@pytest.mark.parametrize("recorded", SAMPLES["sync_responses"], ids=lambda one: one["name"])
def test_a_recorded_answer_is_verified_over_its_very_characters(recorded: dict):
    node, message, signature = read_answer(recorded["raw_body"].encode(), recorded["response_node"])
    assert message.decode() == recorded["string_to_verify"]
    assert (node, signature) == (json.loads(recorded["string_to_verify"]), recorded["sign"])
    assert is_signed(message, signature, [KEYS["alipay_public_key"]]) is recorded["expected_signature_valid"]
    assert not is_signed(message, signature, [KEYS["app_public_key"]])
    assert not is_signed(message.replace(b"10000", b"10001"), signature, [KEYS["alipay_public_key"]])


def test_an_answer_may_hold_the_signature_first_and_a_certificate_number_besides():
    raw = '{ "sign" : "c2ln" , "alipay_cert_sn":"x",\n"a_response": {"b" : "\\"}{"} }'
    node, message, signature = read_answer(raw.encode(), "a_response")
    assert (node, message, signature) == ({"b": '"}{'}, b'{"b" : "\\"}{"}', "c2ln")


def test_numbers_in_an_answer_never_become_floats():
    node, _, _ = read_answer(b'{"a_response":{"total_amount":0.29,"code":10000}}', "a_response")
    assert node == {"total_amount": "0.29", "code": "10000"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"{", b'{"a_response":{}', b'{"a_response":{}}x', b'{"a_response":"text"}', b"\xff",
     b'{"a_response":{},"a_response":{"code":"10000"}}', b'{"b":{}}', b'{"a_response" {}}', b'{,}', b'{1:{}}',
     b'{"a_response":' + b"[" * 100_000, b'{"a_response":{},}', b'{"a_response":[]}', b'x{"a_response":{}}'],
)  # fmt: skip
def test_a_broken_answer_is_no_answer(body: bytes):
    with pytest.raises(ValueError):
        read_answer(body, "a_response")


# notices: the recorded ones


def read(body: str | bytes, account: Account = ACCOUNT) -> Notice | None:
    return alipay.read_notice(account, {}, body if isinstance(body, bytes) else body.encode(), NOW)


ORDER = "VG202606150001"
MEANINGS = {
    "trade_success_paid": ("paid", 4999),
    "partial_refund_notice": ("refunded", None),
    "timeout_trade_closed_never_paid": ("failed", 4999),
    "trade_finished_refund_window_over": ("paid", 4999),
}
GENUINE = [name for name, case in NOTICES.items() if case["expected_signature_valid"]]


@pytest.mark.parametrize("name", NOTICES)
def test_the_signature_of_a_recorded_notice_is_judged_as_the_record_says(name: str):
    case = NOTICES[name]
    fields = dict(parse_qsl(case["raw_form_body"], keep_blank_values=True))
    if "string_to_verify" in case and case["expected_signature_valid"]:
        assert string_of_notice(fields).decode() == case["string_to_verify"]
    is_good = is_signed(string_of_notice(fields), fields.get("sign"), [KEYS["alipay_public_key"]])
    if name != "sign_type_downgraded_to_RSA":  # its signature may be good; what it says of itself is not
        assert is_good is case["expected_signature_valid"]


@pytest.mark.parametrize("name", MEANINGS)
def test_what_a_recorded_notice_means_to_us(name: str):
    fields = dict(parse_qsl(NOTICES[name]["raw_form_body"], keep_blank_values=True))
    kind, amount_minor = MEANINGS[name]
    theirs = "RF202606150001" if name == "partial_refund_notice" else None  # not of the form of our refund ids
    assert read(NOTICES[name]["raw_form_body"]) == Notice(
        "alipay", fields["notify_id"], kind, ORDER, TXN, amount_minor, "CNY", None, theirs,
        refunded_total_minor=1999 if theirs else None,
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NOTICES if name not in MEANINGS])
def test_a_recorded_notice_that_is_forged_or_not_for_us_is_refused(name: str):
    with pytest.raises(BadNotice):
        read(NOTICES[name]["raw_form_body"])


def test_every_recorded_notice_has_its_meaning_pinned():
    assert {name for name in GENUINE if name != "valid_signature_wrong_app_id"} == set(MEANINGS)
    assert len(NOTICES) >= 10


# notices: made here

FIELDS = dict(parse_qsl(NOTICES["trade_success_paid"]["raw_form_body"], keep_blank_values=True))


def signed_body(
    changes: dict[str, str | None] | None = None,
    key: rsa.RSAPrivateKey = ALIPAY_KEY,
    digest: hashes.HashAlgorithm | None = None,
) -> str:
    fields = {name: value for name, value in {**FIELDS, **(changes or {})}.items() if value is not None}
    fields["sign"] = sign(key, string_of_notice(fields), digest)
    return urlencode(fields)


PAID = {"gmt_payment": "2026-06-15 13:06:38"}
STATES = [
    ({"trade_status": "TRADE_SUCCESS", **PAID}, "paid"),
    ({"trade_status": "TRADE_SUCCESS", **PAID, "refund_fee": "0.00"}, "paid"),
    ({"trade_status": "TRADE_SUCCESS", **PAID, "refund_fee": ""}, "paid"),
    ({"trade_status": "TRADE_SUCCESS", **PAID, "refund_fee": "0.01"}, "refunded"),
    ({"trade_status": "TRADE_SUCCESS", **PAID, "gmt_refund": "2026-06-15 14:00:00.123"}, "refunded"),
    ({"trade_status": "TRADE_CLOSED", **PAID, "refund_fee": "49.99"}, "refunded"),
    ({"trade_status": "TRADE_CLOSED", "gmt_payment": None, "refund_fee": "49.99"}, "refunded"),
    ({"trade_status": "TRADE_CLOSED", **PAID}, "refunded"),
    ({"trade_status": "TRADE_CLOSED", "gmt_payment": None}, "failed"),
    ({"trade_status": "TRADE_FINISHED", **PAID}, "paid"),
    ({"trade_status": "TRADE_FINISHED", **PAID, "refund_fee": "10.00"}, "paid"),
    ({"trade_status": "WAIT_BUYER_PAY", "gmt_payment": None}, "other"),
    ({"trade_status": "TRADE_INVENTED_TOMORROW"}, "other"),
    ({"trade_status": None}, "other"),
    ({"notify_type": "something_else"}, "other"),
]


@pytest.mark.parametrize(("changes", "kind"), STATES)
def test_a_notice_means_what_state_and_refund_fields_say_together(changes: dict, kind: str):
    notice = read(signed_body(changes))
    assert notice is not None
    assert notice.kind == kind
    assert notice.amount_minor == (None if kind == "refunded" else 4999)


@pytest.mark.parametrize(
    ("number", "ours", "theirs"),
    [("rfd_0123456789abcdef_1", "rfd_0123456789abcdef_1", None), ("2026061500", None, "2026061500"), ("", None, None)],
)
def test_a_refund_notice_names_our_refund_or_alipays_number_of_one_made_by_hand(
    number: str, ours: str | None, theirs: str | None
):
    notice = read(signed_body({"refund_fee": "19.99", "out_biz_no": number}))
    assert notice is not None
    assert (notice.kind, notice.provider_txn) == ("refunded", TXN)
    assert (notice.refund_id, notice.provider_refund_id) == (ours, theirs)


def test_a_payment_notice_has_no_refund_id_even_if_it_carries_a_number_like_one():
    notice = read(signed_body({"out_biz_no": "rfd_0123456789abcdef_1"}))
    assert notice is not None
    assert (notice.kind, notice.refund_id, notice.provider_refund_id) == ("paid", None, None)


def test_a_notice_without_our_number_has_that_of_the_money():
    notice = read(signed_body({"out_trade_no": None}))
    assert notice is not None
    assert (notice.payment_id, notice.provider_txn) == (None, TXN)


def test_a_sha1_signature_is_refused_although_it_says_that_it_is_none():
    for sign_type in ("RSA2", "RSA"):
        with pytest.raises(BadNotice):
            read(signed_body({"sign_type": sign_type}, digest=hashes.SHA1()))


@pytest.mark.parametrize("digest", [hashes.SHA384(), hashes.SHA512()])
def test_a_signature_of_another_digest_is_refused(digest: hashes.HashAlgorithm):
    with pytest.raises(BadNotice):
        read(signed_body(digest=digest))


@pytest.mark.parametrize(
    "changes",
    [{"sign_type": "RSA"}, {"sign_type": None}, {"sign_type": ""}, {"sign_type": "MD5"}, {"charset": "GBK"},
     {"app_id": "2021000199999999"}, {"app_id": None}, {"seller_id": "2088000000000000"}, {"seller_id": None},
     {"total_amount": "49.999"}, {"total_amount": "4999e-2"}, {"total_amount": None}, {"total_amount": "0.00"},
     {"total_amount": "-1.00"}, {"refund_fee": "x"}, {"notify_id": None}, {"notify_id": ""}, {"notify_id": "n" * 300}],
)  # fmt: skip
def test_a_rightly_signed_notice_that_is_not_for_us_or_makes_no_sense_is_refused(changes: dict):
    read(signed_body())
    with pytest.raises(BadNotice):
        read(signed_body(changes))


def test_a_notice_of_a_length_that_no_notice_has_is_not_even_looked_at():
    assert read(signed_body({"body": "x" * 400})) is not None
    with pytest.raises(BadNotice):
        read(signed_body({"body": "x" * 70_000}))


def test_a_notice_without_a_charset_is_taken_for_utf8():
    assert read(signed_body({"charset": None})) is not None


def test_a_message_of_another_kind_is_genuine_and_about_nothing_of_ours():
    other = {"msg_method": "alipay.open.app.message", "seller_id": None, "trade_status": None, "total_amount": None}
    assert read(signed_body(other)) is None
    with pytest.raises(BadNotice):
        read(signed_body({**other, "app_id": "2021000199999999"}))


GOOD = signed_body()


@pytest.mark.parametrize(
    "body",
    [b"", b"a", b"&", b"=", b"{}", b"\xff", GOOD.encode() + b"&", GOOD.encode() + b"&total_amount=0.01",
     GOOD.encode() + b"&x=%FF", GOOD.encode() + b"&x=\xe7\x82\xb9", GOOD.encode() + b"&x", GOOD.encode() + b"&sign=x",
     b"sign=&sign_type=RSA2", b"sign_type=RSA2&app_id=" + APP_ID.encode(), b"&".join(b"a%d=" % n for n in range(300)),
     GOOD.replace("sign=", "sign=%00").encode(), GOOD.replace("&", ";").encode(), b"a=" + b"b" * 70_000],
)  # fmt: skip
def test_a_broken_form_is_a_bad_notice_and_never_a_fault(body: bytes):
    with pytest.raises(BadNotice):
        read(body)


@pytest.mark.parametrize(
    "body",
    [b"trade_status=TRADE_CLOSED&" + GOOD.encode(), GOOD.encode() + b"&version=1.0",
     signed_body({"body": "\ufffd"}).replace("%EF%BF%BD", "%FF").encode()],
    ids=["another value first", "the same value again", "not UTF-8 in place of a replacement mark"],
)  # fmt: skip
def test_a_form_that_could_be_read_in_two_ways_is_refused_although_one_of_them_is_signed(body: bytes):
    with pytest.raises(BadNotice):
        read(body)


def test_any_single_changed_byte_of_a_notice_is_refused():
    body = NOTICES["trade_success_paid"]["raw_form_body"].encode()
    end_of_signed = body.index(b"&sign=")
    for position in range(0, end_of_signed, 23):
        changed = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
        if parse_qsl(changed.decode()) != parse_qsl(body.decode()):  # not: a letter of an escape in the other case
            with pytest.raises(BadNotice):
                read(changed)


def test_while_the_key_of_alipay_changes_both_are_believed_and_afterwards_only_the_new_one(other_key):
    old, new = KEYS["alipay_public_key"], public_pem(other_key)
    for both in (f"{old}\n\n{new}", f"{new}{old}", f"{bare(new)}\n\n{bare(old)}\n", f"{bare(new)}\r\n\r\n{old}"):
        for key in (ALIPAY_KEY, other_key):
            assert read(signed_body(key=key), with_settings(alipay_public_key=both)) is not None
    with pytest.raises(BadNotice):
        read(signed_body(), with_settings(alipay_public_key=new))


def test_keys_are_told_apart_with_or_without_their_pem_lines():
    one = KEYS["alipay_public_key"].strip()
    assert split_keys(one) == [one]
    assert split_keys(bare(one)) == [bare(one)]
    assert split_keys(f"{one}\n{one}\n\n{bare(one)}") == [one, one, bare(one)]
    assert split_keys("") == split_keys(" \n\n ") == []


def certificate(key: rsa.RSAPrivateKey) -> str:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Alipay")])
    day = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + timedelta(days=365))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_in_certificate_mode_the_key_is_in_the_certificate(other_key):
    account = with_settings(alipay_public_key=None, alipay_certificate=certificate(ALIPAY_KEY))
    assert read(signed_body(), account) is not None
    with pytest.raises(BadNotice):
        read(signed_body(key=other_key), account)
    with pytest.raises(BadNotice):
        read(signed_body(), with_settings(alipay_public_key=None, alipay_certificate=certificate(other_key)))


@pytest.mark.parametrize("missing", ["app_id", "seller_id", "alipay_public_key"])
def test_an_account_that_is_not_filled_in_accepts_no_notice(missing: str):
    with pytest.raises(BadNotice):
        read(signed_body(), with_settings(**{missing: None}))
    with pytest.raises(BadNotice):
        read(signed_body({"app_id": "", "seller_id": ""}), with_settings(**{missing: ""}))


def test_alipay_wants_to_hear_success_in_plain_text():
    assert (alipay.FACTS.taken.body, alipay.FACTS.taken.content_type) == ("success", "text/plain")


# another library as the oracle


def library(own: str, theirs: str) -> sdk.AliPay:
    return sdk.AliPay(appid=APP_ID, app_private_key_string=own, alipay_public_key_string=theirs, debug=True)


def test_the_library_signs_a_notice_and_we_accept():
    signer = library(private_pem(ALIPAY_KEY, serialization.PrivateFormat.PKCS8), KEYS["app_public_key"])
    fields = {name: value for name, value in FIELDS.items() if name not in ("sign", "sign_type")}
    signature = signer._sign("&".join(f"{name}={value}" for name, value in sorted(fields.items())))
    notice = read(urlencode({**fields, "sign_type": "RSA2", "sign": signature}))
    assert notice is not None
    assert notice.kind == "paid"


def test_the_library_accepts_the_notices_we_accept():
    reader = library(PKCS8, KEYS["alipay_public_key"])
    fields = dict(parse_qsl(signed_body({"body": ""}), keep_blank_values=True))
    assert reader.verify(dict(fields), fields.pop("sign")) is False  # it wants `sign` out of the way first
    assert reader.verify({name: fields[name] for name in fields}, dict(parse_qsl(signed_body({"body": ""})))["sign"])


@pytest.mark.parametrize("method", ["page", "wap"])
def test_the_library_signs_our_page_request_just_as_we_do(method: str):
    url = alipay.start(replace(PAYMENT, method=method), NOW).pay_url
    params = dict(parse_qsl(urlsplit(url or "").query, keep_blank_values=True))
    signature = params.pop("sign")
    theirs = dict(parse_qsl(library(PKCS8, KEYS["alipay_public_key"]).sign_data(params), keep_blank_values=True))
    assert theirs.pop("sign") == signature
    assert theirs == params


def test_the_gateway_of_these_tests_and_the_library_understand_each_other(server: AlipayServer):
    client = library(PKCS8, KEYS["alipay_public_key"])
    client._gateway = f"{server.url}/gateway.do"
    assert client.api_alipay_trade_precreate("x", OURS, "49.99")["qr_code"].startswith("https://qr.alipay.com/bax")
    server.pay(OURS)["subject"] = "x"
    assert client.api_alipay_trade_query(OURS)["trade_status"] == "TRADE_SUCCESS"
    assert client.api_alipay_trade_refund("1.00", OURS, out_request_no="rfd_1")["fund_change"] == "Y"


# start


def test_a_page_is_an_address_with_a_signature_that_the_application_key_made():
    started = alipay.start(PAYMENT, NOW)
    parts = urlsplit(started.pay_url or "")
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "https://openapi-sandbox.dl.alipaydev.com/gateway.do"
    params = dict(parse_qsl(parts.query, keep_blank_values=True))
    signature = params.pop("sign")
    assert verify_sha256(KEYS["app_public_key"], string_to_sign(params), signature)
    about = json.loads(params.pop("biz_content"))
    assert params == {
        "app_id": APP_ID, "method": "alipay.trade.page.pay", "format": "JSON", "charset": "utf-8", "sign_type": "RSA2",
        "timestamp": "2026-06-15 13:06:40", "version": "1.0", "notify_url": PAYMENT.notify_url,
        "return_url": PAYMENT.return_url,
    }  # fmt: skip
    assert about == {
        "out_trade_no": OURS, "total_amount": "49.99", "subject": "点券 500", "time_expire": "2026-06-15 13:21:40",
        "product_code": "FAST_INSTANT_TRADE_PAY", "goods_type": "0",
    }  # fmt: skip


def about_of(payment: Payment, now: int = NOW) -> dict:
    params = dict(parse_qsl(urlsplit(alipay.start(payment, now).pay_url or "").query))
    return {**params, **json.loads(params["biz_content"])}


def test_a_live_account_speaks_to_the_live_gateway_and_a_phone_gets_the_phone_page():
    live = replace(PAYMENT, account=replace(ACCOUNT, mode="live"), method="wap")
    assert (alipay.start(live, NOW).pay_url or "").startswith("https://openapi.alipay.com/gateway.do?app_id=")
    assert about_of(live)["method"] == "alipay.trade.wap.pay"
    assert about_of(live)["product_code"] == "QUICK_WAP_PAY"
    assert about_of(live)["quit_url"] == PAYMENT.return_url


@pytest.mark.parametrize(
    ("title", "subject"),
    [("Steam / 50 & more=<b>", "Steam   50   more b"), ("", "ord_0123456789abcdef"), ("///", "ord_0123456789abcdef"),
     ("点" * 300, "点" * 128), ('a,"b"\n', "a  b")],
)  # fmt: skip
def test_a_title_is_made_into_a_subject_that_alipay_takes(title: str, subject: str):
    assert about_of(replace(PAYMENT, title=title))["subject"].split() == subject.split()


def test_an_end_that_is_too_near_for_alipay_is_put_off():
    assert about_of(replace(PAYMENT, expires_at=NOW + 5))["time_expire"] == to_china_time(NOW + 60)


@pytest.mark.parametrize("return_url", [None, "https://shop.example/" + "x" * 300])
def test_without_an_address_alipay_takes_the_buyer_comes_back_to_us(return_url: str | None):
    assert about_of(replace(PAYMENT, return_url=return_url))["return_url"] == "https://pay.example/"


def test_in_certificate_mode_the_serial_numbers_are_sent_and_signed():
    account = with_settings(
        app_cert_sn="a1", alipay_root_cert_sn="b2", alipay_public_key=None, alipay_certificate=certificate(ALIPAY_KEY)
    )
    params = dict(parse_qsl(urlsplit(alipay.start(replace(PAYMENT, account=account), NOW).pay_url or "").query))
    assert (params["app_cert_sn"], params["alipay_root_cert_sn"]) == ("a1", "b2")
    assert verify_sha256(KEYS["app_public_key"], string_to_sign(params | {}), params["sign"]) is False
    signature = params.pop("sign")
    assert verify_sha256(KEYS["app_public_key"], string_to_sign(params), signature)
    assert not {"app_cert_sn", "alipay_root_cert_sn"} & set(about_of(PAYMENT))


def test_a_code_is_asked_of_alipay_and_repeating_is_the_same_trade(payment: Payment, server: AlipayServer):
    code = replace(payment, method="precreate")
    assert alipay.start(code, NOW).qr_text == f"https://qr.alipay.com/bax{OURS}"
    assert alipay.start(code, NOW).qr_text == f"https://qr.alipay.com/bax{OURS}"
    assert list(server.opened) == [OURS]
    assert server.opened[OURS]["total_amount"] == "49.99"
    assert server.opened[OURS]["time_expire"] == to_china_time(PAYMENT.expires_at)
    assert server.seen[0]["notify_url"] == PAYMENT.notify_url


@pytest.mark.parametrize("fault", [*LOST, *NEVER_DONE])
def test_a_code_that_alipay_did_not_answer_rightly_is_unavailable(fault: str, payment: Payment, server: AlipayServer):
    server.fault = fault
    with pytest.raises(ProviderUnavailable):
        alipay.start(replace(payment, method="precreate"), NOW)
    assert len(server.seen) == 1
    assert alipay.start(replace(payment, method="precreate"), NOW).qr_text


@pytest.mark.parametrize(
    ("refusal", "error"),
    [("ACQ.ACCESS_FORBIDDEN", ProviderRefused), ("ACQ.CONTEXT_INCONSISTENT", ProviderRefused),
     ("ACQ.SYSTEM_ERROR", ProviderUnavailable), ("ACQ.TRADE_HAS_SUCCESS", ProviderUnavailable)],
)  # fmt: skip
def test_a_no_to_a_code_is_told_from_a_not_now(refusal: str, error: type, payment: Payment, server: AlipayServer):
    server.fault, server.refusal = "refused", refusal
    with pytest.raises(error):
        alipay.start(replace(payment, method="precreate"), NOW)


def test_a_wrong_application_or_key_is_a_refusal_even_when_alipay_does_not_sign_it(
    payment: Payment, server: AlipayServer, other_key: rsa.RSAPrivateKey
):
    code = replace(payment, method="precreate")
    with pytest.raises(ProviderRefused):  # unsigned: whose key would it be?
        alipay.start(at_server(code, server, app_id="2021000100000000"), NOW)
    foreign = private_pem(other_key, serialization.PrivateFormat.PKCS8)
    with pytest.raises(ProviderRefused):
        alipay.start(replace(code, account=replace(code.account, secrets={"private_key": foreign})), NOW)
    assert server.opened == {}


@pytest.mark.parametrize("method", ["page", "wap", "precreate"])
@pytest.mark.parametrize("missing", ["app_id", "seller_id", "alipay_public_key", "private_key"])
def test_an_account_that_is_not_filled_in_opens_nothing(missing: str, method: str):
    account = with_settings(**{missing: None})
    if missing == "private_key":
        account = replace(account, secrets={})
    with pytest.raises(ProviderRefused):
        alipay.start(replace(PAYMENT, account=account, method=method), NOW)


@pytest.mark.parametrize("method", ["page", "precreate"])
def test_a_private_key_that_is_none_is_a_refusal_that_does_not_quote_it(method: str, server: AlipayServer):
    account = replace(at_server(PAYMENT, server).account, secrets={"private_key": "MIIsecret"})
    with pytest.raises(ProviderRefused) as refused:
        alipay.start(replace(PAYMENT, account=account, method=method), NOW)
    assert "MIIsecret" not in repr(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("change", [{"currency": "USD"}, {"total_minor": 0}, {"method": "card"}, {"method": ""}])
def test_what_alipay_cannot_take_is_refused_before_anything_is_sent(change: dict):
    with pytest.raises(ProviderRefused):
        alipay.start(replace(PAYMENT, **change), NOW)


def test_without_a_private_key_nothing_is_sent(payment: Payment, server: AlipayServer):
    poor = replace(payment, account=replace(payment.account, secrets={}))
    assert alipay.find(poor) == Found("unknown")
    assert alipay.close(poor) == "unknown"
    assert alipay.refund(poor, "rfd_1", 1, NOW) == RefundResult("unknown")
    assert alipay.find_refund(poor, "rfd_1") == RefundResult("unknown")
    with pytest.raises(ProviderRefused):
        alipay.statement(poor.account, DAY)
    assert server.seen == []


# find


def test_finding_says_what_alipay_knows(payment: Payment, server: AlipayServer):
    assert alipay.find(payment) == Found("unpaid")  # nobody has scanned yet
    trade = server.scan(OURS)
    assert alipay.find(payment) == Found("unpaid")
    server.pay(OURS)
    assert alipay.find(payment) == Found("paid", 4999, "CNY", trade["trade_no"])
    trade["trade_status"] = "TRADE_FINISHED"
    assert alipay.find(payment).state == "paid"
    trade["trade_status"] = "TRADE_CLOSED"
    assert alipay.find(payment) == Found("unknown")  # paid, and given back entirely
    del trade["send_pay_date"]
    assert alipay.find(payment) == Found("unpaid")
    trade["trade_status"] = "INVENTED_TOMORROW"
    assert alipay.find(payment) == Found("unknown")


@pytest.mark.parametrize("fault", [*LOST, *NEVER_DONE])
def test_finding_concludes_nothing_from_silence_or_from_what_alipay_did_not_sign(
    fault: str, payment: Payment, server: AlipayServer
):
    server.fault, server.is_fault_lasting = fault, True
    assert alipay.find(payment) == Found("unknown")
    server.pay(OURS)
    assert alipay.find(payment) == Found("unknown")


@pytest.mark.parametrize(
    "change", [{"out_trade_no": "pay_another"}, {"total_amount": "49.999"}, {"total_amount": ""}, {"trade_no": ""}]
)
def test_finding_concludes_nothing_from_an_answer_about_another_payment_or_without_a_sum(
    change: dict, payment: Payment, server: AlipayServer
):
    server.pay(OURS).update(change)
    assert alipay.find(payment) == Found("unknown")


def test_finding_concludes_nothing_from_a_refusal_it_does_not_know(payment: Payment, server: AlipayServer):
    server.fault, server.refusal = "refused", "ACQ.INVENTED_TOMORROW"
    assert alipay.find(payment) == Found("unknown")


def test_an_alipay_that_cannot_be_reached_is_unknown(payment: Payment, server: AlipayServer):
    server.close()
    assert alipay.find(payment) == Found("unknown")
    with pytest.raises(ProviderUnavailable):
        alipay.start(replace(payment, method="precreate"), NOW)


def test_a_request_carries_the_time_of_china(payment: Payment, server: AlipayServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web, "wall_clock", lambda: NOW + 0.9)
    alipay.find(payment)
    assert server.seen[0]["timestamp"] == "2026-06-15 13:06:40"


# close


def test_closing_ends_what_waits_for_its_buyer_and_twice_is_a_success(payment: Payment, server: AlipayServer):
    trade = server.scan(OURS)
    assert alipay.close(payment) == "closed"
    assert trade["trade_status"] == "TRADE_CLOSED"
    assert alipay.close(payment) == "closed"


def test_closing_what_is_paid_says_so(payment: Payment, server: AlipayServer):
    server.pay(OURS)
    assert alipay.close(payment) == "paid"
    assert server.trades[OURS]["trade_status"] == "TRADE_SUCCESS"


def test_closing_what_nobody_has_begun_is_unknown_because_somebody_may_still_scan(
    payment: Payment, server: AlipayServer
):
    assert alipay.close(payment) == "unknown"


@pytest.mark.parametrize("fault", [*LOST, *NEVER_DONE])
def test_closing_claims_nothing_that_alipay_did_not_say(fault: str, payment: Payment, server: AlipayServer):
    server.scan(OURS)
    server.fault = fault
    assert alipay.close(payment) == "unknown"
    assert alipay.close(payment) == "closed"


def test_closing_claims_nothing_from_an_answer_about_another_payment(payment: Payment, server: AlipayServer):
    server.scan(OURS)
    server.fault = "another"
    assert alipay.close(payment) == "unknown"
    server.pay(OURS)
    server.fault, server.fault_on = "another", "query"
    assert alipay.close(payment) == "unknown"


# refunds


def test_a_refund_pays_once_however_often_it_is_asked(payment: Payment, server: AlipayServer):
    server.pay(OURS)
    results = [alipay.refund(payment, "rfd_1", 1999, NOW) for _ in range(3)]
    assert results == [RefundResult("succeeded")] * 3
    assert server.refunds == {(OURS, "rfd_1"): "19.99"}


def test_several_refunds_add_up_and_no_more_than_was_paid_goes_back(payment: Payment, server: AlipayServer):
    server.pay(OURS)
    assert alipay.refund(payment, "rfd_1", 1999, NOW).state == "succeeded"
    assert alipay.refund(payment, "rfd_2", 3001, NOW).state == "failed"
    assert alipay.refund(payment, "rfd_3", 3000, NOW).state == "succeeded"
    assert server.trades[OURS]["trade_status"] == "TRADE_CLOSED"
    assert [alipay.find_refund(payment, f"rfd_{n}") for n in (1, 2, 3)] == [
        RefundResult("succeeded"), None, RefundResult("succeeded"),
    ]  # fmt: skip


@pytest.mark.parametrize("fault", LOST)
def test_a_refund_whose_answer_was_lost_is_unknown_and_found_by_asking(
    fault: str, payment: Payment, server: AlipayServer
):
    server.pay(OURS)
    server.fault, server.fault_on = fault, "trade.refund"
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("unknown")
    assert alipay.find_refund(payment, "rfd_1") == RefundResult("succeeded")
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("succeeded")
    assert len(server.refunds) == 1


@pytest.mark.parametrize("fault", NEVER_DONE)
def test_a_refund_that_never_arrived_is_unknown_and_can_be_repeated(fault: str, payment: Payment, server: AlipayServer):
    server.pay(OURS)
    server.fault = fault
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("unknown")
    assert alipay.find_refund(payment, "rfd_1") is None
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("succeeded")


@pytest.mark.parametrize("fault", [*LOST, *NEVER_DONE])
def test_asking_about_a_refund_concludes_nothing_from_silence(fault: str, payment: Payment, server: AlipayServer):
    server.pay(OURS)
    server.fault, server.is_fault_lasting, server.fault_on = fault, True, "refund.query"
    assert alipay.find_refund(payment, "rfd_1") == RefundResult("unknown")
    alipay.refund(payment, "rfd_1", 1999, NOW)
    assert alipay.find_refund(payment, "rfd_1") == RefundResult("unknown")
    # The same number again moves nothing; whether it moved before, nobody can say now.
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("unknown")


@pytest.mark.parametrize("refusal", sorted(alipay._REFUSED_FOR_GOOD))
def test_a_refusal_for_good_is_failed_unless_alipays_books_have_the_refund(
    refusal: str, payment: Payment, server: AlipayServer
):
    server.pay(OURS)
    server.fault, server.refusal, server.fault_on = "refused", refusal, "trade.refund"
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("failed")
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("succeeded")
    server.fault = "refused"
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("succeeded")


def test_a_refusal_for_good_is_unknown_while_the_books_cannot_be_seen(payment: Payment, server: AlipayServer):
    server.pay(OURS)
    server.fault, server.refusal, server.is_fault_lasting = "refused", "ACQ.TRADE_HAS_FINISHED", True
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("unknown")


@pytest.mark.parametrize(
    "refusal",
    ["ACQ.SELLER_BALANCE_NOT_ENOUGH", "ACQ.REASON_TRADE_BEEN_FREEZEN", "ACQ.SYSTEM_ERROR", "ACQ.REFUND_CHARGE_ERROR",
     "ACQ.DISCORDANT_REPEAT_REQUEST", "ACQ.INVENTED_TOMORROW", ""],
)  # fmt: skip
def test_a_refusal_that_may_change_is_unknown_and_goes_through_later_under_the_same_id(
    refusal: str, payment: Payment, server: AlipayServer
):
    server.pay(OURS)
    server.fault, server.refusal, server.fault_on = "refused", refusal, "trade.refund"
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("unknown")
    assert alipay.find_refund(payment, "rfd_1") is None
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("succeeded")


@pytest.mark.parametrize("fault", ["another", "another_refund"])
def test_a_refund_is_not_believed_from_an_answer_about_another_one(fault: str, payment: Payment, server: AlipayServer):
    server.pay(OURS)
    server.fault, server.is_fault_lasting = fault, True
    first = alipay.refund(payment, "rfd_1", 1999, NOW)
    assert first.state == ("unknown" if fault == "another" else "succeeded")
    assert alipay.find_refund(payment, "rfd_1") == RefundResult("unknown")
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("unknown")


def test_another_sum_under_the_same_refund_id_is_neither_yes_nor_no(payment: Payment, server: AlipayServer):
    server.pay(OURS)
    alipay.refund(payment, "rfd_1", 1999, NOW)
    assert alipay.refund(payment, "rfd_1", 2000, NOW) == RefundResult("unknown")
    assert server.refunds == {(OURS, "rfd_1"): "19.99"}


def test_a_wrong_signature_of_ours_says_nothing_about_the_money(
    payment: Payment, server: AlipayServer, other_key: rsa.RSAPrivateKey
):
    server.pay(OURS)
    foreign = private_pem(other_key, serialization.PrivateFormat.PKCS8)
    ours = replace(payment, account=replace(payment.account, secrets={"private_key": foreign}))
    assert alipay.refund(ours, "rfd_1", 1999, NOW) == RefundResult("unknown")
    assert alipay.find_refund(ours, "rfd_1") == RefundResult("unknown")
    assert alipay.find(ours) == Found("unknown")
    assert server.refunds == {}


def test_a_refund_of_an_unknown_payment_has_failed_and_was_never_heard_of(payment: Payment, server: AlipayServer):
    assert alipay.refund(payment, "rfd_1", 1999, NOW) == RefundResult("failed")
    assert alipay.find_refund(payment, "rfd_1") is None


@pytest.mark.parametrize("amount_minor", [0, -1])
def test_nothing_can_be_given_back_but_a_sum(amount_minor: int, payment: Payment, server: AlipayServer):
    assert alipay.refund(payment, "rfd_1", amount_minor, NOW) == RefundResult("failed")
    assert server.seen == []


# statements

HEADER = (
    "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,"
    "支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,"
    "退款批次号/请求号,服务费（元）,分润（元）,备注"
)


def bill_row(
    txn: str = TXN, our_no: str = OURS, kind: str = "交易", amount: str = "49.99", fee: str = "-0.30",
    refund_no: str = "", at: str = f"{DAY} 13:06:38",
) -> str:  # fmt: skip
    cells = [
        f"{txn}\t", f"{our_no}\t", f"{kind}\t", "点券 500", f"{DAY} 13:06:20", at, "\t", "\t", "\t", "\t",
        "**博(156******89)\t", amount, amount, "0.00", "0.00", "0.00", "0.00", "0.00", "", "0.00\t", "0.00",
        f"{refund_no}\t", fee, "0.00", "",
    ]  # fmt: skip
    return ",".join(cells)


def bill(*rows: str, seller: str = SELLER_ID, day: str = DAY, until: str = "2026-06-16", end: bool = True) -> str:
    def written(one: str) -> str:
        return "{}年{}月{}日".format(*one.split("-"))

    lines = [
        "#支付宝业务明细查询", f"#账号：[{seller}0156]",
        f"#起始日期：[{written(day)} 00:00:00]   终止日期：[{written(until)} 00:00:00]",
        f"#{'-' * 41}业务明细列表{'-' * 40}", HEADER, *rows,
    ]  # fmt: skip
    if end:
        lines += [f"#{'-' * 41}业务明细列表结束{'-' * 36}", "#交易合计：1笔，商家实收共49.99元，商家优惠共0.00元"]
    return "\r\n".join(lines) + "\r\n"


SUMMARY = "#支付宝业务汇总查询\r\n门店编号,门店名称,订单总笔数,订单金额（元）,商家实收（元）\r\n合计,,1,49.99,49.99\r\n"


def zipped(*texts: str, encoding: str = "gbk") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for position, text in enumerate(texts):
            archive.writestr(f"20881021462251350156_20260615_{position}.csv", text.encode(encoding))
    return packed.getvalue()


WHOLE = bill(
    bill_row(),
    bill_row(kind="退款", amount="-19.99", fee="0.12", refund_no="rfd_0123456789abcdef_1", at=f"{DAY} 14:00:00"),
    bill_row(kind="退款", amount="-5.00", fee="0.00", refund_no="20260615990001", at=f"{DAY} 23:59:59"),
    bill_row(txn="2026061522009999", our_no="T_1", amount="0.10", fee="0.00", at=f"{DAY} 00:00:00"),
)
LINES = [
    StatementLine("payment", TXN, OURS, 4999, "CNY", NOW - 2, 30),
    StatementLine(
        "refund", TXN, "rfd_0123456789abcdef_1", -1999, "CNY", NOW + 3200, -12, "rfd_0123456789abcdef_1"
    ),
    StatementLine("refund", TXN, None, -500, "CNY", NOW + 39_199, 0, "20260615990001"),
    StatementLine("payment", "2026061522009999", "T_1", 10, "CNY", NOW - 47_200, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    "raw",
    [WHOLE.encode("gbk"), WHOLE.encode(), b"\xef\xbb\xbf" + WHOLE.encode(), WHOLE.replace("\r\n", "\n").encode("gbk"),
     zipped(SUMMARY, WHOLE), zipped(WHOLE, SUMMARY), zipped(WHOLE, encoding="utf-8")],
    ids=["gbk", "utf-8", "with mark", "line feeds", "zip", "zip other order", "zip utf-8"],
)  # fmt: skip
def test_a_bill_is_read_as_alipay_offers_it_and_as_somebody_saved_it_again(raw: bytes):
    assert alipay.parse_statement(ACCOUNT, raw, DAY) == LINES


def test_a_day_begins_at_midnight_in_china():
    assert alipay.FACTS.day_offset_hours == 8
    (line,) = alipay.parse_statement(ACCOUNT, bill(bill_row(at=f"{DAY} 00:00:00")).encode("gbk"), DAY)
    assert line.at == 1_781_452_800 == 1_781_481_600 - 8 * 3600  # midnight in Greenwich less eight hours


def test_a_bill_of_a_month_gives_the_lines_of_the_day():
    month = bill(bill_row(at="2026-06-14 23:59:59"), bill_row(), day="2026-06-01", until="2026-07-01")
    assert [line.at for line in alipay.parse_statement(ACCOUNT, month.encode("gbk"), DAY)] == [NOW - 2]


def test_a_bill_whose_heading_names_the_last_second_of_the_day_is_of_that_day():
    text = bill(bill_row(), until=DAY).replace("日 00:00:00]\r", "日 23:59:59]\r")
    assert "23:59:59" in text
    assert len(alipay.parse_statement(ACCOUNT, text.encode("gbk"), DAY)) == 1


def test_a_bill_in_several_files_is_read_whole():
    assert alipay.parse_statement(ACCOUNT, zipped(WHOLE, SUMMARY, WHOLE), DAY) == LINES * 2


def test_a_day_without_movements_is_an_empty_statement():
    assert alipay.parse_statement(ACCOUNT, bill().encode("gbk"), DAY) == []


def test_a_fee_is_kept_with_a_payment_and_given_back_with_a_refund_whatever_its_sign():
    for fee in ("-0.30", "0.30"):
        text = bill(bill_row(fee=fee), bill_row(kind="退款", amount="49.99", fee=fee, refund_no="rfd_1"))
        paid, back = alipay.parse_statement(ACCOUNT, text.encode("gbk"), DAY)
        assert (paid.amount_minor, paid.fee_minor, back.amount_minor, back.fee_minor) == (4999, 30, -4999, -30)


def test_a_movement_of_another_kind_is_shown_as_it_stands():
    (line,) = alipay.parse_statement(ACCOUNT, bill(bill_row(kind="调账", amount="-1.00", fee="0")).encode("gbk"), DAY)
    assert (line.kind, line.amount_minor, line.fee_minor) == ("other", -100, 0)


@pytest.mark.parametrize(
    "text",
    [
        "", "a,b,c\n1,2,3\n", SUMMARY, WHOLE.split("\r\n")[0], bill(bill_row(), end=False),
        bill(bill_row(), seller="2088999999999999"), bill(bill_row(), day="2026-06-14", until="2026-06-15"),
        bill(bill_row(), day="2026-06-16", until="2026-06-17"), bill(bill_row(at="2026-06-14 10:00:00")),
        bill(bill_row(amount="49.999")), bill(bill_row(amount="")), bill(bill_row(fee="x")), bill(bill_row(at="today")),
        bill(bill_row(txn="")), bill(bill_row() + ",more"), bill(bill_row()[:60]), bill(bill_row(kind='"open')),
        WHOLE.replace("服务费（元）", "费（元）"),
    ],
)  # fmt: skip
def test_what_is_not_the_whole_bill_of_this_seller_and_day_is_refused(text: str):
    with pytest.raises(BadStatement):
        alipay.parse_statement(ACCOUNT, text.encode("gbk"), DAY)


def test_a_bill_of_the_day_before_is_refused_even_when_it_is_empty():
    with pytest.raises(BadStatement):
        alipay.parse_statement(ACCOUNT, bill(day="2026-06-14", until=DAY).encode("gbk"), DAY)


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe\x00", b"PK", b"PK\x03\x04" + b"x" * 100, zipped(WHOLE)[:-30], zipped(), zipped(SUMMARY),
            zipped(WHOLE)[:200] + b"\0" * 20 + zipped(WHOLE)[220:], zipped(*["a"] * 40)]
)  # fmt: skip
def test_what_is_no_file_of_alipays_is_refused(raw: bytes):
    with pytest.raises(BadStatement):
        alipay.parse_statement(ACCOUNT, raw, DAY)


def test_a_zip_that_would_fill_the_memory_is_refused_whatever_it_says_of_its_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alipay_bill, "MAX_BYTES", 100_000)
    assert alipay.parse_statement(ACCOUNT, zipped(WHOLE), DAY) == LINES
    bombs = [zipped(WHOLE + "#" * 200_000), zipped(WHOLE, "#" * 60_000, "#" * 60_000)]
    lying = bytearray(bombs[0])
    at = lying.index(b"PK\x01\x02") + 24
    lying[at : at + 4] = (10).to_bytes(4, "little")
    for bomb in (*bombs, bytes(lying), (WHOLE + "#\r\n" * 40_000).encode("gbk")):
        assert len(bomb) > 0
        with pytest.raises(BadStatement):
            alipay.parse_statement(ACCOUNT, bomb, DAY)


def test_a_statement_is_asked_of_alipay_and_fetched_from_where_it_says(payment: Payment, server: AlipayServer):
    server.bills[f"/{DAY}"] = zipped(SUMMARY, WHOLE)
    assert alipay.statement(payment.account, DAY) == LINES
    about = json.loads(server.seen[0]["biz_content"])
    assert about == {"bill_type": "trade", "bill_date": DAY}


def test_a_day_that_alipay_has_no_bill_of_has_no_statement(payment: Payment, server: AlipayServer):
    with pytest.raises(NoStatement):
        alipay.statement(payment.account, DAY)
    server.fault, server.refusal = "refused", "isv.invalid_arguments"  # what it says of the running day
    with pytest.raises(NoStatement):
        alipay.statement(payment.account, DAY)


@pytest.mark.parametrize("fault", [*LOST, *NEVER_DONE])
def test_a_statement_that_could_not_be_asked_for_is_unavailable(fault: str, payment: Payment, server: AlipayServer):
    server.bills[f"/{DAY}"] = zipped(WHOLE)
    server.fault = fault
    with pytest.raises(ProviderUnavailable):
        alipay.statement(payment.account, DAY)


def test_a_statement_that_cannot_be_fetched_or_read_is_unavailable(payment: Payment, server: AlipayServer):
    server.bills[f"/{DAY}"] = zipped(WHOLE)[:100]
    with pytest.raises(ProviderUnavailable):
        alipay.statement(payment.account, DAY)
    server.bills[f"/{DAY}"], server.bill_status = zipped(WHOLE), 403
    with pytest.raises(ProviderUnavailable):
        alipay.statement(payment.account, DAY)
    server.bill_url = f"{server.url}/nothing-there"
    with pytest.raises(ProviderUnavailable):
        alipay.statement(payment.account, DAY)


def test_a_statement_that_alipay_may_not_give_is_refused(payment: Payment, server: AlipayServer):
    server.fault, server.refusal = "refused", "isv.insufficient-isv-permissions"
    with pytest.raises(ProviderRefused):
        alipay.statement(payment.account, DAY)


@pytest.mark.parametrize(
    ("url", "fetched"),
    [("http://dwbillcenter.alipay.com/down.resource?a=1&b=%2F", "https://dwbillcenter.alipay.com/down.resource?a=1&b=%2F"),
     ("https://dwbillcenter.alipaydev.com/x", "https://dwbillcenter.alipaydev.com/x")],
)  # fmt: skip
def test_a_bill_is_fetched_from_alipays_own_host_with_tls(url: str, fetched: str):
    assert alipay._bill_url(ACCOUNT, {"bill_download_url": url}) == fetched


@pytest.mark.parametrize(
    "url",
    ["https://evil.example/x", "https://evilalipay.com/x", "https://alipay.com.evil.example/", "http://127.0.0.1/x",
     "file:///etc/passwd", "https://a.alipay.com@evil.example/", "https://x.alipay.com:80@evil.example/", "", None, 7,
     "https://[::1", "https://evil.example/.alipay.com"],
)  # fmt: skip
def test_a_bill_is_fetched_from_nowhere_else(url: object):
    with pytest.raises(web.OutcomeUnknown):
        alipay._bill_url(ACCOUNT, {"bill_download_url": url})


# what must not get out


def test_neither_key_nor_secret_shows_in_what_a_payment_or_an_error_prints(payment: Payment, server: AlipayServer):
    assert bare(PKCS8)[:40] not in repr(payment)
    server.fault = "html"
    with pytest.raises(ProviderUnavailable) as error:
        alipay.start(replace(payment, method="precreate"), NOW)
    assert error.value.__suppress_context__


# the simulator, written from Alipay's documents without this code


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    (tmp_path / "keys").mkdir()  # what it would make itself takes a second
    (tmp_path / "keys/alipay-app.pem").write_text(PKCS8)
    (tmp_path / "keys/alipay.pem").write_text(private_pem(ALIPAY_KEY, serialization.PrivateFormat.PKCS8))
    with Simulator(tmp_path, speed=1000) as one:
        yield one


class Inbox:
    """Takes notices as our notice address does, and keeps what they said."""

    def __init__(self, account: Account):
        inbox = self
        self.notices: list[Notice | None] = []
        self.refused = 0

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                try:
                    inbox.notices.append(alipay.read_notice(account, {}, body, NOW))
                except BadNotice:
                    inbox.refused += 1
                reply = alipay.FACTS.taken
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.end_headers()
                self.wfile.write(reply.body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/notices/alipay"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def wait_for(self, count: int) -> list[Notice | None]:
        until = time.monotonic() + 5
        while len(self.notices) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert (len(self.notices), self.refused) == (count, 0)
        return self.notices


@pytest.fixture
def inbox(simulator: Simulator) -> Iterator[Inbox]:
    one = Inbox(demo_account(simulator))
    yield one
    one.server.shutdown()
    one.server.server_close()


def demo_account(simulator: Simulator) -> Account:
    return Account("alipay", **alipay_simulator.demo_account(simulator.world))


def order(simulator: Simulator, inbox: Inbox, method: str = "precreate", total_minor: int = 4999) -> Payment:
    return replace(
        PAYMENT,
        account=demo_account(simulator),
        method=method,
        total_minor=total_minor,
        notify_url=inbox.url,
        expires_at=int(time.time()) + 900,
    )


def test_on_the_simulator_a_code_is_paid_refunded_in_parts_and_found_in_the_days_bill(
    simulator: Simulator, inbox: Inbox
):
    payment, now = order(simulator, inbox), int(time.time())
    qr_text = alipay.start(payment, now).qr_text
    assert qr_text == f"{simulator.url}/pay/alipay/{OURS}"
    assert alipay.find(payment) == Found("unpaid")
    assert alipay.close(payment) == "unknown"  # nobody has scanned it
    simulator.control("pay", provider="alipay", our_no=OURS)
    (paid,) = inbox.wait_for(1)
    found = alipay.find(payment)
    assert paid is not None
    assert (paid.kind, paid.payment_id, paid.amount_minor) == ("paid", OURS, 4999)
    assert found == Found("paid", 4999, "CNY", paid.provider_txn)
    assert alipay.close(payment) == "paid"
    with pytest.raises(ProviderUnavailable):
        alipay.start(payment, now)
    assert alipay.refund(payment, "rfd_0123456789abcdef_1", 1999, now) == RefundResult("succeeded")
    assert alipay.refund(payment, "rfd_0123456789abcdef_1", 1999, now) == RefundResult("succeeded")
    assert alipay.refund(payment, "rfd_0123456789abcdef_2", 9999, now) == RefundResult("failed")
    simulator.control("refund", provider="alipay", our_no=OURS, amount_minor=3000)
    told = [(one.kind, one.refund_id, one.amount_minor) for one in inbox.wait_for(3) if one is not None]
    ours = ("refunded", "rfd_0123456789abcdef_1", None)
    assert sorted(told, key=str) == sorted([("paid", None, 4999), ours, ("refunded", None, None)], key=str)
    assert alipay.find(payment) == Found("unknown")  # all of it given back
    day = to_china_time(now)[:10]
    with pytest.raises(NoStatement):
        alipay.statement(payment.account, day)  # the day is not over
    simulator.control("clock", ahead_seconds=86_400)
    lines = alipay.statement(payment.account, day)
    assert [(line.kind, line.our_no, line.amount_minor, line.fee_minor) for line in lines] == [
        ("payment", OURS, 4999, 30), ("refund", "rfd_0123456789abcdef_1", -1999, 0), ("refund", None, -3000, 0),
    ]  # fmt: skip
    assert {line.provider_txn for line in lines} == {paid.provider_txn}


@pytest.mark.parametrize("method", ["page", "wap"])
def test_on_the_simulator_a_page_leads_to_the_wallet_and_what_it_begins_can_be_closed(
    method: str, simulator: Simulator, inbox: Inbox
):
    payment = order(simulator, inbox, method)
    pay_url = alipay.start(payment, int(time.time())).pay_url or ""
    assert alipay.find(payment) == Found("unpaid")
    assert alipay.close(payment) == "unknown"
    with urlopen(pay_url) as page:
        assert page.url == f"{simulator.url}/pay/alipay/{OURS}"
    assert alipay.find(payment) == Found("unpaid")
    assert alipay.close(payment) == "closed"
    assert alipay.close(payment) == "closed"
    if method == "wap":
        (told,) = inbox.wait_for(1)
        assert told is not None
        assert (told.kind, told.payment_id) == ("failed", OURS)


def test_on_the_simulator_a_changed_address_of_a_page_is_refused(simulator: Simulator, inbox: Inbox):
    pay_url = alipay.start(order(simulator, inbox, "page"), int(time.time())).pay_url or ""
    with pytest.raises(HTTPError) as refused:
        urlopen(pay_url.replace("49.99", "0.01"))
    assert refused.value.code == 400
    assert b"invalid-signature" in refused.value.read()
    assert simulator.world.each() == []


def test_on_the_simulator_outcomes_are_what_the_amount_says(simulator: Simulator, inbox: Inbox):
    def paid(total_minor: int) -> Payment:
        one = replace(order(simulator, inbox, total_minor=total_minor), payment_id=f"pay_{total_minor:016}")
        try:
            alipay.start(one, int(time.time()))
        except ProviderUnavailable:
            assert total_minor == 5008
            alipay.start(one, int(time.time()))
        simulator.control("pay", provider="alipay", our_no=one.payment_id)
        return one

    assert alipay.find(paid(5001)) == Found("unpaid")
    assert alipay.find(paid(5003)).state == "paid"  # and no notice of it
    assert alipay.find(paid(5005)).amount_minor == 5006
    lost = paid(5006)
    assert alipay.refund(lost, "rfd_6", 100, NOW) == RefundResult("unknown")
    assert alipay.find_refund(lost, "rfd_6") == RefundResult("succeeded")
    assert alipay.refund(paid(5007), "rfd_7", 100, NOW) == RefundResult("failed")
    assert alipay.find(paid(5008)).state == "paid"
