"""Open an order's payment at its provider. Called after an order stands, and again whenever its address is asked for.

Every provider promises that opening the same payment twice is one payment, so a crash between the provider's answer and
ours is healed by the next call.
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib.orders.model import Order
from chalicelib.orders.rules import status_of
from chalicelib.payments import store
from chalicelib.payments.providers import payment_of, provider_named


def open_payment(order: Order, base_url: str, order_url: str, now: int, *, is_new: bool = False) -> str | None:
    """Where the buyer pays; None when there is nothing (more) to pay. `is_new` spares looking for an earlier opening.

    A buyer whose shop named no place to return to comes back to the order's own page.

    Raises: payments.provider_unavailable, payments.provider_refused
    """
    if status_of(order) != "pending_payment" or now >= order.expires_at:
        return None
    provider = provider_named(order.provider)
    session = store.find_session(order.order_id) if provider.KEEPS_SESSION and not is_new else None
    if session is None:
        session = provider.start(replace(payment_of(order, base_url), return_url=order.return_url or order_url), now)
        if provider.KEEPS_SESSION:  # before the buyer gets the address: the payment can always be asked about
            store.put_session(order.order_id, session)
    return session.pay_url
