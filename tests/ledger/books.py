"""Orders for the ledger's tests, made by the product's own rules, and what their sets come to."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.ledger.model import EntrySet
from chalicelib.ledger.rules import entry_sets
from chalicelib.orders.model import Happening, Line, Order
from chalicelib.orders.rules import pay

AT = 1_772_323_200  # 2026-03-01T00:00:00Z
ORDER = "ord_0123456789abcdef"


def line(line_id: int, price: int, cost: int | None, *, mode: str = "auto") -> Line:
    return Line(
        line_id, f"prd_{line_id}", "Card", 1, price, mode, 0, 10_080, extents=(("lot_1", line_id, 1),), cost_minor=cost
    )  # fmt: skip


def new_order(*lines: Line, order_id: str = ORDER, **members) -> Order:
    """Two lines unless told otherwise: 60 at a cost of 30, and 40 at a cost of 20."""
    lines = lines or (line(1, 60, 30), line(2, 40, 20))
    facts = {
        "order_id": order_id, "shop_id": "demo", "merchant_order_no": order_id,
        "created_at": AT, "expires_at": AT + 900,
        "total_minor": sum(one.total_minor for one in lines), "currency": "CNY", "provider": "sandbox",
        "lines": lines, "buyer": {}, "body_hash": "h", "takes": ("t",),
        "history": (Happening(AT, "pending_payment", "key"),),
    }  # fmt: skip
    return Order(**{**facts, **members})


def paid(order: Order, at: int = AT, amount: int | None = None, *, txn: str = "txn_1", **more) -> Order:
    amount = order.total_minor if amount is None else amount
    return pay(order, **{
        "amount_minor": amount, "currency": order.currency, "provider_txn": txn, "now": at, "by": "p", **more,
    })  # fmt: skip


def seen(order: Order, line_id: int, at: int) -> Order:
    """The order after somebody saw the keys of a line."""
    lines = tuple(replace(one, revealed_at=at) if one.line_id == line_id else one for one in order.lines)
    return replace(order, lines=lines, version=order.version + 1)


def totals(sets: list[EntrySet]) -> dict[tuple[str, str], int]:
    """What each account comes to, in each currency; those at zero are left out."""
    found: dict[tuple[str, str], int] = {}
    for one in sets:
        for account, amount, currency in one.entries:
            found[account, currency] = found.get((account, currency), 0) + amount
    return {key: amount for key, amount in found.items() if amount}


def totals_of(order: Order) -> dict[str, int]:
    """The same for one order in CNY."""
    return {account: amount for (account, currency), amount in totals(entry_sets(order)).items() if currency == "CNY"}
