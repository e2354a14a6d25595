"""Push on reconciliations that stand still or whose next try has come. Called by the minute timer."""

from __future__ import annotations

from chalicelib.aws import queues
from chalicelib.aws.due import list_due
from chalicelib.edge.observe import count, log
from chalicelib.reconciliation import store
from chalicelib.reconciliation.errors import NoSuchReconciliation
from chalicelib.reconciliation.model import RESUME_SECONDS


def resume_reconciliations(now: int) -> int:
    """Send a message for each that is due; answers how many those were."""
    sent = 0
    for found in list_due(store.DUE_KIND, now):
        reconciliation_id = found["sk"]
        try:
            row = store.get_reconciliation(reconciliation_id)
        except NoSuchReconciliation:
            continue
        if row["status"] != "posting" and now > row["give_up_at"] + RESUME_SECONDS:
            if store.fail(reconciliation_id, "gave_up", now):
                log.error("reconciliation failed", extra={"reconciliation": reconciliation_id, "problem": "gave_up"})
                count("ReconciliationFailed")
        # Its next turn is noted first: of two timers at once only one goes on.
        elif store.push_on(reconciliation_id, found["due_at"], now + RESUME_SECONDS):
            queues.send("reconciliation-due", {"reconciliation_id": reconciliation_id})
            sent += 1
    return sent
