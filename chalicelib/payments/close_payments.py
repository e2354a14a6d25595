"""See to it that an order which is closed, or paid by another way, cannot be paid at its providers any more.

Called by the queue `payment-close`, which the change stream fills. Only a courtesy to the buyer: money that comes all
the same is a late or an extra payment and goes its defined way.
"""

from __future__ import annotations

from chalicelib.edge.observe import failure_facts, log
from chalicelib.orders import store as orders
from chalicelib.payments.providers import payment_asked

MAX_TRIES = 5
RETRY_SECONDS = 60


def close_payments(order_id: str) -> bool:
    """Close every way to pay that an order has besides the one it was paid by. False when one could not be closed.

    What was paid there already is left to its notice, or to the reconciliation of the day.
    """
    order = orders.find_order(order_id)
    if order is None or (order.paid_at is None and order.closed is None):
        return True
    done = True
    for number in range(1, len(order.attempts) + 2):
        if order.paid_at is not None and number == order.paid_attempt:
            continue
        try:
            adapter, payment = payment_asked(order, number)
            if adapter.FACTS.can_close and adapter.close(payment) == "unknown":
                done = False
        except Exception as error:
            log.error("payment could not be closed", extra={"order_id": order_id, **failure_facts(error)})
            done = False
    return done
