"""An order as its row and back: the short attribute names, and nothing else. Pure.

Used by `store` and by handlers of the change stream. Names are short because one write unit is one KB: with them an
ordinary order fits into one (docs/data.md explains each).
"""

from __future__ import annotations

import zlib
from typing import Any

from chalicelib.core.clock import iso
from chalicelib.core.due import due_attributes
from chalicelib.orders.model import Attempt, Dispute, Happening, Line, Order, Refund
from chalicelib.orders.rules import next_due, status_of

DAY_SHARDS = 8

_ORDER_NAMES = {
    "shop_id": "shop", "merchant_order_no": "mno", "created_at": "at", "expires_at": "exp", "total_minor": "tot",
    "currency": "cur", "provider": "prov", "buyer": "buyer", "body_hash": "bh", "version": "v", "return_url": "ret",
    "paid_at": "paid", "paid_minor": "amt", "paid_currency": "pcur",
    "provider_txn": "txn", "closed": "cl", "review": "rev", "method": "mth", "account_id": "acc", "payer_id": "pyr",
}  # fmt: skip
_BUYER_NAMES = {"buyer_id": "b", "email": "e", "phone": "p", "ip": "i", "device_id": "d"}
_LINE_NAMES = {
    "line_id": "i", "product_id": "p", "name": "n", "quantity": "q", "unit_price_minor": "u", "mode": "m",
    "delay_minutes": "d", "refund_window_minutes": "w", "deliver_at": "da", "delivered_at": "dd", "revealed_at": "rv",
    "refund_no": "rf", "cost_minor": "c",
}  # fmt: skip
_REFUND_NAMES = {
    "refund_no": "i",
    "amount_minor": "a",
    "state": "s",
    "asked_at": "at",
    "asked_by": "by",
    "reason": "r",
    "next_try_at": "nx",
    "tries": "t",
    "finished_at": "fin",
    "provider_txn": "txn",
    "request_id": "rq",
    "currency": "c",
    "attempt": "ap",
    "reversed_at": "rev",
}
_ATTEMPT_NAMES = {"provider": "p", "method": "m", "account_id": "a", "payer_id": "y"}
_DISPUTE_NAMES = {
    "dispute_id": "i", "state": "s", "amount_minor": "a", "reason": "r", "opened_at": "at", "due_at": "due",
    "closed_at": "fin",
}  # fmt: skip
_OMITTED = (None, 0, "", (), {})  # left out of the row: the dataclass default says the same


def to_order_row(order: Order) -> dict[str, Any]:
    """An order as its plain row."""
    row: dict[str, Any] = {"pk": f"O#{order.order_id}", "sk": "O", "st": status_of(order)}
    row |= _short(order, _ORDER_NAMES)
    if order.buyer:
        row["buyer"] = {_BUYER_NAMES[name]: value for name, value in order.buyer.items()}
    row["lines"] = [
        _short(line, _LINE_NAMES) | {"x": [list(extent) for extent in line.extents]} for line in order.lines
    ]
    row["takes"] = list(order.takes)
    row["h"] = [[one.at, one.status, one.by, one.note] for one in order.history]
    if order.refunds:
        row["refs"] = [_short(one, _REFUND_NAMES) | {"l": list(one.lines)} for one in order.refunds]
    if order.attempts:
        row["aps"] = [_short(one, _ATTEMPT_NAMES) for one in order.attempts]
    if order.paid_attempt > 1:
        row["pap"] = order.paid_attempt
    if order.disputes:
        row["dis"] = [_short(one, _DISPUTE_NAMES) for one in order.disputes]
    if order.reveals:
        row["rvs"] = list(order.reveals)
    day_shard = zlib.crc32(order.order_id.encode()) % DAY_SHARDS
    row["day_pk"] = f"{day_partition(order.expires_at)}#{day_shard}"
    row["day_sk"] = f"{order.expires_at:012d}#{order.order_id}"
    due = next_due(order)
    return row | due_attributes(*due, order.order_id) if due else row


def to_order(row: dict[str, Any]) -> Order:
    """A plain row as an order; the inverse of `to_order_row`."""
    members = _long(row, _ORDER_NAMES)
    buyer = row.get("buyer", {})
    members["buyer"] = {name: buyer[short] for name, short in _BUYER_NAMES.items() if short in buyer}
    return Order(
        order_id=row["pk"].removeprefix("O#"),
        lines=tuple(_to_line(one) for one in row["lines"]),
        takes=tuple(row["takes"]),
        fenced=frozenset(row.get("fenced", ())),
        refunds=tuple(_to_refund(one) for one in row.get("refs", ())),
        reveals=tuple(row.get("rvs", ())),
        history=tuple(Happening(*entry) for entry in row["h"]),
        attempts=tuple(Attempt(**_long(one, _ATTEMPT_NAMES)) for one in row.get("aps", ())),
        paid_attempt=row.get("pap", 1),
        disputes=tuple(
            Dispute(**{"amount_minor": 0, "reason": "", **_long(one, _DISPUTE_NAMES)}) for one in row.get("dis", ())
        ),
        **members,
    )


def _short(thing: Any, names: dict[str, str]) -> dict[str, Any]:
    return {short: getattr(thing, name) for name, short in names.items() if getattr(thing, name) not in _OMITTED}


def _long(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {name: row[short] for name, short in names.items() if short in row}


def _to_line(row: dict[str, Any]) -> Line:
    members = _long(row, _LINE_NAMES)
    extents = tuple((lot_id, start, count) for lot_id, start, count in row["x"])
    return Line(**{"delay_minutes": 0, "refund_window_minutes": 0, **members}, extents=extents)


def _to_refund(row: dict[str, Any]) -> Refund:
    members = _long(row, _REFUND_NAMES)
    return Refund(**{"reason": "", "amount_minor": 0, **members}, lines=tuple(row["l"]))


def day_partition(at: int) -> str:
    """The timeline partition (without its shard) of orders whose hold ends on this day."""
    return "T#" + (iso(at) or "")[:10].replace("-", "")
