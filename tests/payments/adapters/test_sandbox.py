from __future__ import annotations

import json
import threading

import pytest
from botocore.exceptions import ReadTimeoutError

from chalicelib.aws import secrets
from chalicelib.aws.clients import dynamodb
from chalicelib.core.ids import payment_id_for
from chalicelib.payments import sandbox_store as books
from chalicelib.payments.adapters import sandbox
from chalicelib.payments.errors import BadNotice, UnknownProvider
from chalicelib.payments.model import Account, Found, Notice, Payment, RefundResult, Started
from chalicelib.payments.timed_signature import sign

NOW = 1_781_500_000
ORDER_ID = "ord_0123456789abcdef"
PAYMENT_ID = payment_id_for(ORDER_ID)
EVENT = {
    "id": "sbe_1", "type": "payment.paid", "created": NOW,
    "data": {"payment_id": PAYMENT_ID, "txn": "sbt_1", "amount_minor": 4999, "currency": "CNY"},
}  # fmt: skip
BODY = json.dumps(EVENT).encode()
KEY = b"k" * 32
ACCOUNT = Account("sandbox")


def payment(txn: str | None = None) -> Payment:
    return Payment(
        PAYMENT_ID, ORDER_ID, 4999, "CNY", "x", NOW + 900, "https://pay.example", ACCOUNT, "page", provider_txn=txn
    )


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setenv("SANDBOX", "on")
    monkeypatch.setattr(sandbox, "derived_key", {"sandbox-notice": KEY}.__getitem__)
    return KEY


def read(header: str | None, body: bytes = BODY, now: int = NOW) -> Notice:
    return sandbox.read_notice(ACCOUNT, {} if header is None else {"sandbox-signature": header}, body, now)


# notices


def test_a_signed_notice_is_read(key: bytes):
    assert read(sign(BODY, KEY, NOW)) == Notice("sandbox", "sbe_1", "paid", PAYMENT_ID, "sbt_1", 4999, "CNY")


def test_a_failed_payment_and_an_event_of_tomorrow_are_told_apart(key: bytes):
    for event_type, kind in (("payment.failed", "failed"), ("payment.invented", "other")):
        body = json.dumps({**EVENT, "type": event_type}).encode()
        assert read(sign(body, KEY, NOW), body).kind == kind


@pytest.mark.parametrize(("age", "is_good"), [(300, True), (301, False), (-300, True), (-301, False)])
def test_a_notice_is_good_for_300_seconds_to_either_side(age: int, is_good: bool, key: bytes):
    if is_good:
        assert read(sign(BODY, KEY, NOW), now=NOW + age).kind == "paid"
    else:
        with pytest.raises(BadNotice):
            read(sign(BODY, KEY, NOW), now=NOW + age)


@pytest.mark.parametrize("other", [b"x" * 32, b"", b"sandbox-notice"])
def test_a_notice_signed_under_another_key_is_refused(other: bytes, key: bytes):
    with pytest.raises(BadNotice):
        read(sign(BODY, other, NOW))


def test_a_forged_amount_is_refused(key: bytes):
    with pytest.raises(BadNotice):
        read(sign(BODY, KEY, NOW), BODY.replace(b"4999", b"1"))


def test_a_notice_whose_time_was_changed_is_refused(key: bytes):
    with pytest.raises(BadNotice):
        read(sign(BODY, KEY, NOW).replace(str(NOW), str(NOW + 1)))


def test_a_notice_cut_anywhere_is_refused(key: bytes):
    header = sign(BODY, KEY, NOW)
    for end in range(len(BODY)):
        with pytest.raises(BadNotice):
            read(header, BODY[:end])
    for end in range(len(header)):
        with pytest.raises(BadNotice):
            read(header[:end])


@pytest.mark.parametrize("header", [None, "", "v1=00", f"t={NOW}", f"t={NOW},v0=00", "t=x,v1=x"])
def test_a_notice_without_a_whole_signature_is_refused(header: str | None, key: bytes):
    with pytest.raises(BadNotice):
        read(header)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"7", b"\xff", b"{}", b'{"id":"e","type":"payment.paid"}',
        b'{"id":"e","type":["payment.paid"],"data":{}}', b'{"id":"e","type":"payment.paid","data":[]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_signed_body_that_is_no_event_is_a_bad_notice_and_never_a_fault(body: bytes, key: bytes):
    with pytest.raises(BadNotice):
        read(sign(body, KEY, NOW), body)


def test_where_there_is_no_sandbox_even_its_own_signature_is_refused(key: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SANDBOX", "off")
    with pytest.raises(BadNotice):
        read(sign(BODY, KEY, NOW))
    with pytest.raises(UnknownProvider):
        sandbox.start(payment(), NOW)


def test_each_deployment_has_a_signing_key_of_its_own(stack: str, monkeypatch: pytest.MonkeyPatch):
    headers = sandbox.sign_notice(BODY, NOW)
    assert read(headers["Sandbox-Signature"]).kind == "paid"
    monkeypatch.setattr(secrets, "read_secret", lambda name: "the root secret of another stage")
    with pytest.raises(BadNotice):
        read(headers["Sandbox-Signature"])


def test_starting_gives_the_address_of_the_pay_page_and_takes_nothing(stack: str):
    assert sandbox.start(payment(), NOW) == Started(f"https://pay.example/sandbox/pay/{PAYMENT_ID}")
    assert books.find_capture(PAYMENT_ID) is None


# the books


def test_a_payment_is_found_once_it_was_captured(stack: str):
    assert sandbox.find(payment()) == Found("unpaid")
    capture = books.capture(PAYMENT_ID, 4999, "CNY", NOW)
    assert sandbox.find(payment()) == Found("paid", 4999, "CNY", capture.txn)


def test_a_payment_is_captured_once_by_whichever_of_many_comes_first(stack: str):
    captures: list[books.Capture] = []
    together(lambda number: captures.append(books.capture(PAYMENT_ID, 100 + number, "CNY", NOW)), 16)
    assert len(captures) == 16
    assert {(one.event_id, one.txn, one.captured_minor) for one in captures} == {
        (captures[0].event_id, captures[0].txn, captures[0].captured_minor)
    }


def test_a_refund_pays_once_however_often_it_is_asked(stack: str):
    txn = books.capture(PAYMENT_ID, 4999, "CNY", NOW).txn
    assert sandbox.find_refund(payment(txn), "rf_1") is None
    for _ in range(3):
        assert sandbox.refund(payment(txn), "rf_1", 1999, NOW) == RefundResult("succeeded", "sbr_rf_1")
    assert sandbox.find_refund(payment(txn), "rf_1") == RefundResult("succeeded", "sbr_rf_1")
    assert books.find_capture(PAYMENT_ID).left_minor == 3000


@pytest.mark.parametrize(
    ("txn", "amount_minor"), [("right", 5000), ("right", 0), ("right", -1), ("of another payment", 1), (None, 1)]
)
def test_a_refund_that_cannot_be_is_refused_and_moves_nothing(txn: str | None, amount_minor: int, stack: str):
    capture = books.capture(PAYMENT_ID, 4999, "CNY", NOW)
    asked = payment(capture.txn if txn == "right" else txn)
    assert sandbox.refund(asked, "rf_1", amount_minor, NOW) == RefundResult("failed")
    assert books.find_capture(PAYMENT_ID) == capture


def test_a_payment_that_was_never_captured_cannot_be_refunded(stack: str):
    assert sandbox.refund(payment("sbt_1"), "rf_1", 1, NOW) == RefundResult("failed")
    assert books.find_capture(PAYMENT_ID) is None


def test_the_same_refund_id_with_another_amount_is_neither_yes_nor_no(stack: str):
    txn = books.capture(PAYMENT_ID, 4999, "CNY", NOW).txn
    sandbox.refund(payment(txn), "rf_1", 1999, NOW)
    assert sandbox.refund(payment(txn), "rf_1", 1, NOW) == RefundResult("unknown")
    assert books.find_capture(PAYMENT_ID).refunds == {"rf_1": 1999}


def test_refunds_at_once_never_give_back_more_than_was_captured(stack: str):
    txn = books.capture(PAYMENT_ID, 5000, "CNY", NOW).txn
    results: dict[int, RefundResult] = {}

    def ask(number: int) -> None:
        results[number] = sandbox.refund(payment(txn), f"rf_{number}", 1200, NOW)

    together(ask, 16)
    succeeded = {f"rf_{number}" for number, one in results.items() if one.state == "succeeded"}
    after = books.find_capture(PAYMENT_ID)
    assert len(succeeded) == 4
    assert set(after.refunds) == succeeded
    assert after.left_minor == 5000 - sum(after.refunds.values()) == 200


def test_two_halves_at_once_both_fit_and_two_wholes_do_not(stack: str):
    txn = books.capture(PAYMENT_ID, 5000, "CNY", NOW).txn
    states: list[str] = []
    together(lambda number: states.append(sandbox.refund(payment(txn), f"rf_{number}", 5000, NOW).state), 2)
    assert sorted(states) == ["failed", "succeeded"]
    assert books.find_capture(PAYMENT_ID).left_minor == 0


def test_one_refund_asked_many_times_at_once_is_booked_once(stack: str):
    txn = books.capture(PAYMENT_ID, 5000, "CNY", NOW).txn
    states: list[str] = []
    together(lambda _: states.append(sandbox.refund(payment(txn), "rf_1", 1200, NOW).state), 16)
    assert states == ["succeeded"] * 16
    assert books.find_capture(PAYMENT_ID).left_minor == 3800


def test_a_refund_whose_answer_was_lost_is_unknown_and_found_by_asking(stack: str):
    txn = books.capture(PAYMENT_ID, 5000, "CNY", NOW).txn

    def lose(**_: object) -> None:
        raise ReadTimeoutError(endpoint_url="")

    dynamodb().meta.events.register("after-call.dynamodb.UpdateItem", lose)
    try:
        assert sandbox.refund(payment(txn), "rf_1", 1200, NOW) == RefundResult("unknown")
    finally:
        dynamodb().meta.events.unregister("after-call.dynamodb.UpdateItem", lose)
    assert sandbox.find_refund(payment(txn), "rf_1") == RefundResult("succeeded", "sbr_rf_1")
    assert sandbox.refund(payment(txn), "rf_1", 1200, NOW).state == "succeeded"
    assert books.find_capture(PAYMENT_ID).left_minor == 3800


def test_books_out_of_reach_are_concluded_nothing_from(stack: str):
    def fail(**_: object) -> None:
        raise ReadTimeoutError(endpoint_url="")

    dynamodb().meta.events.register("before-call.dynamodb.GetItem", fail)
    try:
        assert sandbox.find(payment()) == Found("unknown")
        assert sandbox.find_refund(payment(), "rf_1") == RefundResult("unknown")
    finally:
        dynamodb().meta.events.unregister("before-call.dynamodb.GetItem", fail)


def together(do, count: int) -> None:
    """Run `do(0…count-1)` at the same moment."""
    barrier = threading.Barrier(count)

    def one(number: int) -> None:
        barrier.wait()
        do(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
