"""Find orders by any number people have in hand, or list them newest first. Reads only."""

from __future__ import annotations

from chalicelib.accounts import store as accounts
from chalicelib.core.ids import order_id_for, order_id_of_payment
from chalicelib.core.plugs import plug_names
from chalicelib.edge.cursor import from_cursor, to_cursor
from chalicelib.orders import store
from chalicelib.orders.answers import OrderQuery
from chalicelib.orders.model import Order
from chalicelib.orders.rules import status_of
from chalicelib.payments import adapters
from chalicelib.payments import store as notices

AHEAD_SECONDS = 2 * 86_400  # holds end at most a day from now
MAX_PAGES = 10


def find_by_number(query: OrderQuery, shop_id: str | None) -> list[Order]:
    """Orders with the given number: ours, the shop's, the payment's or the provider's. `shop_id` None looks in every
    shop.
    """
    if query.order_id:
        order_ids = [query.order_id]
    elif query.merchant_order_no:
        shop_ids = [shop_id] if shop_id else accounts.list_shop_ids()
        order_ids = [order_id_for(one, query.merchant_order_no) for one in shop_ids]
    elif query.payment_id:
        order_ids = [order_id_of_payment(query.payment_id) or ""]
    else:
        payments = [notices.find_payment_id(provider, query.provider_txn or "") for provider in plug_names(adapters)]
        order_ids = [order_id_of_payment(one) or "" for one in payments if one]
    found = [order for order in map(store.find_order, order_ids) if order is not None]
    return [order for order in found if shop_id in (None, order.shop_id) and query.status in (None, status_of(order))]


def list_orders(query: OrderQuery, now: int) -> tuple[list[Order], str | None]:
    """One page of all orders, and the cursor of the next.

    Raises: request.bad_cursor
    """
    binding = f"orders:{query.status or ''}"
    position = from_cursor(query.cursor, binding)
    clock = store.read_clock()
    oldest_at = clock["since"] if clock else now - AHEAD_SECONDS
    page: list[Order] = []
    for _ in range(MAX_PAGES):
        orders, position = store.list_newest(position, query.limit - len(page), now + AHEAD_SECONDS, oldest_at)
        page += [order for order in orders if query.status in (None, status_of(order))]
        if position is None or len(page) >= query.limit:
            break
    return page, to_cursor(position, binding) if position else None
