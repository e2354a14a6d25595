"""What the buttons of the sandbox pay page do: take the money in the sandbox's books, then tell us by signed notices.

    paid          captured, one notice              paid_twice    captured, one notice twice, then as a new event
    failed        nothing captured, one notice      wrong_amount  one minor unit too much captured, one notice
    paid_late     captured and told two seconds after the order's hold has ended

A payment is captured once: every later "paid" of any kind repeats the notice about the first. A notice that is not
taken goes to the queue and is sent again with growing pauses, as providers do. Never changes an order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from chalicelib.aws import queues
from chalicelib.balance.rules import is_top_up_id
from chalicelib.balance.top_up_store import find_top_up
from chalicelib.core import settings
from chalicelib.core.ids import attempt_of_payment, new_id, order_id_of_payment
from chalicelib.edge import web
from chalicelib.orders import store as orders
from chalicelib.payments import sandbox_store as books
from chalicelib.payments.adapters.sandbox import sign_notice
from chalicelib.payments.errors import NoSuchPayment
from chalicelib.payments.model import SandboxOutcome

LATE_SECONDS = 2
TOP_UP_SECONDS = 3_600  # after which one counts as paid late
MAX_ATTEMPTS = 16  # about two hours of trying


class NoticeNotTaken(Exception):
    """Our own endpoint never took a notice; the message belongs in the dead-letter queue."""


@dataclass(frozen=True)
class Played:
    """`sent`: notices our endpoint took; `notice_at`: when the first is, or will be, sent."""

    sent: int
    notice_at: int


def play(payment_id: str, outcome: SandboxOutcome, *, base_url: str, now: int) -> Played:
    """Let the sandbox do what a buyer's click asks for.

    Raises: payments.not_found when no order awaits this payment from the sandbox.
    """
    awaited = _awaited(payment_id)
    late_at = awaited.expires_at + LATE_SECONDS
    if outcome == "paid_late" and now < late_at:
        _send_later(_message(payment_id, "paid", None, base_url), late_at, now)
        return Played(sent=0, notice_at=late_at)

    if outcome == "failed":
        messages = [_message(payment_id, "failed", new_id("sbe", now), base_url)]
    else:
        amount_minor = awaited.amount_minor + (1 if outcome == "wrong_amount" else 0)
        capture = books.capture(payment_id, amount_minor, awaited.currency, now)
        event_ids = [capture.event_id]
        if outcome == "paid_twice":
            event_ids += [capture.event_id, new_id("sbe", now)]
        messages = [_message(payment_id, "paid", event_id, base_url) for event_id in event_ids]

    sent = 0
    for message in messages:
        if _deliver(message, now):
            sent += 1
        else:
            _send_later(message, now + _pause_seconds(0), now)
    return Played(sent=sent, notice_at=now)


def send_due_notice(message: dict, now: int) -> None:
    """Handle one queued notice: wait on, capture and send, or send again later.

    Raises: NoticeNotTaken after the last attempt.
    """
    if now < message["at"]:
        _send_later(message, message["at"], now)
    elif not _deliver(message, now):
        attempt = message["attempt"] + 1
        if attempt >= MAX_ATTEMPTS:
            raise NoticeNotTaken()
        _send_later({**message, "attempt": attempt}, now + _pause_seconds(attempt), now)


@dataclass(frozen=True)
class Awaited:
    """What somebody is to pay at the sandbox: an order's total, or a top-up."""

    amount_minor: int
    currency: str
    expires_at: int


def _awaited(payment_id: str) -> Awaited:
    if is_top_up_id(payment_id):
        top_up = find_top_up(payment_id)
        if top_up is None or top_up.provider != "sandbox":
            raise NoSuchPayment()
        return Awaited(top_up.amount_minor, top_up.currency, top_up.created_at + TOP_UP_SECONDS)
    order_id = order_id_of_payment(payment_id)
    order = orders.find_order(order_id) if order_id else None
    tried = order.attempt(attempt_of_payment(payment_id)) if order else None
    if tried is None or tried.provider != "sandbox":
        raise NoSuchPayment()
    return Awaited(order.total_minor, order.currency, order.expires_at)


def _message(payment_id: str, kind: str, event_id: str | None, base_url: str) -> dict:
    """`base_url` travels along because a deployed stage without a domain learns its address only from a request."""
    return {"payment_id": payment_id, "kind": kind, "event_id": event_id, "base_url": base_url, "at": 0, "attempt": 0}


def _send_later(message: dict, at: int, now: int) -> None:
    queues.send("sandbox-notice-due", {**message, "at": at}, delay_seconds=at - now)


def _pause_seconds(attempt: int) -> int:
    return min(queues.MAX_DELAY_SECONDS, 2 ** (attempt + 1))


def _deliver(message: dict, now: int) -> bool:
    """Send one notice; whether our endpoint took it. Signed anew each time, so a late repeat is still fresh."""
    payment_id, data = message["payment_id"], {"txn": None, "amount_minor": None, "currency": None}
    event_id, created = message["event_id"], now
    if message["kind"] == "paid":
        capture = books.find_capture(payment_id)
        if capture is None:  # paid late: this is the moment the money moves
            awaited = _awaited(payment_id)
            capture = books.capture(payment_id, awaited.amount_minor, awaited.currency, now)
        data = {"txn": capture.txn, "amount_minor": capture.captured_minor, "currency": capture.currency}
        event_id, created = event_id or capture.event_id, capture.captured_at
    notice = {
        "id": event_id,
        "type": f"payment.{message['kind']}",
        "created": created,
        "data": {"payment_id": payment_id, **data},
    }
    raw_body = json.dumps(notice, separators=(",", ":")).encode()
    base_url = message["base_url"]
    try:
        answer = web.send(
            "POST",
            f"{base_url}/v1/notices/sandbox",
            headers=sign_notice(raw_body, now),
            body=raw_body,
            is_configured=base_url == settings.base_url(),
        )
    except (web.NotSent, web.OutcomeUnknown):
        return False
    return 200 <= answer.status < 300
