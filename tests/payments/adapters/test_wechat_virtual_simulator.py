"""The adapter against a WeChat that was written from WeChat's documents and knows nothing of the adapter."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chalicelib.edge import web
from chalicelib.payments.adapters import wechat_virtual
from chalicelib.payments.model import Account, Found, Payment
from infra.local.simulator import wechat_virtual as other_side
from infra.local.simulator.server import Simulator
from tests.payments.adapters.notice_inbox import NoticeInbox

NOW = int(time.time())


@pytest.fixture
def simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    wechat_virtual._tokens.clear()
    monkeypatch.setattr(web, "READ_SECONDS", 1)
    with Simulator(tmp_path, speed=1000) as one:
        yield one


@pytest.fixture
def account(simulator: Simulator) -> Account:
    return Account(
        "wechat_virtual", account_id="pac_1", shop_id="shop_a", **other_side.demo_account(simulator.world)
    )  # fmt: skip


@pytest.fixture
def inbox(simulator: Simulator, account: Account) -> Iterator[NoticeInbox]:
    one = NoticeInbox(wechat_virtual, account, simulator.world.now)
    simulator.control("endpoint", provider="wechat_virtual", url=one.url)
    yield one
    one.close()


def fetch(address: str, body: dict | None = None) -> dict:
    sent = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(address, sent)) as answer:
        return json.load(answer)


def payment_of(account: Account, total_minor: int = 1000) -> Payment:
    base = account.settings["api_base"]
    log_in = f"appid={account.settings['appid']}&secret={account.secrets['appsecret']}"
    person = fetch(f"{base}/sns/jscode2session?{log_in}&js_code=buyer&grant_type=authorization_code")
    return Payment(
        payment_id="pay_0123456789abcdef",
        order_id="ord_0123456789abcdef",
        total_minor=total_minor,
        currency="CNY",
        title="点券 500",
        expires_at=NOW + 900,
        base_url="https://pay.example",
        account=account,
        method="virtual",
        payer_id=person["openid"],
        payer_session=person["session_key"],
    )


def open_in_client(payment: Payment, **changed: str) -> dict:
    """What the mini-program does with the parameters of a start."""
    parameters = wechat_virtual.start(payment, NOW).client
    body = {"openid": payment.payer_id, **parameters, **changed}
    return fetch(f"{payment.account.settings['api_base']}/client/requestVirtualPayment", body)


def paid(simulator: Simulator, payment: Payment) -> Payment:
    assert open_in_client(payment)["errcode"] == 0
    simulator.control("pay", provider="wechat_virtual", our_no=payment.payment_id)
    found = wechat_virtual.find(payment)
    assert found.state == "paid"
    return replace(payment, provider_txn=found.provider_txn, paid_minor=found.amount_minor)


def settled(payment: Payment, refund_id: str) -> str:
    until = time.monotonic() + 5
    while (found := wechat_virtual.find_refund(payment, refund_id)).state == "pending" and time.monotonic() < until:
        time.sleep(0.01)
    return found.state


def test_from_checkout_to_money_and_back(simulator: Simulator, account: Account, inbox: NoticeInbox):
    payment = payment_of(account)
    assert wechat_virtual.find(payment) == Found("unpaid")
    assert open_in_client(payment)["errMsg"] == "requestVirtualPayment:ok"
    assert wechat_virtual.find(payment) == Found("unpaid")
    simulator.control("pay", provider="wechat_virtual", our_no=payment.payment_id)
    (told,) = inbox.wait_for("paid")
    assert (told.payment_id, told.amount_minor, told.currency) == (payment.payment_id, 1000, "CNY")
    assert wechat_virtual.find(payment) == Found("paid", 1000, "CNY", told.provider_txn)
    payment = replace(payment, provider_txn=told.provider_txn, paid_minor=1000)
    refund_id = "rfd_0123456789abcdef_1"
    assert wechat_virtual.find_refund(payment, refund_id) is None
    assert wechat_virtual.refund(payment, refund_id, 299, NOW).state == "pending"
    assert settled(payment, refund_id) == "succeeded"
    assert wechat_virtual.refund(payment, refund_id, 299, NOW).state == "succeeded"
    told = inbox.wait_for("refunded")[-1]
    assert (told.refund_id, told.payment_id, told.amount_minor) == (refund_id, payment.payment_id, 299)
    assert wechat_virtual.refund(payment, "rfd_0123456789abcdef_2", 701, NOW).state == "pending"
    assert settled(payment, "rfd_0123456789abcdef_2") == "succeeded"
    assert wechat_virtual.find(payment).state == "paid", "it was paid, whatever was given back since"
    assert simulator.world.find("wechat_virtual", payment.payment_id).refunded_minor == 1000
    assert inbox.refused == 0


@pytest.mark.parametrize(
    "changed",
    [{"signData": "{}"}, {"paySig": "0" * 64}, {"signature": "0" * 64}, {"openid": "oStranger"}, {"mode": "other"}],
)
def test_the_client_takes_no_changed_parameters(changed: dict, account: Account):
    assert open_in_client(payment_of(account), **changed)["errcode"] != 0


def test_the_client_takes_no_price_that_is_not_published(account: Account):
    other = replace(account, settings=account.settings | {"product_id": "keys_500"})
    assert open_in_client(payment_of(other))["errcode"] == 268490002


def test_another_mode_means_another_environment(account: Account):
    assert open_in_client(payment_of(replace(account, mode="live")))["errcode"] != 0


def test_a_refund_by_hand_and_a_complaint(simulator: Simulator, account: Account, inbox: NoticeInbox):
    payment = paid(simulator, payment_of(account))
    simulator.control("refund", provider="wechat_virtual", our_no=payment.payment_id, amount_minor=100)
    told = inbox.wait_for("refunded")[-1]
    assert (told.refund_id, told.payment_id, told.amount_minor) == (None, payment.payment_id, 100)
    assert told.provider_refund_id
    simulator.control("dispute", provider="wechat_virtual", our_no=payment.payment_id, state="opened")
    told = inbox.wait_for("dispute_opened")[-1]
    assert told.payment_id == payment.payment_id


def test_a_message_nobody_took_is_sent_again_as_the_same_event(
    simulator: Simulator, account: Account, inbox: NoticeInbox
):
    inbox.is_deaf = True
    paid(simulator, payment_of(account))
    time.sleep(0.1)
    inbox.is_deaf = False
    first = inbox.wait_for("paid")[0]
    record = simulator.world.find("wechat_virtual", first.payment_id)
    (event,) = simulator.world.events("wechat_virtual", first.payment_id)
    again = other_side.notice(simulator.world, record, event)
    query = {f"x-query-{name}": value for name, value in (one.split("=") for one in again.url.split("?")[1].split("&"))}
    assert wechat_virtual.read_notice(account, query, again.body, simulator.world.now()).event_id == first.event_id


@pytest.mark.parametrize(("digits", "amount"), [(3, 1003), (4, 1004), (5, 1006)])
def test_what_the_amount_chooses(digits: int, amount: int, simulator: Simulator, account: Account, inbox: NoticeInbox):
    payment = paid(simulator, payment_of(account, 1000 + digits))
    assert payment.paid_minor == amount
    if digits == 4:
        first, second = inbox.wait_for("paid", "paid")
        assert first == second
    if digits == 3:
        assert inbox.notices == []


def test_a_refund_whose_answer_is_lost_is_given_once(simulator: Simulator, account: Account):
    payment = paid(simulator, payment_of(account, 1006))
    assert wechat_virtual.refund(payment, "rfd_0123456789abcdef_1", 100, NOW).state == "unknown"
    assert settled(payment, "rfd_0123456789abcdef_1") == "succeeded"
    assert simulator.world.find("wechat_virtual", payment.payment_id).refunded_minor == 100


def test_a_refund_that_fails(simulator: Simulator, account: Account, inbox: NoticeInbox):
    payment = paid(simulator, payment_of(account, 1007))
    assert wechat_virtual.refund(payment, "rfd_0123456789abcdef_1", 100, NOW).state == "pending"
    assert inbox.wait_for("refund_failed")[-1].refund_id == "rfd_0123456789abcdef_1"
    assert wechat_virtual.find_refund(payment, "rfd_0123456789abcdef_1").state == "failed"


def test_a_wrong_secret_or_key_concludes_nothing(simulator: Simulator, account: Account):
    payment = paid(simulator, payment_of(account))
    for name in ("appsecret", "app_key"):
        wrong = replace(payment, account=replace(account, secrets=account.secrets | {name: "x"}))
        assert wechat_virtual.find(wrong) == Found("unknown")
