"""PayPal, seen from outside: access tokens, Orders v2, captures, refunds, transaction search, signed webhooks.

Written from PayPal's REST reference. One app in the sandbox with one webhook, whose address is set in the dashboard and
not with a payment. The buyer's click in the wallet *approves*; money moves when the app captures. Messages are signed
with a certificate of this simulator's own authority, which the account names as `webhook_root`.

Kept to: a PayPal-Request-Id repeats what it stands for (orders 6 hours, payments 45 days) and is an error with another
body; an order is captured once; without `Prefer: return=representation` an answer is id, status and links. An order
that nobody approves runs out after three hours. PayPal does not publish the pauses between sendings ("up to 25 times in
three days"); those here are of that shape.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from infra.local.simulator import NoticeRequest, Request, Response, json_response
from infra.local.simulator.world import Dispute, Event, Impossible, Movement, Record, Refund, World

RETRY_SECONDS = (60, 120, 300, 600, 1_200, 2_400, 3_600, *(13_940,) * 18)
FEE_BASIS_POINTS = 349
FEE_FIXED_MINOR = 49
TOKEN_SECONDS = 32_400
ORDER_LIFE_SECONDS = 3 * 3_600
NOTICES = {
    "approved": ("CHECKOUT.ORDER.APPROVED",),
    "paid": ("PAYMENT.CAPTURE.COMPLETED",),
    "failed": ("PAYMENT.CAPTURE.DECLINED",),
    "refunded": ("PAYMENT.CAPTURE.REFUNDED",),
    "refund_failed": ("PAYMENT.REFUND.FAILED",),
    "dispute_opened": ("CUSTOMER.DISPUTE.CREATED",),
    "dispute_won": ("CUSTOMER.DISPUTE.RESOLVED",),
    "dispute_lost": ("CUSTOMER.DISPUTE.RESOLVED",),
}
_EVENT_CODES = {
    "payment": "T0006",
    "refund": "T1107",
    "refund_reversed": "T1900",
    "dispute": "T1201",
    "dispute_won": "T1202",
}
_REMEMBERED_SECONDS = {"order": 6 * 3_600, "capture": 6 * 3_600, "refund": 45 * 86_400}
_DIGITS = {"JPY": 0}
_WHOLE_ONLY = ("HUF", "JPY", "TWD")
_CERTIFICATE = "/v1/notifications/certs/CERT-360caa42-5a1c0d3f"
_REFUND_STATUS = {"succeeded": "COMPLETED", "pending": "PENDING", "failed": "FAILED"}
_RESOURCE_TYPES = {"CHECKOUT": "checkout-order", "CUSTOMER": "dispute"}


class _Refused(Exception):
    def __init__(self, status: int, name: str, issue: str = ""):
        super().__init__(issue or name)
        self.status, self.name, self.issue = status, name, issue


def demo_account(world: World) -> dict[str, Any]:
    return {
        "mode": "test",
        "settings": {
            "client_id": _client_id(world),
            "webhook_id": _webhook_id(world),
            "api_base": world.base_url("paypal"),
            "webhook_root": _root_certificate(world),
        },
        "secrets": {"client_secret": world.secret("paypal-client", 60)},
    }


def handle(request: Request, world: World) -> Response:
    try:
        if request.method == "GET" and request.path == _CERTIFICATE:
            return Response(200, _chain(world).encode(), {"Content-Type": "text/plain"})
        if request.path == "/v1/oauth2/token":
            return _give_token(request, world)
        _check_token(request, world)
        if request.method == "GET":
            return _get(request, world)
        if request.method == "POST":
            return _post(request, world)
        raise _Refused(404, "RESOURCE_NOT_FOUND")
    except _Refused as no:
        details = [{"issue": no.issue, "description": no.issue}] if no.issue else []
        debug_id = secrets.token_hex(7)
        answer = {"name": no.name, "message": no.name, "debug_id": debug_id, "details": details, "links": []}
        return json_response(answer, no.status, {"Paypal-Debug-Id": debug_id})


def notice(world: World, record: Record, event: Event) -> NoticeRequest | None:
    number = event.event_id.removeprefix("evt").upper()
    kind = event.name.split(".")[0]
    resource_type = _RESOURCE_TYPES.get(kind, "capture" if event.refund_id is None else "refund")
    body = json.dumps(
        {
            "id": f"WH-{number[:17]}-{number[17:]}",
            "event_version": "1.0",
            "create_time": _instant(event.at, ".000Z"),
            "resource_type": resource_type,
            "resource_version": "2.0",
            "event_type": event.name,
            "summary": event.name.replace(".", " ").capitalize(),
            "resource": _resource(world, record, event),
            "links": [],
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()
    # PayPal keeps id and time of the first sending in every later one.
    digest = zlib.crc32(event.event_id.encode())
    transmission_id = f"{digest:08x}-fd74-11e4-8bf3-{event.event_id[-12:]}"
    at = _instant(event.at)
    message = f"{transmission_id}|{at}|{_webhook_id(world)}|{zlib.crc32(body)}".encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "PayPal/AUHD-214.0-58736671",
        "PAYPAL-TRANSMISSION-ID": transmission_id,
        "PAYPAL-TRANSMISSION-TIME": at,
        "PAYPAL-TRANSMISSION-SIG": base64.b64encode(world.keys("paypal-signer").sign(message)).decode(),
        "PAYPAL-CERT-URL": world.base_url("paypal") + _CERTIFICATE,
        "PAYPAL-AUTH-ALGO": "SHA256withRSA",
    }
    return NoticeRequest(None, headers, body)


def taken(status: int, body: bytes) -> bool:
    return 200 <= status < 300


def pay(world: World, record: Record, outcome: str | None) -> None:
    """The button approves. What comes of it is decided when the order is captured."""
    with world.changing():
        record.outcome = outcome or record.outcome
        if record.state == "paid":
            return
        world.approve(record)


def return_address(world: World, record: Record) -> str | None:
    address = record.return_url if record.extra.get("is_approved") else record.extra.get("cancel_url")
    if not address:
        return None
    more = {"token": record.extra["order_id"]}
    if record.extra.get("is_approved"):
        more["PayerID"] = "QYR5Z8XDVJNXQ"
    return f"{address}{'&' if '?' in address else '?'}{urlencode(more)}"


def new_txn(world: World, record: Record) -> str:
    return record.extra.get("capture_id") or _number()


def new_refund_id(world: World, record: Record) -> str:
    return _number()


def new_dispute_id(world: World, record: Record) -> str:
    return f"PP-R-SIM-{world.number('paypal_dispute'):08d}"


# who calls


def _give_token(request: Request, world: World) -> Response:
    pair = f"{_client_id(world)}:{world.secret('paypal-client', 60)}"
    expected = "Basic " + base64.b64encode(pair.encode()).decode()
    if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected.encode()):
        answer = {"error": "invalid_client", "error_description": "Client Authentication failed"}
        return json_response(answer, 401)
    try:
        is_right = request.form().get("grant_type") == "client_credentials"
    except ValueError:
        is_right = False
    if request.method != "POST" or not is_right:
        return json_response({"error": "unsupported_grant_type"}, 400)
    with world.changing():
        tokens = world.shelf("paypal").setdefault("tokens", {})
        token = f"A21AA{secrets.token_urlsafe(60)}"
        tokens[token] = world.now() + TOKEN_SECONDS
        for old in [one for one, until in tokens.items() if until <= world.now()]:
            del tokens[old]
    return json_response({
        "scope": "https://uri.paypal.com/services/payments/payment https://uri.paypal.com/services/reporting/search/read",
        "access_token": token, "token_type": "Bearer", "app_id": "APP-80W284485P519543T", "expires_in": TOKEN_SECONDS,
    })  # fmt: skip


def _check_token(request: Request, world: World) -> None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    until = world.shelf("paypal").get("tokens", {}).get(token, 0)
    if kind != "Bearer" or until <= world.now():
        raise _Refused(401, "AUTHENTICATION_FAILURE")


# calls that change something


def _post(request: Request, world: World) -> Response:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise _Refused(415, "UNSUPPORTED_MEDIA_TYPE")
    try:
        wanted = request.json() if request.body else {}
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict):
        raise _Refused(400, "INVALID_REQUEST", "MALFORMED_REQUEST_JSON")
    request_id = request.headers.get("paypal-request-id", "")
    if len(request_id) > 108:
        raise _Refused(400, "INVALID_REQUEST", "INVALID_PAYPAL_REQUEST_ID")
    parts = request.path.strip("/").split("/")
    with world.changing():  # two requests with one id at once are the first and its repeat
        known = world.shelf("paypal").setdefault("requests", {}).get(request_id) if request_id else None
        print_of_it = [request.path, wanted]
        if known is not None and known["until"] > world.now():
            if known["request"] != print_of_it:
                raise _Refused(422, "UNPROCESSABLE_ENTITY", "DUPLICATE_REQUEST_ID")
            what, number, status = known["what"], known["number"], 200
        else:
            what, number = _carry_out(parts, wanted, request_id, world)
            status = 201
            if request_id:
                until = world.now() + _REMEMBERED_SECONDS[what]
                kept = {"request": print_of_it, "what": what, "number": number, "until": until}
                world.shelf("paypal")["requests"][request_id] = kept
        answer = _shown_refund(world, number) if what == "refund" else _order(world, _record_of(world, number))
    if request.headers.get("prefer") != "return=representation":
        answer = {name: answer[name] for name in ("id", "status", "links")}
    return json_response(answer, status)


def _carry_out(parts: list[str], wanted: dict, request_id: str, world: World) -> tuple[str, str]:
    if parts == ["v2", "checkout", "orders"]:
        return "order", _create(wanted, request_id, world)
    if parts[:3] == ["v2", "checkout", "orders"] and parts[4:] == ["capture"]:
        return "capture", _capture(_record_of(world, parts[3]), world)
    if parts[:3] == ["v2", "payments", "captures"] and parts[4:] == ["refund"]:
        return "refund", _give_back(parts[3], wanted, world)
    raise _Refused(404, "RESOURCE_NOT_FOUND")


def _create(wanted: dict, request_id: str, world: World) -> str:
    units, source = wanted.get("purchase_units"), wanted.get("payment_source")
    if wanted.get("intent") != "CAPTURE":
        raise _Refused(400, "INVALID_REQUEST", "INVALID_PARAMETER_VALUE")
    if not (isinstance(units, list) and len(units) == 1 and isinstance(units[0], dict)):
        raise _Refused(400, "INVALID_REQUEST", "MISSING_REQUIRED_PARAMETER")
    if source is not None and not request_id:
        raise _Refused(400, "INVALID_REQUEST", "PAYPAL_REQUEST_ID_REQUIRED")
    unit = units[0]
    amount, currency = _read_amount(unit.get("amount"))
    for name, longest in (("custom_id", 255), ("invoice_id", 127), ("description", 127)):
        if not (isinstance(unit.get(name, ""), str) and len(unit.get(name, "")) <= longest):
            raise _Refused(400, "INVALID_REQUEST", "INVALID_STRING_LENGTH")
    context = ((source or {}).get("paypal") or {}).get("experience_context") or wanted.get("application_context") or {}
    for name in ("return_url", "cancel_url"):
        if name in context and not re.match(r"https?://", str(context[name])):
            raise _Refused(400, "INVALID_REQUEST", "INVALID_PARAMETER_SYNTAX")
    order_id = _number()
    our_no = unit.get("custom_id") or unit.get("invoice_id") or order_id
    count = 1
    while world.find("paypal", our_no if count == 1 else f"{our_no}~{count}") is not None:
        count += 1  # another request id: another order, whatever it is about
    world.open(
        "paypal", our_no if count == 1 else f"{our_no}~{count}", amount, currency,
        return_url=context.get("return_url"), expires_at=world.now() + ORDER_LIFE_SECONDS, order_id=order_id,
        capture_id=_number(), cancel_url=context.get("cancel_url"), custom_id=unit.get("custom_id"),
        invoice_id=unit.get("invoice_id"), title=unit.get("description"), has_source=source is not None,
    )  # fmt: skip
    return order_id


def _capture(record: Record, world: World) -> str:
    if record.state == "paid" or record.extra.get("is_capturing"):
        raise _Refused(422, "UNPROCESSABLE_ENTITY", "ORDER_ALREADY_CAPTURED")
    if record.state == "closed":
        raise _Refused(422, "UNPROCESSABLE_ENTITY", "ORDER_EXPIRED")
    if not record.extra.get("is_approved"):
        raise _Refused(422, "UNPROCESSABLE_ENTITY", "ORDER_NOT_APPROVED")
    if record.state == "failed":
        raise _Refused(422, "UNPROCESSABLE_ENTITY", "INSTRUMENT_DECLINED")
    invoices = [one.extra["invoice_id"] for one in world.each("paypal") if one.state == "paid"]
    if record.extra["invoice_id"] and record.extra["invoice_id"] in invoices:
        raise _Refused(422, "UNPROCESSABLE_ENTITY", "DUPLICATE_INVOICE_ID")
    world.pay(record)
    if record.state == "failed":
        raise _Refused(422, "UNPROCESSABLE_ENTITY", "INSTRUMENT_DECLINED")
    record.extra["is_capturing"] = True  # slow money is pending until it is there
    return record.extra["order_id"]


def _give_back(capture_id: str, wanted: dict, world: World) -> str:
    record = world.find_by("paypal", provider_txn=capture_id)
    if record is None:
        raise _Refused(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
    amount = record.paid_minor - record.refunded_minor
    if "amount" in wanted:
        amount, currency = _read_amount(wanted["amount"])
        if currency != record.currency:
            raise _Refused(422, "UNPROCESSABLE_ENTITY", "REFUND_CAPTURE_CURRENCY_MISMATCH")
    number = wanted.get("invoice_id") or f"~{len(record.refunds) + 1}"
    if record.refund_of(number) is not None:  # another request id: to PayPal another refund
        number = f"{number}~{len(record.refunds) + 1}"
    try:
        custom_id = wanted.get("custom_id") or record.extra["custom_id"]
        made = world.refund(record, number, amount, invoice_id=wanted.get("invoice_id"), custom_id=custom_id)
    except Impossible:
        is_all = record.refunded_minor >= record.paid_minor
        issue = "CAPTURE_FULLY_REFUNDED" if is_all else "REFUND_AMOUNT_EXCEEDED"
        raise _Refused(422, "UNPROCESSABLE_ENTITY", issue) from None
    return made.provider_refund_id


# calls that look something up


def _get(request: Request, world: World) -> Response:
    parts = request.path.strip("/").split("/")
    if parts[:3] == ["v2", "checkout", "orders"] and len(parts) == 4:
        return json_response(_order(world, _record_of(world, parts[3])))
    if parts[:3] == ["v2", "payments", "captures"] and len(parts) == 4:
        record = world.find_by("paypal", provider_txn=parts[3])
        if record is None:
            raise _Refused(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
        return json_response(_shown_capture(world, record))
    if parts[:3] == ["v2", "payments", "refunds"] and len(parts) == 4:
        return json_response(_shown_refund(world, parts[3]))
    if request.path == "/v1/reporting/transactions":
        return json_response(_transactions(request.query, world))
    raise _Refused(404, "RESOURCE_NOT_FOUND")


def _transactions(query: dict[str, str], world: World) -> dict[str, Any]:
    try:
        since, until = (_seconds(query[name]) for name in ("start_date", "end_date"))
        page, size = int(query.get("page", "1")), int(query.get("page_size", "100"))
    except (KeyError, ValueError):
        raise _Refused(400, "INVALID_REQUEST") from None
    if not (0 <= until - since <= 31 * 86_400 and page >= 1 and 1 <= size <= 500):
        raise _Refused(400, "INVALID_REQUEST")
    if since > world.now():
        raise _Refused(400, "INVALID_REQUEST", "Data for the given start date is not available.")
    moved = world.movements("paypal", since, until + 1)
    return {
        "transaction_details": [{"transaction_info": _entry(one)} for one in moved[(page - 1) * size : page * size]],
        "account_number": "QYR5Z8XDVJNXQ",
        "start_date": _instant(since, "+0000"),
        "end_date": _instant(until, "+0000"),
        "last_refreshed_datetime": _instant(world.now(), "+0000"),
        "page": page,
        "total_items": len(moved),
        "total_pages": max(1, -(-len(moved) // size)),
        "links": [],
    }


def _entry(moved: Movement) -> dict[str, Any]:
    record, refund = moved.record, moved.refund
    extra = refund.extra if refund is not None else record.extra
    own_number = refund.provider_refund_id if refund is not None else record.provider_txn
    if moved.dispute is not None:
        own_number = f"CB{moved.dispute.dispute_id[-15:].replace('-', '')}"
    info = {
        "transaction_id": own_number,
        "transaction_event_code": _EVENT_CODES[moved.kind],
        "transaction_initiation_date": _instant(moved.at, "+0000"),
        "transaction_updated_date": _instant(moved.at, "+0000"),
        "transaction_amount": _amount(moved.amount_minor, moved.currency),
        "fee_amount": _amount(-moved.fee_minor, moved.currency),
        "transaction_status": "S",
        "invoice_id": extra.get("invoice_id"),
        "custom_field": extra.get("custom_id"),
        "protection_eligibility": "02",
    }
    if moved.kind != "payment":
        info |= {"paypal_reference_id": record.provider_txn, "paypal_reference_id_type": "TXN"}
    return {name: value for name, value in info.items() if value is not None}


# PayPal's objects


def _record_of(world: World, order_id: str) -> Record:
    record = world.find_by("paypal", order_id=order_id)
    if record is None:
        raise _Refused(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
    return record


def _order_status(record: Record) -> str:
    if record.state == "paid" or record.extra.get("is_capturing"):
        return "COMPLETED"
    if record.state == "closed":
        return "VOIDED"
    if record.extra.get("is_approved") and record.state == "open":
        return "APPROVED"
    return "PAYER_ACTION_REQUIRED" if record.extra["has_source"] else "CREATED"


def _order(world: World, record: Record) -> dict[str, Any]:
    status, base = _order_status(record), f"{world.base_url('paypal')}/v2/checkout/orders/{record.extra['order_id']}"
    unit = {
        "reference_id": "default",
        "amount": _amount(record.amount_minor, record.currency),
        "custom_id": record.extra["custom_id"],
        "invoice_id": record.extra["invoice_id"],
        "description": record.extra["title"],
    }
    links = [{"href": base, "rel": "self", "method": "GET"}]
    if status == "COMPLETED":
        unit["payments"] = {"captures": [_shown_capture(world, record)]}
        if record.refunds:
            unit["payments"]["refunds"] = [_refund(world, record, one) for one in record.refunds]
    elif status != "VOIDED":
        rel = "payer-action" if record.extra["has_source"] else "approve"
        links.append({"href": world.pay_url(record), "rel": rel, "method": "GET"})
    return {
        "id": record.extra["order_id"],
        "intent": "CAPTURE",
        "status": status,
        "purchase_units": [{name: value for name, value in unit.items() if value is not None}],
        "create_time": _instant(record.created_at),
        "links": links,
    }


def _shown_capture(world: World, record: Record) -> dict[str, Any]:
    base, is_paid = world.base_url("paypal"), record.state == "paid"
    given_back = sum(one.amount_minor for one in record.refunds if one.state == "succeeded")
    status = "COMPLETED" if is_paid else "PENDING"
    if given_back:
        status = "REFUNDED" if given_back >= record.paid_minor else "PARTIALLY_REFUNDED"
    minor = record.paid_minor if is_paid else record.amount_minor
    capture_id = record.provider_txn or record.extra["capture_id"]
    return {
        "id": capture_id,
        "status": status,
        "amount": _amount(minor, record.currency),
        "final_capture": True,
        "custom_id": record.extra["custom_id"],
        "invoice_id": record.extra["invoice_id"],
        "seller_receivable_breakdown": {
            "gross_amount": _amount(minor, record.currency),
            "paypal_fee": _amount(record.fee_minor, record.currency),
            "net_amount": _amount(minor - record.fee_minor, record.currency),
        },
        "supplementary_data": {"related_ids": {"order_id": record.extra["order_id"]}},
        "create_time": _instant(record.paid_at or record.created_at),
        "links": [
            {"href": f"{base}/v2/payments/captures/{capture_id}", "rel": "self", "method": "GET"},
            {"href": f"{base}/v2/payments/captures/{capture_id}/refund", "rel": "refund", "method": "POST"},
            {"href": f"{base}/v2/checkout/orders/{record.extra['order_id']}", "rel": "up", "method": "GET"},
        ],
    }


def _shown_refund(world: World, number: str) -> dict[str, Any]:
    known = world.find_refund("paypal", provider_refund_id=number)
    if known is None:
        raise _Refused(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
    return _refund(world, *known)


def _refund(world: World, record: Record, refund: Refund) -> dict[str, Any]:
    base = world.base_url("paypal")
    shown = {
        "id": refund.provider_refund_id,
        "status": _REFUND_STATUS[refund.state],
        "amount": _amount(refund.amount_minor, record.currency),
        "invoice_id": refund.extra.get("invoice_id"),
        "custom_id": refund.extra.get("custom_id") or record.extra["custom_id"],
        "create_time": _instant(refund.created_at),
        "links": [
            {"href": f"{base}/v2/payments/refunds/{refund.provider_refund_id}", "rel": "self", "method": "GET"},
            {"href": f"{base}/v2/payments/captures/{record.provider_txn}", "rel": "up", "method": "GET"},
        ],
    }
    return {name: value for name, value in shown.items() if value is not None}


def _dispute(record: Record, dispute: Dispute) -> dict[str, Any]:
    shown = {
        "dispute_id": dispute.dispute_id,
        "create_time": _instant(dispute.opened_at, ".000Z"),
        "disputed_transactions": [{
            "seller_transaction_id": record.provider_txn,
            "gross_amount": _amount(record.paid_minor, record.currency),
            "custom": record.extra["custom_id"],
            "invoice_number": record.extra["invoice_id"],
        }],
        "reason": "UNAUTHORISED",
        "status": "WAITING_FOR_SELLER_RESPONSE" if dispute.state == "opened" else "RESOLVED",
        "dispute_amount": _amount(dispute.amount_minor, record.currency),
        "dispute_life_cycle_stage": "CHARGEBACK",
        "seller_response_due_date": _instant(dispute.due_at, ".000Z"),
    }  # fmt: skip
    if dispute.state != "opened":
        favour = "RESOLVED_SELLER_FAVOUR" if dispute.state == "won" else "RESOLVED_BUYER_FAVOUR"
        shown["dispute_outcome"] = {"outcome_code": favour}
    return shown


def _resource(world: World, record: Record, event: Event) -> dict[str, Any]:
    if event.dispute_id is not None:
        dispute = next(one for one in record.disputes if one.dispute_id == event.dispute_id)
        shown = _dispute(record, dispute)
        if event.kind == "dispute_opened":  # as it was then
            shown |= {"status": "WAITING_FOR_SELLER_RESPONSE"}
            shown.pop("dispute_outcome", None)
        return shown
    if event.refund_id is not None:
        shown = _refund(world, record, record.refund_of(provider_refund_id=event.refund_id))
        return shown | {"status": "FAILED" if event.kind == "refund_failed" else "COMPLETED"}
    if event.kind == "approved":
        return _order(world, record) | {"status": "APPROVED"}
    status = "DECLINED" if event.kind == "failed" else "COMPLETED"
    return _shown_capture(world, record) | {"status": status}


# amounts, times, numbers


def _amount(minor: int, currency: str) -> dict[str, str]:
    digits = _DIGITS.get(currency, 2)
    sign, number = ("-" if minor < 0 else ""), abs(minor)
    whole, part = divmod(number, 10**digits)
    is_whole = currency in _WHOLE_ONLY
    return {"currency_code": currency, "value": f"{sign}{whole}" if is_whole else f"{sign}{whole}.{part:0{digits}d}"}


def _read_amount(amount: Any) -> tuple[int, str]:
    if not isinstance(amount, dict):
        raise _Refused(400, "INVALID_REQUEST", "MISSING_REQUIRED_PARAMETER")
    value, currency = amount.get("value"), amount.get("currency_code")
    if not (isinstance(currency, str) and re.fullmatch("[A-Z]{3}", currency)):
        raise _Refused(422, "UNPROCESSABLE_ENTITY", "CURRENCY_NOT_SUPPORTED")
    if not (isinstance(value, str) and re.fullmatch(r"\d{1,12}(\.\d{1,2})?", value, re.ASCII)):
        raise _Refused(422, "UNPROCESSABLE_ENTITY", "DECIMAL_PRECISION")
    whole, _, part = value.partition(".")
    if currency in _WHOLE_ONLY and part.strip("0"):
        raise _Refused(422, "UNPROCESSABLE_ENTITY", "DECIMALS_NOT_SUPPORTED")
    digits = _DIGITS.get(currency, 2)
    minor = int(whole) * 10**digits + (int(part.ljust(digits, "0")[:digits] or "0") if digits else 0)
    if minor < 1:
        raise _Refused(422, "UNPROCESSABLE_ENTITY", "CANNOT_BE_ZERO_OR_NEGATIVE")
    return minor, currency


def _instant(at: float, ending: str = "Z") -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%S") + ending


def _seconds(text: str) -> int:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("an instant without its offset")
    return int(found.timestamp())


def _number() -> str:
    """Seventeen letters and digits, as PayPal's numbers are."""
    letters = "0123456789ABCDEFGHJKLMNPRSTUVWXY"
    return "".join(secrets.choice(letters) for _ in range(17))


def _client_id(world: World) -> str:
    return f"A{world.secret('paypal-client-id', 60)}"


def _webhook_id(world: World) -> str:
    return world.secret("paypal-webhook-id", 17).upper()


# certificates


def _root_certificate(world: World) -> str:
    return world.keep("paypal-root.crt", lambda: _issue(world, "Simulated Root (test only)", "paypal-root", True))


def _chain(world: World) -> str:
    name = "messageverificationcerts.sandbox.paypal.com"
    return world.keep("paypal-signer.crt", lambda: _issue(world, name, "paypal-signer", False))


def _issue(world: World, name: str, key: str, is_root: bool) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, load_pem_public_key
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    start = datetime.now(UTC) - timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named("Simulated Root (test only)"))
        .public_key(load_pem_public_key(world.keys(key).public_pem.encode()))
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=3_650))
        .add_extension(x509.BasicConstraints(is_root, None), critical=True)
    )
    if not is_root:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    root_key = load_pem_private_key(world.keys("paypal-root").private_pem.encode(), None)
    return builder.sign(root_key, SHA256()).public_bytes(Encoding.PEM).decode()
