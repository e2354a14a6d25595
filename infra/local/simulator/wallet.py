"""The buyer's side: a list of payments and, for each, a page with a button that pays it.

It stands for the provider's own pages and for the app on a phone that scans a code. What a payment comes to is chosen
by its amount, or on the page.
"""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qsl

from infra.local.simulator import Response
from infra.local.simulator.outcomes import MEANINGS
from infra.local.simulator.world import Impossible, Record, World

_ZERO_DECIMAL = ("JPY", "KRW", "VND")
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
}
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;background:#fafafa}
main{background:#fff;border:1px solid #ddd;border-radius:12px;padding:1.5rem}
table{width:100%;border-collapse:collapse}td,th{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #eee}
button{font:inherit;padding:.7rem 1.6rem;border:0;border-radius:8px;background:#0a7d45;color:#fff;cursor:pointer}
select{font:inherit;padding:.6rem;max-width:100%}.amount{font-size:2.2rem;font-weight:600;margin:.5rem 0}
.note{color:#6b6b70;font-size:.9rem}a{color:#0a5ad6}
"""


def answer(world: World, method: str, steps: list[str], body: bytes) -> Response:
    if not steps:
        return _page("Wallet", _list(world))
    record = world.find(steps[0], "/".join(steps[1:]))
    if record is None:
        return _page("No such payment", "<h1>No such payment</h1><p><a href='/'>All payments</a></p>", 404)
    if method != "POST":
        return _page("Pay", _payment(world, record))
    chosen = dict(parse_qsl(body.decode(errors="replace"))).get("outcome") or None
    try:
        pay(world, record, chosen if chosen in MEANINGS else None)
    except Impossible as error:
        return _page("Not paid", f"<h1>Not paid</h1><p>This payment is {escape(error.reason)}.</p>", 409)
    back = return_address(world, record)
    if back and record.state != "failed":
        return Response(303, b"", {"Location": back, "Cache-Control": "no-store"})
    return Response(303, b"", {"Location": world.pay_url(record), "Cache-Control": "no-store"})


def pay(world: World, record: Record, outcome: str | None) -> None:
    """What the button does. Raises: Impossible."""
    own = getattr(world.module(record.provider), "pay", None)
    if own is not None:
        own(world, record, outcome)
    else:
        world.pay(record, outcome)


def return_address(world: World, record: Record) -> str | None:
    """Where the provider sends the buyer; only http and https, because it goes into a page."""
    own = getattr(world.module(record.provider), "return_address", None)
    address = own(world, record) if own is not None else record.return_url
    return (
        address if address and address.startswith(("http://", "https://")) and not set(address) & set("\r\n") else None
    )


def amount_text(record: Record) -> str:
    if record.currency in _ZERO_DECIMAL:
        return f"{record.amount_minor} {record.currency}"
    return f"{record.amount_minor // 100}.{record.amount_minor % 100:02d} {record.currency}"


def _list(world: World) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.provider)}</td><td><a href='{escape(_path(world, one), quote=True)}'>"
        f"{escape(one.our_no)}</a></td><td>{escape(amount_text(one))}</td><td>{escape(_state(one))}</td></tr>"
        for one in reversed(world.each())
    )
    nothing = "" if rows else "<p class='note'>Nothing to pay yet: place an order in the shop.</p>"
    head = "<tr><th>Provider</th><th>Payment</th><th>Amount</th><th>State</th></tr>"
    return f"<h1>Wallet</h1>{nothing}<table>{head}{rows}</table>"


def _payment(world: World, record: Record) -> str:
    parts = [
        f"<p class='note'>{escape(record.provider)} (simulated) · {escape(record.our_no)}</p>",
        f"<p class='amount'>{escape(amount_text(record))}</p>",
        f"<p>{escape(str(record.extra.get('title') or ''))}</p>",
    ]
    if record.state == "open":
        choices = "".join(
            f"<option value='{name}'{' selected' if name == record.outcome else ''}>{escape(meaning)}</option>"
            for name, meaning in MEANINGS.items()
        )
        parts.append(
            f"<form method='post'><p><select name='outcome' aria-label='What becomes of it'>{choices}</select></p>"
            "<p><button>Pay</button></p></form>"
        )
    else:
        parts.append(f"<p>This payment is <b>{escape(_state(record))}</b>.</p>")
    back = return_address(world, record)
    if back:
        parts.append(f"<p><a rel='noreferrer' href='{escape(back, quote=True)}'>Back to the shop</a></p>")
    parts.append("<p><a href='/'>All payments</a></p>")
    return "".join(parts)


def _state(record: Record) -> str:
    given_back = record.refunded_minor
    if record.state == "paid" and given_back:
        return "refunded" if given_back >= record.paid_minor else "partly refunded"
    return record.state


def _path(world: World, record: Record) -> str:
    return world.pay_url(record).removeprefix(world.url)


def _page(title: str, content: str, status: int = 200) -> Response:
    whole = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><body><main>{content}</main></body></html>"
    )
    return Response(status, whole.encode(), _HEADERS)
