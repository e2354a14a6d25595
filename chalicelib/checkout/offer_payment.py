"""Offer an unpaid order by another way to pay: another provider, another method. The keys stay held as they are."""

from __future__ import annotations

from chalicelib.checkout.model import WantedPayment
from chalicelib.core.errors import InvalidRequest
from chalicelib.orders import store as orders
from chalicelib.orders.errors import NotPayable, OrderChanged
from chalicelib.orders.model import Order
from chalicelib.orders.rules import offer_again, status_of
from chalicelib.payments.providers import offered_attempt

MAX_ATTEMPTS = 10
_TRIES = 4


def offer_payment(order: Order, wanted: WantedPayment, *, by: str, now: int) -> Order:
    """The order with this way to pay as its latest.

    Raises: orders.not_payable, payments.unknown_provider, payments.unknown_method, payments.currency_not_taken,
            orders.changed_meanwhile
    """
    if wanted.provider == "balance":
        raise InvalidRequest("An order is paid out of the balance when it is placed, not later.", field="provider")
    for _ in range(_TRIES):
        if status_of(order) != "pending_payment" or now >= order.expires_at:
            raise NotPayable()
        attempt = offered_attempt(wanted, order.shop_id, order.currency, order.buyer.get("ip"))
        offered = offer_again(order, attempt, now, by)
        if offered is order:
            return order
        if len(order.attempts) + 1 >= MAX_ATTEMPTS:
            raise NotPayable()
        try:
            return orders.save(order, offered)
        except OrderChanged:
            order = orders.get_order(order.order_id)
    raise OrderChanged()
