"""The ledger outside of requests: posting with the change stream, posting what the stream missed, proving each day.

`post_records` is the ledger's part of `on_order_changed`: a stream has room for two readers (decision 0009). The stream
is the fast path only. `every_hour_post_ledger` alone keeps the ledger complete when the stream is down.
"""

from __future__ import annotations

from typing import Any

from chalice import Blueprint, Cron

from chalicelib.aws.rows import from_row
from chalicelib.balance.store import read_balance_row
from chalicelib.balance.watch_low import watch_change
from chalicelib.core import clock
from chalicelib.edge.observe import log
from chalicelib.edge.worker import failure_of
from chalicelib.ledger.post_ledger import post_change, post_missing
from chalicelib.ledger.prove_ledger import prove_ledger
from chalicelib.orders.order_row import to_order

bp = Blueprint(__name__)


def post_records(records: list[dict], now: int) -> dict:
    """Post what changes of orders call for, and tell shops whose balance fell low; records of other rows are passed
    over.

    Returns: the partial batch answer: the first record that fails, from which the batch comes again.
    """
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
