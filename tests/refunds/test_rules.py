"""Money back: whole lines, at what was paid for them, within the policy, and never more than came."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.orders.model import Line, Order
from chalicelib.orders.rules import status_of
from chalicelib.payments.model import RefundResult
from chalicelib.refunds import rules
from chalicelib.refunds.errors import NothingLeft, NotPaid, Revealed, UnderReview, UnknownLine, WindowOver

NOW = 1_772_323_200


def a_line(line_id: int, price_minor: int = 100, **members) -> Line:
    facts = {"delivered_at": NOW, "extents": (("lot", line_id * 10, 1),), **members}
    return Line(line_id, f"prd_{line_id}", "x", 1, price_minor, "auto", 0, 60, **facts)


def paid_order(*lines: Line, **members) -> Order:
    lines = lines or (a_line(1), a_line(2, 250))
    total_minor = sum(line.total_minor for line in lines)
    facts = {"paid_at": NOW, "paid_minor": total_minor, "paid_currency": "CNY", "provider_txn": "x1", **members}
    return Order(
        "ord_" + "0" * 16, "s", "m", NOW, NOW + 900, total_minor, "CNY", "sandbox", lines, {}, "h", ("t",), **facts
    )


def ask(order: Order, line_ids=None, *, is_operator=False, now=NOW) -> Order:
    return rules.ask_refund(order, line_ids, is_operator=is_operator, now=now, by="key", reason="")


def settle(order: Order, state: str, refund_no: int = 1, now: int = NOW) -> Order:
    return rules.settle_refund(order, refund_no, RefundResult(state), now)


@pytest.mark.parametrize(
    ("order", "line_ids", "is_operator", "now", "refusal"),
    [
        (paid_order(paid_at=None), None, False, NOW, NotPaid),
        (paid_order(paid_at=None), None, True, NOW, NotPaid),
        (paid_order(), [3], True, NOW, UnknownLine),
        (paid_order(), None, False, NOW + 3_601, WindowOver),
        (paid_order(a_line(1, revealed_at=NOW)), None, False, NOW, Revealed),
        (paid_order(review="wrong_amount"), None, False, NOW, UnderReview),
        (ask(paid_order()), None, True, NOW, NothingLeft),
        (ask(paid_order(), [1]), [1], True, NOW, NothingLeft),
        (ask(paid_order(), [1]), [1, 2], True, NOW, NothingLeft),
    ],
)
def test_refusals(order, line_ids, is_operator, now, refusal):
    with pytest.raises(refusal):
        ask(order, line_ids, is_operator=is_operator, now=now)


@pytest.mark.parametrize("order", [paid_order(a_line(1, revealed_at=NOW)), paid_order(review="wrong_amount")])
def test_an_operator_may_refund_beyond_the_policy(order):
    assert status_of(ask(order, is_operator=True, now=NOW + 10**6)) == "refunding"


@pytest.mark.parametrize(
    ("paid_minor", "parts", "amounts"),
    [
        (350, [[1], [2]], [100, 250]),
        (350, [[2], [1]], [250, 100]),
        (350, [None], [350]),
        (300, [[1], [2]], [100, 200]),
        (90, [[1], [2]], [90, 0]),
        (400, [[1], [2]], [100, 300]),
    ],
)
def test_parts_add_up_to_exactly_what_was_paid(paid_minor, parts, amounts):
    order = paid_order(paid_minor=paid_minor)
    for line_ids in parts:
        order = ask(order, line_ids, is_operator=True)
    assert [one.amount_minor for one in order.refunds] == amounts
    assert rules.left_minor(order) == 0


def test_money_that_came_twice_is_not_part_of_what_is_left():
    from chalicelib.orders.rules import pay

    twice = pay(paid_order(), amount_minor=350, currency="CNY", provider_txn="x2", now=NOW, by="p")
    assert rules.left_minor(twice) == 350
    assert ask(twice).refunds[1].amount_minor == 350


def test_a_refund_that_succeeded_ends_its_lines_and_frees_their_keys():
    asked = ask(paid_order(), [1])
    assert rules.extents_of(asked, asked.refunds[0], is_revealed=False) == [("lot", 10, 1)]
    done = settle(asked, "succeeded")
    assert (status_of(done), done.lines[0].extents, done.lines[1].extents) == (
        "partially_refunded",
        (),
        (("lot", 20, 1),),
    )
    assert settle(done, "failed") is done


def test_a_refund_that_failed_gives_the_lines_back_and_calls_a_person():
    failed = settle(ask(paid_order()), "failed")
    assert (status_of(failed), failed.review) == ("needs_review", "refund_failed")
    assert [line.refund_no for line in failed.lines] == [0, 0]
    assert rules.left_minor(failed) == 350
    again = settle(ask(failed, is_operator=True), "succeeded", 2)
    assert (status_of(again), again.review) == ("refunded", None)


def test_an_answer_that_is_no_answer_waits_longer_each_time_and_at_most_an_hour():
    order = ask(paid_order())
    pauses = []
    for _ in range(9):
        order = settle(order, "unknown")
        pauses.append(order.refunds[0].next_try_at - NOW)
    assert pauses == [60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]
    assert (status_of(order), order.refunds[0].tries) == ("refunding", 9)


def test_a_wrong_sum_stays_under_review_until_all_of_it_is_back():
    order = paid_order(paid_minor=90, review="wrong_amount")
    part = settle(ask(order, [1], is_operator=True), "succeeded")
    assert (status_of(part), part.review) == ("needs_review", "wrong_amount")
    whole = settle(ask(part, is_operator=True), "succeeded", 2)
    assert (status_of(whole), whole.review) == ("refunded", None)


def test_keys_somebody_saw_are_told_apart_from_the_others():
    order = ask(paid_order(a_line(1, revealed_at=NOW), a_line(2)), is_operator=True)
    refund = order.refunds[0]
    assert rules.extents_of(order, refund, is_revealed=True) == [("lot", 10, 1)]
    assert rules.extents_of(order, refund, is_revealed=False) == [("lot", 20, 1)]
    assert rules.extents_of(replace(order), replace(refund, lines=()), is_revealed=True) == []
