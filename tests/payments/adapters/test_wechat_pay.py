"""WeChat Pay: the recorded cases, messages made for the purpose, and the adapter against the simulator with faults."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import wechatpayv3
from botocore.compat import HTTPHeaders
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from wechatpayv3 import utils as official

from chalicelib.edge import web
from chalicelib.payments import wechat_bill
from chalicelib.payments.adapters import wechat_pay
from chalicelib.payments.errors import BadNotice, BadStatement, NoStatement, ProviderRefused, ProviderUnavailable
from chalicelib.payments.model import Account, Found, Notice, Payment, RefundResult
from chalicelib.payments.rsa_signature import sign_sha256, verify_sha256
from chalicelib.payments.wechat_bill import parse_bill
from chalicelib.payments.wechat_signature import (
    authorization,
    china_time,
    client_parameters,
    is_from_wechat,
    open_sealed,
)
from infra.local.simulator import Request, Response
from infra.local.simulator import wechat_pay as other_side
from infra.local.simulator.server import Simulator

SAMPLES = json.loads((Path(__file__).parent / "samples/wechat_pay.json").read_text())
CASES = {case["name"]: case for case in SAMPLES["notifications"]}
KEYS = SAMPLES["keys"]
NOW = 1_781_500_002
PUBLIC_KEY_ID = KEYS["wechatpay_public_key_id"]
CERTIFICATE_SERIAL = KEYS["platform_certificate_serial"]
REFUND_ID = "rfd_0123456789abcdef_1"


def pem_of(numbers: dict[str, str]) -> str:
    """A private key written as numbers, as PEM."""
    n, e, d, p, q, dp, dq, qi = (
        int.from_bytes(base64.urlsafe_b64decode(numbers[name] + "=="), "big")
        for name in ("n", "e", "d", "p", "q", "dp", "dq", "qi")
    )
    key = rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, rsa.RSAPublicNumbers(e, n)).private_key()
    return key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()).decode()


MERCHANT_PEM = pem_of(KEYS["merchant_private_key_pem"])
PUBLIC_KEY_SIGNER = pem_of(KEYS["wechatpay_public_key_signer_private_pem"])
CERTIFICATE_SIGNER = pem_of(KEYS["platform_certificate_signer_private_pem"])
ACCOUNT = Account(
    "wechat_pay",
    settings={
        "mchid": KEYS["mchid"],
        "appid": KEYS["appid"],
        "merchant_serial_no": KEYS["merchant_serial_no"],
        "public_key_id": PUBLIC_KEY_ID,
        "public_key": KEYS["wechatpay_public_key_pem"],
        "platform_certificate": KEYS["platform_certificate_pem"],
        "api_base": "http://127.0.0.1:1",  # nobody listens: a fetch that nobody expects fails at once
    },
    secrets={"private_key": MERCHANT_PEM, "apiv3_key": KEYS["api_v3_key"]},
)


def with_settings(account: Account, **changed: str | None) -> Account:
    return replace(account, settings={**account.settings, **changed})


@pytest.fixture(autouse=True)
def nothing_fetched_yet() -> None:
    wechat_pay._fetched.clear()


def headers_of(headers: dict[str, str]) -> HTTPHeaders:
    """Names in any case find them, as on an incoming request."""
    found = HTTPHeaders()
    for name, value in headers.items():
        found[name] = value
    return found


def read(case: dict, account: Account = ACCOUNT) -> Notice | None:
    return wechat_pay.read_notice(account, headers_of(case["headers"]), case["raw_body"].encode(), case["now"])


# the recorded cases


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["expected_valid"]])
def test_a_recorded_notice_is_verified_and_opened(name: str):
    case = CASES[name]
    message, expected = json.loads(case["raw_body"]), case["expected_resource"]
    opened = open_sealed(message["resource"], [KEYS["api_v3_key"]])
    assert opened is not None and json.loads(opened) == expected
    notice = read(case)
    assert notice is not None
    assert (notice.event_id, notice.payment_id) == (message["id"], expected["out_trade_no"])
    assert notice.provider_txn == expected["transaction_id"]
    if message["event_type"] == "TRANSACTION.SUCCESS":
        assert (notice.kind, notice.amount_minor, notice.currency) == ("paid", expected["amount"]["total"], "CNY")
    else:
        assert (notice.kind, notice.amount_minor) == ("refund_failed", expected["amount"]["refund"])
        assert (notice.refund_id, notice.provider_refund_id) == (None, expected["refund_id"])  # not a number of ours


def test_the_order_is_compared_with_the_amount_before_coupons():
    notice = read(CASES["transaction_success_public_key_mode"])
    assert notice == Notice(
        "wechat_pay", "EV-2026061513064012345", "paid", "VG202606150001", "4200002026061512345678901", 4999, "CNY"
    )


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case["expected_valid"]])
def test_a_recorded_notice_that_is_forged_or_out_of_time_is_refused(name: str):
    with pytest.raises(BadNotice):
        read(CASES[name])


def test_there_are_recorded_cases_of_both_kinds():
    valid = [case["expected_valid"] for case in CASES.values()]
    assert valid.count(True) >= 4 and valid.count(False) >= 8


@pytest.mark.parametrize("number", range(len(SAMPLES["api_responses"])))
def test_a_recorded_answer_is_verified_even_when_it_is_empty(number: int):
    case = SAMPLES["api_responses"][number]
    headers, raw = headers_of(case["headers"]), case["raw_body"].encode()
    key_of = {PUBLIC_KEY_ID: KEYS["wechatpay_public_key_pem"], CERTIFICATE_SERIAL: KEYS["platform_certificate_pem"]}.get
    assert is_from_wechat(headers, raw, key_of, NOW)
    assert not is_from_wechat(headers, raw + b" ", key_of, NOW)


@pytest.mark.parametrize("case", SAMPLES["requests"], ids=lambda case: case["name"])
def test_a_request_is_signed_as_recorded(case: dict):
    signed = authorization(
        case["method"],
        case["path_and_query"],
        case["body"].encode(),
        mchid=KEYS["mchid"],
        serial_no=KEYS["merchant_serial_no"],
        private_key=MERCHANT_PEM,
        at=int(case["timestamp"]),
        nonce=case["nonce_str"],
    )
    assert signed == case["Authorization"]


def test_the_parameters_for_the_client_are_signed_as_recorded():
    case = SAMPLES["jsapi_pay_sign"]
    fields = case["fields"]
    made = client_parameters(
        fields["appId"],
        fields["package"].removeprefix("prepay_id="),
        private_key=MERCHANT_PEM,
        at=int(fields["timeStamp"]),
        nonce=fields["nonceStr"],
    )
    assert made == {**fields, "paySign": case["paySign"]}


def test_the_published_sealed_text_opens():
    case = SAMPLES["published_aead"]
    sealed = {"algorithm": "AEAD_AES_256_GCM", **{name: case[name] for name in ("associated_data", "nonce")}}
    sealed["ciphertext"] = case["ciphertext"]
    assert open_sealed(sealed, [case["api_v3_key"]]) == case["plaintext"].encode()
    assert open_sealed(sealed, ["x" * 32]) is None
    assert open_sealed({**sealed, "associated_data": "other"}, [case["api_v3_key"]]) is None
    assert open_sealed({**sealed, "algorithm": "NONE"}, [case["api_v3_key"]]) is None


# messages made for the purpose

PAID = {
    "mchid": KEYS["mchid"],
    "appid": KEYS["appid"],
    "out_trade_no": "pay_0123456789abcdef",
    "transaction_id": "4200000001",
    "trade_state": "SUCCESS",
    "amount": {"total": 4999, "payer_total": 4499, "currency": "CNY"},
}
REFUNDED = {
    "mchid": KEYS["mchid"],
    "out_trade_no": "pay_0123456789abcdef",
    "transaction_id": "4200000001",
    "out_refund_no": REFUND_ID,
    "refund_id": "503000001",
    "refund_status": "SUCCESS",
    "amount": {"total": 4999, "refund": 1999, "payer_total": 4499, "payer_refund": 1799},
}


def signed(raw: bytes, *, at: int = NOW, by: str = PUBLIC_KEY_SIGNER, serial: str = PUBLIC_KEY_ID) -> dict[str, str]:
    return {
        "Wechatpay-Timestamp": str(at),
        "Wechatpay-Nonce": "NONCE",
        "Wechatpay-Signature": sign_sha256(by, f"{at}\nNONCE\n".encode() + raw + b"\n"),
        "Wechatpay-Serial": serial,
        "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
    }


def message_of(event_type: str, thing: Any, apiv3_key: str = KEYS["api_v3_key"]) -> bytes:
    sealed = AESGCM(apiv3_key.encode()).encrypt(b"0123456789ab", json.dumps(thing).encode(), b"transaction")
    resource = {
        "algorithm": "AEAD_AES_256_GCM",
        "ciphertext": base64.b64encode(sealed).decode(),
        "associated_data": "transaction",
        "nonce": "0123456789ab",
    }
    return json.dumps({"id": "EV-1", "event_type": event_type, "resource": resource}).encode()


def read_message(event_type: str, thing: Any, account: Account = ACCOUNT, **how: Any) -> Notice | None:
    raw = message_of(event_type, thing)
    return wechat_pay.read_notice(account, headers_of(signed(raw, **how)), raw, NOW)


def test_a_message_made_here_is_taken_so_that_the_refusals_below_mean_something():
    notice = read_message("TRANSACTION.SUCCESS", PAID)
    assert notice is not None and (notice.kind, notice.payment_id) == ("paid", "pay_0123456789abcdef")
    by_certificate = read_message("TRANSACTION.SUCCESS", PAID, by=CERTIFICATE_SIGNER, serial=CERTIFICATE_SERIAL)
    assert by_certificate == notice


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_five_minutes_both_ways_are_in_time(seconds: int):
    assert read_message("TRANSACTION.SUCCESS", PAID, at=NOW + seconds)


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_a_second_more_is_out_of_time(seconds: int):
    with pytest.raises(BadNotice):
        read_message("TRANSACTION.SUCCESS", PAID, at=NOW + seconds)


@pytest.mark.parametrize(
    "change",
    [
        {"mchid": "1900000110"},
        {"appid": "wx0000000000000000"},
        {"mchid": None},
        {"appid": None},
        {"out_trade_no": None},
        {"out_trade_no": 7},
        {"transaction_id": ""},
        {"amount": None},
        {"amount": {"total": "4999"}},
        {"amount": {"total": -1}},
        {"amount": {"total": True}},
        {"amount": {"total": 49.99}},
    ],
    ids=str,
)
def test_a_genuine_message_that_is_not_about_our_account_or_lacks_something_is_refused(change: dict):
    with pytest.raises(BadNotice):
        read_message("TRANSACTION.SUCCESS", {**PAID, **change})


@pytest.mark.parametrize("name", ["mchid", "appid"])
def test_an_account_that_is_not_filled_in_accepts_nobody_elses_message(name: str):
    thing = {key: value for key, value in PAID.items() if key != name}
    with pytest.raises(BadNotice):
        read_message("TRANSACTION.SUCCESS", thing, with_settings(ACCOUNT, **{name: None}))


@pytest.mark.parametrize(
    ("event_type", "status", "kind"),
    [
        ("REFUND.SUCCESS", "SUCCESS", "refunded"),
        ("REFUND.CLOSED", "CLOSED", "refund_failed"),
        ("REFUND.ABNORMAL", "ABNORMAL", "refund_failed"),
        ("REFUND.SUCCESS", "ABNORMAL", "other"),
    ],
)
def test_a_notice_of_a_refund_tells_whose_it_is_and_what_became_of_it(event_type: str, status: str, kind: str):
    notice = read_message(event_type, {**REFUNDED, "refund_status": status})
    assert notice is not None
    assert (notice.kind, notice.refund_id, notice.provider_refund_id) == (kind, REFUND_ID, "503000001")
    assert (notice.payment_id, notice.amount_minor, notice.currency) == ("pay_0123456789abcdef", 1999, "CNY")


def test_a_refund_made_by_hand_has_no_number_of_ours():
    notice = read_message("REFUND.SUCCESS", {**REFUNDED, "out_refund_no": "BH5030000000001"})
    assert notice is not None and (notice.kind, notice.refund_id) == ("refunded", None)


def test_a_refund_of_another_merchant_is_refused():
    with pytest.raises(BadNotice):
        read_message("REFUND.SUCCESS", {**REFUNDED, "mchid": "1900000110"})


def test_a_trade_that_is_not_paid_is_no_payment():
    notice = read_message("TRANSACTION.SUCCESS", {**PAID, "trade_state": "PAYERROR"})
    assert notice is not None and notice.kind == "other"


@pytest.mark.parametrize("event_type", ["TRANSACTION.PAYSCORE", "PAYSCORE.USER_PAID", "COMPLAINT.CREATE"])
def test_other_messages_are_other(event_type: str):
    thing = PAID if event_type.startswith("TRANSACTION") else {"complaint_id": "200201820200101080076610000"}
    notice = read_message(event_type, thing)
    assert notice is not None and (notice.kind, notice.amount_minor) == ("other", None)


def test_a_self_test_of_the_console_is_about_nothing_of_ours():
    assert read_message("SECURITY_ECHO.SUCCESS", {"anything": 1}) is None
    bare = b'{"id":"EV-2","event_type":"SECURITY_ECHO.SUCCESS"}'
    assert wechat_pay.read_notice(ACCOUNT, headers_of(signed(bare)), bare, NOW) is None


def test_a_self_test_that_our_key_does_not_open_fails_as_it_should():
    raw = message_of("SECURITY_ECHO.SUCCESS", {}, "y" * 32)
    with pytest.raises(BadNotice):
        wechat_pay.read_notice(ACCOUNT, headers_of(signed(raw)), raw, NOW)


@pytest.mark.parametrize("name", ["Serial", "Timestamp", "Nonce", "Signature"])
@pytest.mark.parametrize("value", [None, "", " ", "é", "0", "-1", "9" * 40, "1e9", "PUB_KEY_ID_", "zz"])
def test_a_broken_header_is_a_failed_verification(name: str, value: str | None):
    raw = message_of("TRANSACTION.SUCCESS", PAID)
    headers = {**signed(raw), f"Wechatpay-{name}": value}
    with pytest.raises(BadNotice):
        wechat_pay.read_notice(ACCOUNT, headers_of({k: v for k, v in headers.items() if v is not None}), raw, NOW)


def test_a_genuine_message_that_is_cut_or_is_something_else_is_refused():
    whole = message_of("TRANSACTION.SUCCESS", PAID)
    odd = [whole[:length] for length in range(0, len(whole), 40)]
    odd += [b"[]", b"null", b'"x"', b"\xff", b"[" * 50_000, b'{"id":"EV-1","event_type":"TRANSACTION.SUCCESS"}']
    odd += [whole.replace(b'"EV-1"', b"1"), whole.replace(b'"EV-1"', b'""')]
    for raw in odd:
        with pytest.raises(BadNotice):
            wechat_pay.read_notice(ACCOUNT, headers_of(signed(raw)), raw, NOW)


def test_an_earlier_apiv3_key_opens_as_long_as_it_is_good():
    raw = message_of("TRANSACTION.SUCCESS", PAID)
    rotated = replace(ACCOUNT, secrets={**ACCOUNT.secrets, "apiv3_key": "n" * 32})
    with pytest.raises(BadNotice):
        wechat_pay.read_notice(rotated, headers_of(signed(raw)), raw, NOW)
    overlapping = replace(rotated, earlier=({"apiv3_key": KEYS["api_v3_key"]},))
    assert wechat_pay.read_notice(overlapping, headers_of(signed(raw)), raw, NOW)


def test_a_certificate_under_anothers_serial_verifies_nothing():
    """The header says which key; a certificate counts under the number that is written in it."""
    with pytest.raises(BadNotice):
        read_message("TRANSACTION.SUCCESS", PAID, by=PUBLIC_KEY_SIGNER, serial=CERTIFICATE_SERIAL)
    with pytest.raises(BadNotice):
        read_message("TRANSACTION.SUCCESS", PAID, by=CERTIFICATE_SIGNER, serial=PUBLIC_KEY_ID)
    with pytest.raises(BadNotice):
        read_message("TRANSACTION.SUCCESS", PAID, by=CERTIFICATE_SIGNER, serial="1" + CERTIFICATE_SERIAL[1:])


def test_a_certificate_counts_only_while_it_is_valid():
    raw, later = message_of("TRANSACTION.SUCCESS", PAID), 2_400_000_000  # in 2046
    headers = signed(raw, at=later, by=CERTIFICATE_SIGNER, serial=CERTIFICATE_SERIAL)
    with pytest.raises(BadNotice):
        wechat_pay.read_notice(ACCOUNT, headers_of(headers), raw, later)


def test_a_serial_is_compared_as_a_number():
    serial = "00" + CERTIFICATE_SERIAL.lower()
    assert read_message("TRANSACTION.SUCCESS", PAID, by=CERTIFICATE_SIGNER, serial=serial)


def test_several_certificates_may_be_pasted_one_after_the_other(books: Path):
    _, other = other_side.platform_certificate(Simulator(books).world)
    both = with_settings(ACCOUNT, platform_certificate=other + KEYS["platform_certificate_pem"])
    assert read_message("TRANSACTION.SUCCESS", PAID, both, by=CERTIFICATE_SIGNER, serial=CERTIFICATE_SERIAL)


@pytest.mark.parametrize("form", ["bare", "one line", "after rubbish"])
def test_a_certificate_is_read_as_operators_paste_it(form: str):
    pem = KEYS["platform_certificate_pem"]
    rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    bare = "".join(line for line in pem.splitlines() if not line.startswith("-"))
    text = {"bare": bare, "one line": pem.replace("\n", " "), "after rubbish": rubbish + pem}[form]
    pasted = with_settings(ACCOUNT, platform_certificate=text)
    assert read_message("TRANSACTION.SUCCESS", PAID, pasted, by=CERTIFICATE_SIGNER, serial=CERTIFICATE_SERIAL)


@pytest.mark.parametrize("has", ["public_key", "platform_certificate"])
def test_one_of_the_two_ways_is_enough(has: str):
    nothing = dict.fromkeys(("public_key", "public_key_id", "platform_certificate"))
    names = ("public_key", "public_key_id") if has == "public_key" else ("platform_certificate",)
    only = with_settings(ACCOUNT, **nothing | {name: ACCOUNT.settings[name] for name in names})
    how = {} if has == "public_key" else {"by": CERTIFICATE_SIGNER, "serial": CERTIFICATE_SERIAL}
    other = {} if has != "public_key" else {"by": CERTIFICATE_SIGNER, "serial": CERTIFICATE_SERIAL}
    assert read_message("TRANSACTION.SUCCESS", PAID, only, **how)
    with pytest.raises(BadNotice):
        read_message("TRANSACTION.SUCCESS", PAID, only, **other)


def test_an_account_without_anything_refuses_without_asking_anybody():
    empty, payment = Account("wechat_pay"), replace(PAYMENT, account=Account("wechat_pay"))
    raw = message_of("TRANSACTION.SUCCESS", PAID)
    with pytest.raises(BadNotice):
        wechat_pay.read_notice(empty, headers_of(signed(raw)), raw, NOW)
    with pytest.raises(ProviderRefused):
        wechat_pay.start(payment, NOW)
    with pytest.raises(ProviderRefused):
        wechat_pay.statement(empty, "2026-06-15")
    assert (wechat_pay.find(payment), wechat_pay.close(payment)) == (Found("unknown"), "unknown")
    assert wechat_pay.refund(payment, REFUND_ID, 1, NOW) == RefundResult("unknown")
    assert wechat_pay.find_refund(payment, REFUND_ID) == RefundResult("unknown")


def test_a_key_that_cannot_be_used_is_for_the_operator_and_is_not_quoted():
    broken = replace(ACCOUNT, secrets={**ACCOUNT.secrets, "private_key": "MIIsecretsecret"})
    payment = replace(PAYMENT, account=broken)
    with pytest.raises(ProviderRefused) as caught:
        wechat_pay.start(payment, NOW)
    assert "secretsecret" not in repr(caught.value) and "secretsecret" not in repr(payment)
    assert wechat_pay.find(payment) == Found("unknown")


# a library of others as judge


@pytest.fixture(scope="session")
def library() -> wechatpayv3.WeChatPay:
    return wechatpayv3.WeChatPay(
        wechatpay_type=wechatpayv3.WeChatPayType.NATIVE,
        mchid=KEYS["mchid"],
        private_key=MERCHANT_PEM,
        cert_serial_no=KEYS["merchant_serial_no"],
        apiv3_key=KEYS["api_v3_key"],
        appid=KEYS["appid"],
        public_key=KEYS["wechatpay_public_key_pem"],
        public_key_id=PUBLIC_KEY_ID,
    )


def test_what_the_library_signs_we_accept():
    raw = message_of("TRANSACTION.SUCCESS", PAID)
    key = official.load_private_key(PUBLIC_KEY_SIGNER)
    by_library = official.rsa_sign(key, f"{NOW}\nNONCE\n{raw.decode()}\n")
    headers = {**signed(raw), "Wechatpay-Signature": by_library}
    assert wechat_pay.read_notice(ACCOUNT, headers_of(headers), raw, NOW)


def test_what_we_sign_the_library_signs_and_accepts(library: wechatpayv3.WeChatPay, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(official.time, "time", lambda: float(NOW))
    key = official.load_private_key(MERCHANT_PEM)
    path, body = "/v3/pay/transactions/native", '{"description":"点券"}'
    theirs = official.build_authorization(
        path, "POST", KEYS["mchid"], KEYS["merchant_serial_no"], key, data=body, nonce_str="N"
    )
    own = {"mchid": KEYS["mchid"], "serial_no": KEYS["merchant_serial_no"], "private_key": MERCHANT_PEM}
    assert authorization("POST", path, body.encode(), at=NOW, nonce="N", **own) == theirs
    message = f"{NOW}\nN\n{body}\n".encode()
    public = official.load_public_key(KEYS["merchant_public_key_pem"])
    assert official.rsa_verify(str(NOW), "N", body, sign_sha256(MERCHANT_PEM, message), public)
    client = client_parameters(KEYS["appid"], "wx1", private_key=MERCHANT_PEM, at=NOW, nonce="N")
    assert library.sign([KEYS["appid"], str(NOW), "N", "prepay_id=wx1"]) == client["paySign"]


def test_a_message_of_the_simulator_is_one_to_the_library_too(sim: Side):
    sim.start("native")
    sim.simulator.control("pay", provider="wechat_pay", our_no=PAYMENT.payment_id)
    settings, world = sim.account.settings, sim.simulator.world
    judge = wechatpayv3.WeChatPay(
        wechatpay_type=wechatpayv3.WeChatPayType.NATIVE,
        mchid=settings["mchid"],
        private_key=sim.account.secrets["private_key"],
        cert_serial_no=settings["merchant_serial_no"],
        apiv3_key=sim.account.secrets["apiv3_key"],
        appid=settings["appid"],
        public_key=settings["public_key"],
        public_key_id=settings["public_key_id"],
    )
    judge._core._certificates = [official.load_certificate(other_side.platform_certificate(world)[1])]
    used = set()
    while len(used) < 2:  # by public key and by certificate, at random
        made = other_side.notice(world, world.each("wechat_pay")[0], world.events()[0])
        assert made is not None
        used.add(made.headers["Wechatpay-Serial"])
        heard = judge.callback(made.headers, made.body)
        assert heard["resource"]["out_trade_no"] == PAYMENT.payment_id
        notice = wechat_pay.read_notice(sim.account, headers_of(made.headers), made.body, int(time.time()))
        assert notice is not None and (notice.kind, notice.event_id) == ("paid", heard["id"])


# the adapter against the simulator


@dataclass
class Side:
    """The other side: the simulator, what it was asked, and what is done to its answers on their way."""

    simulator: Simulator
    account: Account
    payment: Payment
    seen: list[Request] = field(default_factory=list)
    spoil: Callable[[Response], Response] | None = None

    def start(self, method: str, **changed: Any) -> Any:
        return wechat_pay.start(replace(self.payment, method=method, **changed), int(time.time()))

    def pay(self, outcome: str | None = None) -> None:
        self.simulator.control("pay", provider="wechat_pay", our_no=self.payment.payment_id, outcome=outcome)

    def paths(self) -> list[str]:
        return [one.path for one in self.seen]


PAYMENT = Payment(
    payment_id="pay_0123456789abcdef",
    order_id="ord_0123456789abcdef",
    total_minor=4999,
    currency="CNY",
    title="点券 500",
    expires_at=int(time.time()) + 900,
    base_url="https://pay.example",
    account=ACCOUNT,
    method="native",
    notify_url="http://127.0.0.1:1/v1/notices/wechat_pay/acc_1",
    return_url="https://shop.example/return?order=7&x=é",
    payer_id="oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
    client_ip="203.0.113.7",
)


@pytest.fixture(scope="session")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys are made once: it is slow."""
    directory = tmp_path_factory.mktemp("keys")
    world = Simulator(directory).world
    other_side.demo_account(world)
    other_side.platform_certificate(world)
    return directory / "keys"


@pytest.fixture
def books(tmp_path: Path, key_files: Path) -> Path:
    shutil.copytree(key_files, tmp_path / "sim" / "keys")
    return tmp_path / "sim"


@pytest.fixture
def sim(books: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    monkeypatch.setattr(other_side, "REFUND_SECONDS", 0)
    with Simulator(books) as simulator:
        filled_in = other_side.demo_account(simulator.world)
        account = Account("wechat_pay", settings=filled_in["settings"], secrets=filled_in["secrets"])
        side = Side(simulator, account, replace(PAYMENT, account=account))
        real = other_side.handle

        def handle(request: Request, world: Any) -> Response:
            side.seen.append(request)
            answer = real(request, world)
            return side.spoil(answer) if side.spoil else answer

        monkeypatch.setattr(other_side, "handle", handle)
        yield side


def test_a_native_payment_is_a_text_to_scan(sim: Side):
    started = sim.start("native")
    assert started.qr_text and (started.pay_url, started.client) == (None, None)
    asked = sim.seen[0].json()
    assert asked == {
        "appid": sim.account.settings["appid"],
        "mchid": sim.account.settings["mchid"],
        "description": "点券 500",
        "out_trade_no": PAYMENT.payment_id,
        "time_expire": china_time(PAYMENT.expires_at),
        "notify_url": PAYMENT.notify_url,
        "amount": {"total": 4999, "currency": "CNY"},
    }
    assert sim.seen[0].headers["wechatpay-serial"] == sim.account.settings["public_key_id"]


def test_starting_again_is_the_same_payment(sim: Side):
    assert sim.start("native") == sim.start("native")
    assert sim.seen[0].body == sim.seen[1].body
    assert len(sim.simulator.world.each("wechat_pay")) == 1


def test_a_jsapi_payment_is_parameters_for_the_client_signed_by_the_merchant(sim: Side):
    started = sim.start("jsapi")
    assert sim.seen[0].json()["payer"] == {"openid": PAYMENT.payer_id}
    client = started.client
    assert client is not None and client["package"] == f"prepay_id={started.provider_ref}"
    text = f"{client['appId']}\n{client['timeStamp']}\n{client['nonceStr']}\n{client['package']}\n"
    public = other_side._merchant_keys(sim.simulator.world).public_pem
    assert verify_sha256(public, text.encode(), client["paySign"])
    assert sim.start("jsapi").client["nonceStr"] != client["nonceStr"]


def test_an_h5_payment_is_a_page_that_comes_back_to_the_shop(sim: Side):
    started = sim.start("h5")
    assert sim.seen[0].json()["scene_info"] == {"payer_client_ip": "203.0.113.7", "h5_info": {"type": "Wap"}}
    assert started.pay_url is not None
    query = parse_qs(urlsplit(started.pay_url).query)
    assert query["redirect_url"] == [PAYMENT.return_url] and query["prepay_id"]


@pytest.mark.parametrize(
    ("title", "sent"),
    [
        ("点" * 100, "点" * 42),  # 126 bytes: half a character would be one byte more
        ("x" * 200, "x" * 127),
        ("", "ord_0123456789abcdef"),
        ("a\n`b`\x00c", "a b c"),
        ("🎮" * 40, "🎮" * 31),
    ],
)
def test_a_title_is_cut_where_a_character_ends(title: str, sent: str, sim: Side):
    sim.start("native", title=title)
    assert sim.seen[0].json()["description"] == sent


def test_a_payment_that_is_about_to_end_lives_the_minute_wechat_demands(sim: Side):
    assert sim.start("native", expires_at=int(time.time()) + 5).qr_text


@pytest.mark.parametrize(
    "changed",
    [{"method": "app"}, {"method": "jsapi", "payer_id": None}, {"currency": "USD"}, {"total_minor": 0}],
    ids=str,
)
def test_what_wechat_does_not_take_is_refused(changed: dict, sim: Side):
    with pytest.raises(ProviderRefused):
        sim.start(changed.pop("method", "native"), **changed)


def test_a_wrong_serial_number_of_our_own_is_for_the_operator(sim: Side):
    payment = replace(PAYMENT, account=with_settings(sim.account, merchant_serial_no="00"))
    with pytest.raises(ProviderRefused):
        wechat_pay.start(payment, int(time.time()))
    with pytest.raises(ProviderRefused):
        wechat_pay.statement(payment.account, "2026-06-15")
    assert wechat_pay.find(payment) == Found("unknown")
    assert wechat_pay.refund(payment, REFUND_ID, 1, NOW) == RefundResult("unknown")


def test_opening_what_was_paid_meanwhile_is_to_be_tried_again_and_not_the_operators_fault(sim: Side):
    sim.start("native")
    sim.pay()
    with pytest.raises(ProviderUnavailable):
        sim.start("native")


def test_asking_tells_what_became_of_a_payment(sim: Side):
    assert wechat_pay.find(sim.payment) == Found("unpaid")  # WeChat never heard of it
    sim.start("native")
    assert wechat_pay.find(sim.payment) == Found("unpaid")
    sim.pay()
    found = wechat_pay.find(sim.payment)
    assert (found.state, found.amount_minor, found.currency) == ("paid", 4999, "CNY")
    record = sim.simulator.world.each("wechat_pay")[0]
    assert found.provider_txn == record.provider_txn
    assert wechat_pay.refund(sim.payment, REFUND_ID, 1999, NOW).state == "succeeded"
    assert wechat_pay.find(sim.payment) == found  # `REFUND` was paid, too


def spoilt_json(**changed: Any) -> Callable[[Side, Response], Response]:
    """The answer with other words in it, signed as WeChat would."""

    def spoil(side: Side, answer: Response) -> Response:
        raw = json.dumps({**json.loads(answer.body), **changed}).encode()
        headers = answer.headers | other_side._signed(side.simulator.world, raw, int(time.time()), True)
        return Response(answer.status, raw, headers)

    return spoil


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("SUCCESS", "paid"), ("REFUND", "paid"), ("NOTPAY", "unpaid"), ("CLOSED", "unpaid"), ("REVOKED", "unpaid"),
        ("PAYERROR", "unpaid"), ("USERPAYING", "unknown"), ("ACCEPT", "unknown"), ("NEW_ONE", "unknown"),
        (None, "unknown"),
    ],
)  # fmt: skip
def test_every_state_of_a_trade_is_one_of_three_and_a_new_one_is_unknown(state: str, expected: str, sim: Side):
    sim.start("native")
    sim.pay()
    sim.spoil = lambda answer: spoilt_json(trade_state=state)(sim, answer)
    assert wechat_pay.find(sim.payment).state == expected


@pytest.mark.parametrize(
    "changed",
    [{"out_trade_no": "pay_other"}, {"mchid": "1"}, {"amount": {}}, {"amount": None}, {"transaction_id": None}],
    ids=str,
)
def test_an_answer_about_something_else_is_no_answer(changed: dict, sim: Side):
    sim.start("native")
    sim.pay()
    sim.spoil = lambda answer: spoilt_json(**changed)(sim, answer)
    assert wechat_pay.find(sim.payment) == Found("unknown")


def test_closing_once_or_twice_is_closed_and_what_was_paid_is_paid(sim: Side):
    assert wechat_pay.close(sim.payment) == "closed"  # WeChat never heard of it
    sim.start("native")
    assert [wechat_pay.close(sim.payment), wechat_pay.close(sim.payment)] == ["closed", "closed"]
    with pytest.raises(ProviderRefused):
        sim.start("native")
    other = replace(sim.payment, payment_id="pay_0123456789abcdef_2")
    wechat_pay.start(other, int(time.time()))
    sim.simulator.control("pay", provider="wechat_pay", our_no=other.payment_id)
    assert wechat_pay.close(other) == "paid"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "ORDER_CLOSED", "closed"),
        (202, "USER_PAYING", "unknown"),
        (403, "TRADE_ERROR", "unknown"),
        (500, "SYSTEM_ERROR", "unknown"),
        (429, "FREQUENCY_LIMITED", "unknown"),
    ],
)
def test_any_other_answer_to_closing_is_looked_into(status: int, code: str, expected: str, sim: Side):
    sim.start("native")
    sim.spoil = refusal(sim, status, code)
    assert wechat_pay.close(sim.payment) == expected


def refusal(side: Side, status: int, code: str) -> Callable[[Response], Response]:
    """A signed refusal instead of the answer."""
    raw = json.dumps({"code": code, "message": "…"}).encode()
    headers = other_side._signed(side.simulator.world, raw, int(time.time()), True)
    return lambda _: Response(status, raw, headers)


def paid_up(side: Side, outcome: str | None = None) -> None:
    side.start("native")
    side.pay(outcome)


def test_a_refund_is_made_once_however_often_it_is_asked_for(sim: Side, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(other_side, "REFUND_SECONDS", 3600)
    paid_up(sim)
    first = wechat_pay.refund(sim.payment, REFUND_ID, 1999, NOW)
    assert (first.state, first.provider_refund_id) == ("pending", first.provider_refund_id)
    assert wechat_pay.refund(sim.payment, REFUND_ID, 1999, NOW) == first
    assert wechat_pay.find_refund(sim.payment, REFUND_ID) == first
    assert len(sim.simulator.world.each("wechat_pay")[0].refunds) == 1
    asked = [one.json() for one in sim.seen if one.method == "POST" and "refund" in one.path]
    assert asked[0] == asked[1] == {
        "out_trade_no": PAYMENT.payment_id,
        "out_refund_no": REFUND_ID,
        "amount": {"refund": 1999, "total": 4999, "currency": "CNY"},
        "notify_url": PAYMENT.notify_url,
    }  # fmt: skip


def test_several_refunds_give_back_no_more_than_was_paid(sim: Side):
    paid_up(sim)
    second = REFUND_ID[:-1] + "2"
    assert wechat_pay.refund(sim.payment, REFUND_ID, 3000, NOW).state == "succeeded"
    assert wechat_pay.refund(sim.payment, second, 2000, NOW) == RefundResult("failed")
    assert wechat_pay.find_refund(sim.payment, second) is None
    assert wechat_pay.refund(sim.payment, second, 1999, NOW).state == "succeeded"


def test_a_refund_refused_because_it_differs_from_the_first_is_what_the_first_is(sim: Side):
    paid_up(sim)
    first = wechat_pay.refund(sim.payment, REFUND_ID, 3000, NOW)
    assert wechat_pay.refund(sim.payment, REFUND_ID, 3001, NOW) == first


def test_what_was_captured_counts_for_a_refund_where_it_differs_from_the_order(sim: Side):
    paid_up(sim, "wrong_amount")
    assert wechat_pay.find(sim.payment).amount_minor == 5000
    assert wechat_pay.refund(replace(sim.payment, paid_minor=5000), REFUND_ID, 5000, NOW).state == "succeeded"


def test_a_refund_that_fails_has_failed(sim: Side):
    paid_up(sim, "refund_fails")
    result = wechat_pay.refund(sim.payment, REFUND_ID, 1999, NOW)
    assert result.state == "failed" and wechat_pay.find_refund(sim.payment, REFUND_ID) == result


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("SUCCESS", "succeeded"),
        ("PROCESSING", "pending"),
        ("CLOSED", "failed"),
        ("ABNORMAL", "failed"),
        ("X", "unknown"),
    ],
)
def test_every_state_of_a_refund_is_one_of_ours_and_a_new_one_is_unknown(status: str, expected: str, sim: Side):
    paid_up(sim)
    wechat_pay.refund(sim.payment, REFUND_ID, 1999, NOW)
    sim.spoil = lambda answer: spoilt_json(status=status)(sim, answer)
    result = wechat_pay.find_refund(sim.payment, REFUND_ID)
    assert result is not None and result.state == expected


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "NOT_ENOUGH", "failed"),
        (400, "PARAM_ERROR", "failed"),
        (404, "RESOURCE_NOT_EXISTS", "failed"),
        (403, "USER_ACCOUNT_ABNORMAL", "failed"),
        (429, "FREQUENCY_LIMITED", "unknown"),
        (500, "SYSTEM_ERROR", "unknown"),
        (400, "SYSTEM_ERROR", "unknown"),
        (403, "NO_AUTH", "unknown"),
        (400, "SOMETHING_NEW", "unknown"),
        (503, "NOT_ENOUGH", "unknown"),
    ],
)
def test_a_refund_has_failed_only_by_a_definite_word(status: int, code: str, expected: str, sim: Side):
    paid_up(sim)
    refused, unheard = refusal(sim, status, code), refusal(sim, 404, "RESOURCE_NOT_EXISTS")

    def spoil(answer: Response) -> Response:
        return refused(answer) if sim.seen[-1].method == "POST" else unheard(answer)

    sim.spoil = spoil
    assert wechat_pay.refund(sim.payment, REFUND_ID, 1999, NOW).state == expected


def told(side: Side, name: str) -> Notice:
    """What the simulator's message of this name says to us."""
    world = side.simulator.world
    event = [one for one in world.events() if one.name == name][-1]
    made = other_side.notice(world, world.each("wechat_pay")[0], event)
    assert made is not None
    notice = wechat_pay.read_notice(side.account, headers_of(made.headers), made.body, int(time.time()))
    assert notice is not None and notice.event_id == event.event_id
    return notice


def test_messages_about_refunds_tell_the_same_as_asking(sim: Side):
    paid_up(sim)
    result = wechat_pay.refund(sim.payment, REFUND_ID, 1999, NOW)
    notice = told(sim, "REFUND.SUCCESS")
    assert (notice.kind, notice.refund_id, notice.amount_minor) == ("refunded", REFUND_ID, 1999)
    assert notice.provider_refund_id == result.provider_refund_id
    sim.simulator.control("refund", provider="wechat_pay", our_no=PAYMENT.payment_id, amount_minor=100)
    by_hand = told(sim, "REFUND.SUCCESS")
    assert (by_hand.kind, by_hand.refund_id, by_hand.amount_minor) == ("refunded", None, 100)


def test_a_message_about_a_failed_refund_says_so(sim: Side):
    paid_up(sim, "refund_fails")
    wechat_pay.refund(sim.payment, REFUND_ID, 1999, NOW)
    notice = told(sim, "REFUND.CLOSED")
    assert (notice.kind, notice.refund_id) == ("refund_failed", REFUND_ID)


# faults on the way


def unsigned(answer: Response) -> Response:
    return replace(answer, headers={k: v for k, v in answer.headers.items() if not k.startswith("Wechatpay")})


def spoil_of(what: str, side: Side) -> Callable[[Response], Response]:
    def again(answer: Response, raw: bytes, at: int | None = None, by_public_key: bool = True) -> Response:
        made = other_side._signed(side.simulator.world, raw, at or int(time.time()), by_public_key)
        return Response(answer.status, raw, answer.headers | made)

    return {
        "unsigned": unsigned,
        "changed": lambda answer: replace(answer, body=answer.body + b" "),
        "unknown key": lambda answer: replace(
            answer, headers={**answer.headers, "Wechatpay-Serial": "PUB_KEY_ID_0000000000"}
        ),
        "unknown certificate": lambda answer: replace(
            answer, headers={**answer.headers, "Wechatpay-Serial": "0123456789ABCDEF"}
        ),
        "old": lambda answer: again(answer, answer.body, int(time.time()) - 400),
        "cut": lambda answer: again(answer, answer.body[:-3]),
        "a list": lambda answer: again(answer, b"[1]"),
        "html": lambda answer: Response(502, b"<html>Bad Gateway</html>"),
        "unsigned 404": lambda answer: Response(404, b'{"code":"RESOURCE_NOT_EXISTS"}'),
        "unsigned 400": lambda answer: Response(400, b'{"code":"PARAM_ERROR"}'),
    }[what]


SPOILT = [
    "unsigned", "changed", "unknown key", "unknown certificate", "old", "cut", "a list", "html", "unsigned 404",
    "unsigned 400",
]  # fmt: skip


def test_an_answer_signed_with_the_platform_certificate_is_verified_too(sim: Side):
    sim.start("native")
    with_certificate = with_settings(sim.account, public_key_id=None, public_key=None)
    assert wechat_pay.find(replace(sim.payment, account=with_certificate)) == Found("unpaid")
    assert "/v3/certificates" in sim.paths()


@pytest.mark.parametrize("what", SPOILT)
def test_an_answer_that_cannot_be_verified_tells_nothing(what: str, sim: Side):
    paid_up(sim)
    assert wechat_pay.refund(sim.payment, REFUND_ID, 100, NOW).state == "succeeded"
    sim.spoil = spoil_of(what, sim)
    with pytest.raises(ProviderUnavailable):
        wechat_pay.start(replace(sim.payment, payment_id="pay_0123456789abcdef_3"), int(time.time()))
    assert wechat_pay.find(sim.payment) == Found("unknown")
    assert wechat_pay.refund(sim.payment, REFUND_ID, 100, NOW) == RefundResult("unknown")
    assert wechat_pay.find_refund(sim.payment, REFUND_ID) == RefundResult("unknown")
    if what not in ("changed", "cut", "a list"):  # of an empty answer nothing can be cut
        assert wechat_pay.close(replace(sim.payment, payment_id="pay_0123456789abcdef_4")) == "unknown"
    with pytest.raises(ProviderUnavailable):
        wechat_pay.statement(sim.account, "2026-01-01")


@pytest.mark.parametrize("what", ["down", "drop", "slow"])
def test_an_answer_that_does_not_come_tells_nothing_and_asking_again_heals_it(
    what: str, sim: Side, monkeypatch: pytest.MonkeyPatch
):
    def befall() -> None:
        sim.simulator.world.add_fault("wechat_pay", what, seconds=1.0)

    if what == "slow":
        monkeypatch.setattr(web, "READ_SECONDS", 0.5)

    befall()
    with pytest.raises(ProviderUnavailable):
        sim.start("native")
    assert sim.start("native").qr_text
    assert len(sim.simulator.world.each("wechat_pay")) == 1
    sim.pay()
    befall()
    assert wechat_pay.find(sim.payment) == Found("unknown")
    befall()
    assert wechat_pay.refund(sim.payment, REFUND_ID, 1999, NOW) == RefundResult("unknown")
    known = wechat_pay.find_refund(sim.payment, REFUND_ID)
    assert (known is None) == (what == "down")  # carried out, and only its answer lost
    assert wechat_pay.refund(sim.payment, REFUND_ID, 1999, NOW).state == "succeeded"
    assert len(sim.simulator.world.each("wechat_pay")[0].refunds) == 1
    befall()
    assert wechat_pay.find_refund(sim.payment, REFUND_ID) == RefundResult("unknown")
    befall()
    assert wechat_pay.close(replace(sim.payment, payment_id="pay_0123456789abcdef_5")) == "unknown"


def test_nobody_there_is_unavailable_and_unknown():
    with pytest.raises(ProviderUnavailable):
        wechat_pay.start(PAYMENT, NOW)
    assert (wechat_pay.find(PAYMENT), wechat_pay.close(PAYMENT)) == (Found("unknown"), "unknown")
    with pytest.raises(ProviderUnavailable):
        wechat_pay.statement(ACCOUNT, "2026-06-15")


# certificates that WeChat hands out


def certificate_notice(side: Side, at: int, serial: str | None = None) -> tuple[HTTPHeaders, bytes]:
    own = side.account.settings
    raw = message_of(
        "TRANSACTION.SUCCESS", {**PAID, "mchid": own["mchid"], "appid": own["appid"]}, side.account.secrets["apiv3_key"]
    )
    key = other_side._platform_keys(side.simulator.world).private_pem
    known = other_side.platform_certificate(side.simulator.world)[0]
    return headers_of(signed(raw, at=at, by=key, serial=serial or known)), raw


def fetches(side: Side) -> int:
    return side.paths().count("/v3/certificates")


def test_an_unknown_certificate_is_fetched_once_and_kept_for_half_a_day(sim: Side):
    now = int(time.time())
    for at in (now, now + 5, now + 12 * 3600 - 1):
        headers, raw = certificate_notice(sim, at)
        assert wechat_pay.read_notice(sim.account, headers, raw, at)
    assert fetches(sim) == 1
    headers, raw = certificate_notice(sim, now + 12 * 3600)
    assert wechat_pay.read_notice(sim.account, headers, raw, now + 12 * 3600)
    assert fetches(sim) == 2


def test_numbers_that_nobody_knows_are_looked_up_once_a_minute_at_most(sim: Side):
    now = int(time.time())
    for at, number in ((now, "AB01"), (now + 1, "AB02"), (now + 59, "AB03"), (now + 60, "AB04")):
        headers, raw = certificate_notice(sim, at, number)
        with pytest.raises(BadNotice):
            wechat_pay.read_notice(sim.account, headers, raw, at)
    assert fetches(sim) == 2
    headers, raw = certificate_notice(sim, now + 61)  # what came with the last look is known
    assert wechat_pay.read_notice(sim.account, headers, raw, now + 61)
    assert fetches(sim) == 2


@pytest.mark.parametrize("serial", ["PUB_KEY_ID_0000000000", "not hex", "AB" * 60])
def test_what_is_no_number_of_a_certificate_is_not_looked_up(serial: str, sim: Side):
    headers, raw = certificate_notice(sim, NOW, serial)
    with pytest.raises(BadNotice):
        wechat_pay.read_notice(sim.account, headers, raw, NOW)
    assert sim.seen == []


def test_what_one_account_fetched_is_not_anothers(sim: Side):
    now = int(time.time())
    headers, raw = certificate_notice(sim, now)
    for account_id in ("acc_1", "acc_2", "acc_1"):
        assert wechat_pay.read_notice(replace(sim.account, account_id=account_id), headers, raw, now)
    assert fetches(sim) == 2


def test_a_failed_look_is_not_repeated_at_once_and_then_heals(sim: Side):
    now = int(time.time())
    sim.simulator.world.add_fault("wechat_pay", "down")
    for at, is_good in ((now, False), (now + 59, False), (now + 60, True)):
        headers, raw = certificate_notice(sim, at)
        if is_good:
            assert wechat_pay.read_notice(sim.account, headers, raw, at)
        else:
            with pytest.raises(BadNotice):
                wechat_pay.read_notice(sim.account, headers, raw, at)
    assert fetches(sim) == 1  # the first did not get as far


@pytest.mark.parametrize("what", ["unsigned", "changed", "old", "cut", "a list", "html"])
def test_certificates_in_an_answer_that_cannot_be_verified_are_not_taken(what: str, sim: Side):
    now = int(time.time())
    sim.spoil = spoil_of(what, sim)
    headers, raw = certificate_notice(sim, now)
    with pytest.raises(BadNotice):
        wechat_pay.read_notice(sim.account, headers, raw, now)


def test_certificates_sealed_with_another_key_are_not_taken(sim: Side):
    now = int(time.time())
    headers, raw = certificate_notice(sim, now)
    other = replace(sim.account, secrets={**sim.account.secrets, "apiv3_key": "z" * 32})
    with pytest.raises(BadNotice):
        wechat_pay.read_notice(other, headers, raw, now)
    assert wechat_pay._fetched and all(known == {} for _, known in wechat_pay._fetched.values())


# the trade bill

HEAD = other_side.BILL_COLUMNS
TOTALS = other_side.BILL_TOTALS
DAY = "2026-06-15"
ROWS = [
    "`2026-06-15 13:06:38,`wx8888888888888888,`1900000109,`0,`,`4200000001,`pay_0123456789abcdef,`oUpF8,`NATIVE,"
    '`SUCCESS,`OTHERS,`CNY,`49.99,`0.00,`0,`0,`0.00,`0.00,`,`,`点券, 500 "大",`,`0.29994,`0.60%,`49.99,`0.00,`',
    "`2026-06-15 14:00:00,`wx8888888888888888,`1900000109,`0,`,`4200000001,`pay_0123456789abcdef,`oUpF8,`NATIVE,"
    "`REFUND,`OTHERS,`CNY,`0.00,`0.00,`5030000001,`rfd_0123456789abcdef_1,`19.99,`0.00,`ORIGINAL,`PROCESSING,`点券,`,"
    "`-0.12000,`0.60%,`0.00,`19.99,`",
]


def bill(rows: list[str], count: int | None = None, end: str = "\r\n") -> bytes:
    totals = f"`{len(rows) if count is None else count},`49.99,`19.99,`0.00,`0.17994,`49.99,`19.99"
    return ("\ufeff" + end.join([HEAD, *rows, TOTALS, totals, ""])).encode()


def lines_of(raw: bytes, day: str = DAY) -> list:
    return wechat_pay.parse_statement(ACCOUNT, raw, day)


def test_a_trade_bill_is_payments_and_refunds_with_their_fees():
    paid, given = lines_of(bill(ROWS))
    assert (paid.kind, paid.our_no, paid.provider_txn) == ("payment", "pay_0123456789abcdef", "4200000001")
    assert (paid.amount_minor, paid.fee_minor, paid.currency, paid.refund_txn) == (4999, 30, "CNY", None)
    assert paid.at == 1_781_499_998  # 13:06:38 in China
    assert (given.kind, given.our_no, given.refund_txn) == ("refund", REFUND_ID, "5030000001")
    assert (given.amount_minor, given.fee_minor, given.provider_txn) == (-1999, -12, "4200000001")


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("form", ["utf-8", "gbk", "packed"])
def test_a_trade_bill_is_read_in_every_form_it_comes_in(form: str, end: str):
    raw = bill(ROWS, end=end)
    raw = {"utf-8": raw, "gbk": raw.decode("utf-8-sig").encode("gbk"), "packed": gzip.compress(raw)}[form]
    assert lines_of(raw) == lines_of(bill(ROWS))


def test_a_refund_that_was_accepted_and_not_carried_out_moved_nothing():
    assert lines_of(bill([ROWS[1].replace("PROCESSING", "FAIL")])) == []


def test_what_a_coupon_of_the_merchant_paid_is_not_settled_and_shows():
    row = ROWS[0].replace("`CNY,`49.99,`0.00", "`CNY,`44.99,`5.00")
    paid, coupon = lines_of(bill([row]))
    assert (paid.amount_minor, coupon.kind, coupon.amount_minor) == (4999, "other", -500)


def test_the_trades_of_another_app_of_the_merchant_are_not_this_accounts():
    other = ROWS[0].replace("wx8888888888888888", "wx0000000000000000")
    assert lines_of(bill([ROWS[1], other])) == lines_of(bill([ROWS[1]]))


def test_a_bill_of_the_older_kind_is_read_too():
    old = {"应结订单金额": "总金额", "代金券金额": "企业红包金额", "充值券退款金额": "企业红包退款金额"}
    raw = bill([row.rsplit(",", 3)[0] for row in ROWS]).decode()
    for name, older in old.items():
        raw = raw.replace(name, older, 1)
    raw = raw.replace(",订单金额,申请退款金额,费率备注", "", 1)
    assert [one.amount_minor for one in lines_of(raw.encode())] == [4999, -1999]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"a,b\n1,2\n",
        b"\x1f\x8bnonsense",
        gzip.compress(bill(ROWS))[:-20],
        bill(ROWS, count=3),
        bill(ROWS)[: len(bill(ROWS)) // 2],
        b"".join(bill(ROWS).splitlines(keepends=True)[:-1]),
        bill([ROWS[0].replace("1900000109", "1900000110")]),
        bill([ROWS[0].replace("2026-06-15", "2026-06-16")]),
        bill([ROWS[0].replace("`SUCCESS", "`WHATEVER")]),
        bill([ROWS[0].replace("49.99", "49.999")]),
        bill([ROWS[0].replace("49.99", "NaN")]),
        bill([ROWS[0].replace("0.29994", "x")]),
        bill([ROWS[0] + ",`"]),
        bill([ROWS[0].replace("13:06:38", "25:06:38")]),
        bill(ROWS).replace("微信订单号".encode(), b"x"),
    ],
)
def test_what_is_no_bill_of_this_merchant_and_day_is_refused_as_a_whole(raw: bytes):
    with pytest.raises(BadStatement):
        lines_of(raw)


def test_a_packed_bill_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wechat_bill, "MAX_BYTES", 1000)
    with pytest.raises(BadStatement):
        parse_bill(gzip.compress(b"x" * 1001), DAY, mchid="1", appid="1")


def china_day(at: float) -> str:
    return china_time(int(at))[:10]


def test_the_bill_of_a_day_is_asked_for_and_checked(sim: Side):
    paid_up(sim)
    assert wechat_pay.refund(sim.payment, REFUND_ID, 1999, NOW).state == "succeeded"
    today = china_day(time.time())
    with pytest.raises(NoStatement):
        wechat_pay.statement(sim.account, today)
    sim.simulator.control("clock", ahead_seconds=86_400)
    paid, given = wechat_pay.statement(sim.account, today)
    assert (paid.kind, paid.our_no, paid.amount_minor, paid.fee_minor) == ("payment", PAYMENT.payment_id, 4999, 30)
    assert (given.kind, given.our_no, given.amount_minor) == ("refund", REFUND_ID, -1999)
    assert abs(paid.at - time.time()) < 120
    with pytest.raises(NoStatement):
        wechat_pay.statement(sim.account, china_day(time.time() - 5 * 86_400))


@pytest.mark.parametrize(
    "what", ["other hash", "no hash", "other place", "other scheme", "no address", "not the file", "down"]
)
def test_a_bill_that_is_not_the_one_announced_is_not_read(what: str, sim: Side):
    paid_up(sim)
    sim.simulator.control("clock", ahead_seconds=86_400)
    changed = {
        "other hash": {"hash_value": hashlib.sha1(b"").hexdigest()},
        "no hash": {"hash_value": None},
        "other place": {"download_url": "https://elsewhere.example/wechat_pay/v3/billdownload/file?token=1"},
        "other scheme": {"download_url": "file:///etc/passwd"},
        "no address": {"download_url": None},
    }.get(what)

    def spoil(answer: Response) -> Response:
        is_file = sim.seen[-1].path == "/v3/billdownload/file"
        if changed is not None:
            return answer if is_file else spoilt_json(**changed)(sim, answer)
        if not is_file:
            return answer
        return Response(503) if what == "down" else replace(answer, body=gzip.compress(bill(ROWS)))

    sim.spoil = spoil
    with pytest.raises(ProviderUnavailable):
        wechat_pay.statement(sim.account, china_day(time.time()))
    if what.startswith(("other place", "other scheme", "no address")):
        assert "/v3/billdownload/file" not in sim.paths()


def test_the_other_side_refuses_what_is_not_signed_by_the_merchant(sim: Side):
    sim.start("native")
    wrong = {"private_key": MERCHANT_PEM, "apiv3_key": sim.account.secrets["apiv3_key"]}
    payment = replace(sim.payment, account=replace(sim.account, secrets=wrong))
    with pytest.raises(ProviderRefused):
        wechat_pay.start(payment, int(time.time()))
