"""Stripe, seen from outside: Checkout Sessions, refunds, disputes, balance transactions, signed events.

Written from Stripe's API reference and webhook documentation. One account in test mode, one event endpoint, subscribed
to the events that docs/providers/stripe.md names. An event carries the object as it was when it happened.

Kept to: an idempotency key's first outcome is stored with its parameters for 24 hours and replayed; other parameters
under it are an error; what fails validation is not stored. Only an open session can be expired. A session lives 30
minutes to 24 hours. Lists are newest first, 100 at most. Stripe does not publish the exact pauses between sendings of
an event ("up to three days, with growing pauses"); those here are of that shape.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from typing import Any
from urllib.parse import parse_qsl

from infra.local.simulator import NoticeRequest, Request, Response, json_response
from infra.local.simulator.world import Dispute, Event, Impossible, Movement, Record, Refund, World

API_VERSION = "2026-10-28.endive"
RETRY_SECONDS = (300, 1_800, 7_200, 18_000, 36_000, 36_000, 43_200, 43_200, 43_200)
FEE_BASIS_POINTS = 290
FEE_FIXED_MINOR = 30
DISPUTE_FEE_MINOR = 1_500
KEY_LIFE_SECONDS = 86_400
NOTICES = {
    "paid": ("checkout.session.completed",),
    "failed": ("checkout.session.completed", "checkout.session.async_payment_failed"),
    "closed": ("checkout.session.expired",),
    "expired": ("checkout.session.expired",),
    "refund_created": ("refund.created",),
    "refunded": ("charge.refunded", "refund.updated"),
    "refund_failed": ("refund.updated", "refund.failed"),
    "dispute_opened": ("charge.dispute.created", "charge.dispute.funds_withdrawn"),
    "dispute_won": ("charge.dispute.closed", "charge.dispute.funds_reinstated"),
    "dispute_lost": ("charge.dispute.closed",),
}
_CATEGORIES = {
    "payment": ("charge", "charge"),
    "refund": ("refund", "refund"),
    "refund_reversed": ("refund_failure", "refund_failure"),
    "dispute": ("adjustment", "dispute"),
    "dispute_won": ("adjustment", "dispute_reversal"),
}


class _Refused(Exception):
    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.kind, self.code = status, message, kind, code


def demo_account(world: World) -> dict[str, Any]:
    return {
        "mode": "test",
        "settings": {"api_base": world.base_url("stripe")},
        "secrets": {"secret_key": _secret_key(world), "webhook_secret": _webhook_secret(world)},
    }


def handle(request: Request, world: World) -> Response:
    try:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {_secret_key(world)}".encode()):
            raise _Refused(401, "Invalid API Key provided")
        if not re.fullmatch(r"20\d\d-\d\d-\d\d(\.\w+)?", request.headers.get("stripe-version", API_VERSION)):
            raise _Refused(400, "Invalid Stripe API version")
        if request.method == "POST":
            return _post_once(request, world)
        if request.method == "GET":
            return json_response(_get(request, world))
        raise _Refused(404, f"Unrecognized request URL ({request.method}: {request.path})")
    except _Refused as refused:
        error = {"type": refused.kind, "message": refused.message, "code": refused.code}
        return json_response({"error": error}, refused.status)


def notice(world: World, record: Record, event: Event) -> NoticeRequest | None:
    body = json.dumps(
        {
            "id": f"evt_{event.event_id.removeprefix('evt')}",
            "object": "event",
            "api_version": API_VERSION,
            "created": event.at,
            "data": _event_data(world, record, event),
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": event.name,
        },
        indent=2,
        ensure_ascii=False,
    ).encode()
    at = int(time.time())  # freshness goes by the real clock, whatever the books' clock was moved to
    mac = hmac.new(_webhook_secret(world).encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "Stripe-Signature": f"t={at},v1={mac}",
    }
    return NoticeRequest(None, headers, body)  # the endpoint is set in the dashboard, not with a payment


def taken(status: int, body: bytes) -> bool:
    return 200 <= status < 300


def new_txn(world: World, record: Record) -> str:
    return _intent_of(world, record)


def new_refund_id(world: World, record: Record) -> str:
    return f"re_3Sim{secrets.token_hex(9)}"


def new_dispute_id(world: World, record: Record) -> str:
    return f"dp_1Sim{secrets.token_hex(9)}"


def return_address(world: World, record: Record) -> str | None:
    """Paid: success_url with the session's id put in where it asks for it; otherwise cancel_url."""
    if record.state != "paid":
        return record.extra.get("cancel_url")
    return (record.return_url or "").replace("{CHECKOUT_SESSION_ID}", record.extra["session_id"]) or None


# calls that change something


def _post_once(request: Request, world: World) -> Response:
    """One after another under the books' lock: two requests with one key at once are the first and its replay."""
    if request.headers.get("content-type", "").partition(";")[0] not in ("", "application/x-www-form-urlencoded"):
        raise _Refused(400, "Invalid request: send the body as application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(request.body.decode(), keep_blank_values=True)
    except ValueError:
        raise _Refused(400, "Invalid request body") from None
    key, fingerprint = request.headers.get("idempotency-key"), [request.path, *map(list, pairs)]
    if key is not None and not 0 < len(key) <= 255:
        raise _Refused(400, "Idempotency keys can be up to 255 characters long")
    with world.changing():
        stored = world.shelf("stripe").setdefault("keys", {})
        known = stored.get(key) if key is not None else None
        if known is not None and known["at"] > world.clock() - KEY_LIFE_SECONDS:
            if known["request"] != fingerprint:
                raise _Refused(
                    400,
                    "Keys for idempotent requests can only be used with the same parameters they were first used with.",
                    "idempotency_error",
                )
            return json_response(known["answer"], headers={"Idempotent-Replayed": "true"})
        made = _post(request.path, dict(pairs), world)
        if key is not None:
            stored[key] = {"at": world.now(), "request": fingerprint, "answer": made}
        return json_response(made)


def _post(path: str, form: dict[str, str], world: World) -> dict[str, Any]:
    if path == "/v1/checkout/sessions":
        return _create_session(form, world)
    if path == "/v1/refunds":
        return _create_refund(form, world)
    if found := re.fullmatch(r"/v1/checkout/sessions/([^/]+)/expire", path):
        return _expire(found[1], world)
    raise _Refused(404, f"Unrecognized request URL (POST: {path})")


def _create_session(form: dict[str, str], world: World) -> dict[str, Any]:
    item = "line_items[0]"
    needed = (
        "mode", "success_url", f"{item}[quantity]", f"{item}[price_data][currency]",
        f"{item}[price_data][unit_amount]", f"{item}[price_data][product_data][name]",
    )  # fmt: skip
    for name in needed:
        if not form.get(name):
            raise _Refused(400, f"Missing required param: {name}.", code="parameter_missing")
    if form["mode"] != "payment":
        raise _Refused(400, "Only mode=payment is simulated")
    if form[f"{item}[quantity]"] != "1":
        raise _Refused(400, "Only one line with quantity 1 is simulated")
    amount = _whole(form[f"{item}[price_data][unit_amount]"], "unit_amount")
    currency = form[f"{item}[price_data][currency]"]
    if not re.fullmatch(r"[a-z]{3}", currency):
        raise _Refused(400, f"Invalid currency: {currency}")
    for name in ("success_url", "cancel_url"):
        if not re.match(r"https?://", form.get(name, "https://")):
            raise _Refused(400, f"Not a valid URL: {name}", code="url_invalid")
    now = world.now()
    expires_at = _whole(form["expires_at"], "expires_at") if "expires_at" in form else now + 86_400
    if not now + 1_800 <= expires_at <= now + 86_400:
        raise _Refused(400, "The `expires_at` timestamp must be between 30 minutes and 24 hours from now.")
    metadata, session_id = _metadata(form), f"cs_test_a1Sim{secrets.token_hex(14)}"
    wanted = metadata.get("order_no") or form.get("client_reference_id") or session_id
    our_no, count = wanted, 1
    while world.find("stripe", our_no) is not None:  # another key: Stripe makes another session, whatever it is about
        count += 1
        our_no = f"{wanted}~{count}"
    record = world.open(
        "stripe", our_no, amount, currency.upper(), return_url=form["success_url"], expires_at=expires_at,
        session_id=session_id, cancel_url=form.get("cancel_url"), metadata=metadata,
        client_reference_id=form.get("client_reference_id"), title=form[f"{item}[price_data][product_data][name]"],
        intent_metadata=_metadata(form, "payment_intent_data[metadata]"),
    )  # fmt: skip
    return _session(world, record)


def _create_refund(form: dict[str, str], world: World) -> dict[str, Any]:
    record = _paid_record(world, form.get("payment_intent"))
    amount = _whole(form["amount"], "amount") if "amount" in form else record.paid_minor - record.refunded_minor
    if form.get("reason", "duplicate") not in ("duplicate", "fraudulent", "requested_by_customer"):
        raise _Refused(400, "Invalid reason")
    metadata = _metadata(form)
    try:
        # The books want a number for each once; to Stripe two refunds with the same metadata are simply two refunds.
        number = metadata.get("refund_no") or f"~{len(record.refunds) + 1}"
        if record.refund_of(number) is not None:
            number = f"{number}~{len(record.refunds) + 1}"
        made = world.refund(record, number, amount, metadata=metadata, reason=form.get("reason"))
    except Impossible as error:
        if error.reason == "too_much" and record.refunded_minor >= record.paid_minor:
            raise _Refused(400, "Charge has already been refunded.", code="charge_already_refunded") from None
        raise _Refused(400, "Refund amount is greater than unrefunded amount on charge") from None
    return _refund(record, made)


def _expire(session_id: str, world: World) -> dict[str, Any]:
    record = _session_record(world, session_id)
    status = _session_status(record)
    if status != "open":
        raise _Refused(
            400,
            'Only Checkout Sessions with a status in ["open"] can be expired. '
            f"This Checkout Session has a status of {status}.",
        )
    world.close(record)
    return _session(world, record)


# calls that look something up


def _get(request: Request, world: World) -> dict[str, Any]:
    path, query = request.path, request.query
    if path == "/v1/refunds":
        return _page(_listed_refunds(world, query.get("payment_intent")), request)
    if path == "/v1/balance_transactions":
        since = _whole(query.get("created[gte]", "0"), "created[gte]")
        until = _whole(query.get("created[lt]", "99999999999"), "created[lt]")
        is_expanded = any(name.startswith("expand[") and value == "data.source" for name, value in query.items())
        rows = [_balance_transaction(world, one, is_expanded) for one in world.movements("stripe", since, until)]
        return _page(rows[::-1], request)
    if path == "/v1/disputes":
        rows = [
            _dispute(record, one)
            for record in world.each("stripe")
            for one in record.disputes
            if query.get("payment_intent") in (None, record.provider_txn)
        ]
        return _page(rows[::-1], request)
    if found := re.fullmatch(r"/v1/checkout/sessions/([^/]+)", path):
        return _session(world, _session_record(world, found[1]))
    if found := re.fullmatch(r"/v1/refunds/([^/]+)", path):
        known = world.find_refund("stripe", provider_refund_id=found[1])
        if known is None:
            raise _Refused(404, f"No such refund: '{found[1]}'", code="resource_missing")
        return _refund(*known)
    raise _Refused(404, f"Unrecognized request URL (GET: {path})")


def _listed_refunds(world: World, intent: str | None) -> list[dict[str, Any]]:
    records = [_paid_record(world, intent)] if intent is not None else world.each("stripe")
    rows = [(record, one) for record in records for one in record.refunds]
    return [_refund(record, one) for record, one in reversed(rows)]


def _page(rows: list[dict[str, Any]], request: Request) -> dict[str, Any]:
    query = request.query
    limit = _whole(query.get("limit", "10"), "limit")
    if not 1 <= limit <= 100:
        raise _Refused(400, "limit must be between 1 and 100")
    if "starting_after" in query:
        names = [one["id"] for one in rows]
        if query["starting_after"] not in names:
            raise _Refused(400, f"No such object: '{query['starting_after']}'", code="resource_missing")
        rows = rows[names.index(query["starting_after"]) + 1 :]
    return {"object": "list", "data": rows[:limit], "has_more": len(rows) > limit, "url": request.path}


# Stripe's objects


def _session_status(record: Record) -> str:
    return {"open": "open", "closed": "expired"}.get(record.state, "complete")


def _session(world: World, record: Record) -> dict[str, Any]:
    status = _session_status(record)
    amount = record.paid_minor if record.state == "paid" else record.amount_minor
    return {
        "id": record.extra["session_id"],
        "object": "checkout.session",
        "amount_subtotal": amount,
        "amount_total": amount,
        "cancel_url": record.extra["cancel_url"],
        "client_reference_id": record.extra["client_reference_id"],
        "created": record.created_at,
        "currency": record.currency.lower(),
        "customer": None,
        "expires_at": record.expires_at,
        "livemode": False,
        "metadata": record.extra["metadata"],
        "mode": "payment",
        "payment_intent": _intent_of(world, record) if status == "complete" else None,
        "payment_method_types": ["card"],
        "payment_status": "paid" if record.state == "paid" else "unpaid",
        "status": status,
        "success_url": record.return_url,
        "url": world.pay_url(record) if status == "open" else None,
    }


def _charge(record: Record) -> dict[str, Any]:
    # A dispute takes its money by itself; a refund that failed gives nothing back.
    refunded = sum(one.amount_minor for one in record.refunds if one.state == "succeeded")
    return {
        "id": _charge_id(record),
        "object": "charge",
        "amount": record.paid_minor,
        "amount_captured": record.paid_minor,
        "amount_refunded": refunded,
        "captured": True,
        "created": record.paid_at,
        "currency": record.currency.lower(),
        "disputed": bool(record.disputes),
        "livemode": False,
        "metadata": record.extra["intent_metadata"],
        "paid": True,
        "payment_intent": record.provider_txn,
        "refunded": refunded >= record.paid_minor,
        "status": "succeeded",
    }


def _refund(record: Record, refund: Refund, status: str | None = None) -> dict[str, Any]:
    return {
        "id": refund.provider_refund_id,
        "object": "refund",
        "amount": refund.amount_minor,
        "charge": _charge_id(record),
        "created": refund.created_at,
        "currency": record.currency.lower(),
        "failure_reason": "lost_or_stolen_card" if (status or refund.state) == "failed" else None,
        "metadata": refund.extra.get("metadata", {}),
        "payment_intent": record.provider_txn,
        "reason": refund.extra.get("reason"),
        "status": status or refund.state,
    }


def _dispute(record: Record, dispute: Dispute, status: str | None = None) -> dict[str, Any]:
    return {
        "id": dispute.dispute_id,
        "object": "dispute",
        "amount": dispute.amount_minor,
        "charge": _charge_id(record),
        "created": dispute.opened_at,
        "currency": record.currency.lower(),
        "evidence_details": {
            "due_by": dispute.due_at, "has_evidence": False, "past_due": False, "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": record.provider_txn,
        "reason": "fraudulent",
        "status": status or {"opened": "needs_response"}.get(dispute.state, dispute.state),
    }  # fmt: skip


def _balance_transaction(world: World, movement: Movement, is_expanded: bool) -> dict[str, Any]:
    kind, category = _CATEGORIES[movement.kind]
    if movement.refund is not None:
        source = _refund(movement.record, movement.refund)
    elif movement.dispute is not None:
        source = _dispute(movement.record, movement.dispute)
    else:
        source = _charge(movement.record)
    fee = DISPUTE_FEE_MINOR if movement.kind == "dispute" else movement.fee_minor
    name = f"{movement.kind}/{source['id']}"
    return {
        "id": f"txn_3Sim{hashlib.sha256(name.encode()).hexdigest()[:18]}",
        "object": "balance_transaction",
        "amount": movement.amount_minor,
        "available_on": movement.at + 2 * 86_400,
        "created": movement.at,
        "currency": movement.currency.lower(),
        "exchange_rate": None,
        "fee": fee,
        "net": movement.amount_minor - fee,
        "reporting_category": category,
        "source": source if is_expanded else source["id"],
        "status": "pending",
        "type": kind,
    }


def _event_data(world: World, record: Record, event: Event) -> dict[str, Any]:
    """The object as it was at the event, whatever became of it before this sending."""
    if event.name.startswith("checkout.session."):
        session = _session(world, record)
        if event.kind in ("closed", "expired"):
            session |= {"status": "expired", "payment_status": "unpaid", "payment_intent": None, "url": None}
        return {"object": session}
    if event.dispute_id is not None:
        dispute = next(one for one in record.disputes if one.dispute_id == event.dispute_id)
        status = {"dispute_opened": "needs_response", "dispute_won": "won", "dispute_lost": "lost"}[event.kind]
        before = {} if event.kind == "dispute_opened" else {"previous_attributes": {"status": "under_review"}}
        return {"object": _dispute(record, dispute, status), **before}
    refund = record.refund_of(provider_refund_id=event.refund_id)
    if refund is None or event.name == "charge.refunded":
        return {"object": _charge(record), "previous_attributes": {"amount_refunded": 0}}
    if event.kind == "refund_created":
        is_done_at_once = refund.settled_at == refund.created_at and (refund.state == "succeeded" or refund.reversed_at)
        return {"object": _refund(record, refund, "succeeded" if is_done_at_once else "pending")}
    if event.kind == "refunded":
        return {"object": _refund(record, refund, "succeeded"), "previous_attributes": {"status": "pending"}}
    before = "succeeded" if refund.reversed_at else "pending"
    return {"object": _refund(record, refund, "failed"), "previous_attributes": {"status": before}}


# small things


def _session_record(world: World, session_id: str) -> Record:
    record = world.find_by("stripe", session_id=session_id)
    if record is None:
        raise _Refused(404, f"No such checkout.session: {session_id}", code="resource_missing")
    return record


def _paid_record(world: World, intent: str | None) -> Record:
    record = world.find_by("stripe", provider_txn=intent) if intent else None
    if record is None:
        raise _Refused(404, f"No such payment_intent: '{intent}'", code="resource_missing")
    return record


def _intent_of(world: World, record: Record) -> str:
    """Made with the first attempt to pay; a failed attempt has one, too."""
    if "intent" not in record.extra:
        with world.changing():
            record.extra.setdefault("intent", f"pi_3Sim{secrets.token_hex(9)}")
    return record.extra["intent"]


def _charge_id(record: Record) -> str:
    return "ch_" + record.extra["intent"].removeprefix("pi_")


def _metadata(form: dict[str, str], prefix: str = "metadata") -> dict[str, str]:
    found = {}
    for name, value in form.items():
        if name.startswith(f"{prefix}[") and name.endswith("]"):
            found[name[len(prefix) + 1 : -1]] = value
    return found


def _whole(text: str, name: str) -> int:
    if not re.fullmatch(r"\d{1,11}", text):
        raise _Refused(400, f"Invalid integer: {text[:20]}", code="parameter_invalid_integer") from None
    return int(text)


def _secret_key(world: World) -> str:
    return "sk_test_" + world.secret("stripe_secret_key", 24)


def _webhook_secret(world: World) -> str:
    return "whsec_" + world.secret("stripe_webhook_secret", 32)
