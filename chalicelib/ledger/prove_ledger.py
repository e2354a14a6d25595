"""Prove, day by day, that the books balance: each set, each day and all that was carried on come to zero, and the
balances of shops are what the ledger says.

Called once a day. A day is proved when it has been over for an hour; one that got a late set is proved again, and so
are all after it. What does not fit is recorded with the day and raises an alarm: nothing is ever corrected here.
"""

from __future__ import annotations

from chalicelib.accounts.store import list_shop_ids
from chalicelib.balance import store as balances
from chalicelib.balance.rules import ledger_event_of
from chalicelib.edge.observe import count, log
from chalicelib.ledger import store
from chalicelib.ledger.days import DAY_SECONDS, day_after, day_of, start_of
from chalicelib.ledger.model import DayClosing, LedgerClock
from chalicelib.ledger.rules import close_day, closing_of, shop_balance

GRACE_SECONDS = 3_600  # what was decided before midnight is written by then
FIRST_LOOK_BACK_DAYS = 40
_FAR = 10**12 - 1
_TRIES = 20
_STILL_TRIES = 5
_SHOWN = 20


def prove_ledger(now: int) -> list[DayClosing]:
    """Prove every day that is over and not proved yet; answers them.

    Late sets make a day's proof start over; after 20 of them the rest waits for the next call.
    """
    last, proved, failures = day_of(now - GRACE_SECONDS - DAY_SECONDS), [], 0
    while failures < _TRIES:
        clock = store.read_clock()
        day = day_after(clock.until) if clock else _first_day(last)
        if day > last:
            break
        closing = _prove(day, clock, now, with_balances=day == last)
        if closing.differences:  # before the day counts as proved: an alarm too many, never one too few
            log.error("ledger does not balance", extra={"day": day, "differences": closing.differences[:_SHOWN]})
            count("LedgerDoesNotBalance", len(closing.differences))
        if not store.put_day(closing, clock):
            failures += 1
            continue
        proved.append(closing)
    return proved


def _first_day(last: str) -> str:
    """Where the ledger begins: its first day with a set, or the last day that can be proved."""
    for back in range(FIRST_LOOK_BACK_DAYS, 0, -1):
        day = day_after(last, -back)
        if store.list_page(day, None, 1)[0]:
            return day
    return last


def _prove(day: str, clock: LedgerClock | None, now: int, *, with_balances: bool) -> DayClosing:
    # 1 gather
    ends_at = start_of(day) + DAY_SECONDS
    before = store.find_day(day_after(day, -1)) if clock else None
    sets = store.list_day(day)
    shops = list_shop_ids()
    watched = [(shop_id, one.currency) for shop_id in shops for one in balances.list_balances(shop_id)]
    moves = {
        (ledger_event_of(entry), shop_id, currency): (entry.amount_minor, entry.at)
        for shop_id, currency in watched
        for entry in balances.list_entries_between(shop_id, currency, start_of(day), ends_at - 1)
    }
    # 2 decide
    closing = close_day(day, before, sets, moves, ends_at)
    differences = list(closing.differences)
    if with_balances:
        for shop_id, currency in watched:
            waiting = sum(
                one.amount_minor for one in closing.waiting if (one.shop_id, one.currency) == (shop_id, currency)
            )
            ours = -closing_of(closing, shop_balance(shop_id), currency) + waiting
            theirs = _balance_at(shop_id, currency, ends_at)
            if theirs is not None and ours != theirs:
                differences.append(f"balance {shop_id} {currency} is {theirs}, the ledger says {ours}")
    return DayClosing(
        day, closing.sets, closing.movements, tuple(differences), closing.waiting, proved_at=now
    )  # fmt: skip


def _balance_at(shop_id: str, currency: str, at: int) -> int | None:
    """A balance as it was at an instant: as it stands, less what came since. None when it does not stand still for the
    time of the look; the next day looks again.
    """
    for _ in range(_STILL_TRIES):
        seen = balances.find_balance(shop_id, currency)
        since = balances.list_entries_between(shop_id, currency, at, _FAR)
        still = balances.find_balance(shop_id, currency)
        if seen and still and seen.version == still.version:
            return seen.balance_minor - sum(one.amount_minor for one in since)
    log.info("balance never stood still", extra={"shop_id": shop_id, "currency": currency})
    return None
