"""Which entries follow from an order: the decision's worked examples, and what holds on every way an order takes."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from chalicelib.core.errors import Refused
from chalicelib.ledger.model import DayClosing, Entry, EntrySet, Gap, Movement
from chalicelib.ledger.rules import (
    adjustment_set,
    close_day,
    entry_sets,
    fee_set,
    goods_set,
    is_balanced,
    shares,
    sums_by_currency,
    top_up_set,
)
from chalicelib.orders.model import Attempt, Dispute
from chalicelib.orders.rules import deliver, lose_dispute, may_be_revealed, open_dispute, win_dispute
from chalicelib.payments.model import RefundResult
from chalicelib.refunds.rules import ask_refund, money_went_back, reverse_refund, settle_refund
from tests.ledger.books import AT, ORDER, line, new_order, paid, seen, totals_of

DECISION = Path(__file__).parents[2] / "docs" / "decisions" / "0012-ledger.md"
DONE = RefundResult("succeeded")


def refunded(order, line_ids, at, *, result=DONE):
    asked = ask_refund(order, line_ids, is_operator=True, now=at, by="key", reason="")
    return settle_refund(asked, len(asked.refunds), result, at)


def lost(order, amount, at):
    after = lose_dispute(order, Dispute("dp_1", "open", amount, "", at), at, "p")
    return money_went_back(after, amount, at, by="p", reason="dispute_lost", request_id="dispute:dp_1")


def waiting():
    """An order whose second line waits for a person to deliver it."""
    return paid(new_order(line(1, 60, 30), line(2, 40, 20, mode="manual")))


def twice():
    again = paid(paid(new_order()), AT + 1, 100, txn="txn_2")
    return settle_refund(again, 1, DONE, AT + 2)


STORIES = {
    "paid, handed out at once": lambda: paid(new_order()),
    "paid out of the balance": lambda: paid(new_order(provider="balance"), txn=f"spend:{ORDER}"),
    "paid, one line waits": waiting,
    "unseen line refunded": lambda: refunded(paid(new_order()), [1], AT + 1),
    "seen line refunded": lambda: refunded(seen(paid(new_order()), 1, AT), [1], AT + 1),
    "waiting line refunded": lambda: refunded(waiting(), [2], AT + 1),
    "wrong sum, refunded": lambda: refunded(paid(new_order(), AT, 99), None, AT + 1),
    "wrong sum, accepted": lambda: deliver(paid(new_order(), AT, 99), {1, 2}, AT + 1, "key"),
    "paid twice": twice,
    "refund taken back": lambda: reverse_refund(refunded(waiting(), [2], AT + 1), 1, AT + 2),
    "dispute won": lambda: win_dispute(
        open_dispute(paid(new_order()), Dispute("dp_1", "open", 100, "", AT + 1), AT + 1, "p"), "dp_1", AT + 2, "p"
    ),
    "dispute lost": lambda: lost(
        open_dispute(paid(new_order()), Dispute("dp_1", "open", 115, "", AT + 1), AT + 1, "p"), 115, AT + 2
    ),
    "part refunded by hand": lambda: money_went_back(
        paid(new_order()), 25, AT + 1, by="p", reason="refunded_by_hand", request_id="theirs:1"
    ),
}  # fmt: skip
SINGLE = {
    "top-up": top_up_set("demo", "alipay", "pac_1", "42", 500, "CNY", AT, is_taken=True),
    "top-up in another currency": top_up_set("demo", "alipay", "pac_1", "43", 70, "USD", AT, is_taken=False),
    "adjustment": adjustment_set("demo", "adj_1", -200, "CNY", AT),
    "provider's fee": fee_set("stripe", None, "ch_1", 3, "CNY", AT),
    "import": goods_set("imp_1", 5_000, "CNY", AT),
}


def told(sets):
    """Sets as the decision's table writes them: {event: 'account amount, account amount'}."""
    return {
        one.event_id.replace(ORDER, "…").replace(ORDER.removeprefix("ord_"), "…"): ", ".join(
            f"{account} {amount:+d}" + ("" if currency == "CNY" else f" {currency}")
            for account, amount, currency in one.entries
        )
        for one in sets
    }


def table():
    """The decision's worked examples: {story: {event: entries}}."""
    found, story = {}, ""
    for cells in re.findall(r"^\| (.*?) \| `(.+?)` \| `(.+?)` \|$", DECISION.read_text("utf-8"), re.M):
        story = cells[0].strip() or story
        found.setdefault(story, {})[cells[1]] = cells[2]
    return found


@pytest.mark.parametrize("story", [*STORIES, *SINGLE])
def test_the_worked_examples_of_the_decision_are_what_the_rules_say(story):
    sets = entry_sets(STORIES[story]()) if story in STORIES else [SINGLE[story]]
    assert told(sets) == table()[story]


def test_the_decision_has_no_example_that_is_not_played():
    assert set(table()) == {*STORIES, *SINGLE}


def test_an_unpaid_order_moves_nothing():
    assert entry_sets(new_order()) == []


def test_the_shares_of_lines_add_up_to_what_was_paid_and_are_the_prices_when_the_sum_is_right():
    assert shares(paid(new_order())) == {1: 60, 2: 40}
    lines = [line(number, price, None) for number, price in enumerate((33, 33, 34, 1), start=1)]
    for amount in range(0, 250):
        split = shares(paid(new_order(*lines), AT, amount))
        assert sum(split.values()) == amount
        assert all(one >= 0 for one in split.values())


def test_money_through_a_second_attempt_lies_with_that_provider():
    order = replace(new_order(), attempts=(Attempt("alipay", None, "pac_9"),))
    assert totals_of(paid(order, attempt=2))["clearing:alipay:pac_9"] == 100
    twice_paid = paid(paid(order), AT + 1, 100, txn="a_2", attempt=2)
    assert totals_of(twice_paid) | {"suspense": -100, "clearing:alipay:pac_9": 100} == totals_of(twice_paid)
    given_back = settle_refund(twice_paid, 1, DONE, AT + 2)
    assert "clearing:alipay:pac_9" not in totals_of(given_back)
    assert "suspense" not in totals_of(given_back)


def test_goods_return_once_although_their_refund_was_taken_back_and_made_again():
    order = refunded(paid(new_order()), [1], AT + 1)
    again = refunded(reverse_refund(order, 1, AT + 2), [1], AT + 3)
    assert [one.event_id for one in entry_sets(again)].count(f"goods_back:{ORDER}:1") == 1
    assert totals_of(again) == totals_of(order)


def test_a_part_given_back_by_hand_does_not_stay_held_when_the_rest_is_refunded():
    order = money_went_back(waiting(), 25, AT + 1, by="p", reason="refunded_by_hand", request_id="theirs:1")
    ended = refunded(order, None, AT + 2)
    assert "buyer_money" not in totals_of(ended)
    assert "clearing:sandbox" not in totals_of(ended)


def test_a_failed_or_pending_refund_moves_nothing():
    order = paid(new_order())
    asked = ask_refund(order, [1], is_operator=True, now=AT + 1, by="key", reason="")
    assert entry_sets(asked) == entry_sets(order)
    assert entry_sets(settle_refund(asked, 1, RefundResult("failed"), AT + 2)) == entry_sets(order)


# -- on every way an order takes ----------------------------------------------------------------------------------


def step(order, chance, at):
    """One thing that may happen to an order, chosen by chance; the same order when it may not."""
    act = chance.choice(("pay", "again", "deliver", "see", "ask", "settle", "fail", "reverse", "hand", "open", "end"))
    try:
        if act == "pay" and order.paid_at is None:
            return paid(order, at, chance.choice((order.total_minor, order.total_minor, 99, 150)))
        if act == "again" and order.paid_at is not None:
            return paid(order, at, chance.choice((100, 7)), txn=f"txn_{at}", attempt=chance.choice((1, 2)))
        if act == "deliver" and order.paid_at is not None:
            ready = {one.line_id for one in order.lines if one.delivered_at is None and one.extents
                     and one.refund_no == 0}  # fmt: skip
            return deliver(order, {chance.choice(sorted(ready))}, at, "key") if ready else order
        if act == "see" and may_be_revealed(order):
            return seen(order, chance.choice(may_be_revealed(order)).line_id, at)
        if act == "ask":
            ids = chance.choice((None, [1], [2], [3], [1, 3]))
            return ask_refund(order, ids, is_operator=True, now=at, by="key", reason="")
        if act in ("settle", "fail", "reverse") and order.refunds:
            number = chance.choice(order.refunds).refund_no
            if act == "reverse":
                return reverse_refund(order, number, at)
            return settle_refund(order, number, DONE if act == "settle" else RefundResult("failed"), at)
        if act == "hand":
            return money_went_back(order, chance.choice((5, 500)), at, by="p", reason="r", request_id=f"theirs:{at}")
        if act == "open" and order.paid_at is not None:
            return open_dispute(order, Dispute(f"dp_{at}", "open", 40, "", at), at, "p")
        if act == "end" and order.disputes:
            one = chance.choice(order.disputes)
            if chance.random() < 0.5:
                return win_dispute(order, one.dispute_id, at, "p")
            ended = lose_dispute(order, one, at, "p")
            if ended is not order:
                name = f"dispute:{one.dispute_id}"
                return money_went_back(ended, one.amount_minor, at, by="p", reason="l", request_id=name)
    except (Refused, AssertionError):  # not a move of the machine: another will be
        pass
    return order


def money_outside(order):
    """What providers should hold by the order's own words, without the ledger."""
    extra = {one.provider_txn: one.amount_minor for one in reversed(order.refunds) if one.provider_txn}
    back = sum(one.amount_minor for one in order.refunds
               if one.state == "succeeded" and not (one.request_id or "").startswith("dispute:"))  # fmt: skip
    held = sum(one.amount_minor for one in order.disputes if one.state != "won")
    return order.paid_minor + sum(extra.values()) - back - held


@pytest.mark.parametrize("seed", range(40))
def test_sets_are_only_ever_added_and_the_books_say_what_the_order_says(seed):
    chance = random.Random(seed)
    for _ in range(25):
        order = new_order(
            line(1, 60, 30), line(2, 40, 20, mode="manual"), line(3, 33, None), attempts=(Attempt("alipay"),)
        )
        for number in range(1, 25):
            before, order = order, step(order, chance, AT + number)
            sets = {one.event_id: one for one in entry_sets(order)}
            assert all(is_balanced(one) for one in sets.values())
            assert all(sets[one.event_id] == one for one in entry_sets(before)), "a set changed or went away"
        books = totals_of(order)
        assert sum(amount for account, amount in books.items() if account.startswith("clearing:")) == money_outside(
            order
        )
        ended = {number for one in order.refunds if one.state == "succeeded" for number in one.lines}
        if order.paid_at and all(one.delivered_at or one.line_id in ended for one in order.lines):
            assert books.get("buyer_money", 0) == 0
            unsettled = {one.provider_txn: one.amount_minor for one in reversed(order.refunds)
                         if one.provider_txn and one.state != "succeeded"}  # fmt: skip
            assert books.get("suspense", 0) == -sum(unsettled.values())


# -- closing a day ------------------------------------------------------------------------------------------------


def a_set(event_id, *entries, at=AT):
    return EntrySet(event_id, at, tuple(Entry(*one) for one in entries))


def closed(sets, before=None, moves=None):
    return close_day("20260301", before, sets, moves or {}, AT + 86_400)


def test_a_day_carries_on_what_the_day_before_came_to():
    first = closed([a_set("a", ("x", 5, "CNY"), ("y", -5, "CNY"))])
    second = closed([a_set("b", ("y", 5, "CNY"), ("z", -5, "CNY"))], first)
    assert second.movements == (
        Movement("x", "CNY", 5, 0), Movement("y", "CNY", -5, 5), Movement("z", "CNY", 0, -5)
    )  # fmt: skip
    assert closed([], second).movements == (Movement("x", "CNY", 5, 0), Movement("z", "CNY", -5, 0))
    assert second.differences == ()


def test_a_day_that_does_not_come_to_zero_is_told_by_set_and_by_currency():
    found = closed([a_set("a", ("x", 5, "CNY"), ("y", -4, "CNY")), a_set("b", ("x", 1, "USD"), ("y", -1, "EUR"))])
    assert {"set_not_zero a", "set_not_zero b", "day_not_zero CNY 1", "day_not_zero USD 1"} <= set(found.differences)
    assert "carried_not_zero CNY 1" in closed([], found).differences


def test_a_movement_of_a_balance_without_its_set_is_told_by_its_event():
    moves = {("paid:ord_1", "demo", "CNY"): (-100, AT)}
    assert closed([], moves=moves).differences == ("balance_movement paid:ord_1 CNY -100",)
    fitting = a_set("paid:ord_1", ("shop_balance:demo", 100, "CNY"), ("buyer_money", -100, "CNY"))
    assert closed([fitting], moves=moves).differences == ()
    assert closed([fitting]).differences == ("balance_movement paid:ord_1 CNY 100",)


def test_two_halves_on_two_sides_of_midnight_wait_for_each_other_for_one_day():
    late = AT + 86_399
    first = closed([], moves={("refunded:r", "demo", "CNY"): (60, late)})
    assert first.differences == ()
    assert first.waiting == (Gap("refunded:r", "demo", "CNY", 60),)
    other = a_set("refunded:r", ("refunds", 60, "CNY"), ("shop_balance:demo", -60, "CNY"))
    assert closed([other], first).differences == ()
    assert closed([other], first).waiting == ()
    assert closed([], first).differences == ("balance_movement refunded:r CNY 60",)


def test_sums_are_per_currency():
    assert sums_by_currency([Entry("a", 5, "CNY"), Entry("b", -5, "USD")]) == {"CNY": 5, "USD": -5}
    assert not is_balanced(a_set("a", ("x", 5, "CNY"), ("y", -5, "USD")))
    assert DayClosing("20260301", 0, ()).differences == ()
