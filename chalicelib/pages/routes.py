"""HTTP for people: the buyer's order page and the sandbox's pay page. Reading a page never changes anything.

The order page holds no order: its script reads the buyer calls of the API under the token in the address. The pay page
exists only where the sandbox does.
"""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.core import settings
from chalicelib.core.ids import order_id_of_payment
from chalicelib.core.money import format_minor
from chalicelib.edge.assets import asset_response
from chalicelib.edge.http import Call, endpoint

bp = Blueprint(__name__)


@endpoint(bp, "GET", "/o/{token}", is_page=True)
def get_order_page(call: Call, token: str):
    """The buyer's order page."""
    from chalicelib.orders.order_token import order_id_of_token
    from chalicelib.pages.render import page

    if order_id_of_token(token) is None:
        return page(call, "not_found.html", status=404, to_root="../")
    return page(call, "order.html", token=token, to_root="../")


@endpoint(bp, "GET", "/sandbox/pay/{payment_id}", is_page=True)
def get_sandbox_pay_page(call: Call, payment_id: str):
    """Where an imagined buyer pays, or does not."""
    from chalicelib.orders import store as orders
    from chalicelib.pages.render import page

    order_id = order_id_of_payment(payment_id) if settings.has_sandbox() else None
    order = orders.find_order(order_id) if order_id else None
    if order is None or order.provider != "sandbox":
        return page(call, "not_found.html", status=404, to_root="../../")
    return page(
        call,
        "sandbox_pay.html",
        to_root="../../",
        payment_id=payment_id,
        amount=format_minor(order.total_minor, order.currency),
        order=order,
        return_url=order.return_url if (order.return_url or "").startswith(("https://", "http://")) else None,
    )


@endpoint(bp, "GET", "/assets/{name}", is_page=True)
def get_page_asset(call: Call, name: str):
    """A file of these pages."""
    from chalicelib.pages.render import STATIC

    return asset_response(STATIC, name, (call.request.query_params or {}).get("v"))
