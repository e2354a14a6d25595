"""Plan an import: find out where its chunks lie, its encoding and columns, open its lot, and send its chunks off.

Called by the worker of import-started. Reads the whole file once, as a stream; stores the plan every 64 chunks, so
that a crash costs one stretch. It imports nothing and keeps no line.
"""

from __future__ import annotations

import functools
from typing import Any

from chalicelib.aws import files, queues
from chalicelib.imports import store
from chalicelib.imports.finish_import import finish_import
from chalicelib.imports.lines import split_records
from chalicelib.imports.model import MAX_RECORD_BYTES, Chunk, FileRefused, Record, Votes
from chalicelib.imports.rules import (
    check_size,
    choose_encoding,
    cut_chunks,
    read_columns,
    txt_columns,
    vote,
)
from chalicelib.imports.store import SEGMENT_CHUNKS, Segment
from chalicelib.inventory.model import Lot
from chalicelib.inventory.rules import shelves_for
from chalicelib.inventory.store import open_lot
from chalicelib.keys.rules import parse_format


def plan_import(import_id: str, now: int) -> None:
    """Bring an import from `planning` to `running`, or to `failed`; one that runs gets its missing chunks sent
    again."""
    row = store.get_import(import_id)
    if row["status"] == "planning":
        try:
            _plan(row, now)
        except FileRefused as refused:
            store.fail(import_id, refused.problem, now)
        except files.FileGone:
            store.fail(import_id, "file_changed", now)
        row = store.get_import(import_id)
    if row["status"] == "running":
        send_missing_chunks(row, now)
    else:
        finish_import(import_id, now)


def send_missing_chunks(row: dict[str, Any], now: int) -> None:
    """One message for every chunk that is not done; an import that has none is finished."""
    done = store.list_done_chunks(row["import_id"])
    missing = [chunk for chunk in range(row["chunks"]) if chunk not in done]
    if missing:
        queues.send_all("import-chunk", [({"import_id": row["import_id"], "chunk": chunk}, 0) for chunk in missing])
    else:
        finish_import(row["import_id"], now)


def _plan(row: dict[str, Any], now: int) -> None:
    # 1 gather: the header by itself, for its names can only be read when the encoding is known
    import_id, wanted = row["import_id"], parse_format(row["key_fields"])
    header = _read_header(row) if row["format"] == "csv" else None
    chunks, votes = _read_plan(row, header)
    # 2 decide
    records = sum(chunk.records for chunk in chunks)
    encoding = "utf-8" if row["has_bom"] else choose_encoding(votes)
    columns = read_columns(header, encoding, wanted) if row["format"] == "csv" else txt_columns(wanted)
    if not records:
        raise FileRefused("no_records")
    # 3 apply: the lot before the status, since a chunk may be imported from then on
    open_lot(lot_of(row, records), now)
    store.run(import_id, columns=columns, encoding=encoding, chunks=len(chunks), records=records)


def lot_of(row: dict[str, Any], records: int) -> Lot:
    """The lot an import of so many records fills."""
    shards, return_shards = shelves_for(records)
    return Lot(
        lot_id=row["lot_id"],
        product_id=row["product_id"],
        shards=shards,
        return_shards=return_shards,
        expires_at=row.get("expires_at"),
        supplier=row.get("supplier"),
        unit_cost_minor=row.get("unit_cost_minor"),
        import_id=row["import_id"],
    )


def _read_header(row: dict[str, Any]) -> Record | None:
    # A header of many blank lines would be no header, so a few records' length is enough to find it.
    head = files.read_upload(row["import_id"], row["etag"], 0, min(row["size"], 4 * MAX_RECORD_BYTES))
    return next(split_records(head, "csv"), None)


def _read_plan(row: dict[str, Any], header: Record | None) -> tuple[list[Chunk], Votes]:
    """The plan so far from its rows, the rest from the file, stored as it grows.

    Raises: FileRefused too_many_records; FileGone
    """
    segments = store.list_segments(row["import_id"])
    chunks = [chunk for segment in segments for chunk in segment.chunks]
    number, fresh, records = len(segments), [], sum(chunk.records for chunk in chunks)
    if segments:
        offset, line, votes = segments[-1].next_offset, segments[-1].next_line, segments[-1].votes
    else:
        offset, line, votes = 0, 1, vote(Votes(), header) if header else Votes()
    blocks = files.read_upload(row["import_id"], row["etag"], offset, row["size"] - offset)
    found = split_records(blocks, row["format"], offset=offset, line=line)
    if header and not segments:
        next(found)
    for chunk, batch, next_line in cut_chunks(found):
        votes, records = functools.reduce(vote, batch, votes), records + chunk.records
        check_size(records)
        fresh.append(chunk)
        # The last stretch ends with the file; it is told by having no line behind it.
        if len(fresh) == SEGMENT_CHUNKS or next_line is None:
            end = chunk.offset + chunk.length
            store.put_segment(row["import_id"], Segment(number, tuple(fresh), end, next_line or 0, votes))
            number, chunks, fresh = number + 1, chunks + fresh, []
    return chunks, votes
