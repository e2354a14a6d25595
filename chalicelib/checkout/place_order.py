"""Place an order: the keys first (journalled), then the one row that owns them.

Called by `POST /v1/orders`. Never talks to a payment provider: an order stands before anybody is asked for money.
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib.balance.errors import InsufficientBalance
from chalicelib.catalog import store as catalog
from chalicelib.catalog.errors import NoSuchProduct, UnknownProduct
from chalicelib.checkout.model import MAX_QUANTITY, PlaceOrder
from chalicelib.checkout.rules import body_hash, merged_quantities, new_order, price_lines
from chalicelib.core.errors import InvalidRequest
from chalicelib.core.ids import new_take_id, order_id_for
from chalicelib.inventory import store as inventory
from chalicelib.inventory.errors import OutOfStock
from chalicelib.inventory.model import Take
from chalicelib.orders import store as orders
from chalicelib.orders.errors import MerchantOrderNoUsed, OrderChanged
from chalicelib.orders.model import Line, Order
from chalicelib.orders.rules import pay
from chalicelib.payments.providers import offered_attempt

_TRIES = 3


def place_order(wanted: PlaceOrder, *, shop_id: str, by: str, now: int) -> tuple[Order, bool]:
    """The order of this purchase, and whether it had been placed before.

    A crash after the takes leaves journal entries: the sweeper returns those keys. A crash after the order leaves an
    unpaid order: the repeat of the request answers it, or its hold ends.

    Raises: catalog.unknown_product, catalog.not_on_sale, inventory.out_of_stock, orders.mixed_currencies,
            orders.total_changed, orders.total_too_large, orders.merchant_order_no_used, payments.unknown_provider,
            payments.unknown_method, payments.currency_not_taken, balance.insufficient
    """
    for last in (False,) * (_TRIES - 1) + (True,):
        try:
            return _place(wanted, shop_id, by, now)
        except OrderChanged:  # this try stalled so long that the sweeper shut its take out: begin with a new one
            if last:
                raise
    raise AssertionError("unreachable")


def _place(wanted: PlaceOrder, shop_id: str, by: str, now: int) -> tuple[Order, bool]:
    # 1 gather
    quantities = merged_quantities(wanted)
    products = {product_id: _product(product_id, wanted) for product_id in quantities}
    order_id, take_id = order_id_for(shop_id, wanted.merchant_order_no), new_take_id(now)

    # 2 decide
    if sum(quantities.values()) > MAX_QUANTITY:  # what one reveal can answer, whole
        raise InvalidRequest(f"One order takes at most {MAX_QUANTITY} keys.", field="lines")
    lines = price_lines(quantities, products)
    attempt = offered_attempt(wanted.payment, shop_id, products[lines[0].product_id]["currency"], wanted.buyer.ip)
    order = new_order(
        wanted, lines, products, order_id=order_id, shop_id=shop_id, take_id=take_id, now=now, by=by, attempt=attempt
    )  # fmt: skip

    # 3 apply: every line's keys or none, then the order that owns them
    takes: list[Take] = []
    keys_wanted = [(line.product_id, line.quantity) for line in lines]
    try:
        inventory.take_for(keys_wanted, order_id=order_id, take_id=take_id, now=now, taken=takes)
    except OutOfStock:
        _give_back(takes)
        earlier = orders.find_order(order_id)  # a repeat of a request whose keys were the last ones
        if earlier is None:
            raise
        return _same_purchase(earlier, wanted), True
    order = replace(order, lines=tuple(_holding(line, take) for line, take in zip(lines, takes, strict=True)))
    try:
        order, earlier = _put(order, take_id, now)
    except (OrderChanged, InsufficientBalance):
        _give_back(takes)
        raise
    if earlier is not None:
        _give_back(takes)
        return _same_purchase(earlier, wanted), True
    for take in takes:
        inventory.confirm(take)
    return order, False


def _holding(line: Line, take: Take) -> Line:
    extents = tuple(take.extents)
    return replace(line, extents=extents, cost_minor=inventory.cost_minor_of(line.product_id, extents))


def _put(order: Order, take_id: str, now: int) -> tuple[Order, Order | None]:
    """Write the order; one that is paid out of the shop's balance together with the spending of it, so that there is
    never one without the other.

    Returns: the order as written, and the one that was there first, if any.
    Raises:  orders.changed_meanwhile, balance.insufficient
    """
    if order.provider != "balance":
        return order, orders.put_order(order, take_id)
    from chalicelib.balance.store import spend_writes

    paid = pay(
        order, amount_minor=order.total_minor, currency=order.currency, provider_txn=f"spend:{order.order_id}", now=now,
        by="balance",
    )  # fmt: skip
    spending = spend_writes(order.shop_id, order.currency, order.total_minor, order.order_id, now)
    return paid, orders.put_order_with(paid, take_id, spending)


def _product(product_id: str, wanted: PlaceOrder) -> dict:
    try:
        return catalog.read_product(product_id)
    except NoSuchProduct:
        number = next(number for number, line in enumerate(wanted.lines) if line.product_id == product_id)
        raise UnknownProduct(field=f"lines.{number}.product_id") from None


def _give_back(takes: list) -> None:
    for take in takes:
        inventory.give_back(take)


def _same_purchase(earlier: Order, wanted: PlaceOrder) -> Order:
    if earlier.body_hash != body_hash(wanted):
        raise MerchantOrderNoUsed(field="merchant_order_no")
    return earlier
