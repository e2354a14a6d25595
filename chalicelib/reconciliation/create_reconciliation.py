"""Create a reconciliation, and start it once its file is there. Called by the operator's routes; reads no statement."""

from __future__ import annotations

from typing import Any

from chalicelib.aws import queues, statement_files
from chalicelib.payments.errors import BadStatement, UnknownProvider
from chalicelib.payments.providers import account_with, adapter_named
from chalicelib.reconciliation import store
from chalicelib.reconciliation.errors import DayNotOver, NotUploaded, StatementTooLarge
from chalicelib.reconciliation.model import GIVE_UP_SECONDS, MAX_FILE_BYTES, RESUME_SECONDS, Source
from chalicelib.reconciliation.rules import day_of


def create_reconciliation(
    reconciliation_id: str, *, provider: str, account_id: str | None, day: str, source: Source, by: str, now: int
) -> dict[str, Any]:  # fmt: skip
    """A new reconciliation, queued or awaiting its file; a repeat of the request answers the one it created first.

    Raises: payments.unknown_provider, payments.account_not_found, reconciliation.day_not_over
    """
    # 1 gather
    try:
        facts = adapter_named(provider).FACTS
    except UnknownProvider:
        raise UnknownProvider(field="provider") from None
    account_with(provider, account_id)
    # 2 decide
    if day_of(day, facts.day_offset_hours).end > now:
        raise DayNotOver(field="day")
    # 3 apply: the row first; if the message is lost, the minute timer finds the row
    is_file = source == "file"
    row = {
        "reconciliation_id": reconciliation_id, "provider": provider, "account_id": account_id, "day": day,
        "source": source, "status": "awaiting_upload" if is_file else "queued", "tries": 0, "next_try_at": now,
        "give_up_at": now + GIVE_UP_SECONDS, "created_at": now, "created_by": by,
    }  # fmt: skip
    stored = store.put_reconciliation(row, None if is_file else now + RESUME_SECONDS)
    if stored["status"] == "queued":
        queues.send("reconciliation-due", {"reconciliation_id": reconciliation_id})
    return stored


def start_reconciliation(reconciliation_id: str, now: int) -> dict[str, Any]:
    """Begin with the uploaded file. Starting again changes nothing.

    Raises: reconciliation.not_found, reconciliation.not_uploaded, reconciliation.file_too_large,
      payments.bad_statement: the file is empty
    """
    row = store.get_reconciliation(reconciliation_id)
    if row["status"] != "awaiting_upload":
        return row
    upload = statement_files.find_statement(reconciliation_id)
    if upload is None:
        raise NotUploaded()
    if upload.size > MAX_FILE_BYTES:
        raise StatementTooLarge()
    if upload.size == 0:
        raise BadStatement("The file is empty.")
    store.start(
        reconciliation_id, etag=upload.etag, size=upload.size, now=now, give_up_at=now + GIVE_UP_SECONDS,
        due=now + RESUME_SECONDS,
    )  # fmt: skip
    queues.send("reconciliation-due", {"reconciliation_id": reconciliation_id})
    return store.get_reconciliation(reconciliation_id)
