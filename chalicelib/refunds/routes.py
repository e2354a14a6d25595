"""HTTP for refunds: shops within the product's policy, operators beyond it."""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.core.errors import Busy
from chalicelib.core.ids import new_take_id
from chalicelib.edge.errors import IdempotencyMismatch
from chalicelib.edge.http import Call, endpoint
from chalicelib.edge.idempotency import REPLAYED, resource_for
from chalicelib.orders.answers import RefundAnswer, RefundList, to_refund_answer
from chalicelib.orders.errors import NoSuchOrder, OrderChanged
from chalicelib.orders.routes import order_of
from chalicelib.refunds.errors import NothingLeft, NotPaid, Revealed, UnderReview, UnknownLine, WindowOver
from chalicelib.refunds.model import AskRefund

bp = Blueprint(__name__)


@endpoint(
    bp, "POST", "/v1/orders/{order_id}/refunds", scopes=("shop", "operator"), body=AskRefund, answer=RefundAnswer,
    status=201, creates=True,
    refusals=(
        NoSuchOrder, NotPaid, NothingLeft, Revealed, WindowOver, UnderReview, UnknownLine, IdempotencyMismatch,
        OrderChanged, Busy,
    ),
)  # fmt: skip
def post_refund(call: Call, order_id: str):
    """Refund whole lines. A shop: unrevealed and within the window; an operator: anything paid, revealed keys are
    quarantined.

    Answers `pending` when the provider has not confirmed yet; it is asked until it does, and never paid twice.
    """
    from chalicelib.refunds.finish_refund import finish_refunds
    from chalicelib.refunds.request_refund import request_refund

    order = order_of(call, order_id)
    request_id, is_replayed = resource_for(call, new_take_id(call.now))
    asked = request_refund(
        order, call.body, is_operator=call.caller.scope == "operator", by=call.caller.key_id, now=call.now,
        request_id=request_id,
    )  # fmt: skip
    settled = finish_refunds(order_id, call.now, base_url=call.base_url) or asked
    mine = next(refund for refund in settled.refunds if refund.request_id == request_id)
    return to_refund_answer(settled, mine), REPLAYED if is_replayed else {}


@endpoint(
    bp, "GET", "/v1/orders/{order_id}/refunds", scopes=("shop", "operator"), answer=RefundList, refusals=(NoSuchOrder,)
)
def get_refunds(call: Call, order_id: str):
    """List the refunds of an order, oldest first."""
    order = order_of(call, order_id)
    return RefundList(refunds=[to_refund_answer(order, one) for one in order.refunds])
