"""The ledger outside of requests: posting with the change stream, posting what the stream missed, proving each day.

The stream is the fast path only. `every_hour_post_ledger` alone keeps the ledger complete when the stream is down.
"""

from __future__ import annotations

from typing import Any

from chalice import Blueprint, Cron

from chalicelib.aws.rows import from_row
from chalicelib.balance.store import read_balance_row
from chalicelib.balance.watch_low import watch_change
from chalicelib.core import clock, settings
from chalicelib.edge.observe import log
from chalicelib.edge.worker import failure_of
from chalicelib.ledger.post_ledger import post_change, post_missing
from chalicelib.ledger.prove_ledger import prove_ledger
from chalicelib.orders.order_row import to_order

bp = Blueprint(__name__)


@bp.on_dynamodb_record(
    stream_arn=settings.stream_arn_placeholder(), batch_size=100, name="on_order_changed_post_ledger"
)
def on_order_changed_post_ledger(event):
    """Post what changes of orders call for, and tell shops whose balance fell low. The first record that fails is
    reported; the batch comes again from there.
    """
    return post_records(event.to_dict()["Records"], clock.now())


def post_records(records: list[dict], now: int) -> dict:
    """Work a batch of change records off in its order; records of other rows are passed over."""
    for record in records:
        change = record["dynamodb"]
        try:
            _post_record(change, now)
        except Exception as error:
            log.error("change not posted", extra={"row": change["Keys"]["pk"].get("S"), **failure_of(error)})
            return {"batchItemFailures": [{"itemIdentifier": change["SequenceNumber"]}]}
    return {"batchItemFailures": []}


def _post_record(change: dict[str, Any], now: int) -> None:
    pk, sk = change["Keys"]["pk"].get("S", ""), change["Keys"]["sk"].get("S", "")
    if "NewImage" not in change:
        return
    if sk == "O" and pk.startswith("O#"):
        new, old = from_row(change["NewImage"]), from_row(change.get("OldImage") or {})
        if new["st"] != "fenced":
            before = to_order(old) if old and old["st"] != "fenced" else None
            post_change(before, to_order(new), now)
    elif pk.startswith("BALANCE#") and "#" not in sk:
        new, old = from_row(change["NewImage"]), from_row(change.get("OldImage") or {})
        watch_change(read_balance_row(old) if old else None, read_balance_row(new), now)


@bp.schedule("rate(1 hour)", name="every_hour_post_ledger")
def every_hour_post_ledger(event):
    """Post what the stream did not: the orders whose turn it is in this hour."""
    posted = post_missing(clock.now())
    if posted:
        log.info("missing sets posted", extra={"sets": posted})


@bp.schedule(Cron(30, 2, "*", "*", "?", "*"), name="every_day_prove_ledger")
def every_day_prove_ledger(event):
    """Prove the days that are over, and raise an alarm where they do not balance."""
    proved = prove_ledger(clock.now())
    log.info("days proved", extra={"days": [one.day for one in proved]})
