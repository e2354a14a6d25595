"""Look entries up: those of a day, or all of an order. Reads only."""

from __future__ import annotations

from chalicelib.edge.cursor import from_cursor, to_cursor
from chalicelib.ledger import store
from chalicelib.ledger.model import EntrySet
from chalicelib.ledger.rules import entry_sets
from chalicelib.orders.store import get_order


def find_sets_of_order(order_id: str) -> list[EntrySet]:
    """All posted sets of an order, oldest first. Their keys follow from the order, their content is the ledger's own.

    Raises: orders.not_found
    """
    return sorted(store.get_sets(entry_sets(get_order(order_id))), key=lambda one: (one.at, one.event_id))


def list_sets_of_day(day: str, cursor: str | None, limit: int) -> tuple[list[EntrySet], str | None]:
    """One page of a day's sets, and the cursor of the next.

    Raises: request.bad_cursor
    """
    binding = f"ledger:{day}"
    sets, position = store.list_page(day.replace("-", ""), from_cursor(cursor, binding), limit)
    return sets, to_cursor(position, binding) if position else None
