"""Ask for money back: decide by the product's policy, write the refund down, and only then turn to the provider.

Called by the refund routes of shops, operators and buyers. The refund stands on the order before any provider hears of
it, so a crash leaves a pending refund that the queue or the minute timer brings to its end.
"""

from __future__ import annotations

from chalicelib.orders import store as orders
from chalicelib.orders.errors import OrderChanged
from chalicelib.orders.model import Order
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.rules import ask_refund

_TRIES = 6


def request_refund(
    order: Order, wanted: AskRefund, *, is_operator: bool, by: str, now: int, request_id: str | None = None
) -> Order:
    """The order with its pending refund. A refund that stands there under the same `request_id` is the answer to a
    repeat.

    Raises: refunds.*, orders.changed_meanwhile
    """
    for _ in range(_TRIES):
        if request_id is not None and any(refund.request_id == request_id for refund in order.refunds):
            return order
        asked = ask_refund(
            order, wanted.line_ids, is_operator=is_operator, now=now, by=by, reason=wanted.reason, request_id=request_id
        )  # fmt: skip
        try:
            return orders.save(order, asked)
        except OrderChanged:
            order = orders.get_order(order.order_id)
    raise OrderChanged()
