"""Refunds that are not HTTP: the queue is the fast path, the minute timer over what is due suffices alone."""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.aws.due import list_due
from chalicelib.aws.queues import MAX_DELAY_SECONDS, send
from chalicelib.core import clock, settings
from chalicelib.edge.observe import log
from chalicelib.edge.worker import each_due, each_message
from chalicelib.refunds.finish_refund import finish_refunds, next_try, recheck_refund

bp = Blueprint(__name__)


@bp.on_sqs_message(queue=settings.queue_name("refund-due"), batch_size=10, name="on_refund_due")
def on_refund_due(event):
    """Settle the refunds of an order; while the provider does not know, come back at the next try."""
    return each_message(event.to_dict()["Records"], settle_message, "refund-due")


def settle_message(message: dict) -> None:
    now = clock.now()
    if message.get("recheck"):
        recheck_refund(message["order_id"], message["recheck"], now)
    order = finish_refunds(message["order_id"], now)
    at = next_try(order) if order else None
    if at is not None:
        send("refund-due", {"order_id": message["order_id"]}, delay_seconds=min(MAX_DELAY_SECONDS, at - now))


@bp.schedule("rate(1 minute)", name="every_minute_finish_refunds")
def every_minute_finish_refunds(event):
    """Settle every refund whose next try has come, without any queue."""
    now = clock.now()
    done, failed = each_due(list_due("refund", now), lambda row: finish_refunds(row["pk"].removeprefix("O#"), now))
    log.info("refunds looked through", extra={"done": done, "failed": failed})
