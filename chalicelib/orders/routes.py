"""HTTP for orders: shops place, read and cancel them; operators find any of them and read their history."""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.balance.errors import InsufficientBalance
from chalicelib.catalog.errors import NotOnSale, UnknownProduct
from chalicelib.checkout.model import PlaceOrder, WantedPayment
from chalicelib.core.clock import iso
from chalicelib.core.errors import Busy
from chalicelib.core.ids import order_id_for
from chalicelib.edge.errors import BadCursor, IdempotencyMismatch, NotAllowed
from chalicelib.edge.http import Call, endpoint
from chalicelib.inventory.errors import OutOfStock
from chalicelib.orders import store
from chalicelib.orders.answers import History, HistoryEntry, OrderAnswer, OrderPage, OrderQuery, to_order_answer
from chalicelib.orders.errors import (
    MerchantOrderNoUsed,
    MixedCurrencies,
    NoSuchOrder,
    NotCancellable,
    NotPayable,
    OrderChanged,
    TotalChanged,
    TotalTooLarge,
)  # fmt: skip
from chalicelib.orders.model import Order
from chalicelib.payments.errors import (
    CurrencyNotTaken,
    NoSuchAccount,
    ProviderRefused,
    ProviderUnavailable,
    UnknownMethod,
    UnknownProvider,
)

bp = Blueprint(__name__)


@endpoint(
    bp, "POST", "/v1/orders", scopes=("shop",), body=PlaceOrder, answer=OrderAnswer, status=201, creates=True,
    refusals=(
        UnknownProduct, NotOnSale, OutOfStock, MixedCurrencies, TotalChanged, TotalTooLarge, MerchantOrderNoUsed,
        IdempotencyMismatch, UnknownProvider, UnknownMethod, CurrencyNotTaken, InsufficientBalance,
        ProviderUnavailable, ProviderRefused, OrderChanged, Busy,
    ),
)  # fmt: skip
def post_order(call: Call):
    """Place an order: the keys are reserved at once, all lines or none, and held for the product's `hold_minutes`.

    `merchant_order_no` is unique per shop for ever: the same body answers the same order, another body is refused.
    """
    from chalicelib.checkout.place_order import place_order
    from chalicelib.edge.idempotency import REPLAYED, resource_for
    from chalicelib.payments.providers import adapter_named

    adapter_named(call.body.payment.provider)
    order_id = order_id_for(call.caller.shop_id, call.body.merchant_order_no)
    resource_for(call, order_id)
    order, is_replayed = place_order(call.body, shop_id=call.caller.shop_id, by=call.caller.key_id, now=call.now)
    answer = _answer(
        call, order, must_open=True, is_new=not is_replayed, payer_session=call.body.payment.payer_session
    )  # fmt: skip
    return answer, REPLAYED if is_replayed else {}


@endpoint(
    bp, "POST", "/v1/orders/{order_id}/payments", scopes=("shop",), body=WantedPayment, answer=OrderAnswer, status=201,
    refusals=(
        NoSuchOrder, NotPayable, UnknownProvider, UnknownMethod, CurrencyNotTaken, ProviderUnavailable,
        ProviderRefused, OrderChanged, Busy,
    ),
)  # fmt: skip
def post_order_payment(call: Call, order_id: str):
    """Offer an unpaid order for payment by another provider or method; the buyer is shown the latest. Offering the same
    again changes nothing. Money that comes twice goes back by itself.
    """
    from chalicelib.checkout.offer_payment import offer_payment

    order = offer_payment(order_of(call, order_id), call.body, by=call.caller.key_id, now=call.now)
    return _answer(call, order, must_open=True, payer_session=call.body.payer_session)


@endpoint(bp, "GET", "/v1/orders/{order_id}", scopes=("shop", "operator"), answer=OrderAnswer, refusals=(NoSuchOrder,))
def get_order(call: Call, order_id: str):
    """Read one order. Another shop's order is answered like one that does not exist."""
    return _answer(call, order_of(call, order_id))


@endpoint(
    bp, "GET", "/v1/orders", scopes=("shop", "operator"), query=OrderQuery, answer=OrderPage,
    refusals=(BadCursor, NotAllowed),
)  # fmt: skip
def get_orders(call: Call):
    """Find orders by any number (ours, the shop's, the payment's, the provider's), or list them, newest first.

    A shop searches by a number and sees its own orders only; operators also list all orders, by status if wanted. A
    page of the list may be short and still have a next one.
    """
    from chalicelib.orders.find_orders import find_by_number, list_orders

    query, shop_id = call.query, call.caller.shop_id
    if query.merchant_order_no or query.order_id or query.payment_id or query.provider_txn:
        found = find_by_number(query, shop_id)
        return OrderPage(orders=[_answer(call, one) for one in found], next_cursor=None)
    if call.caller.scope != "operator":
        raise NotAllowed("A shop finds its orders by a number, for example merchant_order_no.")
    orders, next_cursor = list_orders(query, call.now)
    return OrderPage(orders=[_answer(call, one) for one in orders], next_cursor=next_cursor)


@endpoint(
    bp, "POST", "/v1/orders/{order_id}/cancel", scopes=("shop", "operator"), answer=OrderAnswer,
    refusals=(NoSuchOrder, NotCancellable, OrderChanged, Busy),
)  # fmt: skip
def post_cancel(call: Call, order_id: str):
    """Cancel an unpaid order; its keys are back in stock when this answers. Cancelling again is a success."""
    from chalicelib.orders.release_unpaid import cancel_order

    return _answer(call, cancel_order(order_of(call, order_id), by=call.caller.key_id, now=call.now))


@endpoint(bp, "GET", "/v1/orders/{order_id}/history", scopes=("operator",), answer=History, refusals=(NoSuchOrder,))
def get_history(call: Call, order_id: str):
    """Everything that happened to an order: its states, and the audited acts (who revealed keys, when, from where)."""
    order = store.get_order(order_id)
    entries = [(one.at, 0, one.status, one.by, one.note) for one in order.history]
    entries += [(one["at"], 1, one["what"], one["by"], one.get("ip", "")) for one in store.list_audit(order_id)]
    return History(
        order_id=order_id,
        entries=[
            HistoryEntry(at=iso(at), what=what, by=by, note=note)
            for at, _, what, by, note in sorted(entries, key=lambda entry: entry[:2])
        ],
    )


def order_of(call: Call, order_id: str) -> Order:
    """The order, if this caller may see it.

    Raises: orders.not_found, also for another shop's order
    """
    order = store.get_order(order_id)
    if call.caller.shop_id not in (None, order.shop_id):
        raise NoSuchOrder()
    return order


def _answer(
    call: Call, order: Order, *, must_open: bool = False, is_new: bool = False, payer_session: str | None = None
) -> OrderAnswer:  # fmt: skip
    from chalicelib.orders.order_token import order_token
    from chalicelib.payments.open_payment import open_payment

    order_url = f"{call.base_url}/o/{order_token(order.order_id)}"
    try:
        started = open_payment(
            order, call.base_url, order_url, call.now, is_new=is_new, payer_session=payer_session
        )  # fmt: skip
    except (ProviderUnavailable, ProviderRefused, UnknownProvider, NoSuchAccount):
        if must_open:
            raise
        started = None
    return to_order_answer(order, started, order_url)
