"""What payments do outside of a request: notices that came before their order, and the sandbox's delayed ones.

Functions: every_minute_match_notices (timer), on_sandbox_notice_due and on_payment_close (queues).
"""

from __future__ import annotations

from typing import Any

from chalice import Blueprint

from chalicelib.aws.due import list_due
from chalicelib.aws.queues import MAX_DELAY_SECONDS, send
from chalicelib.core import clock, settings
from chalicelib.edge.observe import count, log
from chalicelib.edge.worker import each_due, each_message
from chalicelib.payments import sandbox

bp = Blueprint(__name__)


@bp.on_sqs_message(queue=settings.queue_name("sandbox-notice-due"), batch_size=10, name="on_sandbox_notice_due")
def on_sandbox_notice_due(event: Any) -> dict:
    """Send the sandbox notices whose time has come. Repeating a message repeats a notice, which is harmless."""
    records = event.to_dict()["Records"]
    return each_message(records, lambda message: sandbox.send_due_notice(message, clock.now()), "sandbox-notice-due")


@bp.on_sqs_message(queue=settings.queue_name("payment-close"), batch_size=10, name="on_payment_close")
def on_payment_close(event: Any) -> dict:
    """Close what nobody should pay any more, or ask about it where the message says so; a provider out of reach is
    tried again a few times, each time later.
    """
    return each_message(event.to_dict()["Records"], close_message, "payment-close")


def close_message(message: dict) -> None:
    from chalicelib.payments.ask_payments import ask_payments
    from chalicelib.payments.close_payments import MAX_TRIES, RETRY_SECONDS, close_payments

    order_id, tries = message["order_id"], message.get("tries", 0) + 1
    done = ask_payments(order_id, clock.now()) if message.get("ask") else close_payments(order_id)
    if not done and tries < MAX_TRIES:
        pause = min(MAX_DELAY_SECONDS, RETRY_SECONDS * 2 ** (tries - 1))
        send("payment-close", {**message, "tries": tries}, delay_seconds=pause)


@bp.schedule("rate(1 minute)", name="every_minute_match_notices")
def every_minute_match_notices(event: Any) -> None:
    """Look again for the orders of notices that came first; after a day an alarm calls for a person."""
    from chalicelib.payments.receive_notice import match_notice

    now = clock.now()

    def match(row: dict[str, str]) -> None:
        if match_notice(row["pk"], row["sk"], now) == "abandoned":
            log.error("notice without an order", extra={"notice": row["pk"]})
            count("NoticeWithoutOrder")

    done, failed = each_due(list_due("notice", now), match)
    log.info("unmatched notices looked through", extra={"done": done, "failed": failed})
