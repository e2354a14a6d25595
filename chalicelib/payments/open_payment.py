"""Open an order's payment at its provider. Called after an order stands, and again whenever its address is asked for.

Every provider promises that opening the same payment twice is one payment, so a crash between the provider's answer and
ours is healed by the next call.
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib.orders.model import Order
from chalicelib.orders.rules import status_of
from chalicelib.payments import store
from chalicelib.payments.model import ProviderFacts, Started
from chalicelib.payments.providers import account_with, adapter_named, payment_of


def open_payment(
    order: Order, base_url: str, order_url: str, now: int, *, is_new: bool = False, payer_session: str | None = None
) -> Started | None:
    """How the buyer pays by the latest attempt; None when there is nothing (more) to pay. `is_new` spares looking for
    an earlier opening.

    A buyer whose shop named no place to return to comes back to the order's own page.

    Raises: payments.provider_unavailable, payments.provider_refused
    """
    if status_of(order) != "pending_payment" or now >= order.expires_at:
        return None
    number = len(order.attempts) + 1
    tried = order.attempt(number)
    adapter = adapter_named(tried.provider)
    keeps = adapter.FACTS.keeps_session
    session = store.find_session(order.order_id, number) if keeps and not is_new else None
    if session is None or _is_used_up(adapter.FACTS, tried.method, session, now):
        payment = payment_of(order, account_with(tried.provider, tried.account_id), base_url, number)
        here = replace(payment, return_url=order.return_url or order_url, payer_session=payer_session)
        session = adapter.start(here, now)
        if keeps:  # before the buyer gets the address: the payment can always be asked about
            store.put_session(order.order_id, session, now, number)
    return session


def _is_used_up(facts: ProviderFacts, method: str | None, session: Started, now: int) -> bool:
    """Some openings can be used for minutes only: then the same payment is opened anew."""
    good_seconds = facts.methods[method or next(iter(facts.methods))].good_seconds
    return good_seconds is not None and now >= session.opened_at + good_seconds
