"""What may happen to an order: facts in, a new order or a refusal out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.orders import rules
from chalicelib.orders.model import Attempt, Happening, Line, Order, Refund

NOW = 1_772_323_200


def a_line(line_id: int = 1, **members) -> Line:
    facts = {"product_id": f"prd_{line_id}", "name": "x", "quantity": 2, "unit_price_minor": 100, "mode": "auto",
             "delay_minutes": 0, "refund_window_minutes": 60, "extents": (("lot", line_id * 10, 2),)}  # fmt: skip
    return Line(line_id, **{**facts, **members})


def an_order(*lines: Line, **members) -> Order:
    lines = lines or (a_line(),)
    facts = {"order_id": "ord_" + "0" * 16, "shop_id": "s", "merchant_order_no": "m", "created_at": NOW,
             "expires_at": NOW + 900, "total_minor": sum(line.total_minor for line in lines), "currency": "CNY",
             "provider": "sandbox", "lines": lines, "buyer": {}, "body_hash": "h", "takes": ("t1",),
             "history": (Happening(NOW, "pending_payment", "key"),)}  # fmt: skip
    return Order(**{**facts, **members})


def paid(
    order: Order, *, amount_minor: int | None = None, currency: str = "CNY", txn: str = "x1", now: int = NOW
) -> Order:
    minor = order.total_minor if amount_minor is None else amount_minor
    return rules.pay(order, amount_minor=minor, currency=currency, provider_txn=txn, now=now, by="provider:sandbox")


DONE = Refund(1, (1,), 200, "succeeded", NOW, "key", "", NOW)
WAITS = replace(DONE, state="pending")


@pytest.mark.parametrize(
    ("order", "status"),
    [
        (an_order(), "pending_payment"),
        (an_order(closed="expired"), "expired"),
        (an_order(closed="cancelled"), "cancelled"),
        (an_order(paid_at=NOW), "paid"),
        (an_order(a_line(extents=()), paid_at=NOW), "delivering"),
        (an_order(a_line(delivered_at=NOW), paid_at=NOW), "delivered"),
        (an_order(a_line(delivered_at=NOW), a_line(2), paid_at=NOW), "partially_delivered"),
        (an_order(a_line(refund_no=1), paid_at=NOW, refunds=(WAITS,)), "refunding"),
        (an_order(a_line(refund_no=1), paid_at=NOW, refunds=(DONE,)), "refunded"),
        (an_order(a_line(refund_no=1), a_line(2), paid_at=NOW, refunds=(DONE,)), "partially_refunded"),
        (an_order(a_line(delivered_at=NOW), paid_at=NOW, review="wrong_amount"), "needs_review"),
        (an_order(paid_at=NOW, review="wrong_amount", refunds=(WAITS,)), "refunding"),
    ],
)
def test_the_status_follows_from_the_facts(order, status):
    assert rules.status_of(order) == status


@pytest.mark.parametrize(
    ("mode", "delivered_at", "deliver_at", "status"),
    [("auto", NOW, None, "delivered"), ("manual", None, None, "paid"), ("delayed", None, NOW + 1_800, "paid")],
)
def test_the_right_sum_delivers_what_is_due_at_once_and_schedules_the_rest(mode, delivered_at, deliver_at, status):
    after = paid(an_order(a_line(mode=mode, delay_minutes=30 if mode == "delayed" else 0)))
    assert (after.lines[0].delivered_at, after.lines[0].deliver_at) == (delivered_at, deliver_at)
    assert (rules.status_of(after), after.version, after.history[-1].status) == (status, 2, status)


@pytest.mark.parametrize(("amount_minor", "currency"), [(199, "CNY"), (201, "CNY"), (0, "CNY"), (200, "USD")])
def test_any_other_sum_delivers_nothing_and_is_looked_at(amount_minor, currency):
    after = paid(an_order(), amount_minor=amount_minor, currency=currency)
    assert (rules.status_of(after), after.lines[0].delivered_at) == ("needs_review", None)
    assert (rules.lines_due(after, NOW + 9_999), rules.next_due(after), rules.may_be_revealed(after)) == ([], None, [])


def test_the_same_money_twice_changes_nothing():
    once = paid(an_order())
    assert paid(once) is once


@pytest.mark.parametrize(("currency", "noted"), [("CNY", None), ("USD", "USD")])
def test_other_money_for_a_paid_order_goes_back_whole_in_its_own_currency_and_once(currency, noted):
    once = paid(an_order())
    twice = paid(once, amount_minor=150, currency=currency, txn="x2")
    refund = twice.refunds[0]
    assert (refund.lines, refund.amount_minor, refund.currency, refund.provider_txn) == ((), 150, noted, "x2")
    assert (refund.state, rules.status_of(twice), rules.next_due(twice)) == ("pending", "refunding", ("refund", NOW))
    assert twice.lines == once.lines
    assert paid(twice, amount_minor=150, currency=currency, txn="x2") is twice


@pytest.mark.parametrize("how", ["expired", "cancelled"])
def test_money_for_a_closed_order_makes_it_look_for_keys(how):
    closed = rules.close(an_order(), how, NOW, "timer")
    assert closed.lines[0].extents == ()
    late = paid(closed)
    assert (rules.status_of(late), late.history[-1].note) == ("delivering", f"late_after_{how}")
    assert rules.next_due(late) == ("deliver", NOW)
    owning = rules.with_keys(late, "t2", {"prd_1": (("lot", 50, 2),)})
    assert (owning.takes, owning.lines[0].extents) == (("t1", "t2"), (("lot", 50, 2),))


def test_a_delayed_line_is_due_on_its_second_and_not_before():
    after = paid(an_order(a_line(mode="delayed", delay_minutes=1)))
    assert rules.lines_due(after, NOW + 59) == []
    assert [line.line_id for line in rules.lines_due(after, NOW + 60)] == [1]
    assert rules.next_due(after) == ("deliver", NOW + 60)


def test_lines_without_keys_cannot_be_delivered():
    with pytest.raises(AssertionError):
        rules.deliver(an_order(a_line(extents=()), paid_at=NOW), {1}, NOW, "timer")


@pytest.mark.parametrize(
    ("status", "wanted"),
    [("delivered", "cancelled"), ("delivered", "pending_payment"), ("refunded", "delivered"), ("expired", "paid"),
     ("cancelled", "delivered"), ("paid", "expired"), ("pending_payment", "refunded"), ("delivered", "paid")],
)  # fmt: skip
def test_moves_that_nobody_may_make(status, wanted):
    assert not rules.may_move(status, wanted)


def test_an_illegal_move_is_a_fault_of_ours():
    closed = rules.close(an_order(), "expired", NOW, "timer")
    with pytest.raises(AssertionError):
        rules.happened(closed, replace(closed, closed=None), NOW, "x")


def test_follow_ups_are_sent_once_per_due_instant():
    order = an_order()
    message = {"order_id": order.order_id}
    assert rules.follow_ups(None, order) == [("order-expiry", message, NOW + 60)]
    assert rules.follow_ups(None, replace(order, expires_at=NOW + 30)) == [("order-expiry", message, NOW + 30)]
    delayed = paid(an_order(a_line(mode="delayed", delay_minutes=5)))
    assert rules.follow_ups(order, delayed) == [("delivery-due", message, NOW + 300)]
    assert rules.follow_ups(delayed, replace(delayed, reveals=(NOW,))) == []
    assert rules.follow_ups(order, paid(order)) == []
    closed = rules.close(order, "expired", NOW, "timer")
    assert rules.follow_ups(order, closed) == [("payment-close", message, 0)]
    twice = rules.offer_again(order, Attempt("stripe"), NOW, "key")
    assert rules.follow_ups(twice, paid(twice)) == [("payment-close", message, 0)]


@pytest.mark.parametrize(
    ("line", "at", "may"),
    [
        (a_line(delivered_at=NOW), NOW + 3_600, True),
        (a_line(delivered_at=NOW), NOW + 3_601, False),
        (a_line(), NOW + 99_999, True),
        (a_line(delivered_at=NOW, revealed_at=NOW), NOW, False),
        (a_line(delivered_at=NOW, refund_no=1), NOW, False),
    ],
)
def test_what_a_shop_may_give_back_by_itself(line, at, may):
    order = an_order(line, paid_at=NOW, refunds=(WAITS,) if line.refund_no else ())
    assert bool(rules.may_be_refunded_by_shop(order, at)) is may
    assert rules.may_be_refunded_by_shop(replace(order, paid_at=None), at) == []
    assert rules.may_be_refunded_by_shop(replace(order, review="wrong_amount"), at) == []


def test_only_unpaid_orders_hold_keys():
    row = {"st": "pending_payment", "lines": [{"p": "a", "q": 2}, {"p": "b", "q": 1}, {"p": "a", "q": 3}]}
    assert rules.held_by_product(row) == {"a": 5, "b": 1}
    assert rules.held_by_product({**row, "st": "delivered"}) == {}
    assert rules.held_by_product({"st": "fenced"}) == {}
