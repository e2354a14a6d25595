"""Settling differences: what each action does, that it happens once, and that everybody sees it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from chalicelib.core.errors import InvalidRequest
from chalicelib.orders import store as orders
from chalicelib.orders.rules import status_of
from chalicelib.payments import workers as payments
from chalicelib.payments.model import StatementLine
from chalicelib.reconciliation import store
from chalicelib.reconciliation.errors import AlreadySettled, BadAction, NoSuchDifference
from chalicelib.reconciliation.settle_difference import settle_difference
from chalicelib.refunds.finish_refund import finish_refunds
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from chalicelib.refunds.workers import settle_message
from tests import shop
from tests.faults.hooks import Crash, at_call, count_calls, faults
from tests.imports.uploads import messages
from tests.reconciliation.house import DAY, NEXT_MORNING, NOON, differences_of, open_house, post, reconciled

TIMER = {name: "" for name in ("version", "id", "detail-type", "source", "account", "time", "region")} | {
    "resources": [], "detail": {},
}  # fmt: skip


@pytest.fixture
def house(stack, clock, monkeypatch):
    return open_house(monkeypatch)


@pytest.fixture
def order(house, clock):
    product_id = shop.make_product(NOON - 60, keys_in_stock=5)
    return shop.place({product_id: 1}, NOON - 60)


def only_difference(row, outcome):
    assert [one.outcome for one in differences_of(row)] == [outcome]
    return row["reconciliation_id"]


def settle(reconciliation_id, action, note="", *, by="key_op", number=1, now=NEXT_MORNING + 60):
    settle_difference(reconciliation_id, number, action, note, by=by, now=now)
    return store.list_steps(reconciliation_id, number, number).get(number, {})


def carry_payment_messages():
    for event in messages("payment-close"):
        assert payments.on_payment_close(event, None) == {"batchItemFailures": []}


def refund_of(order, amount=-990, **members):
    facts = {"our_no": f"{order.order_id.replace('ord_', 'rfd_')}_1", "refund_txn": "re_1", **members}
    return StatementLine("refund", f"txn_{order.order_id}", amount_minor=amount, currency="CNY", at=NOON + 60, **facts)


def test_lost_money_is_applied_and_the_order_delivers(house, order, clock):
    house.statements[DAY] = [house.takes(order, tells=False)]
    reconciliation_id = only_difference(reconciled(clock), "missing_here")
    step = settle(reconciliation_id, "apply", "the notice was lost")
    assert (step["action"], step["by"], step["note"], step["at"]) == (
        "apply", "key_op", "the notice was lost", NEXT_MORNING + 60,
    )  # fmt: skip
    carry_payment_messages()
    assert status_of(orders.get_order(order.order_id)) == "delivered"
    assert store.get_reconciliation(reconciliation_id)["settled"] == 1


def test_applying_what_the_provider_denies_pays_nothing(house, order, clock):
    house.statements[DAY] = [house.takes(order, tells=False)]
    reconciliation_id = only_difference(reconciled(clock), "missing_here")
    house.captures.clear()
    settle(reconciliation_id, "apply")
    carry_payment_messages()
    assert status_of(orders.get_order(order.order_id)) == "pending_payment"


def test_a_refund_made_by_hand_is_recorded_like_its_notice(house, order, clock):
    line = house.takes(order)
    house.statements[DAY] = [line, refund_of(order, our_no=None)]
    reconciliation_id = only_difference(reconciled(clock), "missing_here")
    for _ in range(2):
        settle(reconciliation_id, "record", now=clock.at)
        payments.every_minute_match_notices(TIMER, None)
    after = orders.get_order(order.order_id)
    assert (status_of(after), [one.amount_minor for one in after.refunds]) == ("refunded", [990])
    post(order.order_id, NEXT_MORNING)
    row = reconciled(clock, NEXT_MORNING + 300, reconciliation_id="rec_0000000000000000002")
    assert (row["differences"], row["counts"]["matched"]) == (0, 2)


def test_a_refund_is_not_recorded_while_another_is_on_its_way(house, order, clock):
    line = house.takes(order)
    house.statements[DAY] = [line, refund_of(order, our_no=None)]
    reconciliation_id = only_difference(reconciled(clock), "missing_here")
    request_refund(orders.get_order(order.order_id), AskRefund(), is_operator=True, by="key_op", now=NEXT_MORNING)
    with pytest.raises(BadAction):
        settle(reconciliation_id, "record")
    assert store.list_steps(reconciliation_id, 1, 1) == {}


def test_a_pending_refund_the_statement_has_is_asked_about_and_ends(house, order, clock):
    line = house.takes(order)
    request_refund(orders.get_order(order.order_id), AskRefund(), is_operator=True, by="key_op", now=NOON)
    theirs = refund_of(order)
    house.refunds[theirs.our_no] = "succeeded"
    house.statements[DAY] = [line, theirs]
    reconciliation_id = only_difference(reconciled(clock), "state_differs")
    messages("refund-due")
    settle(reconciliation_id, "ask")
    for event in messages("refund-due"):
        settle_message(json.loads(event["Records"][0]["body"]))
    assert status_of(orders.get_order(order.order_id)) == "refunded"


@pytest.mark.parametrize(
    "change, answer",
    [
        (lambda house: None, "confirmed"),
        (lambda house: house.captures.clear(), "denied"),
        (lambda house: setattr(house, "is_down", True), "unknown"),
    ],
)
def test_a_payment_missing_there_is_settled_only_when_the_provider_confirms_it(house, order, clock, change, answer):
    house.takes(order)
    house.statements[DAY] = []
    reconciliation_id = only_difference(reconciled(clock), "missing_there")
    change(house)
    step = settle(reconciliation_id, "ask")
    assert (step["answer"], step.get("action")) == (answer, "ask" if answer == "confirmed" else None)
    if answer != "confirmed":
        with pytest.raises(InvalidRequest):
            settle(reconciliation_id, "accept", "  ")
        step = settle(reconciliation_id, "accept", "the bank says so", by="key_two")
        assert (step["action"], step["by"], step["answer"], step["asked_by"]) == (
            "accept", "key_two", answer, "key_op",
        )  # fmt: skip


def test_other_money_for_the_same_order_does_not_confirm_what_our_books_have(house, order, clock):
    house.takes(order)
    house.statements[DAY] = []
    reconciliation_id = only_difference(reconciled(clock), "missing_there")
    house.captures = {payment_id: ("txn_other", *rest) for payment_id, (_, *rest) in house.captures.items()}
    assert settle(reconciliation_id, "ask")["answer"] == "denied"


@pytest.mark.parametrize("state, answer", [("succeeded", "confirmed"), ("failed", "denied"), ("pending", "pending")])
def test_a_refund_missing_there_is_asked_about_under_its_id(house, order, clock, state, answer):
    line = house.takes(order)
    request_refund(orders.get_order(order.order_id), AskRefund(), is_operator=True, by="key_op", now=NOON)
    finish_refunds(order.order_id, NOON + 5)
    post(order.order_id, NOON + 5)
    house.statements[DAY] = [line]
    reconciliation_id = only_difference(reconciled(clock), "missing_there")
    house.refunds = dict.fromkeys(house.refunds, state)
    assert settle(reconciliation_id, "ask")["answer"] == answer
    house.refunds.clear()
    if answer != "confirmed":
        assert settle(reconciliation_id, "ask")["answer"] == "denied"


def test_a_wrong_sum_is_for_a_person_and_nothing_else(house, order, clock):
    house.statements[DAY] = [replace(house.takes(order), amount_minor=1)]
    reconciliation_id = only_difference(reconciled(clock), "amount_differs")
    for action in ("apply", "record", "ask", "review", "", "x"):
        with pytest.raises(BadAction):
            settle(reconciliation_id, action, "a note")
    assert settle(reconciliation_id, "accept", "agreed by telephone")["action"] == "accept"


@pytest.mark.parametrize("number", [0, 2, 99, 9_999_999])
def test_a_difference_that_is_not_there_cannot_be_settled(house, order, clock, number):
    house.statements[DAY] = [house.takes(order, tells=False)]
    reconciliation_id = only_difference(reconciled(clock), "missing_here")
    with pytest.raises(NoSuchDifference):
        settle(reconciliation_id, "accept", "x", number=number)


def test_settling_again_with_the_same_action_changes_nothing_and_with_another_is_refused(house, order, clock):
    house.statements[DAY] = [house.takes(order, tells=False)]
    reconciliation_id = only_difference(reconciled(clock), "missing_here")
    first = settle(reconciliation_id, "accept", "mine")
    assert settle(reconciliation_id, "accept", "other words", by="key_two") == first
    with pytest.raises(AlreadySettled):
        settle(reconciliation_id, "apply")
    assert messages("payment-close") == []
    assert store.get_reconciliation(reconciliation_id)["settled"] == 1


def test_of_operators_who_settle_at_once_one_settles(house, order, clock):
    house.statements[DAY] = [house.takes(order, tells=False)]
    reconciliation_id = only_difference(reconciled(clock), "missing_here")
    barrier, ends = threading.Barrier(8), []

    def act(number):
        barrier.wait()
        action = ("apply", "accept")[number % 2]
        try:
            settle(reconciliation_id, action, "a note", by=f"key_{number}")
            ends.append(action)
        except AlreadySettled:
            ends.append("refused")

    threads = [threading.Thread(target=act, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    step = store.list_steps(reconciliation_id, 1, 1)[1]
    assert sorted(ends) == sorted([step["action"]] * 4 + ["refused"] * 4)
    assert store.get_reconciliation(reconciliation_id)["settled"] == 1


def test_a_crash_while_settling_leaves_it_open_or_settled_and_a_repeat_ends_it(house, order, clock):
    house.statements[DAY] = [house.takes(order, tells=False)]
    for number in (1, 2):  # the first time looks the queue up
        row = reconciled(clock, reconciliation_id=f"rec_{number:019d}")
        calls = count_calls(lambda row=row: settle(row["reconciliation_id"], "apply"))
    for call in calls:
        row = reconciled(clock, reconciliation_id=f"rec_3{call.number:018d}")
        with faults(at_call(call.number, "crash_after")), pytest.raises(Crash):
            settle(row["reconciliation_id"], "apply")
        assert settle(row["reconciliation_id"], "apply")["action"] == "apply"
        assert store.get_reconciliation(row["reconciliation_id"])["settled"] == 1
        assert any(order.order_id in str(event) for event in messages("payment-close"))


def test_an_answer_that_comes_late_does_not_touch_what_is_settled(house, order, clock):
    house.takes(order)
    house.statements[DAY] = []
    reconciliation_id = only_difference(reconciled(clock), "missing_there")
    before = settle(reconciliation_id, "accept", "a note")
    store.note_answer(reconciliation_id, 1, answer="denied", by="key_two", now=NEXT_MORNING)
    assert store.list_steps(reconciliation_id, 1, 1)[1] == before
