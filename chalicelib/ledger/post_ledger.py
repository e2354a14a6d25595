"""Post what orders call for: each change as it comes, and every hour whatever is missing.

Posting is repeatable: a set that stands is not touched. The change stream brings sets within seconds; the hourly walk
suffices alone when the stream is down, and finds what happened late: a refund after a month, a dispute after a year.
"""

from __future__ import annotations

from collections.abc import Iterator

from chalicelib.ledger import store
from chalicelib.ledger.days import DAY_SECONDS, day_of
from chalicelib.ledger.model import EntrySet
from chalicelib.ledger.rules import entry_sets
from chalicelib.orders.model import Order
from chalicelib.orders.order_row import to_order
from chalicelib.orders.store import list_timeline

EVERY_HOUR_DAYS = 2  # back from now: walked each hour, together with the orders whose hold has not ended
EVERY_DAY_DAYS = 100  # an order of these days is looked at once a day
EVERY_WEEK_DAYS = 400  # and of these once a week
_LONGEST_HOLD_SECONDS = DAY_SECONDS


def post_change(before: Order | None, after: Order, now: int) -> int:
    """Post the sets that one change of an order brought; answers how many were new."""
    known = {one.event_id for one in entry_sets(before)} if before else set()
    return post_sets([one for one in entry_sets(after) if one.event_id not in known], now)


def post_sets(sets: list[EntrySet], now: int) -> int:
    """Post sets; answers how many were new. Those of days that have ended have their day proved again."""
    today = day_of(now)
    return sum(store.put_set(one) if day_of(one.at) >= today else store.put_late_set(one) for one in sets)


def post_missing(now: int) -> int:
    """Walk the orders whose turn it is and post what the stream did not; answers how many sets that were.

    Orders are found by the end of their hold. Each hour takes the last two days, every 24th of the days before and
    every 168th of the older ones, so no hour does more than its part and no state is kept.
    """
    posted = 0
    for from_at, until_at in turns(now):
        for page in list_timeline(from_at, until_at):
            orders = [to_order(row) for row in page if "paid" in row or "refs" in row or "dis" in row]
            sets = [one for order in orders for one in entry_sets(order)]
            if sets:
                posted += post_sets(store.find_missing(sets), now)
    return posted


def turns(now: int) -> Iterator[tuple[int, int]]:
    """The stretches of time whose orders are looked at in this hour: (first instant, last instant)."""
    today, hour = now // DAY_SECONDS, now // 3_600
    yield (today - EVERY_HOUR_DAYS) * DAY_SECONDS, now + _LONGEST_HOLD_SECONDS
    for back in range(EVERY_HOUR_DAYS + 1, EVERY_WEEK_DAYS + 1):
        day, every = today - back, 24 if back <= EVERY_DAY_DAYS else 168
        if day % every == hour % every:
            yield day * DAY_SECONDS, (day + 1) * DAY_SECONDS - 1
