"""Posting: with the change stream, without it, twice, late. And the rows it leaves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from chalicelib.aws.rows import to_row
from chalicelib.ledger import store, workers
from chalicelib.ledger.days import DAY_SECONDS, day_of, start_of
from chalicelib.ledger.model import Entry, EntrySet
from chalicelib.ledger.post_ledger import EVERY_WEEK_DAYS, post_change, post_missing, post_sets, turns
from chalicelib.ledger.rules import entry_sets
from chalicelib.ledger.workers import post_records
from chalicelib.orders import store as orders
from chalicelib.orders.order_row import to_order_row
from chalicelib.payments.model import RefundResult
from chalicelib.refunds.rules import ask_refund, settle_refund
from tests.faults.hooks import Crash, at_call, count_calls, faults
from tests.ledger.books import AT, ORDER, new_order, paid, totals

pytestmark = pytest.mark.usefixtures("stack")
DAY = "20260301"
TIMER = {
    "version": "0", "account": "", "region": "us-east-1", "detail": {}, "detail-type": "Scheduled Event",
    "source": "aws.events", "time": "2026-03-01T00:00:00Z", "id": "1", "resources": [],
}  # fmt: skip


def record(before, after, number="1"):
    """A change of an order as the stream brings it."""
    change = {"Keys": to_row({"pk": f"O#{after.order_id}", "sk": "O"}), "SequenceNumber": number,
              "NewImage": to_row(to_order_row(after))}  # fmt: skip
    if before:
        change["OldImage"] = to_row(to_order_row(before))
    return {"eventID": number, "dynamodb": change}


def refund_of(order, at):
    asked = ask_refund(order, None, is_operator=True, now=at, by="key", reason="")
    return settle_refund(asked, 1, RefundResult("succeeded"), at)


def written(order):
    """The order in the table, as checkout leaves it, then as it is now."""
    orders.put_order(replace(order, version=1), "t")
    return order


def posted(day=DAY):
    return {one.event_id: one for one in store.list_day(day)}


def test_a_change_posts_what_it_brought():
    order = new_order()
    bought = paid(order)
    assert post_records([record(None, order), record(order, bought, "2")], AT) == {"batchItemFailures": []}
    assert posted() == {one.event_id: one for one in entry_sets(bought)}
    given_back = refund_of(bought, AT + 5)
    assert post_change(bought, given_back, AT + 5) == 3
    assert totals(list(posted().values())) == {("sales", "CNY"): -100, ("refunds", "CNY"): 100}


def test_an_order_that_begins_paid_is_posted_with_its_first_record():
    bought = paid(new_order(provider="balance"))
    post_records([record(None, bought)], AT)
    assert totals(list(posted().values()))["shop_balance:demo", "CNY"] == 100


def test_a_batch_that_comes_again_and_records_of_other_rows_change_nothing():
    order, bought = new_order(), paid(new_order())
    stock = {"eventID": "9", "dynamodb": {"Keys": to_row({"pk": "L#lot#0", "sk": "A"}), "SequenceNumber": "9"}}
    tombstone = record(None, order, "8")
    tombstone["dynamodb"]["NewImage"]["st"] = {"S": "fenced"}
    batch = [stock, tombstone, record(order, bought, "2")]
    post_records(batch, AT)
    first = posted()
    post_records(batch, AT)
    assert posted() == first != {}


def test_a_record_that_fails_is_named_and_those_before_it_stay():
    one, two = paid(new_order()), paid(new_order(order_id="ord_2222222222222222"))
    broken = record(None, two, "3")
    del broken["dynamodb"]["NewImage"]["lines"]
    answer = post_records([record(None, one, "2"), broken, record(None, two, "4")], AT)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "3"}]}
    assert {entry_set.order_id for entry_set in posted().values()} == {ORDER}


def test_fifty_at_once_post_one_set():
    sets = entry_sets(paid(new_order()))
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda _: post_sets(sets, AT), range(50))) == len(sets)


def test_what_stands_under_an_event_stays():
    first = EntrySet("e", AT, (Entry("a", 1, "CNY"), Entry("b", -1, "CNY")))
    assert store.put_set(first)
    assert not store.put_set(replace(first, entries=(Entry("a", 2, "CNY"), Entry("b", -2, "CNY"))))
    assert posted()["e"] == first


def test_a_set_that_does_not_balance_is_never_written():
    wrong = EntrySet("e", AT, (Entry("a", 1, "CNY"), Entry("b", -1, "USD")))
    with pytest.raises(AssertionError):
        store.put_set(wrong)
    with pytest.raises(AssertionError):
        store.put_late_set(wrong)
    assert posted() == {}


# -- the timer alone ----------------------------------------------------------------------------------------------


def test_the_hourly_walk_posts_everything_without_any_stream(clock):
    order = written(refund_of(paid(new_order()), AT + 60))
    clock.at = AT + 3_600
    for _ in range(2):
        workers.every_hour_post_ledger(TIMER, None)
        assert posted() == {one.event_id: one for one in entry_sets(order)}


def test_the_walk_completes_what_was_posted_in_part():
    order = written(paid(new_order()))
    store.put_set(entry_sets(order)[0])
    assert post_missing(AT + 60) == len(entry_sets(order)) - 1
    assert post_missing(AT + 60) == 0


def test_unpaid_orders_are_walked_past():
    written(new_order())
    assert post_missing(AT) == 0


@pytest.mark.parametrize(("age_days", "hours"), [(1, 1), (30, 24), (99, 24), (180, 168), (392, 168)])
def test_an_order_of_any_age_gets_its_turn_in_time(age_days, hours):
    """A refund long after the sale, and no stream: how long until its order is looked at again."""
    hold_ends = AT
    begin = AT + age_days * DAY_SECONDS
    seen = [hour for hour in range(hours)
            if any(a <= hold_ends <= b for a, b in turns(begin + hour * 3_600))]  # fmt: skip
    assert seen


def test_no_hour_walks_more_than_its_part():
    counts = [len(list(turns(AT + hour * 3_600))) for hour in range(24 * 14)]
    assert max(counts) <= 1 + 5 + 3
    oldest = min(a for hour in range(168) for a, _ in turns(AT + hour * 3_600))
    assert oldest >= start_of(day_of(AT)) - EVERY_WEEK_DAYS * DAY_SECONDS


def test_a_refund_after_a_month_is_found_without_the_stream():
    bought = written(paid(new_order()))
    post_missing(AT + 60)
    late_at = AT + 30 * DAY_SECONDS
    orders.save(replace(bought, version=1), refund_of(replace(bought, version=1), late_at))
    hold_ends = bought.expires_at
    turn = next(hour for hour in range(24)
                if any(a <= hold_ends <= b for a, b in turns(late_at + hour * 3_600)))  # fmt: skip
    assert post_missing(late_at + turn * 3_600) == 3
    assert f"refunded:rfd_{ORDER.removeprefix('ord_')}_1" in posted(day_of(late_at))


# -- late, and crashes --------------------------------------------------------------------------------------------


def test_a_set_that_comes_after_its_day_moves_the_clock_back():
    sets = entry_sets(paid(new_order()))
    assert post_sets(sets, AT + 3 * DAY_SECONDS) == len(sets)
    first = store.read_clock()
    assert first.until == "20260228"
    assert post_sets(sets, AT + 3 * DAY_SECONDS) == 0
    assert store.read_clock() == first
    later = EntrySet("later", AT + DAY_SECONDS, (Entry("a", 1, "CNY"), Entry("b", -1, "CNY")))
    store.put_late_set(later)
    assert store.read_clock().until == "20260228"
    assert store.read_clock().version == first.version + 1


def test_late_sets_of_many_at_once_are_all_there_and_the_clock_is_at_the_oldest():
    sets = [EntrySet(f"e{n}", AT + n * DAY_SECONDS, (Entry("a", 1, "CNY"), Entry("b", -1, "CNY"))) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(lambda one: _until_done(lambda: store.put_late_set(one)), sets))
    assert store.read_clock().until == "20260228"
    assert [day for n in range(6) if posted(day := day_of(AT + n * DAY_SECONDS))] == [
        day_of(AT + n * DAY_SECONDS) for n in range(6)
    ]


def _until_done(act):
    from chalicelib.core.errors import Busy

    while True:
        try:
            return act()
        except Busy:
            continue


@pytest.mark.parametrize("late", [0, 3 * DAY_SECONDS])
def test_a_crash_at_any_call_is_made_good_by_the_next_delivery(late, clock):
    bought, number = paid(new_order()), 0
    calls = len(count_calls(lambda: post_records([record(None, bought)], AT + late)))
    for call in range(1, calls + 1):
        for fault in ("crash_before", "crash_after", "lost_gone"):
            number += 1
            order = paid(new_order(order_id=f"ord_{number:016d}"))
            batch = [record(None, order)]
            with faults(at_call(call, fault)), suppress(Crash):
                post_records(batch, AT + late)
            post_records(batch, AT + late)
            mine = [one for one in posted().values() if one.order_id == order.order_id]
            assert sorted(mine, key=lambda one: one.event_id) == sorted(entry_sets(order), key=lambda one: one.event_id)


def test_a_page_of_a_day_goes_on_where_the_last_one_ended():
    for number in range(25):
        store.put_set(EntrySet(f"e{number}", AT, (Entry("a", 1, "CNY"), Entry("b", -1, "CNY"))))
    seen, position = [], None
    while True:
        page, position = store.list_page(DAY, position, 7)
        seen += [one.event_id for one in page]
        if position is None:
            break
    assert sorted(seen) == sorted(f"e{number}" for number in range(25))
