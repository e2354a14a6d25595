"""Open an order's payment at its provider. Called after an order stands, and again whenever its address is asked for.

Every provider promises that opening the same payment twice is one payment, so a crash between the provider's answer and
ours is healed by the next call.
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib.orders import store as orders
from chalicelib.orders.errors import OrderChanged
from chalicelib.orders.model import Order
from chalicelib.orders.rules import status_of
from chalicelib.payments.providers import payment_of, provider_named


def open_payment(order: Order, base_url: str, order_url: str, now: int) -> str | None:
    """Where the buyer pays; None when there is nothing (more) to pay.

    A buyer whose shop named no place to return to comes back to the order's own page.

    Raises: payments.provider_unavailable, payments.provider_refused
    """
    if status_of(order) != "pending_payment" or now >= order.expires_at:
        return None
    if order.pay_url:
        return order.pay_url
    payment = replace(payment_of(order, base_url), return_url=order.return_url or order_url)
    started = provider_named(order.provider).start(payment, now)
    if started.provider_ref:  # the provider's own handle: needed to ask about the payment later
        opened = replace(order, provider_ref=started.provider_ref, pay_url=started.pay_url, version=order.version + 1)
        try:
            orders.save(order, opened)
        except OrderChanged:  # another copy opened it, or it has just been paid: both are fine, both have the handle
            fresh = orders.get_order(order.order_id)
            if fresh.provider_ref is None and status_of(fresh) == "pending_payment":
                raise
    return started.pay_url
