"""Turn one chunk of a file into stock. Called by the worker of import-chunk, any number of times, also at the same
moment.

The order of the writes is what makes it repeatable (decision 0005):

    claims       each key is claimed for its line; who holds the claim is final, so every delivery accepts the same
    lines pages        the accepted keys, numbered in order of their lines, sealed; a page that exists already holds
    the same keys transaction  chunk is done + numbers on sale + counters: once, because the marker is new only once

A crash before the transaction leaves claims and pages that the next delivery finds to be its own; nothing is on
sale yet.
"""

from __future__ import annotations

from typing import Any

from chalicelib.aws import files, sealing
from chalicelib.aws.secrets import read_secret
from chalicelib.aws.transact import transact
from chalicelib.imports import store
from chalicelib.imports.finish_import import finish_import
from chalicelib.imports.lines import split_records
from chalicelib.imports.model import SHOWN_REFUSALS, Chunk
from chalicelib.imports.plan_import import lot_of
from chalicelib.imports.rules import first_of_each, number_pages, read_line
from chalicelib.inventory.store import add_keys_writes
from chalicelib.keys import store as keys
from chalicelib.keys.model import Guard, PlainFields
from chalicelib.keys.rules import fingerprint, parse_format

Refusals = list[tuple[int, str]]


def import_chunk(import_id: str, chunk: int, now: int) -> None:
    """Import one chunk, unless it is done or the import has ended; the last one finishes the import.

    Raises: keys.sealing_unavailable (before anything is claimed), service.busy; the message is then delivered again
    """
    row = store.get_import(import_id)
    found = store.find_chunk(import_id, chunk) if row["status"] == "running" else None
    if found is not None:
        place, is_done = found
        if not is_done:
            _try(row, chunk, place, now)
    finish_import(import_id, now)


def _try(row: dict[str, Any], chunk: int, place: Chunk, now: int) -> None:
    try:
        _import(row, chunk, place, now)
    except (store.ChunkDone, store.NotRunning):
        pass  # another delivery was faster, or the import has ended
    except files.FileGone:
        # Gone because another delivery did this chunk and finished the import, or because somebody replaced the file.
        store.fail(row["import_id"], "file_changed", now)


def _import(row: dict[str, Any], chunk: int, place: Chunk, now: int) -> None:
    # 1 gather: the key to seal with first, so that an outage of KMS costs no claim
    data_key = sealing.new_data_key(row["product_id"], row["lot_id"])
    plain_keys, refusals = _read(row, place)
    # 2 decide
    secret = read_secret("fingerprint").encode()
    claims, repeated = first_of_each([(line, fingerprint(fields, secret)) for line, fields in plain_keys.items()])
    lost = keys.claim_fingerprints(row["lot_id"], claims)
    refusals += [(line, "duplicate_in_file") for line in repeated]
    refusals += [(line, _why_lost(guard, row["lot_id"])) for line, guard in lost.items()]
    refused = {line for line, _ in refusals}
    accepted = [fields for line, fields in plain_keys.items() if line not in refused]
    start, pages = number_pages(chunk, accepted)
    # 3 apply
    sealed = [
        (page, sealing.seal_page(row["product_id"], row["lot_id"], page, fields, data_key)) for page, fields in pages
    ]
    keys.put_pages(row["lot_id"], sealed, data_key.wrapped)
    lot = lot_of(row, row["records"])
    transact([
        *store.chunk_done_writes(
            row["import_id"], chunk, imported=len(accepted), refusals=sorted(refusals),
            shown=max(0, SHOWN_REFUSALS - len(row.get("shown", []))), now=now,
        ),
        *(add_keys_writes(lot, start, len(accepted)) if accepted else []),
    ])  # fmt: skip


def _read(row: dict[str, Any], place: Chunk) -> tuple[dict[int, PlainFields], Refusals]:
    """The chunk's lines: keys by line, and refusals."""
    wanted = parse_format(row["key_fields"])
    blocks = files.read_upload(row["import_id"], row["etag"], place.offset, place.length)
    plain_keys: dict[int, PlainFields] = {}
    refusals: Refusals = []
    for record in split_records(blocks, row["format"], offset=place.offset, line=place.line):
        outcome = read_line(record, row["encoding"], row["format"], row["columns"], wanted)
        if isinstance(outcome, str):
            refusals.append((record.line, outcome))
        else:
            plain_keys[record.line] = outcome
    return plain_keys, refusals


def _why_lost(winner: Guard, lot_id: str) -> str:
    return "duplicate_in_file" if winner.lot_id == lot_id else "duplicate_of_earlier_import"
