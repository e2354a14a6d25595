"""Stock on a real table: what each call writes, what each condition refuses, and that a refusal changes nothing."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import to_row
from chalicelib.aws.transact import transact
from chalicelib.core.errors import Busy
from chalicelib.core.ids import new_take_id
from chalicelib.core.settings import table_name
from chalicelib.inventory import memory, pool_store, rules, shelf_store, store, take_store
from chalicelib.inventory.errors import LotNotFound, OutOfStock
from chalicelib.inventory.model import Lot
from chalicelib.inventory.rules import TakeFromRun, TakeRuns
from tests.inventory.conftest import NOW, PRODUCT, all_shelves, lot_id, order_id, place, shelf, stock, take

pytestmark = pytest.mark.usefixtures("stack")


# -- take -----------------------------------------------------------------------------------------------------------


def test_a_take_moves_keys_from_the_shelf_into_its_journal():
    lot = stock(300)
    taken = take(3)
    assert taken.extents == [(lot.lot_id, 0, 3)]
    after = shelf(f"{lot.lot_id}#0")
    assert (after.runs, after.free) == (((3, 297),), 297)
    assert after.journal == {taken.pieces[0].journal_key: ((0, 3),)}


def test_once_warm_a_take_is_one_request(counting):
    stock(300)
    store.confirm(take(1))
    with counting() as calls:
        for number in range(20):
            store.confirm(take(1, number))
    assert calls == {"UpdateItem": 20}


def test_a_cold_process_takes_with_two_requests(counting):
    stock(300)
    with counting() as calls:
        take(1)
    assert calls == {"GetItem": 1, "UpdateItem": 1}


@pytest.mark.parametrize(
    ("quantity", "runs"),
    [
        (2, [[5, 3], [20, 4]]),
        (3, [[5, 3], [20, 4]]),
        (4, [[5, 3], [20, 4]]),
        (6, [[5, 3], [20, 4]]),
        (7, [[5, 3], [20, 4]]),
    ],
)
def test_each_form_of_a_take_gives_exactly_the_keys_that_leave_the_shelf(quantity, runs):
    lot = stock(1)
    _set_runs(lot, runs)
    before = {start + n for start, count in runs for n in range(count)}
    taken = {start + n for _, start, count in take(quantity).extents for n in range(count)}
    after = shelf(f"{lot.lot_id}#0")
    left = {start + n for start, count in after.runs for n in range(count)}
    assert len(taken) == quantity
    assert taken | left == before
    assert not taken & left
    assert after.free == len(left)


def test_the_same_take_sent_twice_takes_once(answer_lost):
    lot = stock(300)
    with answer_lost("UpdateItem"):
        taken = take(5)
    assert taken.extents == [(lot.lot_id, 0, 5)]
    assert shelf(f"{lot.lot_id}#0").free == 295
    assert not taken.pieces[0].is_clean


def test_a_take_over_several_shelves_sent_twice_takes_once(answer_lost):
    lot = stock(1_500)
    with answer_lost("TransactWriteItems"):
        taken = take(1_200)
    assert sum(count for _, _, count in taken.extents) == 1_200
    assert sum(one.free for one in all_shelves(lot)) == 300


def test_an_expired_lot_sells_nothing_and_is_not_changed():
    lot = stock(10, expires_at=NOW)
    before = all_shelves(lot)
    with pytest.raises(OutOfStock):
        take(1)
    step = TakeFromRun(f"{lot.lot_id}#0")
    keys = take_store.journal_keys(step, 1, order_id(1), new_take_id(NOW))
    assert take_store.try_step(step, keys, 1, NOW).taken is None
    assert take_store.try_step(step, keys, 1, NOW - 1).taken is not None
    assert before[0].free == 10


@pytest.mark.parametrize(
    ("what", "step"),
    [
        ("shorter run", TakeFromRun("#0", 0, whole=False)),
        ("other length", TakeFromRun("#0", 0, whole=True)),
        ("no such run", TakeFromRun("#0", 3, whole=False)),
        ("runs changed", TakeRuns("#0", ((0, 9),), ((0, 7),), ((7, 2),))),
    ],
)
def test_a_take_that_does_not_fit_the_shelf_changes_nothing(what, step):
    lot = stock(5)
    step = type(step)(**{**vars(step), "shelf_id": f"{lot.lot_id}#0"})
    before = shelf(step.shelf_id)
    keys = take_store.journal_keys(step, 7, order_id(1), new_take_id(NOW))
    attempt = take_store.try_step(step, keys, 7, NOW)
    assert attempt.taken is None
    assert attempt.shelves == (before,)
    assert shelf(step.shelf_id) == before


def test_out_of_stock_changes_nothing():
    lot = stock(1_200)
    before = all_shelves(lot)
    with pytest.raises(OutOfStock) as refused:
        take(1_201)
    assert (refused.value.code, refused.value.status, refused.value.retry) == ("inventory.out_of_stock", 409, "later")
    assert all_shelves(lot) == before


def test_a_product_without_any_lot_is_out_of_stock():
    with pytest.raises(OutOfStock):
        take(1)


def test_ten_refusals_cost_at_most_twelve_requests(counting):
    stock(3)
    take(3)
    memory.forget_hints()
    with counting() as calls:
        for _ in range(10):
            with pytest.raises(OutOfStock):
                take(1)
    assert calls.total() <= 12


def test_the_last_keys_are_gathered_from_all_shelves_and_lots_or_not_at_all():
    early, late = stock(100, expires_at=NOW + 99), stock(700)
    before = all_shelves(early) + all_shelves(late)
    with pytest.raises(OutOfStock):
        take(801)
    assert all_shelves(early) + all_shelves(late) == before
    extents = take(650).extents
    assert sum(count for lot, _, count in extents if lot == early.lot_id) == 100
    assert sum(count for lot, _, count in extents if lot == late.lot_id) == 550
    take(150)
    assert sum(one.free for lot in (early, late) for one in all_shelves(lot)) == 0


def test_a_gather_that_meets_a_change_takes_nothing():
    lot = stock(1_000)
    shelves = all_shelves(lot)[:2]
    step = rules.Gather(tuple(TakeRuns(one.shelf_id, one.runs, *rules.cut(one.runs, 400)) for one in shelves))
    take(1)
    before = all_shelves(lot)
    attempt = take_store.try_step(step, take_store.journal_keys(step, 800, order_id(9), new_take_id(NOW)), 800, NOW)
    assert attempt.taken is None
    assert len(attempt.shelves) == 1
    assert all_shelves(lot) == before


@pytest.mark.parametrize("keys", [10_000, 30_000])
def test_ten_thousand_keys_in_one_order_take_at_most_eight_requests(counting, keys):
    lot = stock(keys)
    with counting() as calls:
        taken = take(10_000)
    numbers = {start + n for _, start, count in taken.extents for n in range(count)}
    assert len(numbers) == 10_000
    assert calls.total() <= 8
    assert sum(one.free for one in all_shelves(lot)) == keys - 10_000


def test_a_lot_opened_meanwhile_is_sold_from_before_anybody_is_refused():
    stock(1)
    take(1)
    with pytest.raises(OutOfStock):
        take(1)
    time.sleep(memory.SOLD_OUT_SECONDS)
    lot = Lot(lot_id(), PRODUCT, 1, 1)
    known = memory.recall_pool(PRODUCT)
    store.open_lot(lot, NOW)
    memory.remember_pool(PRODUCT, known)  # as another process would still believe
    transact(store.add_keys_writes(lot, 0, 5))
    assert take(1).extents == [(lot.lot_id, 0, 1)]


def test_returned_keys_are_found_although_the_process_remembers_an_empty_shelf():
    lot = stock(1)
    taken = take(1)
    with pytest.raises(OutOfStock):
        take(1)
    transact(store.return_writes([(taken.order_id, taken.extents)]))
    assert take(1).extents == [(lot.lot_id, 0, 1)]


# -- confirm, and other buyers' entries -----------------------------------------------------------------------------


def test_a_confirmed_entry_leaves_with_the_next_take_on_its_shelf():
    lot = stock(300)
    store.confirm(take(1, 1))
    second = take(1, 2)
    assert list(shelf(f"{lot.lot_id}#0").journal) == [second.pieces[0].journal_key]


def test_an_entry_stays_until_it_is_confirmed():
    lot = stock(300)
    take(1, 1), take(1, 2)
    assert len(shelf(f"{lot.lot_id}#0").journal) == 2


def test_the_entry_of_a_repeated_take_is_left_to_the_sweeper(answer_lost):
    lot = stock(300)
    with answer_lost("UpdateItem"):
        first = take(1, 1)
    store.confirm(first)
    take(1, 2)
    assert first.pieces[0].journal_key in shelf(f"{lot.lot_id}#0").journal


def test_a_full_journal_is_cleaned_of_what_orders_own_and_of_nothing_else(monkeypatch):
    monkeypatch.setattr(store, "_CLEANED_AT_ONCE", rules.JOURNAL_CAP)
    lot = stock(300)
    owned, stray = take(1, 1), take(1, 2)
    place(owned)
    for number in range(3, 3 + rules.JOURNAL_CAP - 2):
        _note(lot, number)
    assert len(shelf(f"{lot.lot_id}#0").journal) == rules.JOURNAL_CAP
    taken = take(1, 999)
    journal = shelf(f"{lot.lot_id}#0").journal
    assert taken.pieces[0].journal_key in journal
    assert stray.pieces[0].journal_key in journal
    assert owned.pieces[0].journal_key not in journal


def test_a_full_journal_of_unsettled_takes_says_busy_not_sold_out(monkeypatch):
    monkeypatch.setattr(store, "_TRIES", 4)
    lot = stock(300)
    for number in range(rules.JOURNAL_CAP):
        _note(lot, number)
    before = shelf(f"{lot.lot_id}#0")
    with pytest.raises(Busy):
        take(1, 999)
    assert shelf(f"{lot.lot_id}#0") == before


# -- busy shelves and unanswered tries ------------------------------------------------------------------------------


def test_a_busy_shelf_is_left_for_another_one_and_closed_to_the_first_try(busy):
    lot = stock(1_000)
    store.confirm(take(1, 1))
    favourite = memory.recall_favourite(PRODUCT)
    with busy(2):
        taken = take(1, 2)
    assert taken.pieces[0].allocator != favourite
    closed = [key for key, runs in shelf(favourite).journal.items() if runs == ()]
    assert [rules.read_journal_key(key).take_id for key in closed] == [taken.take_id]
    assert sum(one.free for one in all_shelves(lot)) == 998


def test_an_unanswered_try_that_worked_after_all_is_the_take():
    lot = stock(1_000)
    step = TakeFromRun(f"{lot.lot_id}#0")
    keys = take_store.journal_keys(step, 2, order_id(1), new_take_id(NOW))
    take_store.try_step(step, keys, 2, NOW)
    before = shelf(step.shelf_id)
    assert take_store.close_doubt(take_store.Doubt(keys, step), NOW).taken == {step.shelf_id: ((0, 2),)}
    assert shelf(step.shelf_id) == before


def test_a_closed_try_can_never_take_any_more():
    lot = stock(1_000)
    step = TakeFromRun(f"{lot.lot_id}#0")
    keys = take_store.journal_keys(step, 2, order_id(1), new_take_id(NOW))
    assert take_store.close_doubt(take_store.Doubt(keys, step), NOW) is None
    assert take_store.close_doubt(take_store.Doubt(keys, step), NOW) is None
    assert take_store.try_step(step, keys, 2, NOW).taken is None
    assert shelf(step.shelf_id).free == 500


# -- give back, return, quarantine ----------------------------------------------------------------------------------


def test_a_take_is_given_back_once():
    lot = stock(300)
    taken = take(5)
    store.give_back(taken)
    after = shelf(f"{lot.lot_id}#0")
    assert (after.free, after.journal) == (300, {})
    store.give_back(taken)
    assert shelf(f"{lot.lot_id}#0") == after


def test_a_take_over_several_shelves_is_given_back_to_each():
    lot = stock(1_500)
    before = [(one.free, one.runs) for one in all_shelves(lot)]
    store.give_back(take(1_400))
    assert [(one.free, rules.join(one.runs)) for one in all_shelves(lot)] == before


def test_keys_of_closed_orders_come_back_on_one_return_shelf_in_one_entry():
    lot = stock(20_000)
    one, two = take(3, 1), take(4, 2)
    writes = store.return_writes([(one.order_id, one.extents), (two.order_id, two.extents)])
    assert len(writes) == 1
    transact(writes)
    returned = [found for found in all_shelves(lot) if "#r" in found.shelf_id and found.runs]
    assert [found.free for found in returned] == [7]
    figures = store.read_stock(PRODUCT, NOW)
    assert (figures.available, figures.sold) == (20_000, 0)


def test_returned_and_quarantined_keys_of_one_order_stand_in_one_entry():
    stock(300)
    good, seen = take(2, 1), take(3, 1)
    writes = store.return_writes([(order_id(1), good.extents)], [(order_id(1), seen.extents)])
    assert len(writes) == 1
    transact(writes)
    figures = store.read_stock(PRODUCT, NOW)
    assert (figures.available, figures.quarantined, figures.sold) == (297, 3, 0)


def test_quarantined_keys_are_counted_and_never_sold_again():
    stock(5)
    taken = take(5)
    transact(store.quarantine_writes([(taken.order_id, taken.extents)]))
    assert store.read_stock(PRODUCT, NOW).quarantined == 5
    with pytest.raises(OutOfStock):
        take(1)


def test_keys_cannot_come_back_to_a_lot_that_was_never_opened():
    with pytest.raises(LotNotFound):
        store.return_writes([(order_id(1), [("lot_0000000000000000000", 0, 1)])])


def test_returning_a_number_twice_in_one_call_is_refused():
    lot = stock(5)
    with pytest.raises(ValueError, match="twice"):
        store.return_writes([(order_id(1), [(lot.lot_id, 0, 2)]), (order_id(2), [(lot.lot_id, 1, 1)])])


# -- lots -----------------------------------------------------------------------------------------------------------


def test_opening_a_lot_again_changes_nothing():
    lot = stock(300)
    take(1)
    before, pool = all_shelves(lot), pool_store.get_lots(PRODUCT)
    store.open_lot(lot, NOW + 5)
    assert all_shelves(lot) == before
    assert pool_store.get_lots(PRODUCT) == pool


def test_a_crash_between_rows_and_pool_is_healed_by_opening_again(monkeypatch):
    lot = Lot(lot_id(), PRODUCT, 1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(pool_store, "add_to_pool", lambda lot: None)
        store.open_lot(lot, NOW)
    assert pool_store.get_lots(PRODUCT) == []
    store.open_lot(lot, NOW)
    assert [one.lot_id for one in pool_store.get_lots(PRODUCT)] == [lot.lot_id]


def test_lots_are_listed_by_expiry_and_lots_without_one_last():
    expected = {NOW + 200: "b", NOW + 100: "a", None: "c"}
    lots = {stock(1, expires_at=expires_at).lot_id: name for expires_at, name in expected.items()}
    assert [lots[one.lot_id] for one in pool_store.get_lots(PRODUCT)] == ["a", "b", "c"]


def test_two_lots_opened_at_once_are_both_listed():
    lots = [Lot(lot_id(), PRODUCT, 1, 1) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda lot: store.open_lot(lot, NOW), lots))
    assert {one.lot_id for one in pool_store.get_lots(PRODUCT)} == {lot.lot_id for lot in lots}


def test_a_lot_of_the_largest_size_opens_in_one_transaction(counting):
    with counting() as calls:
        store.open_lot(Lot(lot_id(), PRODUCT, *rules.shelves_for(5_000_000)), NOW)
    assert calls["TransactWriteItems"] == 1


def test_keys_cannot_be_added_to_a_lot_that_was_never_opened():
    lot = Lot(lot_id(), PRODUCT, 1, 1)
    with pytest.raises(LotNotFound):
        transact(store.add_keys_writes(lot, 0, 10))
    assert shelf_store.get_shelf(f"{lot.lot_id}#0") is None


# -- figures --------------------------------------------------------------------------------------------------------


def test_stock_figures_of_a_million_keys_take_at_most_three_requests(counting):
    lot = Lot(lot_id(), PRODUCT, *rules.shelves_for(1_000_000))
    store.open_lot(lot, NOW)
    transact(store.add_keys_writes(lot, 0, 1_000_000))
    take(7)
    memory.forget_hints()
    with counting() as calls:
        figures = store.read_stock(PRODUCT, NOW)
    assert calls.total() <= 3
    assert (figures.imported, figures.total, figures.available) == (1_000_000, 1_000_000, 999_993)


def test_keys_of_an_expired_lot_are_expired_not_available():
    stock(10, expires_at=NOW + 50)
    stock(20)
    take(4)
    figures = store.read_stock(PRODUCT, NOW + 50)
    assert (figures.available, figures.expired, figures.sold) == (20, 6, 4)


# -- runs on a shelf ------------------------------------------------------------------------------------------------


def test_runs_are_replaced_only_when_they_are_those_seen():
    lot = stock(300)
    seen = shelf(f"{lot.lot_id}#0").runs
    take(1)
    before = shelf(f"{lot.lot_id}#0")
    assert not shelf_store.replace_runs(before.shelf_id, seen, seen)
    assert shelf(before.shelf_id) == before
    assert shelf_store.replace_runs(before.shelf_id, before.runs, ((1, 100), (101, 199)))
    assert shelf(before.shelf_id).runs == ((1, 100), (101, 199))


def _set_runs(lot: Lot, runs: list[list[int]]) -> None:
    dynamodb().update_item(
        TableName=table_name(),
        Key=shelf_store.shelf_key(f"{lot.lot_id}#0"),
        UpdateExpression="SET runs = :runs, av = :av",
        ExpressionAttributeValues=to_row({":runs": runs, ":av": sum(count for _, count in runs)}),
    )


def _note(lot: Lot, number: int) -> None:
    step = TakeFromRun(f"{lot.lot_id}#0")
    keys = take_store.journal_keys(step, 1, order_id(number), new_take_id(NOW))
    assert take_store.try_step(step, keys, 1, NOW).taken


# -- many at once ---------------------------------------------------------------------------------------------------


def _rush(quantities: list[int]) -> tuple[list[int], int]:
    """Buy at 64 at once: the numbers sold, and how many buyers were refused."""
    sold: list[int] = []
    refused = 0
    lock = threading.Lock()

    def buy(number: int) -> None:
        nonlocal refused
        try:
            taken = take(quantities[number], number)
        except OutOfStock:
            with lock:
                refused += 1
            return
        store.confirm(taken)
        with lock:
            sold.extend(start + n for _, start, count in taken.extents for n in range(count))

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(buy, range(len(quantities))))
    return sold, refused


def test_four_hundred_buyers_at_64_at_once_get_exactly_300_keys():
    lot = stock(300, shards=1)
    sold, refused = _rush([1] * 400)
    assert sorted(sold) == list(range(300))
    assert refused == 100
    assert sum(one.free for one in all_shelves(lot)) == 0


def test_buyers_of_1_to_20_at_once_get_no_key_twice_and_leave_none_that_fits():
    lot = stock(300, shards=1)
    sold, refused = _rush([1 + number * 7 % 20 for number in range(400)])
    left = sum(one.free for one in all_shelves(lot))
    assert len(set(sold)) == len(sold) == 300 - left
    assert refused > 300
    assert left == 0  # every twentieth buyer wants one key: nothing is left while they come
