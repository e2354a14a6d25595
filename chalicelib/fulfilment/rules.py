"""Decisions about showing keys; pure."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.fulfilment.errors import NotDelivered, RevealedTooOften
from chalicelib.orders.model import Line, Order
from chalicelib.orders.rules import happened, may_be_revealed

MAX_REVEALS = 10
WINDOW_SECONDS = 600


def check_reveal(order: Order, now: int) -> list[Line]:
    """The lines to show.

    Raises: fulfilment.not_delivered, fulfilment.revealed_too_often
    """
    lines = may_be_revealed(order)
    if not lines:
        raise NotDelivered()
    if len([at for at in order.reveals if at > now - WINDOW_SECONDS]) >= MAX_REVEALS:
        raise RevealedTooOften()
    return lines


def locked(order: Order, lines: list[Line], now: int, by: str) -> Order:
    """The order with these lines marked as revealed (the first time counts) and this reveal noted for the throttle."""
    shown = {line.line_id for line in lines}
    is_first = any(line.revealed_at is None for line in lines)
    after = replace(
        order,
        lines=tuple(
            replace(line, revealed_at=line.revealed_at or now) if line.line_id in shown else line
            for line in order.lines
        ),
        reveals=tuple([at for at in order.reveals if at > now - WINDOW_SECONDS] + [now]),
    )
    return happened(order, after, now, by, "revealed") if is_first else replace(after, version=order.version + 1)
