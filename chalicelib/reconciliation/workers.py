"""What reconciliations do outside of a request.

Functions: on_reconciliation_due (queue reconciliation-due), every_minute_resume_reconciliations (timer). Messages carry
an id, never a line of a statement.
"""

from __future__ import annotations

from typing import Any

from chalice import Blueprint

from chalicelib.core import clock, settings
from chalicelib.edge.observe import log
from chalicelib.edge.worker import each_message

bp = Blueprint(__name__)


@bp.on_sqs_message(queue=settings.queue_name("reconciliation-due"), batch_size=1, name="on_reconciliation_due")
def on_reconciliation_due(event: Any) -> dict:
    """Bring a reconciliation on by one step."""
    from chalicelib.reconciliation.reconcile import reconcile

    records = event.to_dict()["Records"]
    return each_message(
        records, lambda message: reconcile(message["reconciliation_id"], clock.now()), "reconciliation-due"
    )


@bp.schedule("rate(1 minute)", name="every_minute_resume_reconciliations")
def every_minute_resume_reconciliations(event: Any) -> dict:
    """Push on what stands still, and ask again for statements that were not there."""
    from chalicelib.reconciliation.resume_reconciliations import resume_reconciliations

    sent = resume_reconciliations(clock.now())
    log.info("reconciliations resumed", extra={"sent": sent})
    return {"sent": sent}
