"""Finish an import when its last chunk is done: the report of refused lines, the status, and the file's removal.

Called after every chunk and by the minute timer. A crash in between is made good by the next call.
"""

from __future__ import annotations

import csv
import io
import tempfile
from typing import Any, BinaryIO

from chalicelib.aws import files
from chalicelib.catalog import store as catalog
from chalicelib.imports import store
from chalicelib.ledger import store as ledger
from chalicelib.ledger.rules import goods_set

_IN_MEMORY_BYTES = 1024 * 1024


def finish_import(import_id: str, now: int) -> None:
    """Complete an import whose chunks are all done; of one that has ended, remove the file; of others nothing."""
    row = store.get_import(import_id)
    if row["status"] == "running" and row["chunks_done"] == row["chunks"]:
        if row["refused"]:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as report:
                write_report(import_id, report)
                report.seek(0)
                files.put_report(import_id, report)
        store.complete(import_id, row["chunks"], now)
        row = store.get_import(import_id)
    if row["status"] in ("completed", "failed"):  # also later: the delivery that ended it may have crashed right here
        _post_cost(row)
        files.remove_upload(import_id)


def _post_cost(row: dict[str, Any]) -> None:
    """What the imported keys cost goes into the books, once: the set is named after the import."""
    cost_minor = (row.get("unit_cost_minor") or 0) * row["imported"]
    if row["status"] == "completed" and cost_minor:
        currency = catalog.read_product(row["product_id"])["currency"]
        ledger.put_set(goods_set(row["import_id"], cost_minor, currency, row["finished_at"]))


def write_report(import_id: str, report: BinaryIO) -> None:
    """All refused lines as CSV: number and reason. Both are ours, so no cell can be a formula, and no key is in it."""
    text = io.TextIOWrapper(report, encoding="utf-8-sig", newline="", write_through=True)
    rows = csv.writer(text)
    rows.writerow(("line", "reason"))
    rows.writerows(store.list_refusals(import_id))
    text.detach()
