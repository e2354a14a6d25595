"""Everything about orders that is not HTTP: the change stream as outbox, the expiry queue, the minute timer.

The stream is the fast path only. `every_minute_release_unpaid` alone keeps the promise when stream or queue are down.
"""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.aws.queues import MAX_DELAY_SECONDS, send, send_all
from chalicelib.aws.rows import from_row
from chalicelib.core import clock, settings
from chalicelib.edge.observe import count, log
from chalicelib.edge.worker import each_message
from chalicelib.ledger.workers import post_records
from chalicelib.orders.order_row import to_order
from chalicelib.orders.release_unpaid import release_all_due, release_due
from chalicelib.orders.rules import follow_ups

bp = Blueprint(__name__)


@bp.on_dynamodb_record(stream_arn=settings.stream_arn_placeholder(), batch_size=100, name="on_order_changed")
def on_order_changed(event):
    """Send the messages that changes call for, then post them to the ledger. Raises when the queue did not take them:
    the batch comes again. The messages are first, because they may come twice.
    """
    records, now = event.to_dict()["Records"], clock.now()
    forward_changes(records, now)
    return post_records(records, now)


def forward_changes(records: list[dict], now: int) -> dict:
    """Messages by queue for a batch of change records; records of other rows are passed over."""
    by_fact: dict[str, list[tuple[dict, int]]] = {}
    for record in records:
        change = record["dynamodb"]
        if change["Keys"]["sk"].get("S") != "O" or "NewImage" not in change:
            continue
        new, old = from_row(change["NewImage"]), from_row(change.get("OldImage") or {})
        if new["st"] == "fenced":
            continue
        before = to_order(old) if old and old["st"] != "fenced" else None
        if new["st"] == "needs_review" != old.get("st"):
            count("OrderNeedsReview")
        for fact, message, due_at in follow_ups(before, to_order(new)):
            by_fact.setdefault(fact, []).append((message, due_at - now))
    for fact, messages in by_fact.items():
        send_all(fact, messages)
    return {"batchItemFailures": []}


@bp.on_sqs_message(queue=settings.queue_name("order-expiry"), batch_size=10, name="on_order_expiry")
def on_order_expiry(event):
    """Expire unpaid orders whose time has come, together; ask about the others now and then, in case a notice was lost,
    and send them on towards theirs.
    """
    return expire_messages(event.to_dict()["Records"], clock.now())


def expire_messages(records: list[dict], now: int) -> dict:
    """One transaction for a whole batch of messages; only those that could not be settled are reported back."""
    order_ids: dict[str, str] = {}  # message id -> order id
    steps: dict[str, int] = {}

    def read(message: dict, message_id: str) -> None:
        order_ids[message_id] = message["order_id"]
        steps[message["order_id"]] = message.get("step", 0)

    answer = each_message(records, read, "order-expiry", with_id=True)
    released = release_due(list(order_ids.values()), now, steps)
    for order_id, at in released.later.items():
        message = {"order_id": order_id, "step": released.steps.get(order_id, steps[order_id])}
        send("order-expiry", message, delay_seconds=min(MAX_DELAY_SECONDS, at - now))
    answer["batchItemFailures"] += [
        {"itemIdentifier": message_id} for message_id, order_id in order_ids.items() if order_id in released.failed
    ]
    return answer


@bp.schedule("rate(1 minute)", name="every_minute_release_unpaid")
def every_minute_release_unpaid(event):
    """Expire what the queue did not: every unpaid order whose hold ended since the last settled instant."""
    released = release_all_due(clock.now())
    log.info("unpaid orders looked through", extra={"later": len(released.later), "failed": len(released.failed)})
