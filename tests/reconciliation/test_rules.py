"""Comparing two sides of a day: each case by name, and what must hold whatever the lines are."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.ledger.model import Entry, EntrySet
from chalicelib.ledger.rules import clearing
from chalicelib.orders.model import Attempt, Line, Order, Refund
from chalicelib.payments.model import StatementLine
from chalicelib.reconciliation import rules
from chalicelib.reconciliation.model import EDGE_SECONDS, OUTCOMES, Difference, Fee, Ours, Total

DAY = rules.day_of("2026-03-01", 0)
NOON = DAY.start + 43_200
ORDERS = [f"ord_{number:016d}" for number in range(6)]
O1, O2 = ORDERS[:2]


def pay_id(order_id):
    return order_id.replace("ord_", "pay_")


def rfd_id(order_id, number=1):
    return f"{order_id.replace('ord_', 'rfd_')}_{number}"


def paid(order_id=O1, amount=990, *, at=NOON, txn=None, currency="CNY"):
    return Ours(f"paid:{order_id}", "payment", order_id, None, txn or f"txn_{order_id}", amount, currency, at)


def gave_back(order_id=O1, amount=-990, *, at=NOON, number=1, state="recorded", by_hand=None):
    refund_id = rfd_id(order_id, number)
    return Ours(
        f"refunded:{refund_id}", "refund", order_id, refund_id, None, amount, "CNY", at, refund_txn=by_hand, state=state
    )


def disputed(order_id=O1, amount=-990, *, at=NOON):
    event = "dispute_opened" if amount < 0 else "dispute_won"
    return Ours(f"{event}:{order_id}:dp_1", "dispute", order_id, None, None, amount, "CNY", at)


def line(kind="payment", order_id=O1, amount=990, **members):
    our_no = {"payment": pay_id(order_id), "refund": rfd_id(order_id)}.get(kind)
    facts = {"provider_txn": f"txn_{order_id}", "our_no": our_no, "currency": "CNY", "at": NOON}
    return StatementLine(kind, **{**facts, "amount_minor": amount, **members})


def compared(ours, theirs, **known):
    known = {"order_by_txn": {}, **known}
    return rules.compare(ours, theirs, DAY, **known)


def outcomes(outcome):
    return [one.outcome for one in outcome.differences]


def test_a_payment_on_both_sides_matches():
    outcome = compared([paid()], [line()])
    assert (len(outcome.matches), outcome.differences, outcome.elsewhere) == (1, (), ())


def test_a_payment_is_known_by_the_providers_number_alone():
    assert outcomes(compared([paid()], [line(our_no=None)])) == []


def test_a_payment_is_known_by_our_number_where_the_statement_writes_another_one_of_the_providers():
    assert outcomes(compared([paid(txn="from_the_notice")], [line(provider_txn="from_the_bill")])) == []


def test_money_our_books_do_not_have_is_missing_here_and_may_be_applied():
    outcome = compared([], [line()])
    assert outcomes(outcome) == ["missing_here"]
    assert rules.actions_of(outcome.differences[0]) == ("apply", "accept")
    assert outcome.differences[0].order_id == O1


@pytest.mark.parametrize("our_no", [None, "pay_", "pay_x", "rfd_0000000000000000", "rfd_0000000000000000_x", "INV-7"])
def test_somebody_elses_money_on_the_account_can_only_be_looked_at(our_no):
    outcome = compared([paid(O2)], [line(our_no=our_no, provider_txn="foreign"), line(order_id=O2)])
    assert outcomes(outcome) == ["missing_here"]
    assert (rules.suggested(outcome.differences[0]), outcome.differences[0].order_id) == ("review", None)
    assert rules.actions_of(outcome.differences[0]) == ("accept",)


def test_money_only_our_books_have_is_missing_there_and_is_asked_about():
    outcome = compared([paid()], [])
    assert outcomes(outcome) == ["missing_there"]
    assert rules.actions_of(outcome.differences[0]) == ("ask", "accept")


def test_a_second_line_for_the_same_money_is_missing_here():
    outcome = compared([paid()], [line(), line()])
    assert (len(outcome.matches), outcomes(outcome)) == (1, ["missing_here"])


@pytest.mark.parametrize("members", [{"amount": 991}, {"currency": "USD"}])
def test_another_sum_or_currency_differs_and_is_for_a_person(members):
    outcome = compared([paid()], [line(**members)])
    assert outcomes(outcome) == ["amount_differs"]
    assert rules.suggested(outcome.differences[0]) == "review"


@pytest.mark.parametrize("state, suggested", [("pending", "ask"), ("failed", "record")])
def test_a_refund_that_is_not_carried_out_here_differs_in_state(state, suggested):
    outcome = compared([gave_back(state=state)], [line("refund", amount=-990, refund_txn="re_1")])
    assert outcomes(outcome) == ["state_differs"]
    assert rules.actions_of(outcome.differences[0]) == (suggested, "accept")


def test_a_refund_that_is_not_carried_out_on_either_side_is_no_difference():
    outcome = compared([gave_back(state="pending")], [])
    assert (outcomes(outcome), len(outcome.elsewhere)) == ([], 1)


def test_a_refund_and_its_reversal_are_two_movements():
    ours = [gave_back(), gave_back(amount=990)._replace(event_id=f"refund_reversed:{rfd_id(O1)}")]
    theirs = [line("refund", amount=-990), line("refund", amount=990)]
    assert outcomes(compared(ours, theirs)) == []
    assert outcomes(compared(ours, theirs[:1])) == ["missing_there"]


def test_a_refund_made_by_hand_is_known_by_the_providers_number_of_it():
    theirs = line("refund", amount=-300, our_no=None, refund_txn="re_hand")
    assert outcomes(compared([gave_back(amount=-300, by_hand="re_hand")], [theirs])) == []
    outcome = compared([], [theirs], order_by_txn={f"txn_{O1}": O1})
    assert rules.actions_of(outcome.differences[0]) == ("record", "accept")


def test_refunds_of_one_order_without_any_number_are_told_apart_by_their_amounts():
    ours = [gave_back(amount=-300, number=1), gave_back(amount=-200, number=2)]
    theirs = [line("refund", amount=amount, our_no=None, refund_txn=f"re{amount}") for amount in (-200, -300)]
    known = {"order_by_txn": {f"txn_{O1}": O1}}
    assert outcomes(compared(ours, theirs, **known)) == []
    assert outcomes(compared(ours[:1], theirs[:1], **known)) == ["missing_here", "missing_there"]


def test_a_dispute_is_known_by_its_order_and_direction():
    theirs = [line("dispute", amount=-990, our_no=None), line("dispute", amount=990, our_no=None)]
    known = {"order_by_txn": {f"txn_{O1}": O1}}
    assert outcomes(compared([disputed(), disputed(amount=990)], theirs, **known)) == []
    outcome = compared([], theirs[:1], **known)
    assert (outcomes(outcome), rules.suggested(outcome.differences[0])) == (["missing_here"], "review")


def test_of_two_disputes_of_one_order_each_meets_the_line_of_its_own_sum():
    ours = [disputed(amount=-300), disputed(amount=-500)._replace(event_id=f"dispute_opened:{O1}:dp_2")]
    theirs = [line("dispute", amount=amount, our_no=None, at=at) for amount, at in ((-500, NOON), (-300, NOON + 9))]
    assert outcomes(compared(ours, theirs, order_by_txn={f"txn_{O1}": O1})) == []


def test_fees_and_payouts_are_not_compared():
    theirs = [line("fee", amount=-5, our_no=None), line("other", amount=-900, our_no=None)]
    outcome = compared([], theirs)
    assert (outcomes(outcome), len(outcome.not_compared)) == ([], 2)


# -- the edges of a day ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "at, is_missing",
    [
        (DAY.start + EDGE_SECONDS - 1, False), (DAY.start + EDGE_SECONDS, True), (DAY.end - EDGE_SECONDS - 1, True),
        (DAY.end - EDGE_SECONDS, False), (DAY.start - 1, False), (DAY.end, False),
    ],
)  # fmt: skip
def test_only_what_lies_well_inside_the_day_is_missed_while_the_day_before_is_not_reconciled(at, is_missing):
    outcome = compared([paid(at=at)], [])
    assert (outcomes(outcome) == ["missing_there"], len(outcome.elsewhere) == 1) == (is_missing, not is_missing)


@pytest.mark.parametrize("at", [DAY.start - EDGE_SECONDS, DAY.start, DAY.start + 5])
def test_what_came_about_midnight_and_is_in_neither_statement_is_missed_by_the_later_day(at):
    assert outcomes(compared([paid(at=at)], [], has_day_before=True)) == ["missing_there"]
    earlier = rules.compare([paid(at=at)], [line(at=DAY.start - 9)], rules.day_of("2026-02-28", 0), order_by_txn={})
    known = {"seen": frozenset(earlier.seen), "has_day_before": True}
    assert outcomes(compared([paid(at=at)], [], **known)) == []


@pytest.mark.parametrize(
    "before, theirs, after",
    [
        ([], line(), paid(at=NOON + 86_400)),
        ([gave_back(state="pending")], line("refund", amount=-990), gave_back(at=NOON + 86_400)),
        ([], line("refund", amount=-990), gave_back(at=NOON + 86_400)),
        ([], line("refund", amount=-990, our_no=None, refund_txn="re_1"), gave_back(at=NOON + 86_400, by_hand="re_1")),
    ],
    ids=["payment", "pending refund", "unknown refund", "refund by hand"],
)
def test_what_a_statement_had_and_our_books_learned_days_later_is_not_missed_then(before, theirs, after):
    first = compared(before, [theirs])
    next_day = rules.day_of("2026-03-02", 0)
    known = {"order_by_txn": {}, "has_day_before": True}
    assert outcomes(rules.compare([after], [], next_day, seen=frozenset(first.seen), **known)) == []
    assert outcomes(rules.compare([after], [], next_day, seen=frozenset(), **known)) == ["missing_there"]


def test_marks_survive_their_packing():
    marks = [rules.mark_of(str(number)) for number in range(100)]
    assert rules.marks_in(b"".join(marks)) == frozenset(marks)
    assert rules.marks_in(b"") == frozenset()


# -- from the ledger and from orders -----------------------------------------------------------------------------------


def order(**members):
    facts = {
        "order_id": O1, "shop_id": "s", "merchant_order_no": "1", "created_at": NOON, "expires_at": NOON + 900,
        "total_minor": 990, "currency": "CNY", "provider": "stripe", "buyer": {}, "body_hash": "", "takes": (),
        "lines": (Line(1, "prd_1", "Card", 1, 990, "auto", 0, 0, delivered_at=NOON),),
        "paid_at": NOON, "paid_minor": 990, "paid_currency": "CNY", "provider_txn": f"txn_{O1}",
    }  # fmt: skip
    return Order(**{**facts, **members})


def refund(state="succeeded", **members):
    facts = {"refund_no": 1, "lines": (), "amount_minor": 990, "state": state, "asked_at": NOON, "asked_by": "k"}
    return Refund(**{**facts, "reason": "", "next_try_at": NOON, "finished_at": NOON + 5, **members})


def of_order(one, provider="stripe", account_id=None):
    return rules.ours_of_order(one, clearing(provider, account_id), provider, account_id)


def test_an_order_says_what_its_ledger_sets_say():
    assert of_order(order()) == [paid()]
    assert of_order(order(refunds=(refund(),))) == [paid(), gave_back(at=NOON + 5)]
    assert of_order(order(paid_at=None)) == []


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_an_order_says_which_of_its_refunds_are_not_carried_out(state):
    assert of_order(order(refunds=(refund(state),)))[1:] == [gave_back(state=state)]


def test_an_order_says_the_providers_number_of_a_refund_made_by_hand():
    by_hand = refund(request_id="theirs:re_1")
    assert of_order(order(refunds=(by_hand,)))[1].refund_txn == "re_1"


def test_what_moved_on_another_account_is_not_ours_to_compare():
    two = order(attempts=(Attempt("alipay", "page", "pac_1"),), refunds=(refund("pending", attempt=2),))
    assert of_order(two) == [paid()]
    assert [one.state for one in of_order(two, "alipay", "pac_1")] == ["pending"]


def test_fees_in_the_ledger_are_not_movements_to_compare():
    fee = EntrySet("fee:stripe::x", NOON, (Entry("fees:stripe", 5, "CNY"), Entry("clearing:stripe", -5, "CNY")))
    assert rules.ours_of_set(fee, "clearing:stripe") == []


def test_the_ledger_outranks_a_refunds_state_and_the_order_outranks_the_ledgers_words():
    assert rules.merged([gave_back()], [gave_back(state="pending")]) == [gave_back()]
    assert rules.merged([gave_back()], [gave_back(by_hand="re_1")]) == [gave_back(by_hand="re_1")]


# -- numbers and sums --------------------------------------------------------------------------------------------------


def test_fees_are_summed_by_movement_whatever_the_order_of_the_lines():
    theirs = [
        line(fee_minor=20), line("refund", amount=-990, fee_minor=-5, refund_txn="re_1"),
        *(line("fee", amount=amount, our_no=None, provider_txn="f_1") for amount in (-7, -2)),
        line("other", amount=-500, our_no=None, provider_txn="po_1"),
    ]  # fmt: skip
    fees = rules.fees_of(theirs)
    assert fees == rules.fees_of(theirs[::-1])
    assert fees == [
        Fee("fee:f_1::CNY", 9, "CNY"),
        Fee(f"payment:txn_{O1}:{pay_id(O1)}:CNY", 20, "CNY"),
        Fee(f"refund:txn_{O1}:re_1:CNY", -5, "CNY"),
    ]


def test_totals_hold_both_sides_fees_and_the_rest_apart_by_currency():
    theirs = [line(fee_minor=20), line(order_id=O2, amount=5, currency="USD"), line("other", amount=-3, our_no=None)]
    outcome = compared([paid(), gave_back(amount=-100)], theirs)
    assert rules.totals_of(outcome, rules.fees_of(theirs)) == [
        Total("CNY", 890, 990, 20, -3),
        Total("USD", 0, 5, 0, 0),
    ]


def test_differences_are_numbered_outcome_by_outcome():
    ours = [paid(O1, 1), gave_back(O2, state="pending"), paid(ORDERS[2])]
    theirs = [line(), line("refund", O2, -990), line(order_id=ORDERS[3]), line(order_id=ORDERS[4])]
    outcome = compared(ours, theirs)
    counts = rules.counts_of(outcome)
    assert outcomes(outcome) == ["missing_here"] * 2 + ["amount_differs", "state_differs", "missing_there"]
    assert [rules.first_number(counts, name) for name in OUTCOMES] == [1, 3, 4, 5]


def test_a_monstrous_cell_of_a_file_is_cut_to_what_a_row_holds():
    huge = line(our_no="x" * 10_000, provider_txn="y" * 10_000, refund_txn="z" * 10_000)
    assert {len(text) for text in (rules.bounded(huge).our_no, rules.bounded(huge).provider_txn)} == {128}
    assert rules.bounded(line()) == line()


# -- whatever the lines are --------------------------------------------------------------------------------------------

order_ids = st.sampled_from(ORDERS)
instants = st.sampled_from([
    DAY.start - 3_600, DAY.start - 5, DAY.start + 5, NOON, NOON + 1, DAY.end - 5, DAY.end + 5, DAY.end + 90_000,
])  # fmt: skip
amounts = st.sampled_from([-990, -300, 300, 990])
currencies = st.sampled_from(["CNY", "USD"])
ours_of_any_kind = st.one_of(
    st.builds(lambda o, a, at, c: paid(o, a, at=at, currency=c), order_ids, amounts, instants, currencies),
    st.builds(
        lambda o, a, at, n, s, h: gave_back(o, a, at=at, number=n, state=s, by_hand=h),
        order_ids, amounts, instants, st.integers(1, 2), st.sampled_from(["recorded", "pending", "failed"]),
        st.sampled_from([None, "re_1", "re_2"]),
    ),
    st.builds(lambda o, a, at: disputed(o, a, at=at), order_ids, amounts, instants),
)  # fmt: skip
lines_of_any_kind = st.builds(
    lambda kind, o, a, at, c, named, r, fee: line(
        kind, o, a, at=at, currency=c, refund_txn=r, fee_minor=fee, **({} if named else {"our_no": None})
    ),
    st.sampled_from(["payment", "refund", "dispute", "fee", "other"]), order_ids, amounts, instants, currencies,
    st.booleans(), st.sampled_from([None, "re_1", "re_2"]), st.integers(-3, 3),
)  # fmt: skip
sides = st.tuples(
    st.lists(ours_of_any_kind, max_size=12, unique_by=lambda one: one.event_id),
    st.lists(lines_of_any_kind, max_size=12),
)
knowledge = st.fixed_dictionaries({
    "order_by_txn": st.dictionaries(st.sampled_from([f"txn_{one}" for one in ORDERS]), order_ids),
    "seen": st.frozensets(st.sampled_from([rules.mark_of(f"paid:{one}") for one in ORDERS])),
    "has_day_before": st.booleans(),
})  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(sides, knowledge)
def test_every_line_of_either_side_ends_in_exactly_one_place(both, known):
    ours, theirs = both
    outcome = compared(ours, theirs, **known)
    ours_seen = [one for one, _ in outcome.matches] + [one.ours for one in outcome.differences if one.ours]
    theirs_seen = [one for _, one in outcome.matches] + [one.theirs for one in outcome.differences if one.theirs]
    assert Counter([*ours_seen, *outcome.elsewhere]) == Counter(ours)
    assert Counter([*theirs_seen, *outcome.not_compared]) == Counter(theirs)
    counts = rules.counts_of(outcome)
    assert sum(counts.values()) - counts["elsewhere"] - counts["missing_there"] == len(theirs)


@settings(max_examples=200, deadline=None)
@given(sides, knowledge, st.randoms(use_true_random=False))
def test_the_order_of_the_lines_does_not_matter(both, known, chance: random.Random):
    ours, theirs = both
    once = compared(ours, theirs, **known)
    chance.shuffle(ours)
    chance.shuffle(theirs)
    again = compared(ours, theirs, **known)
    assert again.differences == once.differences
    assert (again.seen, again.not_compared) == (once.seen, once.not_compared)
    assert Counter(again.matches) == Counter(once.matches)
    assert Counter(again.elsewhere) == Counter(once.elsewhere)


@settings(max_examples=100, deadline=None)
@given(sides, knowledge)
def test_a_match_is_of_one_sum_and_every_difference_says_how_it_is_settled(both, known):
    ours, theirs = both
    outcome = compared(ours, theirs, **known)
    for one, their in outcome.matches:
        assert (one.amount_minor, one.currency, one.kind, one.state) == (
            their.amount_minor, their.currency, their.kind, "recorded",
        )  # fmt: skip
    for difference in outcome.differences:
        assert isinstance(difference, Difference)
        assert "accept" in rules.actions_of(difference)
        assert rules.suggested(difference) in ("review", rules.actions_of(difference)[0])


@settings(max_examples=100, deadline=None)
@given(st.lists(ours_of_any_kind, max_size=8, unique_by=lambda one: one.event_id))
def test_a_statement_that_says_what_our_books_say_leaves_no_difference(ours):
    ours = [one._replace(state="recorded", at=NOON) for one in ours]
    theirs = [
        StatementLine(
            one.kind, one.provider_txn or f"txn_{one.order_id}", one.our_no, one.amount_minor, one.currency, one.at,
            refund_txn=one.refund_txn,
        )
        for one in ours
    ]  # fmt: skip
    known = {"order_by_txn": {f"txn_{one}": one for one in ORDERS}}
    assert outcomes(compared(ours, theirs, **known)) == []
    assert outcomes(compared(ours, [replace(one, at=one.at + 60) for one in theirs], **known)) == []
