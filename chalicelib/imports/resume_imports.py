"""Push on imports that stand still: messages lost, a queue down, a worker killed. Called by the minute timer."""

from __future__ import annotations

from chalicelib.aws import queues
from chalicelib.aws.due import list_due
from chalicelib.imports import store
from chalicelib.imports.finish_import import finish_import
from chalicelib.imports.plan_import import send_missing_chunks
from chalicelib.imports.rules import RESEND_SECONDS, RESUME_SECONDS, next_step


def resume_imports(now: int) -> int:
    """Look at every import that is due, and do what it waits for; returns how many were looked at."""
    looked_at = 0
    for found in list_due(store.DUE_KIND, now):
        import_id = found["pk"].removeprefix("IMP#")
        row = store.get_import(import_id)
        step = next_step(row)
        # Its next turn is noted first: of two timers at once only one goes on.
        due = now + (RESEND_SECONDS if step == "send" else RESUME_SECONDS)
        if step == "nothing" or not store.push_on(import_id, found["due_at"], due=due, watched=row["chunks_done"]):
            continue
        looked_at += 1
        if step == "plan":
            queues.send("import-started", {"import_id": import_id})
        elif step == "send":
            send_missing_chunks(row, now)
        elif step == "finish":
            finish_import(import_id, now)
    return looked_at
