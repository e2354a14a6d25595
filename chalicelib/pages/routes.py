"""HTTP for people: the buyer's order page and the sandbox's pay page. Reading a page never changes anything.

The order page holds no order: its script reads the buyer calls of the API under the token in the address. The pay page
exists only where the sandbox does. Whatever reaches a template is escaped there, and nothing runs but our own files.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalice import Blueprint, Response

from chalicelib.core import settings
from chalicelib.core.ids import attempt_of_payment, order_id_of_payment
from chalicelib.core.money import MINOR_DIGITS, format_minor
from chalicelib.edge.assets import asset_response, version_of
from chalicelib.edge.http import Call, endpoint

if TYPE_CHECKING:
    from jinja2 import Environment

bp = Blueprint(__name__)

STATIC = Path(__file__).parent / "static"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


@endpoint(bp, "GET", "/o/{token}", is_page=True)
def get_order_page(call: Call, token: str):
    """The buyer's order page."""
    from chalicelib.orders.order_token import order_id_of_token

    if order_id_of_token(token) is None:
        return _page(call, "not_found.html", status=404, to_root="../")
    return _page(call, "order.html", token=token, to_root="../")


@endpoint(bp, "GET", "/o/{token}/qr.svg", is_page=True)
def get_order_qr(call: Call, token: str):
    """The code to scan, as an image, while the order waits to be paid by scanning."""
    from chalicelib.orders import store as orders
    from chalicelib.orders.order_token import order_id_of_token
    from chalicelib.orders.rules import status_of
    from chalicelib.payments.store import find_session

    order_id = order_id_of_token(token)
    order = orders.find_order(order_id) if order_id else None
    session = find_session(order.order_id, len(order.attempts) + 1) if order else None
    if order is None or session is None or not session.qr_text or status_of(order) != "pending_payment":
        return _page(call, "not_found.html", status=404, to_root="../../")
    from chalicelib.pages.qr import qr_svg

    return Response(qr_svg(session.qr_text), {"Content-Type": "image/svg+xml", "Content-Security-Policy": _POLICY}, 200)


@endpoint(bp, "GET", "/sandbox/pay/{payment_id}", is_page=True)
def get_sandbox_pay_page(call: Call, payment_id: str):
    """Where an imagined buyer pays, or does not."""
    from chalicelib.balance.rules import is_top_up_id
    from chalicelib.balance.top_up_store import find_top_up
    from chalicelib.orders import store as orders

    order_id = order_id_of_payment(payment_id) if settings.has_sandbox() else None
    order = orders.find_order(order_id) if order_id else None
    tried = order.attempt(attempt_of_payment(payment_id)) if order else None
    top_up = find_top_up(payment_id) if settings.has_sandbox() and is_top_up_id(payment_id) else None
    if order is not None and tried is not None and tried.provider == "sandbox":
        paid_for, lines, number = order, [(line.name, line.quantity) for line in order.lines], order.merchant_order_no
        amount = format_minor(order.total_minor, order.currency)
    elif top_up is not None and top_up.provider == "sandbox":
        paid_for, lines, number = top_up, [(top_up.shop_id, 1)], top_up.top_up_id
        amount = format_minor(top_up.amount_minor, top_up.currency)
    else:
        return _page(call, "not_found.html", status=404, to_root="../../")
    is_web = (paid_for.return_url or "").startswith(("https://", "http://"))
    return _page(
        call,
        "sandbox_pay.html",
        to_root="../../",
        payment_id=payment_id,
        amount=amount,
        lines=lines,
        number=number,
        return_url=paid_for.return_url if is_web else None,
    )


@endpoint(bp, "GET", "/assets/{name}", is_page=True)
def get_page_asset(call: Call, name: str):
    """A file of these pages."""
    return asset_response(STATIC, name, (call.request.query_params or {}).get("v"))


def _page(call: Call, template: str, *, status: int = 200, **facts: Any) -> Response:
    """One page. `facts` reach the template and are escaped there like everything else."""
    from chalicelib.pages.language import choose_language
    from chalicelib.pages.words import for_script, for_template

    asked = (call.request.query_params or {}).get("lang")
    language = choose_language(asked, call.request.headers.get("accept-language"))
    text = _templates().get_template(template).render(
        language=language,
        html_language="zh-Hans" if language == "zh" else "en",
        words=for_template(language),
        for_script={"language": language, "words": for_script(language), "minor_digits": MINOR_DIGITS},
        version=lambda name: version_of(STATIC, name),
        **facts,
    )  # fmt: skip
    return Response(
        text,
        {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Language": "zh-Hans" if language == "zh" else "en",
            "Content-Security-Policy": _POLICY,
            "Vary": "Accept-Language",
            "X-Robots-Tag": "noindex, nofollow",
        },
        status,
    )


@cache
def _templates() -> Environment:
    """Imported on the first page only: no other call of the API pays for it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    return Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
