"""Keep the count of held keys: the sum over unpaid orders, per product.

Two ways that check each other. The table's change records move the count within seconds; every minute the orders that
can still be unpaid are counted afresh, which suffices alone when the stream is down or lost records.
It never touches stock: available, expired and quarantined are read where the keys are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chalicelib.core.errors import Busy
from chalicelib.inventory import held_store, rules
from chalicelib.orders.rules import held_by_product
from chalicelib.orders.store import list_timeline

SMALL_SLICE_ORDERS = 2_000
_LONGEST_HOLD_SECONDS = 24 * 3_600
_BACK_SECONDS = 3_600  # an order can stay unpaid this long after its time at the very most
_TRIES = 8


@dataclass(frozen=True)
class Change:
    """One change record of an order: the plain row before and after ({} for none), when and under which number."""

    sequence: str
    recorded_at: int
    before: dict[str, Any]
    after: dict[str, Any]


def count_changes(changes: list[Change]) -> None:
    """Count one batch of change records into the figures of the products they touch.

    A batch that is delivered again is recognised per product, so a half-counted batch is completed, not doubled.
    """
    per_product: dict[str, list[tuple[int, int]]] = {}
    for change in changes:
        before, after = held_by_product(change.before), held_by_product(change.after)
        for product_id in before.keys() | after.keys():
            difference = after.get(product_id, 0) - before.get(product_id, 0)
            if difference:
                per_product.setdefault(product_id, []).append((change.recorded_at, difference))
    mark = _mark(changes)
    for product_id, differences in sorted(per_product.items()):
        for _ in range(_TRIES):
            wanted = rules.count_in(held_store.get_row(product_id), mark, differences)
            if wanted is None or held_store.put_row(product_id, wanted):
                break
        else:
            raise Busy()  # the batch comes again


def _mark(changes: Iterable[Change]) -> str:
    """A short name of a batch. Lambda does not tell a record's shard, so the records' own numbers name it."""
    return hashlib.sha256(" ".join(change.sequence for change in changes).encode()).hexdigest()[:10]


def recount_held(now: int) -> int:
    """Count the unpaid orders themselves and correct every figure that differs; answers how many did.

    While more than 2,000 orders are in question this runs to the end only in the first minute of an hour.
    """
    rows = {product_id: held_store.get_row(product_id) for product_id in held_store.list_products(now)}
    for _ in range(2):
        # 1 gather: rows first, orders second, so that a change counted during the walk makes our write fail
        held = _count_orders(now)
        if held is None:
            return 0
        unread = held.keys() - rows.keys()
        if not unread:
            break
        rows |= {product_id: held_store.get_row(product_id) for product_id in unread}
    corrected = 0
    for product_id, row in sorted(rows.items()):
        # 2 decide
        count = held.get(product_id, 0)
        if count != row.held:
            # 3 apply; refused when the stream moved the figure meanwhile: then the next minute looks again
            corrected += held_store.put_row(product_id, rules.Held(count, row.version + 1, row.marks, now))
    return corrected


def _count_orders(now: int) -> dict[str, int] | None:
    """Held keys per product over the orders that can still be unpaid; None when there are too many for this minute."""
    held: dict[str, int] = {}
    seen = 0
    for page in list_timeline(now - _BACK_SECONDS, now + _LONGEST_HOLD_SECONDS):
        for row in page:
            for product_id, count in held_by_product(row).items():
                held[product_id] = held.get(product_id, 0) + count
        seen += len(page)
        if seen > SMALL_SLICE_ORDERS and now // 60 % 60:
            return None
    return held
