"""Create an import and start it once its file is there. Called by the operator's routes; reads no line of the file."""

from __future__ import annotations

from typing import Any

from chalicelib.aws import files, queues
from chalicelib.catalog.errors import NoSuchProduct, UnknownProduct
from chalicelib.catalog.store import get_product
from chalicelib.imports import store
from chalicelib.imports.answers import NewImport
from chalicelib.imports.errors import BatchExpired, FileTooLarge, NotUploaded, UnreadableFile
from chalicelib.imports.model import MAX_FILE_BYTES
from chalicelib.imports.rules import BOM, RESUME_SECONDS, unreadable

CONTENT_TYPES = {"csv": "text/csv", "txt": "text/plain"}
_HEAD_BYTES = 4_096


def create_import(wanted: NewImport, import_id: str, by: str, now: int) -> dict[str, Any]:
    """A new import awaiting its file; a repeat of the same request answers the import it created the first time.

    The product's key fields are copied: whatever happens to the product, every line of one file is judged alike.
    Raises: catalog.unknown_product, imports.batch_expired
    """
    # 1 gather
    try:
        product = get_product(wanted.product_id)
    except NoSuchProduct:
        raise UnknownProduct(field="product_id") from None
    # 2 decide
    expires_at = int(wanted.expires_at.timestamp()) if wanted.expires_at else None
    if expires_at is not None and expires_at <= now:
        raise BatchExpired(field="expires_at")
    # 3 apply
    return store.put_import({
        "import_id": import_id,
        "lot_id": "lot_" + import_id.removeprefix("imp_"),
        "product_id": wanted.product_id,
        "key_fields": [dict(one) for one in product.get("key_fields") or ()],
        "filename": wanted.filename,
        "format": wanted.format,
        "supplier": wanted.supplier,
        "unit_cost_minor": wanted.unit_cost_minor,
        "expires_at": expires_at,
        "status": "awaiting_upload",
        "created_at": now,
        "created_by": by,
    })  # fmt: skip


def start_import(import_id: str, now: int) -> dict[str, Any]:
    """Begin with the uploaded file, after a look at its size and first bytes. Starting again changes nothing.

    Raises: imports.not_found, imports.not_uploaded, imports.file_too_large, imports.unreadable_file,
      imports.batch_expired
    """
    # 1 gather
    row = store.get_import(import_id)
    if row["status"] != "awaiting_upload":
        return row
    upload = files.find_upload(import_id)
    if upload is None:
        raise NotUploaded()
    # 2 decide: the size before the first byte is read
    if row.get("expires_at") is not None and row["expires_at"] <= now:
        raise BatchExpired()
    if upload.size > MAX_FILE_BYTES:
        raise FileTooLarge()
    if upload.size == 0:
        raise UnreadableFile("The file is empty.")
    try:
        head = b"".join(files.read_upload(import_id, upload.etag, 0, min(_HEAD_BYTES, upload.size)))
    except files.FileGone:
        raise NotUploaded() from None
    if sentence := unreadable(head):
        raise UnreadableFile(sentence)
    # 3 apply: the row first; if the message is lost, the minute timer finds the row
    due = now + RESUME_SECONDS
    store.start(
        import_id, etag=upload.etag, size=upload.size, has_bom=head.startswith(BOM), now=now, due=due
    )  # fmt: skip
    queues.send("import-started", {"import_id": import_id})
    return store.get_import(import_id)
