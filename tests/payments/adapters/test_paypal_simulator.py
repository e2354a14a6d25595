"""The adapter against a PayPal that was written from PayPal's documents and knows nothing of the adapter."""

from __future__ import annotations

import shutil
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chalicelib.edge import web
from chalicelib.payments.adapters import paypal
from chalicelib.payments.errors import NoStatement, ProviderRefused, ProviderUnavailable
from chalicelib.payments.model import Account, Found, Payment
from infra.local.simulator import paypal as paypal_side
from infra.local.simulator.server import Simulator
from tests.payments.adapters.notice_inbox import NoticeInbox

NOW = int(time.time())


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: RSA keys are slow to make."""
    directory = tmp_path_factory.mktemp("paypal")
    paypal_side.demo_account(Simulator(directory).world)
    return directory / "keys"


@pytest.fixture
def simulator(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    shutil.copytree(keys, tmp_path / "keys")
    paypal._tokens.clear()
    paypal._signers.clear()
    monkeypatch.setattr(web, "READ_SECONDS", 1)
    with Simulator(tmp_path, speed=1000) as one:
        yield one


@pytest.fixture
def account(simulator: Simulator) -> Account:
    return Account("paypal", account_id="pac_1", shop_id="shop_a", **paypal_side.demo_account(simulator.world))


@pytest.fixture
def inbox(simulator: Simulator, account: Account) -> Iterator[NoticeInbox]:
    one = NoticeInbox(paypal, account, simulator.world.now)
    simulator.control("endpoint", provider="paypal", url=one.url)
    yield one
    one.close()


_made = iter(range(10**6))


def payment_of(account: Account, total_minor: int = 1000, currency: str = "USD") -> Payment:
    number = f"{next(_made):016d}"
    return Payment(
        payment_id=f"pay_{number}",
        order_id=f"ord_{number}",
        total_minor=total_minor,
        currency=currency,
        title="点券 500",
        expires_at=NOW + 900,
        base_url="https://pay.example",
        account=account,
        method="paypal",
        return_url="http://127.0.0.1:9/back?a=1",
    )


def opened(payment: Payment) -> Payment:
    return replace(payment, provider_ref=paypal.start(payment, NOW).provider_ref)


def paid(simulator: Simulator, payment: Payment) -> Payment:
    one = opened(payment)
    simulator.control("pay", provider="paypal", our_no=one.payment_id)
    found = paypal.find(one)
    assert found.state == "paid"
    return replace(one, provider_txn=found.provider_txn, paid_minor=found.amount_minor)


def test_from_checkout_to_money_and_back(simulator: Simulator, account: Account, inbox: NoticeInbox):
    payment = payment_of(account)
    started = paypal.start(payment, NOW)
    payment = replace(payment, provider_ref=started.provider_ref)
    assert paypal.start(payment, NOW) == started
    assert paypal.find(payment) == Found("unpaid")
    with urllib.request.urlopen(started.pay_url) as page:
        assert b"10.00 USD" in page.read()
    simulator.control("pay", provider="paypal", our_no=payment.payment_id)
    (approved,) = inbox.wait_for("approved")
    assert (approved.payment_id, approved.amount_minor) == (payment.payment_id, 1000)
    assert len(inbox.notices) == 1, "approved is not paid"
    found = paypal.find(payment)
    assert (found.state, found.amount_minor, found.currency) == ("paid", 1000, "USD")
    told = inbox.wait_for("paid")[-1]
    assert (told.payment_id, told.provider_txn, told.amount_minor) == (payment.payment_id, found.provider_txn, 1000)
    payment = replace(payment, provider_txn=found.provider_txn, paid_minor=1000)
    assert paypal.close(payment) == "paid"
    refund_id = f"rfd_{payment.payment_id[4:]}_1"
    assert paypal.find_refund(payment, refund_id) is None
    assert paypal.refund(payment, refund_id, 299, NOW).state == "succeeded"
    assert paypal.refund(payment, refund_id, 299, NOW).state == "succeeded"
    told = inbox.wait_for("refunded")[-1]
    assert (told.refund_id, told.payment_id, told.amount_minor) == (refund_id, payment.payment_id, 299)
    assert told.provider_txn == found.provider_txn
    assert simulator.world.find("paypal", payment.payment_id).refunded_minor == 299
    assert paypal.refund(payment, f"{refund_id}1", 702, NOW).state == "failed"
    assert inbox.refused == 0


def test_a_refund_by_hand_and_a_dispute(simulator: Simulator, account: Account, inbox: NoticeInbox):
    payment = paid(simulator, payment_of(account))
    simulator.control("refund", provider="paypal", our_no=payment.payment_id, amount_minor=100)
    told = inbox.wait_for("refunded")[-1]
    assert (told.refund_id, told.payment_id, told.amount_minor) == (None, payment.payment_id, 100)
    assert told.provider_refund_id
    for state, kind in (("opened", "dispute_opened"), ("won", "dispute_won"), ("lost", "dispute_lost")):
        simulator.control("dispute", provider="paypal", our_no=payment.payment_id, state=state)
        told = inbox.wait_for(kind)[-1]
        assert (told.payment_id, told.provider_txn, told.amount_minor) == (
            payment.payment_id, payment.provider_txn, 1000)  # fmt: skip
        assert told.dispute.dispute_id.startswith("PP-R-SIM-")
    assert told.dispute.due_at > NOW


def test_a_message_nobody_took_is_sent_again_as_the_same_event(
    simulator: Simulator, account: Account, inbox: NoticeInbox
):
    inbox.is_deaf = True
    payment = opened(payment_of(account))
    simulator.control("pay", provider="paypal", our_no=payment.payment_id)
    time.sleep(0.2)
    assert inbox.notices == []
    inbox.is_deaf = False
    inbox.wait_for("approved")


@pytest.mark.parametrize(
    ("digits", "state", "amount"), [(1, "unpaid", None), (4, "paid", 0), (5, "paid", 1), (3, "paid", 0)]
)
def test_what_the_amount_chooses(
    digits: int, state: str, amount: int | None, simulator: Simulator, account: Account, inbox: NoticeInbox
):
    payment = opened(payment_of(account, 1000 + digits))
    simulator.control("pay", provider="paypal", our_no=payment.payment_id)
    found = paypal.find(payment)
    assert (found.state, found.amount_minor) == (state, None if amount is None else 1000 + digits + amount)
    if digits == 4:
        first, second = (one for one in inbox.wait_for("paid", "paid") if one.kind == "paid")
        assert first == second
    if digits == 1:
        assert inbox.wait_for("failed")[-1].payment_id == payment.payment_id
    if digits == 3:
        assert inbox.notices == []


def test_slow_money_is_on_its_way_until_it_is_there(simulator: Simulator, account: Account, inbox: NoticeInbox):
    payment = opened(payment_of(account, 1002))
    simulator.world.speed = 20
    simulator.control("pay", provider="paypal", our_no=payment.payment_id)
    assert paypal.find(payment) == Found("unknown")
    inbox.wait_for("paid")
    assert paypal.find(payment).state == "paid"


def test_while_paypal_is_down_nothing_is_lost(simulator: Simulator, account: Account):
    payment = payment_of(account, 1008)
    with pytest.raises(ProviderUnavailable):
        paypal.start(payment, NOW)
    payment = opened(payment)
    simulator.control("pay", provider="paypal", our_no=payment.payment_id)
    simulator.world.add_fault("paypal", "drop", path="/capture")
    assert paypal.find(payment) == Found("unknown")
    assert paypal.find(payment).state == "paid"


def test_a_refund_whose_answer_is_lost_is_given_once(simulator: Simulator, account: Account):
    payment = paid(simulator, payment_of(account, 1006))
    assert paypal.refund(payment, "rfd_1_1", 100, NOW).state == "unknown"
    assert paypal.find_refund(payment, "rfd_1_1").state == "succeeded"
    assert paypal.refund(payment, "rfd_1_1", 100, NOW).state == "succeeded"
    assert simulator.world.find("paypal", payment.payment_id).refunded_minor == 100


def test_a_refund_that_fails(simulator: Simulator, account: Account, inbox: NoticeInbox):
    payment = paid(simulator, payment_of(account, 1007))
    assert paypal.refund(payment, "rfd_1_1", 100, NOW).state == "failed"
    assert inbox.wait_for("refund_failed")[-1].refund_id == "rfd_1_1"
    assert paypal.find_refund(payment, "rfd_1_1").state == "failed"


def test_an_order_nobody_asks_about_is_never_captured(simulator: Simulator, account: Account):
    payment = opened(payment_of(account))
    simulator.control("pay", provider="paypal", our_no=payment.payment_id)
    assert paypal.close(payment) == "closed"
    assert simulator.world.find("paypal", payment.payment_id).state == "open"


def test_amounts_without_decimals_arrive_whole(simulator: Simulator, account: Account):
    assert paid(simulator, payment_of(account, 500, "JPY")).paid_minor == 500
    assert paid(simulator, payment_of(account, 50_000, "TWD")).paid_minor == 50_000


def test_the_days_movements(simulator: Simulator, account: Account):
    payment = paid(simulator, payment_of(account, 2000))
    paypal.refund(payment, f"rfd_{payment.payment_id[4:]}_1", 500, NOW)
    simulator.control("dispute", provider="paypal", our_no=payment.payment_id, state="opened")
    record = simulator.world.find("paypal", payment.payment_id)
    day = datetime.fromtimestamp(record.paid_at, UTC).strftime("%Y-%m-%d")
    with pytest.raises(NoStatement):
        paypal.statement(account, day)
    simulator.control("clock", ahead_seconds=86_400)
    paypal._tokens.clear()
    lines = [one for one in paypal.statement(account, day) if one.provider_txn == payment.provider_txn]
    assert [(one.kind, one.our_no, one.amount_minor) for one in lines] == [
        ("payment", payment.payment_id, 2000), ("refund", f"rfd_{payment.payment_id[4:]}_1", -500),
        ("dispute", payment.payment_id, -2000),
    ]  # fmt: skip
    assert lines[0].fee_minor == record.fee_minor > 0


def test_wrong_credentials_are_refused(account: Account):
    wrong = replace(account, secrets={"client_secret": "x"})
    with pytest.raises(ProviderRefused):
        paypal.start(payment_of(wrong), NOW)
