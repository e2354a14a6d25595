"""PayPal: Orders v2, captured by us, signed webhooks, refunds, transaction search.

The buyer *approves* an order at PayPal; money moves only when we capture it. Nothing of ours waits for that moment:
`CHECKOUT.ORDER.APPROVED` is read as kind `approved`, never `paid`, which asks the caller to look; `find` then
captures an approved order (under one request id, and PayPal captures an order once at most) and says `paid`. So
`find` must be asked about open payments only: an order that nobody asks about any more is never captured, and that is
what `close` relies on. PayPal has no call to void an unapproved order; it ends by itself.

Where PayPal keeps our ids: `custom_id` and `invoice_id` of an order hold the payment id, `invoice_id` of a refund the
refund id. `provider_ref` is the order's id at PayPal, `provider_txn` the capture's. `PAYMENT.CAPTURE.REVERSED` (PayPal
or a bank took the money back) is a dispute lost, under the id of the reversal; a dispute opened at PayPal has its own.

A message is good for three days, because PayPal goes on trying for so long and may send the first time along; what it
could be replayed for is decided by its event id, which does nothing twice.
"""

from __future__ import annotations

import base64
import json
import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from chalicelib.edge import web
from chalicelib.payments.errors import BadNotice, BadStatement, NoStatement, ProviderRefused, ProviderUnavailable
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
from chalicelib.payments.paypal_certificate import (
    Signer,
    is_address_below,
    is_paypals_address,
    read_signer,
    signed_message,
)
from chalicelib.payments.paypal_statement import lines_of_entries, lines_of_file
from chalicelib.payments.paypal_values import money_of, to_seconds, to_value
from chalicelib.payments.rsa_signature import verify_sha256

API_BASES = {"live": "https://api-m.paypal.com", "test": "https://api-m.sandbox.paypal.com"}
OLDEST_SECONDS = 3 * 86_400 + 3_600
AHEAD_SECONDS = 300
TOKEN_SLACK_SECONDS = 120
PAGE_SIZE = 500
_MAX_PAGES = 20  # PayPal itself ends at 10,000 transactions
_MAX_SIGNERS = 16
_CAPTURED = ("COMPLETED", "REFUNDED", "PARTIALLY_REFUNDED")
_OPEN = ("CREATED", "SAVED", "APPROVED", "PAYER_ACTION_REQUIRED", "VOIDED")
# Why PayPal would not capture, where that is a definite word: nothing was taken.
_NOT_CAPTURED = frozenset({
    "INSTRUMENT_DECLINED", "ORDER_NOT_APPROVED", "PAYER_ACTION_REQUIRED", "ORDER_EXPIRED", "ORDER_VOIDED",
    "PAYER_CANNOT_PAY", "PAYER_ACCOUNT_RESTRICTED", "PAYER_ACCOUNT_LOCKED_OR_CLOSED", "TRANSACTION_REFUSED",
    "TRANSACTION_LIMIT_EXCEEDED", "MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED", "COMPLIANCE_VIOLATION",
})  # fmt: skip
_REFUND_STATES = {"COMPLETED": "succeeded", "PENDING": "pending", "CANCELLED": "failed", "FAILED": "failed"}
# Words about the request, not about the money: a repeat under way, or a refund id that is in the books already.
_NOT_JUDGED = frozenset({"PREVIOUS_REQUEST_IN_PROGRESS", "DUPLICATE_INVOICE_ID", "INTERNAL_SERVER_ERROR"})
_CAPTURE_KINDS: dict[str, NoticeKind] = {"COMPLETED": "paid", "DENIED": "failed", "DECLINED": "failed"}
_TAKEN_BACK = ("PAYMENT.CAPTURE.REFUNDED", "PAYMENT.CAPTURE.REVERSED")
_OUTCOMES: dict[str, NoticeKind] = {
    "RESOLVED_BUYER_FAVOUR": "dispute_lost",
    "RESOLVED_BUYER_FAVOR": "dispute_lost",
    "ACCEPTED": "dispute_lost",
    "RESOLVED_SELLER_FAVOUR": "dispute_won",
    "RESOLVED_SELLER_FAVOR": "dispute_won",
    "CANCELED_BY_BUYER": "dispute_won",
    "DENIED": "dispute_won",
}
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_OUT_OF_REACH = (web.NotSent, web.OutcomeUnknown, ProviderRefused)

_tokens: dict[tuple[str, str, str], tuple[str, float]] = {}
_signers: dict[tuple[str, str | None], Signer] = {}

FACTS = ProviderFacts(
    "PayPal",
    {"paypal": Method("redirect", "PayPal's own page: PayPal balance, cards, and what PayPal offers the buyer")},
    (
        AccountField("client_id", "Developer Dashboard > Apps & Credentials > the app: Client ID"),
        AccountField("client_secret", "the same page: Secret key", is_secret=True),
        # Not needed to begin with: the notice address that a webhook is made for names the account.
        AccountField("webhook_id", "the same page > Webhooks: Webhook ID of the notice address", is_needed=False),
        AccountField("api_base", "only to speak to a stand-in for PayPal", is_needed=False, form="url"),
        AccountField(
            "webhook_root",
            "only with api_base: the root certificate a stand-in signs its messages under",
            is_needed=False,
            form="pem_certificate",
        ),
    ),
    # Those of ours that PayPal takes; BRL, CNY and MYR only between accounts of that country.
    currencies=frozenset({
        "AUD", "BRL", "CAD", "CHF", "CNY", "EUR", "GBP", "HKD", "JPY", "MYR", "NZD", "PHP", "SGD", "THB", "TWD", "USD",
    }),
    ask_after_seconds=(30, 90, 240, 600),  # the buyer may approve and close the window: only we can finish then
)  # fmt: skip


def start(payment: Payment, now: int) -> Started:
    """Open an order. A repeat under the same request id is answered with the same order."""
    if not _has_credentials(payment.account):
        raise ProviderRefused()
    return_url = payment.return_url or f"{payment.base_url}/"
    try:
        amount = {"currency_code": payment.currency, "value": to_value(payment.total_minor, payment.currency)}
    except ValueError:
        raise ProviderRefused() from None
    wanted = {
        "intent": "CAPTURE",
        "purchase_units": [{
            "custom_id": payment.payment_id,
            "invoice_id": payment.payment_id,
            "description": payment.title[:127] or payment.order_id,
            "amount": amount,
        }],
        "payment_source": {"paypal": {"experience_context": {
            "user_action": "PAY_NOW",
            "shipping_preference": "NO_SHIPPING",
            "return_url": return_url,
            "cancel_url": return_url,
        }}},
    }  # fmt: skip
    try:
        answer = _call(payment.account, "POST", "/v2/checkout/orders", wanted, payment.payment_id)
        order = answer.json()
    except (web.NotSent, web.OutcomeUnknown):
        raise ProviderUnavailable() from None
    if answer.status in (401, 409, 429) or answer.status >= 500:
        raise ProviderUnavailable()
    if answer.status not in (200, 201):
        raise ProviderRefused()
    pay_url = _link(order, "payer-action") or _link(order, "approve")
    if pay_url is None or _text(order.get("id")) is None:
        raise ProviderUnavailable()
    return Started(pay_url=pay_url, provider_ref=order["id"])


def read_notice(account: Account, headers: Any, raw_body: bytes, now: int) -> Notice | None:
    try:
        _verify(account, headers, raw_body, now)
        return _to_notice(json.loads(raw_body))
    except (*_BROKEN, web.NotSent, web.OutcomeUnknown):
        raise BadNotice() from None


def find(payment: Payment) -> Found:
    """Read the order; one that the buyer has approved is captured first. To be asked about open payments only."""
    try:
        order = _read_order(payment)
        if order.get("status") == "APPROVED":
            order = _capture(payment)
    except _OUT_OF_REACH:
        return Found("unknown")
    return _to_found(order)


def close(payment: Payment) -> Closed:
    """An order that nobody captures takes nobody's money: closed, unless it has been captured already."""
    try:
        found = _to_found(_read_order(payment))
    except _OUT_OF_REACH:
        return "unknown"
    return "closed" if found.state == "unpaid" else found.state


def refund(payment: Payment, refund_id: str, amount_minor: int, now: int) -> RefundResult:
    """PayPal forgets a request id after 45 days and would then pay again: its books are asked for our id first."""
    known = find_refund(payment, refund_id)
    if known is not None:
        return known
    try:
        amount = {"currency_code": payment.currency, "value": to_value(amount_minor, payment.currency)}
    except ValueError:
        return RefundResult("failed")
    wanted = {"amount": amount, "invoice_id": refund_id, "custom_id": payment.payment_id}
    path = f"/v2/payments/captures/{quote(payment.provider_txn or '', safe='')}/refund"
    try:
        answer = _call(payment.account, "POST", path, wanted, refund_id)
        made = answer.json()
    except _OUT_OF_REACH:
        return RefundResult("unknown")
    if answer.status in (200, 201):
        return _to_result(made)
    if answer.status in (400, 404, 422) and (said := _issues(made)) and not said & _NOT_JUDGED:
        return RefundResult("failed")
    return RefundResult("unknown")


def find_refund(payment: Payment, refund_id: str) -> RefundResult | None:
    if payment.provider_txn is None:
        return RefundResult("unknown")
    try:
        order = _read_order(payment)
        for unit in order["purchase_units"]:
            for one in (unit.get("payments") or {}).get("refunds") or []:
                if refund_id in (one.get("invoice_id"), one.get("custom_id")):
                    return _to_result(one)
    except (*_OUT_OF_REACH, LookupError, TypeError, AttributeError):
        return RefundResult("unknown")
    return None


def statement(account: Account, day: str) -> list[StatementLine]:
    """Every page of the transaction search of a day in UTC; PayPal needs up to three hours to have it complete."""
    if not _has_credentials(account):
        raise ProviderRefused()
    entries: list = []
    for number in range(1, _MAX_PAGES + 1):
        query = {
            "start_date": f"{day}T00:00:00Z",
            "end_date": f"{day}T23:59:59Z",
            "fields": "transaction_info",
            "page_size": PAGE_SIZE,
            "page": number,
        }
        try:
            answer = _call(account, "GET", "/v1/reporting/transactions?" + urlencode(query))
            page = answer.json()
            if answer.status == 200:
                if to_seconds(page["last_refreshed_datetime"]) <= to_seconds(query["end_date"]):
                    raise NoStatement()
                entries += page["transaction_details"]
                if number >= int(page["total_pages"]):
                    return lines_of_entries(entries, day)
        except (web.NotSent, web.OutcomeUnknown, *_BROKEN):
            raise ProviderUnavailable() from None
        if answer.status in (400, 404, 422):
            raise NoStatement()  # too recent, too old, or more than the search gives: the download has it
        if answer.status == 403:
            raise ProviderRefused()  # the app lacks the right "Transaction search"
        if answer.status != 200:
            raise ProviderUnavailable()
    raise NoStatement()


def parse_statement(account: Account, raw: bytes, day: str) -> list[StatementLine]:
    try:
        return lines_of_file(raw, day)
    except _BROKEN:
        raise BadStatement() from None


# notices


def _verify(account: Account, headers: Any, raw_body: bytes, now: int) -> None:
    """Raises: BadNotice or ValueError, whatever does not hold. What costs nothing is looked at first."""
    given = {name: headers.get(f"paypal-{name}") for name in ("transmission-id", "transmission-time", "cert-url")}
    webhook_id = account.settings.get("webhook_id", "").strip()
    if not webhook_id or not all(isinstance(one, str) and len(one) <= 512 for one in given.values()):
        raise BadNotice()
    if headers.get("paypal-auth-algo") != "SHA256withRSA":
        raise BadNotice()
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", given["transmission-id"]):
        raise BadNotice()
    age = now - to_seconds(given["transmission-time"])
    if not -AHEAD_SECONDS <= age <= OLDEST_SECONDS:
        raise BadNotice()
    signer = _signer(account, given["cert-url"], now)
    message = signed_message(given["transmission-id"], given["transmission-time"], webhook_id, raw_body)
    if not verify_sha256(signer.public_key_pem, message, headers.get("paypal-transmission-sig")):
        raise BadNotice()


def _signer(account: Account, url: str, now: int) -> Signer:
    """The key behind a certificate address, fetched once. Only an account of a stand-in may name another root."""
    root = account.settings.get("webhook_root")
    is_stand_in = bool(account.settings.get("api_base") and root)
    if not (is_address_below(url, _base(account)) if is_stand_in else is_paypals_address(url)):
        raise BadNotice()
    place = (url, root if is_stand_in else None)
    kept = _signers.get(place)
    if kept is not None and kept.valid_from <= now <= kept.valid_until:
        return kept
    answer = web.send("GET", url, headers={}, is_configured=is_stand_in)
    if answer.status != 200:
        raise BadNotice()
    signer = read_signer(answer.body, root.encode() if is_stand_in else _machine_roots(), now)
    if len(_signers) >= _MAX_SIGNERS:
        _signers.clear()
    _signers[place] = signer
    return signer


def _machine_roots() -> bytes:
    from botocore.httpsession import get_cert_path  # the trust store of every call of ours

    return _read_roots(get_cert_path(True))


@lru_cache(maxsize=2)
def _read_roots(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _to_notice(event: dict) -> Notice:
    event_id, event_type, thing = event["id"], event["event_type"], event["resource"]
    if not (isinstance(event_id, str) and 0 < len(event_id) <= 255 and isinstance(event_type, str)):
        raise BadNotice()
    if event_type.startswith("CUSTOMER.DISPUTE."):
        return _dispute_notice(event_id, event_type, thing)
    if event_type.startswith("PAYMENT.REFUND.") or event_type in _TAKEN_BACK:
        return _refund_notice(event_id, event_type, thing)
    kind: NoticeKind = "other"
    provider_txn = None
    unit = thing
    if event_type.startswith("CHECKOUT.ORDER."):
        unit = (thing.get("purchase_units") or [{}])[0]
        kind = "approved" if event_type == "CHECKOUT.ORDER.APPROVED" else "other"
    elif event_type.startswith("PAYMENT.CAPTURE."):
        provider_txn = _text(thing.get("id"))
        kind = _CAPTURE_KINDS.get(event_type.rpartition(".")[2], "other")
        if kind == "paid" and (thing.get("status") != "COMPLETED" or provider_txn is None):
            kind = "other"
    payment_id = _text(unit.get("custom_id")) or _text(unit.get("invoice_id"))
    amount_minor, currency = money_of(unit.get("amount"))
    return Notice("paypal", event_id, kind, payment_id, provider_txn, amount_minor, currency)


def _refund_notice(event_id: str, event_type: str, thing: dict) -> Notice:
    """A refund of ours, one made by hand at PayPal (then without a refund id), or money taken back by PayPal."""
    amount_minor, currency = money_of(thing.get("amount"))
    ids = [_text(thing.get("custom_id")), _text(thing.get("invoice_id"))]
    refund_id = next((one for one in ids if one and one.startswith("rfd_")), None)
    dispute = None
    if event_type == "PAYMENT.CAPTURE.REVERSED":
        kind: NoticeKind = "dispute_lost"
        dispute, refund_id = DisputeFacts(_needed(thing.get("id")), "reversed"), None
    else:
        state = _REFUND_STATES.get(thing.get("status") or "", "unknown")
        kind = {"succeeded": "refunded", "failed": "refund_failed"}.get(state, "other")
    return Notice(
        provider="paypal",
        event_id=event_id,
        kind=kind,
        payment_id=next((one for one in ids if one and one.startswith("pay_")), None),
        provider_txn=_capture_of(thing),
        amount_minor=amount_minor,
        currency=currency,
        refund_id=refund_id,
        dispute=dispute,
        provider_refund_id=_text(thing.get("id")) if dispute is None else None,
    )


def _dispute_notice(event_id: str, event_type: str, thing: dict) -> Notice:
    """Whatever happens before the end is the dispute opened once more: the same dispute id, perhaps a new deadline."""
    amount_minor, currency = money_of(thing.get("dispute_amount"))
    disputed = (thing.get("disputed_transactions") or [{}])[0]
    ids = [_text(disputed.get("custom")), _text(disputed.get("invoice_number"))]
    kind: NoticeKind = "dispute_opened"
    if event_type == "CUSTOMER.DISPUTE.RESOLVED" or thing.get("status") == "RESOLVED":
        # An outcome we do not know, a payout to both sides among them, is for a person: the order stays frozen.
        kind = _OUTCOMES.get((thing.get("dispute_outcome") or {}).get("outcome_code") or "", "other")
    elif event_type not in ("CUSTOMER.DISPUTE.CREATED", "CUSTOMER.DISPUTE.UPDATED"):
        kind = "other"
    due = thing.get("seller_response_due_date")
    return Notice(
        provider="paypal",
        event_id=event_id,
        kind=kind,
        payment_id=next((one for one in ids if one and one.startswith("pay_")), None),
        provider_txn=_text(disputed.get("seller_transaction_id")),
        amount_minor=amount_minor,
        currency=currency,
        dispute=DisputeFacts(
            _needed(thing.get("dispute_id")), _text(thing.get("reason")) or "", to_seconds(due) if due else None
        ),
    )


def _capture_of(refunded: dict) -> str | None:
    """The capture a refund belongs to: only a link names it."""
    path = urlsplit(_link(refunded, "up") or "").path
    before, _, last = path.rpartition("/")
    return _text(last) if before.endswith("/captures") else None


# orders and refunds as PayPal answers them


def _read_order(payment: Payment) -> dict:
    """Raises: OutcomeUnknown, also for an order that is not this payment's: its money is not ours to count."""
    if payment.provider_ref is None:
        raise web.OutcomeUnknown("nothing to ask about")
    answer = _call(payment.account, "GET", f"/v2/checkout/orders/{quote(payment.provider_ref, safe='')}")
    order = answer.json()
    if answer.status != 200 or not isinstance(order, dict):
        raise web.OutcomeUnknown("not answered")
    try:
        named = {unit.get("custom_id", payment.payment_id) for unit in order["purchase_units"]}
    except _BROKEN:
        raise web.OutcomeUnknown("not an order") from None
    if named != {payment.payment_id}:
        raise web.OutcomeUnknown("not the order of this payment")
    return order


def _capture(payment: Payment) -> dict:
    """Complete what the buyer approved. Answers the order as it is then."""
    path = f"/v2/checkout/orders/{quote(payment.provider_ref or '', safe='')}/capture"
    answer = _call(payment.account, "POST", path, {}, f"{payment.payment_id}-capture")
    order = answer.json()
    if answer.status in (200, 201) and isinstance(order, dict):
        return order
    said = _issues(order)
    if answer.status == 422 and "ORDER_ALREADY_CAPTURED" in said:
        return _read_order(payment)
    if answer.status == 422 and said & _NOT_CAPTURED:
        return {"status": "PAYER_ACTION_REQUIRED"}
    raise web.OutcomeUnknown("not captured, and not refused")


def _to_found(order: dict) -> Found:
    try:
        units = order.get("purchase_units") or []
        captures = [one for unit in units for one in (unit.get("payments") or {}).get("captures") or []]
        money = [one for one in captures if one["status"] in _CAPTURED]
        if money:
            sums = [money_of(one["amount"]) for one in money]
            currencies = {currency for _, currency in sums}
            if len(currencies) != 1 or any(amount is None for amount, _ in sums):
                return Found("unknown")
            return Found("paid", sum(amount for amount, _ in sums), currencies.pop(), _needed(money[0]["id"]))
        if any(one["status"] not in ("DECLINED", "FAILED") for one in captures):
            return Found("unknown")  # pending: the money is on its way, PayPal's event will tell
        is_open = order.get("status") in _OPEN
        return Found("unpaid" if is_open or (captures and order.get("status") == "COMPLETED") else "unknown")
    except (BadNotice, *_BROKEN):
        return Found("unknown")


def _to_result(thing: Any) -> RefundResult:
    """A status that PayPal invents later is `unknown`: asked again, never taken for a yes or a no."""
    if not (isinstance(thing, dict) and _text(thing.get("id"))):
        return RefundResult("unknown")
    status = thing.get("status")
    return RefundResult(_REFUND_STATES.get(status, "unknown") if isinstance(status, str) else "unknown", thing["id"])


def _issues(error: Any) -> set[str]:
    """The reasons in an error of PayPal's: its name and those of its details."""
    if not isinstance(error, dict):
        return set()
    details = error.get("details")
    reasons = details if isinstance(details, list) else []
    found = [error.get("name"), *(one.get("issue") for one in reasons if isinstance(one, dict))]
    return {one for one in found if isinstance(one, str)}


def _link(thing: Any, rel: str) -> str | None:
    links = thing.get("links") if isinstance(thing, dict) else None
    for one in links if isinstance(links, list) else []:
        if isinstance(one, dict) and one.get("rel") == rel and isinstance(one.get("href"), str):
            return one["href"]
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 255 else None


def _needed(value: Any) -> str:
    if _text(value) is None:
        raise BadNotice()
    return value


# calls


def _has_credentials(account: Account) -> bool:
    return bool(account.settings.get("client_id") and account.secrets.get("client_secret"))


def _base(account: Account) -> str:
    return (account.settings.get("api_base") or API_BASES[account.mode]).rstrip("/")


def _call(
    account: Account, method: str, path: str, wanted: dict | None = None, request_id: str | None = None
) -> web.Answer:
    """Raises: NotSent, OutcomeUnknown; payments.provider_refused when PayPal does not know the credentials."""
    headers = {"Authorization": f"Bearer {_token(account)}", "Accept": "application/json"}
    body = None
    if wanted is not None:
        headers |= {"Content-Type": "application/json", "Prefer": "return=representation"}
        body = json.dumps(wanted, ensure_ascii=False, separators=(",", ":")).encode()
    if request_id is not None:
        headers["PayPal-Request-Id"] = request_id
    is_configured = bool(account.settings.get("api_base"))
    answer = web.send(method, _base(account) + path, headers=headers, body=body, is_configured=is_configured)
    if answer.status == 401:
        _tokens.pop(_place_of_token(account), None)  # taken back before its time: the next call gets another
    return answer


def _place_of_token(account: Account) -> tuple[str, str, str]:
    return _base(account), account.settings["client_id"], account.secrets["client_secret"]


def _token(account: Account) -> str:
    """The access token of an account, kept by this process until shortly before it runs out."""
    if not _has_credentials(account):
        raise web.NotSent("no credentials")
    place = _place_of_token(account)
    token, until = _tokens.get(place, ("", 0.0))
    if token and web.wall_clock() < until:
        return token
    pair = base64.b64encode(f"{place[1]}:{place[2]}".encode()).decode()
    headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/x-www-form-urlencoded"}
    answer = web.send(
        "POST",
        f"{place[0]}/v1/oauth2/token",
        headers=headers,
        body=b"grant_type=client_credentials",
        is_configured=bool(account.settings.get("api_base")),
    )
    if answer.status in (400, 401, 403):
        raise ProviderRefused()
    found = answer.json()
    token = found.get("access_token") if answer.status == 200 and isinstance(found, dict) else None
    if not (isinstance(token, str) and re.fullmatch(r"[\x21-\x7e]{1,4096}", token)):
        raise web.NotSent("no access token")
    lasts = found.get("expires_in")
    kept_seconds = lasts - TOKEN_SLACK_SECONDS if type(lasts) is int else 0
    if len(_tokens) >= 64:
        _tokens.clear()
    _tokens[place] = (token, web.wall_clock() + kept_seconds)
    return token
