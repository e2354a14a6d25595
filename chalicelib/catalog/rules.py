"""Decisions about products; pure."""

from __future__ import annotations

from typing import Any

STATUS_MOVES = {"draft": {"on_sale"}, "on_sale": {"off_sale"}, "off_sale": {"on_sale"}}


def may_become(status: str, wanted: str) -> bool:
    """Whether a product may go from one status to another; staying is always allowed.

    Example:
        >>> may_become("draft", "on_sale"), may_become("on_sale", "draft")
        (True, False)
    """
    return wanted == status or wanted in STATUS_MOVES[status]


def changed_product(product: dict[str, Any], changes: dict[str, Any], now: int) -> dict[str, Any]:
    """The product row after a change; `changes` holds only the members that were sent."""
    return {**product, **changes, "updated_at": now, "v": product["v"] + 1}
