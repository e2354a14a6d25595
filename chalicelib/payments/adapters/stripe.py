"""Stripe: Checkout Sessions, signed events, refunds. The API version is pinned.

An account's secrets are `secret_key` and `webhook_secret`; every endpoint secret that has not run out is accepted, so
that one can be rolled over. Where Stripe keeps our ids: `metadata.order_no` holds the payment
id (`client_reference_id` too, for people; never read: a Payment Link of the same account lets a buyer set that one),
`metadata.refund_no` the refund id. Amounts are in minor units on both sides.

Only Checkout Session events say `paid`; the intent and charge events of the same money are `other`.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from chalicelib.edge import web
from chalicelib.payments.bracket_form import encode_form
from chalicelib.payments.errors import BadNotice, BadStatement, NoStatement, ProviderRefused, ProviderUnavailable
from chalicelib.payments.model import (
    Account,
    AccountField,
    Closed,
    Found,
    Method,
    Notice,
    NoticeKind,
    Payment,
    ProviderFacts,
    RefundResult,
    Started,
    StatementLine,
)
from chalicelib.payments.timed_signature import verify

API_VERSION = "2026-10-28.endive"
API_BASE = "https://api.stripe.com"
SESSION_GRACE_SECONDS = 31 * 60  # a session must live 30 minutes at least, counted by Stripe's clock
SESSION_LIFE_SECONDS = 24 * 3600 - 60
_REFUND_STATES = {
    "succeeded": "succeeded",
    "pending": "pending",
    "requires_action": "pending",
    "failed": "failed",
    "canceled": "failed",
}
_REFUND_EVENTS = ("refund.created", "refund.updated", "refund.failed", "charge.refund.updated")
_REFUND_KINDS: dict[str | None, NoticeKind] = {"succeeded": "refunded", "failed": "refund_failed"}
_NOT_JUDGED = (401, 403, 409, 429)  # wrong key, no right, same key under way, too many: no word about the money

FACTS = ProviderFacts(
    "Stripe",
    {"checkout": Method("redirect", "Stripe's own page: cards, wallets, and what the account has switched on")},
    (
        AccountField("secret_key", "Developers > API keys: the secret or a restricted key", is_secret=True),
        AccountField("webhook_secret", "Developers > Webhooks > the endpoint: signing secret", is_secret=True),
        AccountField("api_base", "only to speak to a stand-in for Stripe", is_needed=False, form="url"),
    ),
)


def start(payment: Payment, now: int) -> Started:
    """Open a Checkout Session. A repeat is the same request, byte for byte: Stripe answers with the same session."""
    # A session lives 30 minutes at least, a hold may be shorter; money that comes after the hold is a late payment.
    # Counted from the end of the hold and not from now, because a repeat must not differ.
    expires_at: int | None = payment.expires_at + SESSION_GRACE_SECONDS
    if expires_at - now > SESSION_LIFE_SECONDS:
        expires_at = None  # then Stripe ends it after 24 hours, the longest it allows
    return_url = payment.return_url or f"{payment.base_url}/"
    form = {
        "mode": "payment",
        "client_reference_id": payment.payment_id,
        "success_url": return_url,
        "cancel_url": return_url,
        "line_items": [{
            "quantity": 1,
            "price_data": {
                "currency": payment.currency.lower(),
                "unit_amount": payment.total_minor,
                "product_data": {"name": payment.title[:250] or payment.order_id},
            },
        }],
        "metadata": {"order_no": payment.payment_id},
        "payment_intent_data": {"metadata": {"order_no": payment.payment_id}},
        "expires_at": expires_at,
    }  # fmt: skip
    if not payment.account.secrets.get("secret_key"):
        raise ProviderRefused()
    try:
        answer = _call(payment.account, "POST", "/v1/checkout/sessions", form, payment.payment_id)
        session = answer.json()
    except (web.NotSent, web.OutcomeUnknown):
        raise ProviderUnavailable() from None
    if answer.status in (409, 429) or answer.status >= 500:
        raise ProviderUnavailable()
    if answer.status != 200:
        raise ProviderRefused()
    if not (isinstance(session, dict) and isinstance(session.get("url"), str) and isinstance(session.get("id"), str)):
        raise ProviderUnavailable()
    return Started(pay_url=session["url"], provider_ref=session["id"])


def read_notice(account: Account, headers: Any, raw_body: bytes, now: int) -> Notice | None:
    keys = [secret.encode() for secret in account.each_secret("webhook_secret")]
    verify(headers.get("stripe-signature"), raw_body, keys, now)
    try:
        event = json.loads(raw_body)
        return _to_notice(event["id"], event["type"], event["data"]["object"])
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise BadNotice() from None


def find(payment: Payment) -> Found:
    if payment.provider_ref is None:
        return Found("unknown")
    try:
        session = _read(payment.account, f"/v1/checkout/sessions/{quote(payment.provider_ref, safe='')}")
    except (web.NotSent, web.OutcomeUnknown):
        return Found("unknown")
    if not isinstance(session, dict):
        return Found("unknown")
    if _is_paid(session):
        currency = str(session.get("currency") or "").upper() or None
        return Found("paid", session.get("amount_total"), currency, session.get("payment_intent") or session.get("id"))
    # `complete` and yet unpaid: a delayed method whose money is on its way, or has failed. Stripe's event will tell.
    return Found("unpaid" if session.get("status") in ("open", "expired") else "unknown")


def close(payment: Payment) -> Closed:
    return "unknown"


def statement(account: Account, day: str) -> list[StatementLine]:
    raise NoStatement()


def parse_statement(account: Account, raw: bytes, day: str) -> list[StatementLine]:
    raise BadStatement()


def refund(payment: Payment, refund_id: str, amount_minor: int, now: int) -> RefundResult:
    """Stripe forgets an Idempotency-Key after a day and would then pay again: its books are asked for our id first."""
    known = find_refund(payment, refund_id)
    if known is not None:
        return known
    form = {
        "payment_intent": payment.provider_txn,
        "amount": amount_minor,
        "reason": "requested_by_customer",
        "metadata": {"refund_no": refund_id, "order_no": payment.payment_id},
    }
    try:
        answer = _call(payment.account, "POST", "/v1/refunds", form, refund_id)
        made = answer.json()
    except (web.NotSent, web.OutcomeUnknown):
        return RefundResult("unknown")
    if answer.status == 200:
        return _to_result(made)
    error = made.get("error") if isinstance(made, dict) else None
    is_judged = 400 <= answer.status < 500 and answer.status not in _NOT_JUDGED and isinstance(error, dict)
    if is_judged and error.get("type") != "idempotency_error":
        return RefundResult("failed")
    return RefundResult("unknown")


def find_refund(payment: Payment, refund_id: str) -> RefundResult | None:
    if payment.provider_txn is None:
        return RefundResult("unknown")
    query = {"payment_intent": payment.provider_txn, "limit": 100}
    try:
        while True:
            page = _read(payment.account, "/v1/refunds?" + encode_form(query))
            for one in page["data"]:
                if (one.get("metadata") or {}).get("refund_no") == refund_id:
                    return _to_result(one)
            if not page["has_more"]:
                return None
            query = {**query, "starting_after": page["data"][-1]["id"]}
    except (web.NotSent, web.OutcomeUnknown, LookupError, TypeError, AttributeError):
        return RefundResult("unknown")


def _to_notice(event_id: str, event_type: str, thing: dict) -> Notice:
    if not (isinstance(event_id, str) and 0 < len(event_id) <= 255):
        raise BadNotice()
    metadata = thing.get("metadata") or {}
    amount, currency = thing.get("amount"), thing.get("currency")
    kind: NoticeKind = "other"
    provider_txn, payment_id, refund_id = thing.get("payment_intent"), metadata.get("order_no"), None
    if event_type.startswith("checkout.session."):
        amount = thing.get("amount_total")
        kind = _session_kind(event_type, thing)
        if kind == "paid":
            provider_txn = provider_txn or thing.get(
                "id"
            )  # nothing to pay, hence no intent: the session itself is the reference
    elif event_type in _REFUND_EVENTS:
        kind = _REFUND_KINDS.get(_REFUND_STATES.get(thing.get("status")), "other")
        refund_id = metadata.get("refund_no")
    elif event_type.startswith("payment_intent."):
        provider_txn = thing.get("id")
    return Notice(
        provider="stripe",
        event_id=event_id,
        kind=kind,
        payment_id=_text(payment_id),
        provider_txn=_text(provider_txn),
        amount_minor=amount if type(amount) is int else None,
        currency=currency.upper() if isinstance(currency, str) else None,
        refund_id=_text(refund_id),
    )


def _session_kind(event_type: str, session: dict) -> NoticeKind:
    if session.get("mode") != "payment":
        return "other"
    if event_type in ("checkout.session.completed", "checkout.session.async_payment_succeeded"):
        return "paid" if _is_paid(session) else "other"
    if event_type in ("checkout.session.async_payment_failed", "checkout.session.expired"):
        return "failed"
    return "other"


def _is_paid(session: dict) -> bool:
    return session.get("payment_status") in ("paid", "no_payment_required")


def _to_result(thing: Any) -> RefundResult:
    """A status that Stripe invents later is `unknown`: asked again, never taken for a yes or a no."""
    if not (isinstance(thing, dict) and isinstance(thing.get("id"), str)):
        return RefundResult("unknown")
    return RefundResult(_REFUND_STATES.get(thing.get("status"), "unknown"), thing["id"])


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 255 else None


def _read(account: Account, path: str) -> Any:
    answer = _call(account, "GET", path)
    if answer.status != 200:
        raise web.OutcomeUnknown("not answered")
    return answer.json()


def _call(
    account: Account, method: str, path: str, form: dict | None = None, idempotency_key: str | None = None
) -> web.Answer:
    if not account.secrets.get("secret_key"):
        raise web.NotSent("no credentials")
    headers = {"Authorization": f"Bearer {account.secrets['secret_key']}", "Stripe-Version": API_VERSION}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    body = None
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = encode_form(form).encode()
    base = account.settings.get("api_base") or API_BASE
    return web.send(method, base + path, headers=headers, body=body, is_configured=True)
