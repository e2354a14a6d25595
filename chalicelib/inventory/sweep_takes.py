"""Settle takes whose buyer's process never came back: the keys are the order's, or they go back on the shelf.

Called every minute. Shelves with unsettled takes are found by the index of what is due. Nothing here relies on clocks
being right: an entry that looks old is first *fenced* at its order, so that a slow process can no longer write it.
It never compares key numbers to find an owner: whose a take is, is told by its take id alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.aws.due import list_due
from chalicelib.inventory import memory, rules, shelf_store
from chalicelib.orders.store import fence_take, list_takes


@dataclass(frozen=True)
class Swept:
    shelves: int = 0
    dropped: int = 0
    given_back: int = 0


def sweep_takes(now: int) -> Swept:
    """Settle every take older than 30 seconds on every shelf that is due."""
    total = Swept()
    for row in list_due("take", now):
        swept = sweep_shelf(row["pk"].removeprefix("L#"), now)
        total = Swept(total.shelves + 1, total.dropped + swept.dropped, total.given_back + swept.given_back)
    return total


def sweep_shelf(shelf_id: str, now: int) -> Swept:
    """Settle the old takes of one shelf, join its runs when they are many, and set when it is due next."""
    # 1 gather: the shelf, and which takes the orders named in its journal own
    shelf = shelf_store.get_shelf(shelf_id)
    if shelf is None:
        return Swept()
    old = rules.entries_to_settle(shelf.journal, now)
    takes = list_takes(sorted({rules.read_journal_key(key).order_id for key in old})) if old else {}
    # 2 decide: an owned take is settled; any other is fenced first, and the fence has the last word
    owned = rules.entries_owned(old, takes)
    stray = []
    for key in sorted(set(old) - set(owned)):
        entry = rules.read_journal_key(key)
        (owned if fence_take(entry.order_id, entry.take_id, now) else stray).append(key)
    # 3 apply
    if owned:
        shelf_store.drop_entries(shelf_id, owned)
    for key in stray:
        shelf_store.put_back(shelf_id, key, shelf.journal[key])
    if stray:
        memory.forget_sold_out()
    if rules.is_fragmented(shelf.runs):
        # Refused when a buyer was faster: the next minute is early enough.
        shelf_store.replace_runs(shelf_id, shelf.runs, rules.join(shelf.runs))
    shelf_store.set_next_sweep(shelf_id, now)
    return Swept(1, len(owned), len(stray))
