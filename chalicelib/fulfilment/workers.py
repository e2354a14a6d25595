"""Delivery that is not HTTP, and the one function that may open sealed keys."""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.aws.due import list_due
from chalicelib.aws.queues import MAX_DELAY_SECONDS, send
from chalicelib.core import clock, settings
from chalicelib.core.errors import Refused
from chalicelib.edge.observe import failure_facts, log
from chalicelib.edge.worker import each_due, each_message

bp = Blueprint(__name__)


@bp.lambda_function(name="reveal_keys")
def reveal_keys(event, context):
    """Open an order's keys for the API function, which has no right to decrypt.

    `event`: {order_id, by, source_ip, user_agent}. Answers {"keys": […]} or {"refused": {…}}; never raises with a
    cause, because the invoker's log would keep it.
    """
    from chalicelib.fulfilment.reveal import reveal_order

    try:
        return {"keys": reveal_order(**event, now=clock.now())}
    except Refused as refused:
        return {"refused": refused.facts()}
    except Exception as error:
        log.error("reveal failed", extra={"order_id": event.get("order_id"), **failure_facts(error)})
        return {"refused": None}


@bp.on_sqs_message(queue=settings.queue_name("delivery-due"), batch_size=10, name="on_delivery_due")
def on_delivery_due(event):
    """Deliver what is due; send on what is not yet."""
    return each_message(event.to_dict()["Records"], deliver_message, "delivery-due")


def deliver_message(message: dict) -> None:
    from chalicelib.fulfilment.deliver import deliver_due

    now = clock.now()
    at = deliver_due(message["order_id"], now)
    if at is not None:
        send("delivery-due", {"order_id": message["order_id"]}, delay_seconds=min(MAX_DELAY_SECONDS, at - now))


@bp.schedule("rate(1 minute)", name="every_minute_deliver_due")
def every_minute_deliver_due(event):
    """Deliver every order whose minute has come, without any queue."""
    from chalicelib.fulfilment.deliver import deliver_due

    now = clock.now()
    done, failed = each_due(list_due("deliver", now), lambda row: deliver_due(row["pk"].removeprefix("O#"), now))
    log.info("deliveries looked through", extra={"done": done, "failed": failed})
