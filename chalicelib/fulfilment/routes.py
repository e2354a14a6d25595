"""HTTP for delivery: shops show keys to their buyers, operators deliver by hand."""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.core.errors import Busy
from chalicelib.edge.http import Call, endpoint
from chalicelib.fulfilment.errors import NotDelivered, NothingToDeliver, RevealedTooOften
from chalicelib.fulfilment.model import Nothing, RevealedKeys
from chalicelib.inventory.errors import OutOfStock
from chalicelib.keys.errors import SealingUnavailable, UnsealingFailed
from chalicelib.orders import store as orders
from chalicelib.orders.answers import OrderAnswer, to_order_answer
from chalicelib.orders.errors import NoSuchOrder, OrderChanged
from chalicelib.orders.order_token import order_token
from chalicelib.orders.routes import order_of

bp = Blueprint(__name__)


@endpoint(
    bp, "POST", "/v1/orders/{order_id}/reveal", scopes=("shop",), body=Nothing, answer=RevealedKeys,
    refusals=(
        NoSuchOrder, NotDelivered, RevealedTooOften, SealingUnavailable, UnsealingFailed, OrderChanged, Busy,
    ),
)  # fmt: skip
def post_reveal(call: Call, order_id: str):
    """Show the keys of all delivered lines. From then on only an operator can refund them; every reveal is audited."""
    from chalicelib.fulfilment.ask_reveal import ask_reveal

    order_of(call, order_id)
    return RevealedKeys(
        keys=ask_reveal(order_id, by=call.caller.key_id, source_ip=call.source_ip, user_agent=call.user_agent)
    )


@endpoint(
    bp, "POST", "/v1/orders/{order_id}/deliver", scopes=("operator",), body=Nothing, answer=OrderAnswer,
    refusals=(NoSuchOrder, NothingToDeliver, OutOfStock, OrderChanged, Busy),
)  # fmt: skip
def post_deliver(call: Call, order_id: str):
    """Deliver by hand: manual lines of a paid order, or an order under review that you accept. Again is a success."""
    from chalicelib.fulfilment.deliver import deliver_by_hand

    order = deliver_by_hand(order_id, by=call.caller.key_id, now=call.now)
    orders.add_audit(order_id, call.now, {"what": "deliver", "by": call.caller.key_id, "ip": call.source_ip})
    return to_order_answer(order, None, f"{call.base_url}/o/{order_token(order_id)}")
