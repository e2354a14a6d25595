"""HTTP for buyers: everything is opened by the unguessable order token, never by an order number."""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.core.errors import Busy
from chalicelib.edge.http import Call, endpoint
from chalicelib.fulfilment.errors import NotDelivered, RevealedTooOften
from chalicelib.fulfilment.model import Nothing, RevealedKeys
from chalicelib.keys.errors import SealingUnavailable, UnsealingFailed
from chalicelib.orders import store
from chalicelib.orders.answers import BuyerOrder, RefundAnswer, to_buyer_order, to_refund_answer
from chalicelib.orders.errors import NoSuchOrder, OrderChanged
from chalicelib.orders.model import Order
from chalicelib.payments.errors import NoSuchAccount, ProviderRefused, ProviderUnavailable, UnknownProvider
from chalicelib.refunds.errors import NothingLeft, NotPaid, Revealed, UnderReview, WindowOver
from chalicelib.refunds.model import AskRefund

bp = Blueprint(__name__)
_BUYER = "buyer"


@endpoint(bp, "GET", "/v1/buyer/orders/{token}", answer=BuyerOrder, refusals=(NoSuchOrder,))
def get_buyer_order(call: Call, token: str):
    """The buyer's own view of an order, opened by its token. Changes nothing."""
    from chalicelib.payments.open_payment import open_payment

    order = _order_of(token)
    order_url = f"{call.base_url}/o/{token}"
    try:
        started = open_payment(order, call.base_url, order_url, call.now)
    except (ProviderUnavailable, ProviderRefused, UnknownProvider, NoSuchAccount):
        started = None
    return to_buyer_order(order, started, order_url, call.now)


@endpoint(
    bp, "POST", "/v1/buyer/orders/{token}/reveal", body=Nothing, answer=RevealedKeys,
    refusals=(
        NoSuchOrder, NotDelivered, RevealedTooOften, SealingUnavailable, UnsealingFailed, OrderChanged, Busy,
    ),
)  # fmt: skip
def post_buyer_reveal(call: Call, token: str):
    """Show the buyer the keys. A deliberate act: it ends the right to return them, and is audited."""
    from chalicelib.fulfilment.ask_reveal import ask_reveal

    order = _order_of(token)
    return RevealedKeys(
        keys=ask_reveal(order.order_id, by=_BUYER, source_ip=call.source_ip, user_agent=call.user_agent)
    )


@endpoint(
    bp, "POST", "/v1/buyer/orders/{token}/refunds", body=Nothing, answer=RefundAnswer, status=201,
    refusals=(NoSuchOrder, NotPaid, NothingLeft, Revealed, WindowOver, UnderReview, OrderChanged, Busy),
)  # fmt: skip
def post_buyer_refund(call: Call, token: str):
    """Give back everything that was never revealed and is within the product's refund window."""
    from chalicelib.orders.rules import may_be_refunded_by_shop
    from chalicelib.refunds.finish_refund import finish_refunds
    from chalicelib.refunds.request_refund import request_refund

    order = _order_of(token)
    line_ids = [line.line_id for line in may_be_refunded_by_shop(order, call.now)] or None
    asked = request_refund(
        order, AskRefund(line_ids=line_ids, reason="buyer"), is_operator=False, by=_BUYER, now=call.now
    )  # fmt: skip
    settled = finish_refunds(order.order_id, call.now, base_url=call.base_url) or asked
    return to_refund_answer(settled, settled.refund(len(asked.refunds)))


def _order_of(token: str) -> Order:
    from chalicelib.orders.order_token import order_id_of_token

    order_id = order_id_of_token(token)
    if order_id is None:
        raise NoSuchOrder()
    return store.get_order(order_id)
