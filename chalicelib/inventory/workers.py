"""Everything about inventory that is not HTTP: settling abandoned takes, and the figures of held keys.

Either timer keeps its promise alone when the change stream is down.
"""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.aws.rows import from_row
from chalicelib.core import clock, settings
from chalicelib.edge.observe import log
from chalicelib.inventory.figures import Change, count_changes, recount_held
from chalicelib.inventory.sweep_takes import sweep_takes

bp = Blueprint(__name__)


@bp.on_dynamodb_record(stream_arn=settings.stream_arn_placeholder(), batch_size=100, name="on_order_changed_count_held")
def on_order_changed_count_held(event):
    """Move the held figures with the orders. Raises when they could not be written: the batch comes again."""
    return count_records(event.to_dict()["Records"])


def count_records(records: list[dict]) -> dict:
    """Count the order records of one batch; records of other rows are passed over."""
    changes = [
        Change(
            sequence=record["dynamodb"]["SequenceNumber"],
            recorded_at=int(record["dynamodb"].get("ApproximateCreationDateTime") or clock.now()),
            before=from_row(record["dynamodb"].get("OldImage") or {}),
            after=from_row(record["dynamodb"].get("NewImage") or {}),
        )
        for record in records
        if record["dynamodb"]["Keys"]["sk"].get("S") == "O"
    ]
    if changes:
        count_changes(changes)
    return {"batchItemFailures": []}


@bp.schedule("rate(1 minute)", name="every_minute_sweep_takes")
def every_minute_sweep_takes(event):
    """Settle takes whose buyer's process never came back."""
    swept = sweep_takes(clock.now())
    if swept.shelves:
        log.info(
            "takes swept", extra={"shelves": swept.shelves, "dropped": swept.dropped, "given_back": swept.given_back}
        )


@bp.schedule("rate(1 minute)", name="every_minute_recount_held")
def every_minute_recount_held(event):
    """Count the unpaid orders themselves and correct the figures."""
    corrected = recount_held(clock.now())
    if corrected:
        log.info("held figures corrected", extra={"products": corrected})
