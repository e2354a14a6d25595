"""Take in what a provider says: record it, then let the order decide.

Called by the notice routes, and by the minute timer for notices that came before their order. A notice is never trusted
about what was bought: sum and currency are compared with the order's own. Applying a notice twice changes nothing, so
the record is written first and a repeat simply runs again: a crash between the two is finished by the provider's next
try.
"""

from __future__ import annotations

from chalicelib.core.ids import order_id_of_payment
from chalicelib.edge.observe import count, log
from chalicelib.orders import store as orders
from chalicelib.orders.errors import OrderChanged
from chalicelib.orders.model import Order
from chalicelib.orders.rules import pay
from chalicelib.payments import store
from chalicelib.payments.model import Notice

GIVE_UP_SECONDS = 86_400
_TRIES = 8


def receive_notice(notice: Notice, now: int) -> None:
    """Record a verified notice and apply it to its order, if that is there.

    Raises: orders.changed_meanwhile when the order kept changing; the provider will send again.
    """
    order_id = order_id_of_payment(notice.payment_id) if notice.payment_id else None
    if order_id is None:
        return  # somebody else's payment on the same account: not ours to keep
    order = orders.find_order(order_id)
    store.put_notice(notice, now, is_matched=order is not None)
    if order is not None:
        _apply(order, notice, now)


def match_notice(pk: str, sk: str, now: int) -> str:
    """Try again to find the order of a recorded notice.

    Returns: 'applied', 'waiting', or 'abandoned' after a day (the caller raises an alarm: money without an order).
    """
    found = store.find_notice(pk, sk)
    if found is None:
        return "applied"
    notice, received_at = found
    order = orders.find_order(order_id_of_payment(notice.payment_id or "") or "")
    if order is not None:
        _apply(order, notice, now)
    elif now < received_at + GIVE_UP_SECONDS:
        return "waiting"
    store.settle_notice(pk, sk)
    return "applied" if order is not None else "abandoned"


def _apply(order: Order, notice: Notice, now: int) -> None:
    if notice.provider != order.provider:
        # Genuine, but from a provider this order was never opened at: recorded for a person, never taken for payment.
        log.error("notice of another provider", extra={"order_id": order.order_id, "provider": notice.provider})
        count("NoticeOfAnotherProvider")
    elif notice.kind == "paid":
        _apply_payment(order, notice, now)
    elif notice.kind in ("refunded", "refund_failed") and any(one.state == "pending" for one in order.refunds):
        # The notice is a hint; the provider's own books are asked before an order is settled.
        from chalicelib.aws.queues import send

        send("refund-due", {"order_id": order.order_id})


def _apply_payment(order: Order, notice: Notice, now: int) -> None:
    for last in (False,) * (_TRIES - 1) + (True,):
        paid = pay(
            order,
            amount_minor=notice.amount_minor or 0,
            currency=notice.currency or "",
            provider_txn=notice.provider_txn or notice.event_id,
            now=now,
            by=f"provider:{notice.provider}",
        )
        if paid is order:
            return
        try:
            orders.save(order, paid)
            return
        except OrderChanged:
            if last:
                raise
            order = orders.get_order(order.order_id)
