"""Our side of a provider's day: from the ledger's days around it, and for what these do not have, from the orders.

Reads only. A day of the ledger is read page by page and only what moved on the provider's account is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from chalicelib.balance import top_up_store
from chalicelib.core.ids import order_id_of_payment
from chalicelib.ledger import store as ledger
from chalicelib.ledger.days import day_after, day_of
from chalicelib.ledger.model import EntrySet
from chalicelib.ledger.rules import clearing, top_up_event
from chalicelib.orders import store as orders
from chalicelib.payments import store as notices
from chalicelib.payments.model import StatementLine
from chalicelib.reconciliation.model import Day, Ours
from chalicelib.reconciliation.rules import merged, order_of_line, ours_of_order, ours_of_set, unpaired

R = TypeVar("R")
T = TypeVar("T")

READERS = 16
_PAGE = 500
_ORDERS_AT_ONCE = 1_000


def gather_movements(
    provider: str, account_id: str | None, day: Day, theirs: list[StatementLine]
) -> tuple[list[Ours], dict[str, str | None]]:
    """What our books have on the provider's account around a day, and whose money its numbers are, as far as known."""
    account = clearing(provider, account_id)
    ours = list(_of_ledger(account, day))
    order_by_txn = {one.provider_txn: one.order_id for one in ours if one.kind == "payment" and one.provider_txn}
    # What the ledger's days do not have: asked line by line, so a day that fits costs nothing here.
    left = unpaired(ours, theirs, order_by_txn)
    nameless = sorted({line.provider_txn for line in left if order_of_line(line, order_by_txn) is None})
    named = in_parallel(lambda txn: notices.find_payment_id(provider, txn), nameless)
    for txn, payment_id in zip(nameless, named, strict=True):
        order_by_txn[txn] = order_id_of_payment(payment_id or "")
    wanted = {order_id for line in left if (order_id := order_of_line(line, order_by_txn))}
    top_ups = [line for line in left if (line.our_no or "").startswith("top_")]
    further = [*movements_of_orders(wanted, provider, account_id), *_of_top_ups(top_ups, provider, account_id)]
    return merged(ours, further), order_by_txn


def movements_of_orders(order_ids: Iterable[str], provider: str, account_id: str | None) -> list[Ours]:
    """What orders say of themselves: with whatever the ledger has not got, or cannot tell."""
    account, wanted, found = clearing(provider, account_id), sorted(order_ids), []
    for start in range(0, len(wanted), _ORDERS_AT_ONCE):
        for order in orders.get_orders(wanted[start : start + _ORDERS_AT_ONCE]):
            found += ours_of_order(order, account, provider, account_id)
    return found


def in_parallel(do: Callable[[T], R], things: list[T]) -> list[R]:
    """The answers for things, in their order, sixteen at a time."""
    if len(things) < 2:
        return [do(one) for one in things]
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(do, things))


def _of_ledger(account: str, day: Day) -> Iterator[Ours]:
    """The UTC days that a day of the provider touches, and those beside: what is learned late stands there."""
    current, last = day_after(day_of(day.start), -1), day_after(day_of(day.end - 1))
    while current <= last:
        position: list[Any] | None = None
        while True:
            sets, position = ledger.list_page(current, position, _PAGE)
            for entry_set in sets:
                yield from ours_of_set(entry_set, account)
            if position is None:
                break
        current = day_after(current)


def _of_top_ups(lines: list[StatementLine], provider: str, account_id: str | None) -> list[Ours]:
    """Money shops paid in that the ledger has on another day: the day is the top-up's."""
    by_id = {line.our_no or "": line for line in lines}
    top_ups = [one for one in in_parallel(top_up_store.find_top_up, sorted(by_id)) if one and one.paid_at is not None]
    sets = [
        EntrySet(top_up_event(provider, by_id[one.top_up_id].provider_txn), one.paid_at or 0, ()) for one in top_ups
    ]
    account = clearing(provider, account_id)
    return [one for entry_set in ledger.get_sets(sets) for one in ours_of_set(entry_set, account)]
