"""Stripe: Checkout Sessions, signed events, refunds, disputes, balance transactions. The API version is pinned.

An account's secrets are `secret_key` and `webhook_secret`; every endpoint secret that has not run out is accepted, so
that one can be rolled over. Where Stripe keeps our ids: `metadata.order_no` holds the payment id
(`client_reference_id` too, for people; never read: a Payment Link of the same account lets a buyer set that one),
`metadata.refund_no` the refund id. Amounts are in minor units on both sides. Test and live are told apart by Stripe's
own word (`livemode`): keys of the other mode in an account open nothing and confirm nothing.

Only Checkout Session events say `paid`; the intent and charge events of the same money are `other`. A refund made in
the dashboard has no metadata of ours: it is known by Stripe's own numbers. An inquiry (`warning_…`) is a dispute only
where it waits for our answer.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from chalicelib.core.money import MINOR_DIGITS
from chalicelib.edge import web
from chalicelib.payments.bracket_form import encode_form
from chalicelib.payments.errors import BadNotice, BadStatement, ProviderRefused, ProviderUnavailable
from chalicelib.payments.model import (
    Account,
    AccountField,
    Closed,
    DisputeFacts,
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
_DISPUTE_EVENTS = ("charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed")
_DISPUTE_KINDS: dict[str, NoticeKind] = {
    "needs_response": "dispute_opened",
    "warning_needs_response": "dispute_opened",
    "won": "dispute_won",
    "warning_closed": "dispute_won",  # the inquiry ended and took no money; it may have been opened with us
    "lost": "dispute_lost",
}
# How Stripe sorts movements of its balance. Not here: payouts, top-ups, reserves: they move no buyer's money.
_LINE_KINDS = {
    "charge": "payment",
    "charge_failure": "payment",
    "refund": "refund",
    "refund_failure": "refund",
    "partial_capture_reversal": "refund",
    "dispute": "dispute",
    "dispute_reversal": "dispute",
    "fee": "fee",
    "network_cost": "fee",
}
_COLUMNS = ("balance_transaction_id", "currency", "gross", "fee", "reporting_category", "source_id")
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
    if not _is_of_mode(session, payment.account):
        raise ProviderRefused()
    return Started(pay_url=session["url"], provider_ref=session["id"])


def read_notice(account: Account, headers: Any, raw_body: bytes, now: int) -> Notice | None:
    keys = [secret.encode() for secret in account.each_secret("webhook_secret")]
    verify(headers.get("stripe-signature"), raw_body, keys, now)
    try:
        event = json.loads(raw_body)
        if not _is_of_mode(event, account):
            raise BadNotice()
        return _to_notice(event["id"], event["type"], event["data"]["object"])
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise BadNotice() from None


def find(payment: Payment) -> Found:
    session = _session_of(payment)
    if session is None:
        return Found("unknown")
    if _is_paid(session):
        currency = str(session.get("currency") or "").upper() or None
        return Found("paid", session.get("amount_total"), currency, session.get("payment_intent") or session.get("id"))
    # `complete` and yet unpaid: a delayed method whose money is on its way, or has failed. Stripe's event will tell.
    return Found("unpaid" if session.get("status") in ("open", "expired") else "unknown")


def close(payment: Payment) -> Closed:
    """Expire the session. Stripe does that to an open one only; whatever its answer, the session is what counts."""
    if payment.provider_ref is None:
        return "unknown"
    try:
        _call(payment.account, "POST", f"/v1/checkout/sessions/{quote(payment.provider_ref, safe='')}/expire", {})
    except web.NotSent:
        return "unknown"
    except web.OutcomeUnknown:
        pass
    session = _session_of(payment)
    if session is None:
        return "unknown"
    if _is_paid(session):
        return "paid"
    return "closed" if session.get("status") == "expired" else "unknown"


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


def statement(account: Account, day: str) -> list[StatementLine]:
    """All movements of Stripe's balance between midnight and midnight UTC."""
    if not account.secrets.get("secret_key"):
        raise ProviderRefused()
    since = _instant(day)
    # Fifty: with what each is about unfolded, a hundred could be longer than an answer may be.
    query: dict = {"created": {"gte": since, "lt": since + 86_400}, "limit": 50, "expand": ["data.source"]}
    found: list[list[StatementLine]] = []
    try:
        while True:
            answer = _call(account, "GET", "/v1/balance_transactions?" + encode_form(query))
            page = answer.json()
            if answer.status in (400, 401, 403, 404):
                raise ProviderRefused()
            if answer.status != 200:
                raise ProviderUnavailable()
            found += [_lines_of_transaction(one) for one in page["data"]]
            if not page["has_more"]:
                return [line for lines in reversed(found) for line in lines]  # Stripe tells the newest first
            query = {**query, "starting_after": page["data"][-1]["id"]}
    except (web.NotSent, web.OutcomeUnknown, LookupError, TypeError, AttributeError):
        raise ProviderUnavailable() from None


def parse_statement(account: Account, raw: bytes, day: str) -> list[StatementLine]:
    """The report "Balance change from activity", itemized, as CSV; rows of other days are passed over."""
    import csv
    import io

    try:
        table = csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        rows, names = list(table), set(table.fieldnames or ())
        if not (names.issuperset(_COLUMNS) and names & {"created_utc", "created"}):
            raise BadStatement()
        instants = [_instant(row.get("created_utc") or row["created"]) for row in rows]
        since = _instant(day)
        lines = [_lines_of_row(row, at) for row, at in zip(rows, instants, strict=True) if since <= at < since + 86_400]
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, csv.Error):
        raise BadStatement() from None
    if rows and not lines:
        raise BadStatement()  # the file of another day: comparing it would call every payment missing
    return [line for pair in lines for line in pair]


def _to_notice(event_id: str, event_type: str, thing: dict) -> Notice:
    if not (isinstance(event_id, str) and 0 < len(event_id) <= 255):
        raise BadNotice()
    metadata = thing.get("metadata") or {}
    amount, currency = thing.get("amount"), thing.get("currency")
    kind: NoticeKind = "other"
    provider_txn, payment_id, refund_id = thing.get("payment_intent"), metadata.get("order_no"), None
    provider_refund_id, dispute = None, None
    if event_type.startswith("checkout.session."):
        amount = thing.get("amount_total")
        kind = _session_kind(event_type, thing)
        if kind == "paid":
            provider_txn = provider_txn or thing.get("id")  # nothing to pay, no intent: the session is the reference
    elif event_type in _REFUND_EVENTS:
        kind = _REFUND_KINDS.get(_REFUND_STATES.get(thing.get("status")), "other")
        refund_id, provider_refund_id = metadata.get("refund_no"), thing.get("id")
    elif event_type in _DISPUTE_EVENTS:
        kind = _dispute_kind(event_type, thing.get("status"))
        dispute = _dispute_facts(thing)
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
        provider_refund_id=_text(provider_refund_id),
        dispute=dispute,
    )


def _session_kind(event_type: str, session: dict) -> NoticeKind:
    if session.get("mode") != "payment":
        return "other"
    if event_type in ("checkout.session.completed", "checkout.session.async_payment_succeeded"):
        return "paid" if _is_paid(session) else "other"
    if event_type in ("checkout.session.async_payment_failed", "checkout.session.expired"):
        return "failed"
    return "other"


def _dispute_kind(event_type: str, status: Any) -> NoticeKind:
    """`created` with a status past needing an answer still opens it: events come in any order, and an end follows."""
    kind = _DISPUTE_KINDS.get(status, "other")
    if event_type == "charge.dispute.created" and status == "under_review":
        return "dispute_opened"
    return kind


def _dispute_facts(thing: dict) -> DisputeFacts:
    due_at = (thing.get("evidence_details") or {}).get("due_by")
    dispute_id, reason = _text(thing.get("id")), _text(thing.get("reason"))
    if dispute_id is None:
        raise BadNotice()
    return DisputeFacts(dispute_id, reason or "", due_at if type(due_at) is int and due_at > 0 else None)


def _is_paid(session: dict) -> bool:
    return session.get("payment_status") in ("paid", "no_payment_required")


def _is_of_mode(thing: Any, account: Account) -> bool:
    """Whether Stripe says test where the account says test. What carries no such word is of the mode of its key."""
    livemode = thing.get("livemode")
    return livemode is None or livemode is (account.mode == "live")


def _to_result(thing: Any) -> RefundResult:
    """A status that Stripe invents later is `unknown`: asked again, never taken for a yes or a no."""
    if not (isinstance(thing, dict) and isinstance(thing.get("id"), str)):
        return RefundResult("unknown")
    return RefundResult(_REFUND_STATES.get(thing.get("status"), "unknown"), thing["id"])


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 255 else None


def _lines_of_transaction(one: dict) -> list[StatementLine]:
    source = one["source"] if isinstance(one.get("source"), dict) else {}
    kind = _LINE_KINDS.get(one["reporting_category"], "other")
    metadata = source.get("metadata") or {}
    amount, currency, fee, at = one["amount"], one["currency"], one["fee"], one["created"]
    if not (type(amount) is type(fee) is type(at) is int and _text(one["id"])):
        raise TypeError
    shown = source.get("amount_captured") if kind == "payment" else None
    shown = source.get("amount") if shown is None else shown
    shown_currency = source.get("currency")
    if type(shown) is not int or not isinstance(shown_currency, str):
        shown, shown_currency = amount, currency
    return _lines(
        kind=kind,
        transaction=one["id"],
        intent=_text(source.get("payment_intent")),
        our_no=_text(metadata.get("refund_no" if kind == "refund" else "order_no")),
        source_id=_text(source.get("id")),
        settled=(amount, currency.upper(), fee),
        shown=(shown if amount >= 0 else -shown, shown_currency.upper()),
        at=at,
    )


def _lines_of_row(row: dict[str, str], at: int) -> list[StatementLine]:
    kind = _LINE_KINDS.get(row["reporting_category"], "other")
    currency = row["currency"].upper()
    amount, fee = _minor(row["gross"], currency), _minor(row["fee"], currency)
    shown_currency = (row.get("customer_facing_currency") or currency).upper()
    shown = amount
    if shown_currency != currency and row.get("customer_facing_amount"):
        shown = abs(_minor(row["customer_facing_amount"], shown_currency)) * (1 if amount >= 0 else -1)
    else:
        shown_currency = currency
    if not row["balance_transaction_id"]:
        raise ValueError
    name = "refund_metadata[refund_no]" if kind == "refund" else "payment_metadata[order_no]"
    return _lines(
        kind=kind,
        transaction=row["balance_transaction_id"],
        intent=_text(row.get("payment_intent_id")),
        our_no=_text(row.get(name)),
        source_id=_text(row["source_id"]),
        settled=(amount, currency, fee),
        shown=(shown, shown_currency),
        at=at,
    )


def _lines(
    *,
    kind: Any,
    transaction: str,
    intent: str | None,
    our_no: str | None,
    source_id: str | None,
    settled: tuple[int, str, int],
    shown: tuple[int, str],
    at: int,
) -> list[StatementLine]:
    """One movement; two where Stripe exchanged the money, because a fee in another currency cannot be told with it."""
    amount, currency, fee = settled
    is_buyers = kind in ("payment", "refund", "dispute")
    txn = (intent if is_buyers else None) or transaction
    our_no = our_no if kind in ("payment", "refund") else None
    refund_txn = source_id if kind == "refund" else None
    if not is_buyers or shown[1] == currency:
        return [StatementLine(kind, txn, our_no, amount, currency, at, fee, refund_txn)]
    lines = [StatementLine(kind, txn, our_no, shown[0], shown[1], at, 0, refund_txn)]
    return lines + ([StatementLine("fee", transaction, None, -fee, currency, at)] if fee else [])


def _minor(text: str, currency: str) -> int:
    """An amount of the report, in major units. Raises: ValueError, ArithmeticError, LookupError."""
    from decimal import Decimal

    scaled = Decimal(text.strip()).scaleb(MINOR_DIGITS[currency])
    if not scaled.is_finite() or scaled != scaled.to_integral_value() or abs(scaled) > 2**53:
        raise ValueError
    return int(scaled)


def _instant(text: str) -> int:
    """A day, or a day and a time, of UTC. Raises: ValueError."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def _session_of(payment: Payment) -> dict | None:
    """The session as Stripe has it now; None when it could not be learnt."""
    if payment.provider_ref is None:
        return None
    try:
        session = _read(payment.account, f"/v1/checkout/sessions/{quote(payment.provider_ref, safe='')}")
    except (web.NotSent, web.OutcomeUnknown):
        return None
    return session if isinstance(session, dict) and _is_of_mode(session, payment.account) else None


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
    stand_in = account.settings.get("api_base")
    url = (stand_in or API_BASE) + path
    return web.send(method, url, headers=headers, body=body, is_configured=bool(stand_in))
