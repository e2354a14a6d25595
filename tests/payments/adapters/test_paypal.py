from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chalicelib.edge import web
from chalicelib.payments.adapters import paypal
from chalicelib.payments.errors import BadNotice, BadStatement, NoStatement, ProviderRefused, ProviderUnavailable
from chalicelib.payments.model import Account, Found, Notice, Payment, RefundResult, Started, StatementLine
from chalicelib.payments.paypal_certificate import is_paypals_address, read_signer, signed_message
from chalicelib.payments.paypal_values import to_minor, to_seconds, to_value
from tests.payments.adapters.paypal_server import CLIENT_ID, CLIENT_SECRET, PayPalServer

SAMPLES = json.loads((Path(__file__).parent / "samples/paypal.json").read_text())
CASES = {case["name"]: case for case in SAMPLES["cases"]}
ROOT = SAMPLES["keys"]["test_root_pem"]
CHAIN = SAMPLES["keys"]["signing_certificate_pem"].encode()
NOW = 1_781_500_000
WEBHOOK_ID = "4JH86294D6297924G"
DAY = "2026-06-15"
ACCOUNT = Account(
    "paypal", "test", "pac_1", "shop_a", settings={"client_id": CLIENT_ID, "webhook_id": WEBHOOK_ID},
    secrets={"client_secret": CLIENT_SECRET},
)  # fmt: skip
PAYMENT = Payment(
    payment_id="pay_0123456789abcdef",
    order_id="ord_0123456789abcdef",
    total_minor=799,
    currency="USD",
    title="点券 500",
    expires_at=NOW + 900,
    base_url="https://pay.example",
    account=ACCOUNT,
    method="paypal",
    return_url="https://shop.example/return?a=1&b=2",
)
FAULTS = ["drop", "error", "cut", "slow", "429", "409"]


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    paypal._tokens.clear()
    paypal._signers.clear()
    yield
    paypal._tokens.clear()
    paypal._signers.clear()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PayPalServer]:
    monkeypatch.setattr(web, "READ_SECONDS", 0.4)
    one = PayPalServer()
    yield one
    one.close()


@pytest.fixture
def payment(server: PayPalServer) -> Payment:
    return replace(PAYMENT, account=replace(ACCOUNT, settings=ACCOUNT.settings | {"api_base": server.url}))


def opened(payment: Payment) -> Payment:
    return replace(payment, provider_ref=paypal.start(payment, NOW).provider_ref)


def paid(server: PayPalServer, payment: Payment) -> Payment:
    one = opened(payment)
    server.approve(one.provider_ref)
    found = paypal.find(one)
    assert found.state == "paid"
    return replace(one, provider_txn=found.provider_txn, paid_minor=found.amount_minor)


# messages: the recorded ones, checked the way a real account is


@pytest.fixture
def paypals_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """PayPal's certificate host, out of reach here, answers with the recorded chain; the machine trusts its root."""
    fetched: list[str] = []

    def send(method: str, url: str, *, headers: dict, body: bytes | None = None, is_configured: bool = False) -> Any:
        assert (method, is_configured) == ("GET", False)
        fetched.append(url)
        return web.Answer(200, CHAIN)

    bundle = tmp_path / "roots.pem"
    bundle.write_text(ROOT)
    monkeypatch.setattr(web, "send", send)
    monkeypatch.setattr("botocore.httpsession.get_cert_path", lambda verify: str(bundle))
    return fetched


def read(case: dict, now: int = NOW, **changed: str) -> Notice | None:
    headers = {name.lower(): value for name, value in case["headers"].items()} | changed
    account = replace(ACCOUNT, settings=ACCOUNT.settings | {"webhook_id": case["webhook_id"]})
    return paypal.read_notice(account, headers, case["raw_body"].encode(), now)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["expected_valid"]])
def test_a_recorded_message_is_verified(name: str, paypals_host: list[str]):
    notice = read(CASES[name])
    assert notice is not None
    assert (notice.provider, notice.event_id) == ("paypal", json.loads(CASES[name]["raw_body"])["id"])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case["expected_valid"]])
def test_a_recorded_message_that_is_forged_is_refused(name: str, paypals_host: list[str]):
    with pytest.raises(BadNotice):
        read(CASES[name])
    assert len(paypals_host) == 1, "refused by its signature, not before"


@pytest.mark.parametrize("name", CASES)
def test_the_signed_text_is_the_recorded_one(name: str):
    case = CASES[name]
    id_, at = case["headers"]["PAYPAL-TRANSMISSION-ID"], case["headers"]["PAYPAL-TRANSMISSION-TIME"]
    assert signed_message(id_, at, case["webhook_id"], case["raw_body"].encode()) == case["signed_message"].encode()


def test_the_signed_text_of_the_published_message_is_the_published_one():
    one = SAMPLES["published_message"]
    found = signed_message(
        one["transmission_id"], one["transmission_time"], one["webhook_id"], one["raw_body"].encode()
    )
    assert found == one["expected_signed_message"].encode()


def test_what_the_recorded_messages_mean_to_us(paypals_host: list[str]):
    expected = CASES["capture_completed"]["expected_parsed"]
    notice = read(CASES["capture_completed"])
    assert (notice.kind, notice.payment_id, notice.provider_txn) == (
        "paid",
        expected["order_no"],
        expected["capture_id"],
    )
    assert (notice.amount_minor, notice.currency) == (expected["amount_minor"], expected["currency"])
    expected = CASES["capture_refunded"]["expected_parsed"]
    notice = read(CASES["capture_refunded"])
    assert (notice.kind, notice.provider_txn, notice.refund_id) == ("refunded", "3C679366HH908993F", None)
    assert (notice.amount_minor, notice.currency) == (expected["refund_amount_minor"], expected["currency"])
    assert notice.provider_refund_id == expected["refund_id"]


def test_a_certificate_is_fetched_once(paypals_host: list[str]):
    read(CASES["capture_completed"])
    read(CASES["capture_refunded"])
    assert paypals_host == [CASES["capture_completed"]["headers"]["PAYPAL-CERT-URL"]]


@pytest.mark.parametrize(
    ("age", "is_good"), [(0, True), (3 * 86_400, True), (paypal.OLDEST_SECONDS + 1, False), (-300, True), (-301, False)]
)
def test_a_message_is_good_for_three_days_and_hardly_ahead_of_time(age: int, is_good: bool, paypals_host: list[str]):
    if is_good:
        assert read(CASES["capture_completed"], NOW + age).kind == "paid"
    else:
        with pytest.raises(BadNotice):
            read(CASES["capture_completed"], NOW + age)


@pytest.mark.parametrize("check", SAMPLES["cert_url_checks"], ids=lambda check: check["url"][8:40])
def test_where_a_certificate_may_be_fetched(check: dict):
    assert is_paypals_address(check["url"]) is check["expected_allowed"]


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "http://api.paypal.com/v1/notifications/certs/CERT-1", "https://api.paypal.com/v1/oauth2/token",
        "https://api.paypal.com/v1/notifications/certs/../../x", "https://api.paypal.com/v1/notifications/certs/a?b=c",
        "https://api.paypal.com/v1/notifications/certs/a#b", "https://evil.example\\@api.paypal.com/v1/notifications/certs/a",
        "https://api.paypal.com\n.evil.example/v1/notifications/certs/a", "file:///v1/notifications/certs/a",
        "https://api.pay\tpal.com/v1/notifications/certs/a", "https://api.paypal.com:/v1/notifications/certs/a",
        "https://аpi.paypal.com.evil.example/v1/notifications/certs/a", "https://:443/v1/notifications/certs/a",
        "https://x@api.paypal.com/v1/notifications/certs/a", "https://api.paypal.com/v1/notifications/certs/a\n",
    ],
)  # fmt: skip
def test_no_other_address_is_asked_for_a_certificate(url: str, paypals_host: list[str]):
    with pytest.raises(BadNotice):
        read(CASES["capture_completed"], **{"paypal-cert-url": url})
    assert paypals_host == []


@pytest.mark.parametrize("name", ["transmission-id", "transmission-time", "transmission-sig", "cert-url", "auth-algo"])
@pytest.mark.parametrize("value", [None, "", "x", "é", "a|b", "x" * 5000])
def test_a_missing_or_broken_header_is_a_bad_notice_and_never_a_fault(
    name: str, value: str | None, paypals_host: list[str]
):
    with pytest.raises(BadNotice):
        read(CASES["capture_completed"], **{f"paypal-{name}": value})


@pytest.mark.parametrize("algorithm", ["SHA1withRSA", "sha256withrsa", "SHA256withECDSA", "none"])
def test_no_message_chooses_another_algorithm(algorithm: str, paypals_host: list[str]):
    with pytest.raises(BadNotice):
        read(CASES["capture_completed"], **{"paypal-auth-algo": algorithm})


def test_any_single_changed_byte_of_the_body_breaks_the_signature(paypals_host: list[str]):
    case = CASES["capture_completed"]
    headers = {name.lower(): value for name, value in case["headers"].items()}
    body = case["raw_body"].encode()
    for position in range(0, len(body), 61):
        changed = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
        with pytest.raises(BadNotice):
            paypal.read_notice(ACCOUNT, headers, changed, NOW)


def test_an_account_without_a_webhook_id_takes_no_message(paypals_host: list[str]):
    headers = {name.lower(): value for name, value in CASES["capture_completed"]["headers"].items()}
    with pytest.raises(BadNotice):
        paypal.read_notice(Account("paypal"), headers, CASES["capture_completed"]["raw_body"].encode(), NOW)
    assert paypals_host == []


def test_a_root_in_the_settings_is_not_looked_at_without_an_address_of_a_stand_in(
    paypals_host: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    own = tmp_path / "other.pem"
    own.write_text(certificate("Another Root", key_of("root"), None, None, is_ca=True).decode())
    monkeypatch.setattr("botocore.httpsession.get_cert_path", lambda verify: str(own))
    account = replace(ACCOUNT, settings=ACCOUNT.settings | {"webhook_root": ROOT})
    headers = {name.lower(): value for name, value in CASES["capture_completed"]["headers"].items()}
    headers["paypal-cert-url"] = "https://api-m.sandbox.paypal.com/v1/notifications/certs/CERT-1"  # not itself signed
    with pytest.raises(BadNotice):
        paypal.read_notice(account, headers, CASES["capture_completed"]["raw_body"].encode(), NOW)
    assert paypals_host == [headers["paypal-cert-url"]], "refused by the machine's own roots, not before"


def test_the_machines_own_roots_can_be_read_and_do_not_trust_the_recorded_one():
    with pytest.raises(ValueError, match="the chain does not hold"):
        read_signer(CHAIN, paypal._machine_roots(), NOW)


# certificates of all kinds

_keys: dict[str, rsa.RSAPrivateKey] = {}


def key_of(name: str) -> rsa.RSAPrivateKey:
    if name not in _keys:
        _keys[name] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return _keys[name]


def certificate(
    name: str, key: rsa.RSAPrivateKey, issuer: str | None, issuer_key: rsa.RSAPrivateKey | None, *,
    is_ca: bool | None = False, year: int = 2026, usage: x509.ObjectIdentifier | None = None,
) -> bytes:  # fmt: skip
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer or name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(year, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(year, 12, 31, tzinfo=UTC))
    )
    if is_ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


SIGNER_NAME = "messageverificationcerts.sandbox.paypal.com"
ISSUED = {"issuer": "Root", "issuer_key": "root"}


@pytest.mark.parametrize(
    ("leaf", "middle", "is_good"),
    [
        ({}, None, True),
        ({"issuer": "Middle", "issuer_key": "middle"}, {}, True),
        ({"issuer": "Middle", "issuer_key": "middle"}, None, False),
        ({"issuer": "Middle", "issuer_key": "middle"}, {"is_ca": False}, False),
        ({"issuer": "Middle", "issuer_key": "middle"}, {"is_ca": None}, False),
        ({"issuer": "Middle", "issuer_key": "middle"}, {"year": 2025}, False),
        ({"name": "messageverificationcerts.paypal.com"}, None, True),
        ({"name": "api.paypal.com"}, None, False),
        ({"name": "messageverificationcerts.paypal.com.evil.example"}, None, False),
        ({"name": "messageverificationcertsXpaypal.com"}, None, False),
        ({"name": "evil.messageverificationcerts.paypal.com"}, None, False),
        ({"year": 2025}, None, False),
        ({"year": 2027}, None, False),
        ({"issuer_key": "stranger"}, None, False),
        ({"issuer": None, "issuer_key": None}, None, False),
        ({"usage": ExtendedKeyUsageOID.SERVER_AUTH}, None, True),
        ({"usage": ExtendedKeyUsageOID.CODE_SIGNING}, None, False),
    ],
)
def test_whom_we_believe(leaf: dict, middle: dict | None, is_good: bool):
    def made(what: dict, name: str, key: str) -> bytes:
        what = {"name": name, **ISSUED, **what}
        issuer_key = key_of(what.pop("issuer_key")) if what.get("issuer_key") else what.pop("issuer_key")
        return certificate(key=key_of(key), issuer_key=issuer_key, **what)

    chain = made(leaf, SIGNER_NAME, "signer")
    if middle is not None:
        chain += made({"is_ca": True, **middle}, "Middle", "middle")
    root = certificate("Root", key_of("root"), None, None, is_ca=True)
    if is_good:
        assert read_signer(chain, root, NOW).valid_from <= NOW <= read_signer(chain, root, NOW).valid_until
    else:
        with pytest.raises(ValueError, match=r"the chain|the name"):
            read_signer(chain, root, NOW)


@pytest.mark.parametrize("chain", [b"", b"x", CHAIN[:200], CHAIN * 7, CHAIN + b"x" * 70_000, b"\xff" * 100])
def test_a_file_that_is_no_chain_names_no_signer(chain: bytes):
    with pytest.raises(ValueError):
        read_signer(chain, ROOT.encode(), NOW)


# messages: a stand-in with a root of its own


@pytest.fixture
def stand_in(server: PayPalServer) -> Account:
    root = certificate("Root", key_of("root"), None, None, is_ca=True)
    server.files["/v1/notifications/certs/CERT-1"] = certificate(
        SIGNER_NAME, key_of("signer"), "Root", key_of("root"), usage=ExtendedKeyUsageOID.SERVER_AUTH
    )
    own = {"api_base": server.url, "webhook_root": root.decode()}
    return replace(ACCOUNT, settings=ACCOUNT.settings | own)


def signed(account: Account, body: bytes, key: str = "signer", **changed: str) -> dict[str, str]:
    import base64

    headers = {
        "paypal-transmission-id": "dfb3be50-fd74-11e4-8bf3-77339302725b",
        "paypal-transmission-time": "2026-06-15T05:06:40Z",
        "paypal-cert-url": f"{account.settings['api_base']}/v1/notifications/certs/CERT-1",
        "paypal-auth-algo": "SHA256withRSA",
    } | changed
    message = signed_message(headers["paypal-transmission-id"], headers["paypal-transmission-time"], WEBHOOK_ID, body)
    signature = key_of(key).sign(message, padding.PKCS1v15(), hashes.SHA256())
    return {"paypal-transmission-sig": base64.b64encode(signature).decode(), **headers}


def told(account: Account, event_type: str, thing: Any) -> Notice:
    body = json.dumps({"id": "WH-1", "event_type": event_type, "resource": thing}).encode()
    notice = paypal.read_notice(account, signed(account, body), body, NOW)
    assert notice is not None
    return notice


def test_a_message_of_a_stand_in_is_verified_under_its_own_root(stand_in: Account):
    assert told(stand_in, "BILLING.PLAN.CREATED", {"id": "P-1"}).kind == "other"


def test_a_message_signed_by_another_key_is_refused(stand_in: Account):
    body = b'{"id":"WH-1","event_type":"x","resource":{}}'
    with pytest.raises(BadNotice):
        paypal.read_notice(stand_in, signed(stand_in, body, "stranger"), body, NOW)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/v1/notifications/certs/CERT-1", "https://api.paypal.com/v1/notifications/certs/CERT-1",
     "{base}.evil.example/v1/notifications/certs/CERT-1", "{base}@evil.example/v1/notifications/certs/CERT-1",
     "{base}/CERT-1", "{base}/v1/notifications/certs/CERT-2"],
)  # fmt: skip
def test_the_certificate_of_a_stand_in_lies_below_its_own_address(url: str, stand_in: Account):
    body = b'{"id":"WH-1","event_type":"x","resource":{}}'
    with pytest.raises(BadNotice):
        url = url.replace("{base}", stand_in.settings["api_base"])
        paypal.read_notice(stand_in, signed(stand_in, body, **{"paypal-cert-url": url}), body, NOW)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_certificate_that_cannot_be_fetched_refuses_the_message_and_the_next_try_gets_it(
    fault: str, stand_in: Account, server: PayPalServer
):
    body = b'{"id":"WH-1","event_type":"x","resource":{}}'
    server.faults["GET", "/certs/"] = fault
    with pytest.raises(BadNotice):
        paypal.read_notice(stand_in, signed(stand_in, body), body, NOW)
    assert paypal.read_notice(stand_in, signed(stand_in, body), body, NOW).kind == "other"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff\xfe", b"null", b"[]", b'"text"', b"7", b"{}", b'{"id":"WH-1"}', b"[" * 100_000,
        b'{"id":7,"event_type":"x","resource":{}}', b'{"id":"","event_type":"x","resource":{}}',
        b'{"id":"WH-1","event_type":7,"resource":{}}', b'{"id":"WH-1","event_type":"x","resource":[]}',
        b'{"id":"WH-1","event_type":"CHECKOUT.ORDER.APPROVED","resource":{"purchase_units":[1]}}',
        b'{"id":"WH-1","event_type":"CUSTOMER.DISPUTE.CREATED","resource":{}}',
        b'{"id":"WH-1","event_type":"PAYMENT.CAPTURE.REVERSED","resource":{"amount":{}}}',
        b'{"id":"' + b"e" * 300 + b'","event_type":"x","resource":{}}',
    ],
)  # fmt: skip
def test_a_signed_body_that_is_no_event_is_a_bad_notice_and_never_a_fault(body: bytes, stand_in: Account):
    with pytest.raises(BadNotice):
        paypal.read_notice(stand_in, signed(stand_in, body), body, NOW)


USD = {"currency_code": "USD", "value": "7.99"}
CAPTURE = {"id": "3C1", "status": "COMPLETED", "amount": USD, "custom_id": "pay_1", "invoice_id": "pay_1"}


@pytest.mark.parametrize(
    ("event", "status", "kind"),
    [("COMPLETED", "COMPLETED", "paid"), ("COMPLETED", "PENDING", "other"), ("PENDING", "PENDING", "other"),
     ("DENIED", "DECLINED", "failed"), ("DECLINED", "DECLINED", "failed"), ("INVENTED", "COMPLETED", "other")],
)  # fmt: skip
def test_what_a_capture_event_means(event: str, status: str, kind: str, stand_in: Account):
    notice = told(stand_in, f"PAYMENT.CAPTURE.{event}", {**CAPTURE, "status": status})
    assert notice == Notice("paypal", "WH-1", kind, "pay_1", "3C1", 799, "USD")


def test_an_approved_order_is_no_payment_but_a_reason_to_ask(stand_in: Account):
    order = {"id": "5O1", "status": "APPROVED", "purchase_units": [{"custom_id": "pay_1", "amount": USD}]}
    notice = told(stand_in, "CHECKOUT.ORDER.APPROVED", order)
    assert notice == Notice("paypal", "WH-1", "approved", "pay_1", None, 799, "USD")
    assert told(stand_in, "CHECKOUT.ORDER.COMPLETED", order).kind == "other"


UP = {"href": "https://api.paypal.com/v2/payments/captures/3C1", "rel": "up", "method": "GET"}


@pytest.mark.parametrize(
    ("event", "status", "kind"),
    [("CAPTURE.REFUNDED", "COMPLETED", "refunded"), ("CAPTURE.REFUNDED", "PENDING", "other"),
     ("REFUND.FAILED", "FAILED", "refund_failed"), ("REFUND.PENDING", "PENDING", "other"),
     ("CAPTURE.REFUNDED", None, "other")],
)  # fmt: skip
def test_what_a_refund_event_means(event: str, status: str | None, kind: str, stand_in: Account):
    thing = {"id": "1Y1", "status": status, "amount": USD, "custom_id": "pay_1", "invoice_id": "rfd_1_1", "links": [UP]}
    notice = told(stand_in, f"PAYMENT.{event}", thing)
    assert (notice.kind, notice.payment_id, notice.provider_txn, notice.refund_id) == (kind, "pay_1", "3C1", "rfd_1_1")
    assert (notice.amount_minor, notice.provider_refund_id) == (799, "1Y1")


def test_a_refund_made_by_hand_at_paypal_has_no_refund_id_of_ours(stand_in: Account):
    thing = {"id": "1Y1", "status": "COMPLETED", "amount": USD, "custom_id": "pay_1", "links": [UP]}
    notice = told(stand_in, "PAYMENT.CAPTURE.REFUNDED", thing)
    assert (notice.kind, notice.refund_id, notice.payment_id, notice.provider_txn) == ("refunded", None, "pay_1", "3C1")


def test_money_taken_back_by_paypal_is_a_dispute_lost(stand_in: Account):
    thing = {"id": "9R1", "status": "COMPLETED", "amount": USD, "custom_id": "pay_1", "links": [UP]}
    notice = told(stand_in, "PAYMENT.CAPTURE.REVERSED", thing)
    assert (notice.kind, notice.dispute.dispute_id, notice.provider_txn) == ("dispute_lost", "9R1", "3C1")
    assert (notice.payment_id, notice.refund_id, notice.amount_minor) == ("pay_1", None, 799)


DISPUTE = {
    "dispute_id": "PP-D-1", "reason": "UNAUTHORISED", "status": "WAITING_FOR_SELLER_RESPONSE", "dispute_amount": USD,
    "seller_response_due_date": "2026-06-25T05:06:40.000Z",
    "disputed_transactions": [{"seller_transaction_id": "3C1", "custom": "pay_1", "invoice_number": "pay_1"}],
}  # fmt: skip


@pytest.mark.parametrize("event", ["CREATED", "UPDATED"])
def test_a_dispute_freezes_with_its_deadline(event: str, stand_in: Account):
    notice = told(stand_in, f"CUSTOMER.DISPUTE.{event}", DISPUTE)
    assert (notice.kind, notice.payment_id, notice.provider_txn, notice.amount_minor) == (
        "dispute_opened", "pay_1", "3C1", 799)  # fmt: skip
    assert (notice.dispute.dispute_id, notice.dispute.reason) == ("PP-D-1", "UNAUTHORISED")
    assert notice.dispute.due_at == NOW + 10 * 86_400


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [("RESOLVED_BUYER_FAVOUR", "dispute_lost"), ("ACCEPTED", "dispute_lost"), ("RESOLVED_SELLER_FAVOUR", "dispute_won"),
     ("CANCELED_BY_BUYER", "dispute_won"), ("DENIED", "dispute_won"), ("RESOLVED_WITH_PAYOUT", "other"),
     ("INVENTED", "other"), (None, "other")],
)  # fmt: skip
@pytest.mark.parametrize("event", ["RESOLVED", "UPDATED"])
def test_how_a_dispute_ends(event: str, outcome: str | None, kind: str, stand_in: Account):
    ended = {**DISPUTE, "status": "RESOLVED", "dispute_outcome": {"outcome_code": outcome}}
    assert told(stand_in, f"CUSTOMER.DISPUTE.{event}", ended).kind == kind


def test_a_dispute_known_by_the_money_alone_names_no_payment(stand_in: Account):
    plain = {**DISPUTE, "disputed_transactions": [{"seller_transaction_id": "3C1"}], "seller_response_due_date": None}
    notice = told(stand_in, "CUSTOMER.DISPUTE.CREATED", plain)
    assert (notice.payment_id, notice.provider_txn, notice.dispute.due_at) == (None, "3C1", None)


@pytest.mark.parametrize("value", ["7.999", "7,99", "1e3", "NaN", "", None, 7.99, 799, "٧.99"])
def test_an_amount_that_cannot_be_read_is_no_amount(value: object, stand_in: Account):
    amount = {"currency_code": "USD", "value": value}
    assert told(stand_in, "PAYMENT.CAPTURE.COMPLETED", {**CAPTURE, "amount": amount}).amount_minor is None


def test_a_message_is_verified_the_same_in_many_threads_at_once(stand_in: Account):
    body = json.dumps({"id": "WH-1", "event_type": "PAYMENT.CAPTURE.COMPLETED", "resource": CAPTURE}).encode()
    headers, kinds = signed(stand_in, body), []
    threads = [
        threading.Thread(target=lambda: kinds.append(paypal.read_notice(stand_in, headers, body, NOW).kind))
        for _ in range(20)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert kinds == ["paid"] * 20


# amounts


@pytest.mark.parametrize(
    ("minor", "currency", "value"),
    [(799, "USD", "7.99"), (1, "USD", "0.01"), (100, "EUR", "1.00"), (500, "JPY", "500"), (10_000, "TWD", "100")],
)
def test_amounts_are_written_as_paypal_wants_them_and_read_back(minor: int, currency: str, value: str):
    assert to_value(minor, currency) == value
    assert to_minor(value, currency) == minor


def test_a_part_of_a_currency_that_paypal_takes_whole_cannot_be_written(payment: Payment, server: PayPalServer):
    with pytest.raises(ValueError, match="whole"):
        to_value(10_050, "TWD")
    with pytest.raises(ProviderRefused):
        paypal.start(replace(payment, currency="TWD", total_minor=10_050), NOW)
    assert server.seen == []


@pytest.mark.parametrize("text", ["2026-06-15", "2026-06-15T05:06:40", "05:06", "", None, 7, "2026-13-15T05:06:40Z"])
def test_an_instant_without_its_offset_is_none(text: object):
    with pytest.raises(ValueError):
        to_seconds(text)


# start


def test_an_order_is_opened_and_the_buyer_sent_to_it(payment: Payment, server: PayPalServer):
    started = paypal.start(payment, NOW)
    number = next(iter(server.orders))
    assert started == Started(f"https://www.sandbox.paypal.com/checkoutnow?token={number}", number)
    sent = json.loads(server.seen[-1].body)
    assert sent["intent"] == "CAPTURE"
    unit = sent["purchase_units"][0]
    assert (unit["custom_id"], unit["invoice_id"], unit["amount"]) == (PAYMENT.payment_id, PAYMENT.payment_id, USD)
    context = sent["payment_source"]["paypal"]["experience_context"]
    assert (context["return_url"], context["shipping_preference"]) == (PAYMENT.return_url, "NO_SHIPPING")
    assert server.seen[-1].headers["paypal-request-id"] == PAYMENT.payment_id


def test_opening_twice_is_one_order(payment: Payment, server: PayPalServer):
    assert paypal.start(payment, NOW) == paypal.start(payment, NOW + 60)
    assert len(server.orders) == 1
    assert server.seen[-1].body == server.seen[-2].body


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("part", ["/v1/oauth2/token", "/v2/checkout/orders"])
def test_an_opening_whose_answer_is_lost_is_healed_by_a_repeat(
    part: str, fault: str, payment: Payment, server: PayPalServer
):
    server.faults["POST", part] = fault
    with pytest.raises(ProviderUnavailable):
        paypal.start(payment, NOW)
    assert paypal.start(payment, NOW).provider_ref in server.orders
    assert len(server.orders) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_a_definite_no_to_an_opening_is_refused(status: int, payment: Payment, server: PayPalServer):
    server.refusals["/v2/checkout/orders"] = (status, "CURRENCY_NOT_SUPPORTED")
    with pytest.raises(ProviderRefused):
        paypal.start(payment, NOW)


def test_wrong_credentials_are_for_the_operator(payment: Payment, server: PayPalServer):
    wrong = replace(payment, account=replace(payment.account, secrets={"client_secret": "other"}), provider_ref="5O1")
    with pytest.raises(ProviderRefused):
        paypal.start(wrong, NOW)
    assert paypal.find(wrong) == Found("unknown")
    assert paypal.close(wrong) == "unknown"
    assert paypal.refund(replace(wrong, provider_txn="3C1"), "rfd_1", 1, NOW) == RefundResult("unknown")
    with pytest.raises(ProviderRefused):
        paypal.statement(wrong.account, DAY)


def test_an_account_that_is_not_filled_in_reaches_nobody(server: PayPalServer):
    empty = replace(PAYMENT, account=Account("paypal", settings={"api_base": server.url}), provider_ref="5O1")
    with pytest.raises(ProviderRefused):
        paypal.start(empty, NOW)
    with pytest.raises(ProviderRefused):
        paypal.statement(empty.account, DAY)
    assert (paypal.find(empty), paypal.close(empty)) == (Found("unknown"), "unknown")
    assert server.seen == []


def test_the_mode_of_an_account_chooses_the_host(monkeypatch: pytest.MonkeyPatch):
    urls = []

    def send(method: str, url: str, **_: Any) -> Any:
        urls.append(url)
        raise web.NotSent("no connection")

    monkeypatch.setattr(web, "send", send)
    for mode in ("live", "test"):
        with pytest.raises(ProviderUnavailable):
            paypal.start(replace(PAYMENT, account=replace(ACCOUNT, mode=mode)), NOW)
    assert urls == ["https://api-m.paypal.com/v1/oauth2/token", "https://api-m.sandbox.paypal.com/v1/oauth2/token"]


# the access token


def test_a_token_is_fetched_once_and_kept(payment: Payment, server: PayPalServer):
    paid(server, payment)
    assert server.count("POST", "/v1/oauth2/token") == 1


def test_a_token_is_fetched_anew_before_it_runs_out(
    payment: Payment, server: PayPalServer, monkeypatch: pytest.MonkeyPatch
):
    paypal.start(payment, NOW)
    late = web.wall_clock() + server.token_seconds - paypal.TOKEN_SLACK_SECONDS + 1
    monkeypatch.setattr(web, "wall_clock", lambda: late)
    paypal.start(payment, NOW)
    assert server.count("POST", "/v1/oauth2/token") == 2


def test_a_token_taken_back_is_forgotten_and_the_next_call_gets_another(payment: Payment, server: PayPalServer):
    paypal.start(payment, NOW)
    server.tokens.clear()
    with pytest.raises(ProviderUnavailable):
        paypal.start(payment, NOW)
    assert paypal.start(payment, NOW).provider_ref


def test_tokens_of_two_accounts_are_never_mixed_up(payment: Payment, server: PayPalServer):
    paypal.start(payment, NOW)
    other = replace(payment, account=replace(payment.account, secrets={"client_secret": "other"}))
    with pytest.raises(ProviderRefused):
        paypal.start(other, NOW)


# find and close


def test_an_order_nobody_approved_is_unpaid_and_closes(payment: Payment, server: PayPalServer):
    one = opened(payment)
    assert (paypal.find(one), paypal.close(one)) == (Found("unpaid"), "closed")
    assert server.count("POST", "/capture") == 0


def test_an_approved_order_is_captured_once_however_often_it_is_asked_about(payment: Payment, server: PayPalServer):
    one = opened(payment)
    server.approve(one.provider_ref)
    found = paypal.find(one)
    assert found == Found("paid", 799, "USD", f"3C{one.provider_ref[2:]}")
    assert paypal.find(one) == found
    assert server.count("POST", "/capture") == 1
    assert paypal.close(one) == "paid"


def test_closing_an_approved_order_captures_nothing(payment: Payment, server: PayPalServer):
    one = opened(payment)
    server.approve(one.provider_ref)
    assert (paypal.close(one), paypal.close(one)) == ("closed", "closed")
    assert server.count("POST", "/capture") == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_capture_whose_answer_is_lost_is_found_by_asking_again(fault: str, payment: Payment, server: PayPalServer):
    one = opened(payment)
    server.approve(one.provider_ref)
    server.faults["POST", "/capture"] = fault
    assert paypal.find(one) == Found("unknown")
    assert paypal.find(one).state == "paid"
    assert len(server.orders[one.provider_ref]["purchase_units"][0]["payments"]["captures"]) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_when_paypal_is_out_of_reach_nothing_is_concluded(fault: str, payment: Payment, server: PayPalServer):
    one = opened(payment)
    server.faults["GET", "/v2/checkout/orders/"] = fault
    assert paypal.find(one) == Found("unknown")
    server.faults["GET", "/v2/checkout/orders/"] = fault
    assert paypal.close(one) == "unknown"


def test_a_capture_that_somebody_else_was_quicker_with_is_found(payment: Payment, server: PayPalServer):
    one = opened(payment)
    server.approve(one.provider_ref)
    order = server.orders[one.provider_ref]
    server.refusals["/capture"] = (422, "ORDER_ALREADY_CAPTURED")
    order["purchase_units"][0]["payments"] = {"captures": [{"id": "3C9", "status": "COMPLETED", "amount": USD}]}
    assert paypal.find(one) == Found("paid", 799, "USD", "3C9")


@pytest.mark.parametrize(
    ("status", "issue", "state"),
    [(422, "INSTRUMENT_DECLINED", "unpaid"), (422, "ORDER_NOT_APPROVED", "unpaid"), (422, "ORDER_EXPIRED", "unpaid"),
     (422, "DUPLICATE_INVOICE_ID", "unknown"), (422, "INVENTED", "unknown"), (403, "PERMISSION_DENIED", "unknown"),
     (404, "INVALID_RESOURCE_ID", "unknown"), (500, "INSTRUMENT_DECLINED", "unknown")],
)  # fmt: skip
def test_a_capture_that_paypal_refuses(status: int, issue: str, state: str, payment: Payment, server: PayPalServer):
    one = opened(payment)
    server.approve(one.provider_ref)
    server.refusals["/capture"] = (status, issue)
    assert paypal.find(one) == Found(state)


@pytest.mark.parametrize(
    ("capture_status", "state"),
    [("COMPLETED", "paid"), ("PENDING", "unknown"), ("DECLINED", "unpaid"), ("FAILED", "unpaid"),
     ("REFUNDED", "paid"), ("PARTIALLY_REFUNDED", "paid"), ("INVENTED", "unknown")],
)  # fmt: skip
def test_what_the_status_of_a_capture_means(capture_status: str, state: str, payment: Payment, server: PayPalServer):
    one = opened(payment)
    server.approve(one.provider_ref)
    server.capture_status = capture_status
    assert paypal.find(one).state == state
    assert paypal.find(one).state == state


@pytest.mark.parametrize(
    ("status", "state"),
    [("CREATED", "unpaid"), ("SAVED", "unpaid"), ("PAYER_ACTION_REQUIRED", "unpaid"), ("VOIDED", "unpaid"),
     ("COMPLETED", "unknown"), ("INVENTED", "unknown"), (None, "unknown")],
)  # fmt: skip
def test_what_the_status_of_an_order_means(status: str | None, state: str, payment: Payment, server: PayPalServer):
    one = opened(payment)
    server.orders[one.provider_ref]["status"] = status
    assert paypal.find(one) == Found(state)


@pytest.mark.parametrize("units", [None, [], "x", [1], [{"custom_id": "pay_other"}], [{"custom_id": "pay_1"}, {}]])
def test_an_order_that_is_not_this_payments_is_concluded_nothing_from(
    units: object, payment: Payment, server: PayPalServer
):
    one = opened(payment)
    server.orders[one.provider_ref] |= {"purchase_units": units, "status": "APPROVED"}
    assert paypal.find(one) == Found("unknown")
    assert server.count("POST", "/capture") == 0


@pytest.mark.parametrize("amount", [None, {}, {"currency_code": "USD", "value": "x"}, {"currency_code": "XXX"}])
def test_a_capture_whose_amount_cannot_be_read_is_concluded_nothing_from(
    amount: object, payment: Payment, server: PayPalServer
):
    one = opened(payment)
    payments = {"captures": [{"id": "3C1", "status": "COMPLETED", "amount": amount}]}
    server.orders[one.provider_ref]["purchase_units"][0]["payments"] = payments
    assert paypal.find(one) == Found("unknown")


def test_an_order_that_paypal_has_forgotten_or_was_never_told_of_is_unknown(payment: Payment, server: PayPalServer):
    assert paypal.find(replace(payment, provider_ref="5Ogone")) == Found("unknown")
    assert paypal.find(payment) == Found("unknown")
    assert paypal.close(payment) == "unknown"


# refunds


def test_a_refund_gives_back_a_part_under_our_id(payment: Payment, server: PayPalServer):
    one = paid(server, payment)
    assert paypal.refund(one, "rfd_1_1", 299, NOW) == RefundResult("succeeded", "1Y0")
    sent = json.loads(server.seen[-1].body)
    assert sent == {
        "amount": {"currency_code": "USD", "value": "2.99"}, "invoice_id": "rfd_1_1", "custom_id": PAYMENT.payment_id,
    }  # fmt: skip
    assert server.seen[-1].headers["paypal-request-id"] == "rfd_1_1"
    assert server.seen[-1].path == f"/v2/payments/captures/{one.provider_txn}/refund"
    assert paypal.find_refund(one, "rfd_1_1") == RefundResult("succeeded", "1Y0")
    assert paypal.find_refund(one, "rfd_1_2") is None


def test_a_refund_is_paid_once_even_when_paypal_has_forgotten_the_request_id(payment: Payment, server: PayPalServer):
    one = paid(server, payment)
    paypal.refund(one, "rfd_1_1", 299, NOW)
    server.answers.clear()
    assert paypal.refund(one, "rfd_1_1", 299, NOW + 50 * 86_400).state == "succeeded"
    assert len(server.orders[one.provider_ref]["purchase_units"][0]["payments"]["refunds"]) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refund_whose_answer_is_lost_is_unknown_and_never_paid_twice(
    fault: str, payment: Payment, server: PayPalServer
):
    one = paid(server, payment)
    server.faults["POST", "/refund"] = fault
    assert paypal.refund(one, "rfd_1_1", 299, NOW) == RefundResult("unknown")
    assert paypal.refund(one, "rfd_1_1", 299, NOW) == RefundResult("succeeded", "1Y0")
    assert len(server.orders[one.provider_ref]["purchase_units"][0]["payments"]["refunds"]) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_while_the_books_cannot_be_read_no_refund_is_sent(fault: str, payment: Payment, server: PayPalServer):
    one = paid(server, payment)
    server.faults["GET", "/v2/checkout/orders/"] = fault
    assert paypal.refund(one, "rfd_1_1", 299, NOW) == RefundResult("unknown")
    assert server.count("POST", "/refund") == 0


@pytest.mark.parametrize(
    ("status", "issue", "state"),
    [(422, "CAPTURE_FULLY_REFUNDED", "failed"), (422, "REFUND_AMOUNT_EXCEEDED", "failed"), (404, "INVALID", "failed"),
     (422, "PREVIOUS_REQUEST_IN_PROGRESS", "unknown"), (422, "DUPLICATE_INVOICE_ID", "unknown"),
     (401, "X", "unknown"), (403, "X", "unknown"), (409, "X", "unknown"), (429, "X", "unknown"), (503, "X", "unknown")],
)  # fmt: skip
def test_a_refund_that_paypal_refuses(status: int, issue: str, state: str, payment: Payment, server: PayPalServer):
    one = paid(server, payment)
    server.refusals["/refund"] = (status, issue)
    assert paypal.refund(one, "rfd_1_1", 299, NOW) == RefundResult(state)


@pytest.mark.parametrize(
    ("status", "state"),
    [("COMPLETED", "succeeded"), ("PENDING", "pending"), ("FAILED", "failed"), ("CANCELLED", "failed"),
     ("INVENTED", "unknown"), (None, "unknown"), ([1], "unknown")],
)  # fmt: skip
def test_what_the_status_of_a_refund_means(status: object, state: str, payment: Payment, server: PayPalServer):
    server.refund_status = status
    assert paypal.refund(paid(server, payment), "rfd_1_1", 299, NOW).state == state


def test_no_more_than_was_captured_is_given_back(payment: Payment, server: PayPalServer):
    one = paid(server, payment)
    assert paypal.refund(one, "rfd_1_1", 500, NOW).state == "succeeded"
    assert paypal.refund(one, "rfd_1_2", 300, NOW).state == "failed"


def test_a_payment_without_money_has_nothing_to_give_back(payment: Payment, server: PayPalServer):
    assert paypal.refund(payment, "rfd_1_1", 1, NOW) == RefundResult("unknown")
    assert server.seen == []


# statements


def transaction(number: int, **changed: Any) -> dict:
    return {
        "transaction_id": f"3C{number}", "transaction_event_code": "T0006", "transaction_status": "S",
        "transaction_initiation_date": "2026-06-15T05:06:40+0000", "custom_field": f"pay_{number}",
        "invoice_id": f"pay_{number}", "transaction_amount": {"currency_code": "USD", "value": "7.99"},
        "fee_amount": {"currency_code": "USD", "value": "-0.77"},
    } | changed  # fmt: skip


def usd(value: str) -> dict:
    return {"currency_code": "USD", "value": value}


REFUND_ROW = {
    "transaction_event_code": "T1107", "invoice_id": "rfd_1_1", "custom_field": "pay_1", "paypal_reference_id": "3C1",
    "paypal_reference_id_type": "TXN", "transaction_amount": usd("-2.99"), "fee_amount": usd("0.10"),
}  # fmt: skip
CHARGEBACK_ROW = {
    "transaction_event_code": "T1201", "paypal_reference_id": "3C1", "paypal_reference_id_type": "TXN",
    "transaction_amount": usd("-7.99"), "fee_amount": usd("0.00"), "custom_field": "pay_1",
}  # fmt: skip


def test_the_movements_of_a_day_over_several_pages(payment: Payment, server: PayPalServer):
    server.page_size = 2
    server.transactions = [
        transaction(1), transaction(2, **REFUND_ROW), transaction(3, **CHARGEBACK_ROW),
        transaction(4, transaction_event_code="T0106", transaction_amount=usd("-20.00"), fee_amount=None,
                    custom_field=None, invoice_id=None),
        transaction(5, transaction_event_code="T0400", transaction_amount=usd("-50.00"), custom_field=None),
        transaction(6, transaction_status="P"), transaction(7, transaction_status="V"),
        transaction(8, transaction_initiation_date="2026-06-16T00:00:00+0000"),
    ]  # fmt: skip
    assert paypal.statement(payment.account, DAY) == [
        StatementLine("payment", "3C1", "pay_1", 799, "USD", NOW, 77),
        StatementLine("refund", "3C1", "rfd_1_1", -299, "USD", NOW, -10, "3C2"),
        StatementLine("dispute", "3C1", "pay_1", -799, "USD", NOW, 0, "3C3"),
        StatementLine("fee", "3C4", None, -2000, "USD", NOW),
        StatementLine("other", "3C5", "pay_5", -5000, "USD", NOW, 77),
        StatementLine("payment", "3C7", "pay_7", 799, "USD", NOW, 77),
    ]
    assert server.count("GET", "/v1/reporting/transactions") == 4


def test_a_day_that_paypal_has_not_finished_has_no_statement_yet(payment: Payment, server: PayPalServer):
    server.last_refreshed = "2026-06-15T23:59:59Z"
    with pytest.raises(NoStatement):
        paypal.statement(payment.account, DAY)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_statement_out_of_reach_is_unavailable(fault: str, payment: Payment, server: PayPalServer):
    server.faults["GET", "/v1/reporting"] = fault
    with pytest.raises(ProviderUnavailable):
        paypal.statement(payment.account, DAY)
    assert paypal.statement(payment.account, DAY) == []


@pytest.mark.parametrize(("status", "error"), [("400", NoStatement), ("403", ProviderRefused)])
def test_a_statement_that_paypal_refuses(status: str, error: type, payment: Payment, server: PayPalServer):
    server.faults["GET", "/v1/reporting"] = status
    with pytest.raises(error):
        paypal.statement(payment.account, DAY)


def test_the_same_answer_as_a_file():
    page = {"transaction_details": [{"transaction_info": transaction(1)}]}
    expected = [StatementLine("payment", "3C1", "pay_1", 799, "USD", NOW, 77)]
    assert paypal.parse_statement(ACCOUNT, json.dumps(page).encode(), DAY) == expected
    assert paypal.parse_statement(ACCOUNT, json.dumps([page, page]).encode(), DAY) == expected * 2
    assert paypal.parse_statement(ACCOUNT, json.dumps(page["transaction_details"]).encode(), DAY) == expected


HEAD = (
    '"Date","Time","TimeZone","Name","Type","Status","Currency","Gross","Fee","Net","Transaction ID",'
    '"Reference Txn ID","Invoice Number","Custom Number"\n'
)


def row(date: str, time: str, zone: str, kind: str, gross: str, fee: str, txn: str, ref: str, invoice: str) -> str:
    values = (date, time, zone, "A", kind, "Completed", "USD", gross, fee, "0", txn, ref, invoice, "pay_1")
    return ",".join(f'"{one}"' for one in values) + "\n"


def test_the_activity_download():
    raw = "\ufeff" + HEAD
    raw += row("06/14/2026", "22:06:40", "PDT", "Express Checkout Payment", "1,007.99", "-0.77", "3C1", "", "pay_1")
    raw += row("06/14/2026", "22:06:40", "PDT", "Payment Refund", "-2.99", "0.10", "1Y1", "3C1", "rfd_1_1")
    raw += row("06/14/2026", "22:06:40", "PDT", "Chargeback", "-7.99", "0.00", "9R1", "3C1", "pay_1")
    raw += row("06/14/2026", "22:06:40", "PDT", "Chargeback Fee", "-20.00", "0.00", "8F1", "3C1", "")
    raw += row("06/15/2026", "22:06:40", "PDT", "Express Checkout Payment", "7.99", "-0.77", "3C9", "", "pay_1")
    assert paypal.parse_statement(ACCOUNT, raw.encode(), DAY) == [
        StatementLine("payment", "3C1", "pay_1", 100_799, "USD", NOW, 77),
        StatementLine("refund", "3C1", "rfd_1_1", -299, "USD", NOW, -10, "1Y1"),
        StatementLine("dispute", "3C1", "pay_1", -799, "USD", NOW, 0, "9R1"),
        StatementLine("fee", "8F1", "pay_1", -2000, "USD", NOW),
    ]


def test_a_download_with_decimal_commas_days_first_and_an_offset():
    raw = HEAD + row("15/06/2026", "13:06:40", "GMT+08:00", "Website Payment", "1.007,99", "-0,77", "3C1", "", "pay_1")
    (line,) = paypal.parse_statement(ACCOUNT, raw.encode(), DAY)
    assert (line.amount_minor, line.fee_minor, line.at) == (100_799, 77, NOW)


def test_a_date_that_can_be_read_in_two_ways_is_not_guessed():
    raw = HEAD + row("06/07/2026", "05:06:40", "UTC", "Website Payment", "7.99", "0.00", "3C1", "", "pay_1")
    with pytest.raises(BadStatement):
        paypal.parse_statement(ACCOUNT, raw.encode(), "2026-07-06")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\xff\xfe\x00", b"{", b"7", b"null", b"[1]", b'{"a":1}', b'{"transaction_details":7}', b"a,b\n1,2\n",
        b"<html>", json.dumps({"transaction_details": [{"transaction_info": {}}]}).encode(),
        json.dumps([{"transaction_info": transaction(1, transaction_amount=usd("x"))}]).encode(),
        (HEAD + row("2026-06-15", "05:06:40", "CST", "Website Payment", "7.99", "0", "3C1", "", "")).encode(),
        (HEAD + row("2026-06-15", "05:06:40", "UTC", "Website Payment", "7.999", "0", "3C1", "", "")).encode(),
        (HEAD + row("yesterday", "05:06:40", "UTC", "Website Payment", "7.99", "0", "3C1", "", "")).encode(),
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_file_that_is_no_statement_is_refused(raw: bytes):
    with pytest.raises(BadStatement):
        paypal.parse_statement(ACCOUNT, raw, DAY)


# secrets


def test_no_secret_shows_in_an_account_or_a_refusal(payment: Payment, server: PayPalServer):
    server.faults["POST", "/v2/checkout/orders"] = "drop"
    with pytest.raises(ProviderUnavailable) as refused:
        paypal.start(payment, NOW)
    shown = repr(payment) + repr(refused.value) + str(refused.value)
    assert CLIENT_SECRET not in shown
    assert all(token not in shown for token in server.tokens)
