"""The sandbox: a provider of our own for stages that never take real money. It behaves like a foreign one.

It has its own books (`sandbox_store`), and speaks to us only through signed notices:

    POST /v1/notices/sandbox
    Sandbox-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<raw body>", key derived from the root secret>
    {"id": event id, "type": "payment.paid" | "payment.failed", "created": unix seconds,
     "data": {"payment_id", "txn", "amount_minor", "currency"}}

A signature is good for 300 seconds to either side. A repeat carries the same event id under a fresh signature. Notices
are made by `payments/sandbox.py`; here they are only read.
"""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.secrets import derived_key
from chalicelib.core import settings
from chalicelib.core.errors import Busy
from chalicelib.payments import sandbox_store as books
from chalicelib.payments.errors import BadNotice, BadStatement, NoStatement, UnknownProvider
from chalicelib.payments.model import (
    Account,
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
from chalicelib.payments.timed_signature import sign, verify

SIGNATURE_HEADER = "Sandbox-Signature"
_KINDS: dict[Any, NoticeKind] = {"payment.paid": "paid", "payment.failed": "failed"}
_OUT_OF_REACH = (BotoCoreError, ClientError, Busy)

FACTS = ProviderFacts(
    "Sandbox",
    {"page": Method("redirect", "a page with a button for every outcome")},
    keeps_session=False,
    can_close=False,
    ask_after_seconds=(),
)


def start(payment: Payment, now: int) -> Started:
    if not settings.has_sandbox():
        raise UnknownProvider()
    # The page knows the order, not its token: the way back travels behind '#', which no server ever sees.
    own_page, _, token = (payment.return_url or "").rpartition("/")
    fragment = f"#o={token}" if own_page == f"{payment.base_url}/o" else ""
    return Started(pay_url=f"{payment.base_url}/sandbox/pay/{payment.payment_id}{fragment}")


def read_notice(account: Account, headers: Any, raw_body: bytes, now: int) -> Notice | None:
    if not settings.has_sandbox():
        raise BadNotice()
    verify(headers.get(SIGNATURE_HEADER.lower()), raw_body, [_key()], now)
    try:
        event = json.loads(raw_body)
        data = event["data"]
        return Notice(
            provider="sandbox",
            event_id=event["id"],
            kind=_KINDS.get(event["type"], "other"),
            payment_id=data["payment_id"],
            provider_txn=data["txn"],
            amount_minor=data["amount_minor"],
            currency=data["currency"],
        )
    except (ValueError, RecursionError, LookupError, TypeError):
        raise BadNotice() from None


def find(payment: Payment) -> Found:
    try:
        capture = books.find_capture(payment.payment_id)
    except _OUT_OF_REACH:
        return Found("unknown")
    if capture is None:
        return Found("unpaid")
    return Found("paid", capture.captured_minor, capture.currency, capture.txn)


def close(payment: Payment) -> Closed:
    """The sandbox takes money for as long as its page is open: what comes late is a late payment."""
    found = find(payment)
    return "paid" if found.state == "paid" else "unknown"


def refund(payment: Payment, refund_id: str, amount_minor: int, now: int) -> RefundResult:
    if payment.provider_txn is None or amount_minor < 1:
        return RefundResult("failed")
    try:
        booked_minor = books.book_refund(payment.payment_id, payment.provider_txn, refund_id, amount_minor)
    except _OUT_OF_REACH:
        return RefundResult("unknown")
    if booked_minor is None:
        return RefundResult("failed")
    # Another amount under the same id: money did move, only not as asked. Neither yes nor no is true.
    return _refunded(refund_id) if booked_minor == amount_minor else RefundResult("unknown")


def find_refund(payment: Payment, refund_id: str) -> RefundResult | None:
    try:
        capture = books.find_capture(payment.payment_id)
    except _OUT_OF_REACH:
        return RefundResult("unknown")
    return _refunded(refund_id) if capture is not None and refund_id in capture.refunds else None


def statement(account: Account, day: str) -> list[StatementLine]:
    raise NoStatement()


def parse_statement(account: Account, raw: bytes, day: str) -> list[StatementLine]:
    raise BadStatement()


def sign_notice(raw_body: bytes, now: int) -> dict[str, str]:
    """The headers under which the sandbox sends a notice."""
    return {"Content-Type": "application/json", SIGNATURE_HEADER: sign(raw_body, _key(), now)}


def _refunded(refund_id: str) -> RefundResult:
    return RefundResult("succeeded", f"sbr_{refund_id}")


def _key() -> bytes:
    return derived_key("sandbox-notice")
