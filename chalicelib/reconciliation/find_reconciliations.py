"""Look up reconciliations and differences, with what people did about them and how the orders stand. Reads only."""

from __future__ import annotations

from typing import Any

from chalicelib.edge.cursor import from_cursor, to_cursor
from chalicelib.orders import store as orders
from chalicelib.orders.model import Order
from chalicelib.reconciliation import store
from chalicelib.reconciliation.errors import NoSuchDifference
from chalicelib.reconciliation.model import Difference, OutcomeName
from chalicelib.reconciliation.rules import first_number

Shown = tuple[int, Difference, dict[str, Any], Order | None]  # number, difference, what was done, its order


def list_newest(cursor: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """One page of reconciliations, newest first, and the cursor of the next.

    Raises: request.bad_cursor
    """
    rows, position = store.list_reconciliations(from_cursor(cursor, "reconciliations"), limit)
    return rows, to_cursor(position, "reconciliations") if position else None


def list_differences(
    reconciliation_id: str, outcome: OutcomeName | None, cursor: str | None, limit: int
) -> tuple[list[Shown], str | None]:
    """One page of a result's differences, of one outcome if wanted, and the cursor of the next.

    Raises: reconciliation.not_found, request.bad_cursor
    """
    row = store.get_reconciliation(reconciliation_id)
    binding = f"differences:{reconciliation_id}:{outcome or ''}"
    position = from_cursor(cursor, binding)
    if "counts" not in row:
        return [], None
    first = position or (first_number(row["counts"], outcome) if outcome else 1)
    end = first_number(row["counts"], outcome) + row["counts"][outcome] if outcome else row["differences"] + 1
    shown = _with_facts(row, first, min(limit, end - first))
    following = first + len(shown)
    return shown, to_cursor(following, binding) if shown and following < end else None


def find_difference(reconciliation_id: str, number: int) -> Shown:
    """One difference as it stands now.

    Raises: reconciliation.not_found, reconciliation.difference_not_found
    """
    shown = _with_facts(store.get_reconciliation(reconciliation_id), number, 1)
    if not shown:
        raise NoSuchDifference()
    return shown[0]


def _with_facts(row: dict[str, Any], first: int, limit: int) -> list[Shown]:
    found = store.list_differences(row, first, limit)
    if not found:
        return []
    steps = store.list_steps(row["reconciliation_id"], found[0][0], found[-1][0])
    order_ids = [one.order_id for _, one in found if one.order_id]
    by_id = {order.order_id: order for order in orders.get_orders(order_ids)}
    return [(number, one, steps.get(number, {}), by_id.get(one.order_id or "")) for number, one in found]
