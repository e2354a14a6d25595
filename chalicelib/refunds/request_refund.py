"""Ask for money back: decide by the product's policy, write the refund down, and only then turn to the provider.

Called by the refund routes of shops, operators and buyers. The refund stands on the order before any provider hears of it, so a
crash leaves a pending refund that the queue or the minute timer brings to its end.
"""

from __future__ import annotations

from chalicelib.orders import store as orders
from chalicelib.orders.errors import OrderChanged
from chalicelib.orders.model import Order
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.rules import ask_refund

_TRIES = 6


def request_refund(
    order: Order, wanted: AskRefund, *, is_operator: bool, by: str, now: int, refund_no: int | None = None
) -> Order:
    """The order with its new pending refund. `refund_no` is set on a repeat: then the refund that stands there is the answer.

    Raises: refunds.*, orders.changed_meanwhile
    """
    for _ in range(_TRIES):
        if refund_no is not None and len(order.refunds) >= refund_no:
            return order
        asked = ask_refund(order, wanted.line_ids, is_operator=is_operator, now=now, by=by, reason=wanted.reason)
        try:
            return orders.save(order, asked)
        except OrderChanged:
            order = orders.get_order(order.order_id)
    raise OrderChanged()
