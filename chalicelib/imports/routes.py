"""HTTP for imports: operators only. The file itself goes straight to S3."""

from __future__ import annotations

from typing import Any

from chalice import Blueprint

from chalicelib.catalog.errors import UnknownProduct
from chalicelib.core.clock import iso
from chalicelib.core.ids import new_id
from chalicelib.edge.errors import IdempotencyMismatch
from chalicelib.edge.http import Call, endpoint
from chalicelib.edge.idempotency import REPLAYED, resource_for
from chalicelib.imports.answers import Import, ImportCreated, NewImport, Progress, RefusedLine, Upload
from chalicelib.imports.errors import BatchExpired, FileTooLarge, ImportNotFound, NotUploaded, UnreadableFile

bp = Blueprint(__name__)


@endpoint(
    bp, "POST", "/v1/imports", scopes=("operator",), body=NewImport, answer=ImportCreated, status=201, creates=True,
    refusals=(UnknownProduct, BatchExpired, IdempotencyMismatch),
)  # fmt: skip
def post_import(call: Call):
    """Create an import and get the address its file goes to. A repeat gets a fresh address for the same import."""
    from chalicelib.aws.files import upload_link
    from chalicelib.imports.start_import import CONTENT_TYPES, create_import

    import_id, is_replayed = resource_for(call, new_id("imp", call.now))
    row = create_import(call.body, import_id, call.caller.name, call.now)
    upload = Upload(**upload_link(import_id, CONTENT_TYPES[row["format"]]))
    answer = ImportCreated(import_id=import_id, status=row["status"], upload=upload)
    return answer, REPLAYED if is_replayed else {}


@endpoint(
    bp, "POST", "/v1/imports/{import_id}/start", scopes=("operator",), answer=Import, status=202,
    refusals=(ImportNotFound, NotUploaded, FileTooLarge, UnreadableFile, BatchExpired),
)  # fmt: skip
def post_start(call: Call, import_id: str):
    """Start an import whose file is uploaded. Repeating it is harmless: it answers how far the import is."""
    from chalicelib.imports.start_import import start_import

    return to_answer(start_import(import_id, call.now))


@endpoint(
    bp, "GET", "/v1/imports/{import_id}", scopes=("operator",), answer=Import, refusals=(ImportNotFound,)
)  # fmt: skip
def get_import(call: Call, import_id: str):
    """How far an import is, what became of its lines, and which were refused and why."""
    from chalicelib.imports import store

    return to_answer(store.get_import(import_id))


def to_answer(row: dict[str, Any]) -> Import:
    """An import's row as the API shows it."""
    from chalicelib.aws.files import report_link
    from chalicelib.imports.store import shown_refusals

    has_report = row["status"] == "completed" and row["refused"] > 0
    return Import(
        import_id=row["import_id"],
        product_id=row["product_id"],
        filename=row["filename"],
        format=row["format"],
        supplier=row.get("supplier"),
        unit_cost_minor=row.get("unit_cost_minor"),
        expires_at=iso(row.get("expires_at")),
        status=row["status"],
        problem=row.get("problem"),
        lot_id=row["lot_id"],
        progress=Progress(records=row.get("records"), chunks=row.get("chunks"), chunks_done=row["chunks_done"]),
        imported=row["imported"],
        refused=row["refused"],
        refused_by_reason=row["reasons"],
        refused_lines=[RefusedLine(line=line, reason=reason) for line, reason in shown_refusals(row)],
        report_url=report_link(row["import_id"]) if has_report else None,
        created_at=iso(row["created_at"]),
        started_at=iso(row.get("started_at")),
        finished_at=iso(row.get("finished_at")),
    )
