"""How takes are planned, runs cut and joined, entries judged and figures added up."""

from __future__ import annotations

import doctest
import random

import pytest

from chalicelib.core.ids import to_base32
from chalicelib.inventory import rules
from chalicelib.inventory.model import NEVER, OpenLot, Shelf, Stock
from chalicelib.inventory.rules import Gather, Held, Look, SoldOut, TakeFromRun, TakeRuns

FIRST, SECOND = OpenLot("lot_a", 100, 2, 1), OpenLot("lot_b", NEVER, 2, 1)


def shelf(shelf_id: str, *runs: tuple[int, int], **more) -> Shelf:
    return Shelf(shelf_id, runs, rules.count_keys(runs), **more)


def known(*shelves: Shelf, empty: tuple[str, ...] = ()) -> dict[str, Shelf]:
    return {one.shelf_id: one for one in (*shelves, *(Shelf(shelf_id) for shelf_id in empty))}


def plan(quantity, lots, seen, *, is_fresh=False, favourite=None, avoided=(), most_lots=rules.MAX_LOTS):
    return rules.plan_take(
        quantity, lots, seen, most_lots=most_lots,
        is_fresh=is_fresh, dice=random.Random(1), favourite=favourite, avoided=frozenset(avoided),
    )  # fmt: skip


def test_the_examples_in_the_rules_are_true():
    assert doctest.testmod(rules).failed == 0


def test_a_new_process_tries_one_main_shelf_blindly_when_there_is_only_one_lot():
    step = plan(1, [FIRST], {})
    assert isinstance(step, TakeFromRun)
    assert step.shelf_id in FIRST.main_shelves


def test_a_blind_try_passes_over_shelves_that_are_busy():
    assert plan(1, [FIRST], {}, avoided=["lot_a#0"]).shelf_id == "lot_a#1"
    assert plan(1, [FIRST], {}, avoided=FIRST.main_shelves) == Look()


@pytest.mark.parametrize(
    ("quantity", "lots"),
    [pytest.param(501, [FIRST], id="more than a run"), pytest.param(1, [FIRST, SECOND], id="which lot is not known")],
)
def test_a_new_process_looks_first_when_a_blind_try_would_often_be_wrong(quantity, lots):
    assert plan(quantity, lots, {}) == Look()


FORMS = [
    ("a longer run is cut", [(10, 5)], 3, TakeFromRun("lot_a#0", 0, whole=False)),
    ("a run of that length is used up", [(10, 3)], 3, TakeFromRun("lot_a#0", 0, whole=True)),
    ("a short run is passed over", [(10, 2), (20, 9)], 3, TakeFromRun("lot_a#0", 1, whole=False)),
    (
        "no run is long enough",
        [(10, 2), (20, 2)],
        3,
        TakeRuns("lot_a#0", ((10, 2), (20, 2)), ((10, 2), (20, 1)), ((21, 1),)),
    ),
]


@pytest.mark.parametrize(("runs", "quantity", "step"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_the_form_of_a_take_fits_the_runs(runs, quantity, step):
    assert plan(quantity, [FIRST], known(shelf("lot_a#0", *runs))) == step


def test_a_process_stays_on_the_shelf_it_took_from_last():
    seen = known(shelf("lot_a#0", (0, 400)), shelf("lot_a#1", (500, 2)))
    assert plan(1, [FIRST], seen, favourite="lot_a#1").shelf_id == "lot_a#1"


def test_return_shelves_are_sold_from_like_any_other():
    seen = known(shelf("lot_a#r0", (7, 4)), empty=("lot_a#0", "lot_a#1"))
    assert plan(2, [FIRST], seen) == TakeFromRun("lot_a#r0", 0, whole=False)


def test_the_lot_that_expires_first_is_sold_first():
    seen = known(
        shelf("lot_a#1", (5, 1)), shelf("lot_b#0", (0, 90)), empty=("lot_a#0", "lot_a#r0", "lot_b#1", "lot_b#r0")
    )
    assert plan(1, [FIRST, SECOND], seen) == TakeFromRun("lot_a#1", 0, whole=True)
    assert plan(3, [FIRST, SECOND], seen, is_fresh=True) == Gather((
        TakeRuns("lot_a#1", ((5, 1),), ((5, 1),), ()),
        TakeRuns("lot_b#0", ((0, 90),), ((0, 2),), ((2, 88),)),
    ))  # fmt: skip


def test_a_later_lot_is_not_touched_while_shelves_of_an_earlier_one_are_unknown():
    seen = known(shelf("lot_b#0", (0, 90)), empty=("lot_a#0",))
    assert plan(1, [FIRST, SECOND], seen) == Look()


def test_nothing_is_gathered_or_refused_on_old_knowledge():
    all_seen = known(shelf("lot_a#0", (0, 2)), shelf("lot_a#1", (500, 2)), empty=("lot_a#r0",))
    assert plan(3, [FIRST], all_seen) == Look()
    assert plan(5, [FIRST], all_seen) == Look()
    assert isinstance(plan(3, [FIRST], all_seen, is_fresh=True), Gather)
    assert plan(5, [FIRST], all_seen, is_fresh=True) == SoldOut(4)


def test_no_lots_at_all_is_sold_out_after_a_look():
    assert plan(1, [], {}) == Look()
    assert plan(1, [], {}, is_fresh=True) == SoldOut(0)


def test_a_shelf_with_a_full_journal_is_passed_over():
    seen = known(shelf("lot_a#0", (0, 9)), shelf("lot_a#1", (500, 2)), empty=("lot_a#r0",))
    assert plan(2, [FIRST], seen, is_fresh=True, avoided=["lot_a#0"]).shelf_id == "lot_a#1"


def test_a_gather_over_more_shelves_than_a_transaction_holds_uses_the_fullest():
    lots = [OpenLot("lot_a", 1, 64, 16), OpenLot("lot_b", NEVER, 64, 16)]
    seen = {one: shelf(one, (number * 10, 1 + number % 2)) for lot in lots for number, one in enumerate(lot.shelves)}
    step = plan(150, lots, seen, is_fresh=True)
    assert isinstance(step, Gather)
    assert len(step.parts) <= rules.MAX_PIECES
    assert sum(rules.count_keys(part.taken) for part in step.parts) == 150
    assert plan(200, lots, seen, is_fresh=True) == SoldOut(99 + 80)


def test_the_keys_of_one_order_come_from_no_more_lots_than_one_transaction_can_give_back_to():
    lots = [OpenLot(f"lot_{number:03}", NEVER, 1, 1) for number in range(120)]
    seen = {one: shelf(one) for lot in lots for one in lot.shelves} | known(
        *(shelf(lot.main_shelves[0], (0, 3 if number >= 115 else 1)) for number, lot in enumerate(lots))
    )
    assert isinstance(plan(90, lots, seen, is_fresh=True), Gather)
    step = plan(100, lots, seen, is_fresh=True)  # the first 100 lots would do, but for the limit: the fullest are used
    assert len({rules.lot_id_of(part.shelf_id) for part in step.parts}) == 90
    assert sum(rules.count_keys(part.taken) for part in step.parts) == 100
    assert plan(101, lots, seen, is_fresh=True) == SoldOut(100)
    assert plan(4, lots, seen, is_fresh=True, most_lots=1) == SoldOut(3)


@pytest.mark.parametrize(
    ("runs", "quantity", "taken", "rest"),
    [
        ([(0, 5)], 5, ((0, 5),), ()),
        ([(0, 5)], 2, ((0, 2),), ((2, 3),)),
        ([(9, 1), (0, 5)], 3, ((9, 1), (0, 2)), ((2, 3),)),
        ([(9, 1), (0, 5)], 0, (), ((9, 1), (0, 5))),
    ],
)
def test_cutting_runs_loses_no_number(runs, quantity, taken, rest):
    assert rules.cut(runs, quantity) == (taken, rest)


def test_more_than_there_is_cannot_be_cut():
    with pytest.raises(ValueError, match="fewer keys"):
        rules.cut([(0, 5)], 6)


def test_a_number_that_is_in_stock_twice_stops_everything():
    with pytest.raises(ValueError, match="twice"):
        rules.join([(0, 5), (4, 1)])


@pytest.mark.parametrize("shards", [1, 3, 64])
def test_an_import_is_spread_without_gaps_in_runs_of_500(shards):
    dealt = rules.spread(0, 2_200, shards)
    numbers = sorted(start + n for runs in dealt.values() for start, count in runs for n in range(count))
    assert numbers == list(range(2_200))
    assert max(count for runs in dealt.values() for _, count in runs) == 500
    assert len(dealt) == min(shards, 5)


def test_only_takes_older_than_half_a_minute_are_settled():
    keys = [rules.journal_key("ord_0123456789abcdef", 1, to_base32(at, 7) + "000000") for at in (969, 970, 971)]
    assert rules.entries_to_settle(keys, 1_000) == keys[:2]


def test_an_entry_is_owned_only_when_the_order_has_that_very_take():
    keys = [rules.journal_key("ord_0123456789abcdef", 1, take) for take in ("0000001aaaaaa", "0000001bbbbbb")]
    assert rules.entries_owned(keys, {"ord_0123456789abcdef": {"0000001bbbbbb"}}) == keys[1:]
    assert rules.entries_owned(keys, {}) == []


def test_help_comes_likelier_as_a_journal_grows():
    assert not any(rules.may_help(rules.HELP_ABOVE, random.Random(seed)) for seed in range(50))
    assert all(rules.may_help(rules.HELP_ALWAYS, random.Random(seed)) for seed in range(50))
    half = sum(rules.may_help((rules.HELP_ABOVE + rules.HELP_ALWAYS) // 2, random.Random(seed)) for seed in range(100))
    assert 20 < half < 80


def test_runs_are_joined_only_when_that_saves_much():
    assert rules.is_fragmented(tuple((number, 1) for number in range(21)))
    assert not rules.is_fragmented(tuple((number, 1) for number in range(20)))
    assert not rules.is_fragmented(tuple((number * 2, 1) for number in range(40)))


FIGURES = [
    ("fresh import", [Shelf("l#0", free=10, imported=10)], 0, Stock(10, 10, 10, 0, 0, 0, 0, 0)),
    ("held and sold", [Shelf("l#0", free=4, imported=10)], 2, Stock(10, 10, 4, 2, 4, 0, 0, 0)),
    ("expired lot", [Shelf("l#0", free=4, imported=10, expires_at=50)], 2, Stock(10, 10, 0, 2, 4, 4, 0, 0)),
    ("returned", [Shelf("l#0", imported=10), Shelf("l#r0", free=1, quarantined=2)], 0, Stock(10, 10, 1, 0, 7, 0, 0, 2)),
    ("held trails behind", [Shelf("l#0", free=9, imported=10)], 5, Stock(10, 10, 9, 1, 0, 0, 0, 0)),
    ("held is ahead", [Shelf("l#0", free=9, imported=10)], -1, Stock(10, 10, 9, 0, 1, 0, 0, 0)),
]


@pytest.mark.parametrize(("shelves", "held", "stock"), [one[1:] for one in FIGURES], ids=[one[0] for one in FIGURES])
def test_figures_always_add_up_to_the_import(shelves, held, stock):
    assert rules.add_up(shelves, held, now=100) == stock
    parts = (stock.available, stock.held, stock.sold, stock.expired, stock.disabled, stock.quarantined)
    assert sum(parts) == stock.total == stock.imported


def test_a_batch_of_changes_counts_once():
    once = rules.count_in(Held(), "m1", [(100, 3), (100, -1)])
    assert once == Held(2, 1, ("m1",), 0)
    assert rules.count_in(once, "m1", [(100, 3)]) is None


def test_changes_from_before_the_last_full_count_are_not_counted_again():
    assert rules.count_in(Held(7, 4, (), 100), "m", [(94, 5)]) is None
    assert rules.count_in(Held(7, 4, (), 100), "m", [(95, 5)]) == Held(12, 5, ("m",), 100)


def test_only_the_latest_marks_are_kept():
    row = Held()
    for number in range(rules.KEPT_MARKS + 5):
        row = rules.count_in(row, f"m{number}", [(0, 1)])
    assert row.marks == tuple(f"m{number}" for number in range(5, rules.KEPT_MARKS + 5))
