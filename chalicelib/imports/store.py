"""Rows of imports. Never holds a key, in clear or sealed.

IMP#<import_id>/IMP            what was asked for, what was found out, how far it is; in the `due` index while
unfinished IMP#<import_id>/PLAN#<nnnn>    where 64 chunks lie in the file; written in order, so the last one says
where to go on IMP#<import_id>/CH#<nnnnnn>    a chunk is done: how many keys it brought, which lines were refused
(compressed)
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import Write, is_condition_failed, retry_busy
from chalicelib.core.due import due_attributes
from chalicelib.core.ids import is_id
from chalicelib.core.settings import table_name
from chalicelib.imports.errors import ImportNotFound
from chalicelib.imports.model import SHOWN_REFUSALS, Chunk, Votes

SEGMENT_CHUNKS = 64
DUE_KIND = "import"
_REASON = "why#"  # attribute name of a reason's counter


class ChunkDone(Exception):
    """This chunk was imported before: by an earlier delivery of its message, or by one at the same moment."""


class NotRunning(Exception):
    """The import is not (or no longer) running: nothing may be added to it."""


@dataclass(frozen=True)
class Segment:
    """A stretch of the plan, and everything needed to go on planning behind it."""

    number: int
    chunks: tuple[Chunk, ...]
    next_offset: int
    next_line: int
    votes: Votes


def put_import(row: dict[str, Any]) -> dict[str, Any]:
    """Create an import; the one that is there already when the same request came before.

    Access:  put IMP#<id>/IMP, 1 write (and get, 1 read, on a repeat).
    Only if: the id is new.
    """
    is_new = _write(
        lambda: dynamodb().put_item(
            TableName=table_name(),
            Item=to_row({**_key(row["import_id"]), **row, "chunks_done": 0, "imported": 0, "refused": 0}),
            ConditionExpression="attribute_not_exists(pk)",
        )
    )
    return row if is_new else get_import(row["import_id"])


def get_import(import_id: str) -> dict[str, Any]:
    """One import as it is now. Counters of reasons come as `reasons`: {reason: lines}.

    Access: get IMP#<id>/IMP, strongly consistent, 1 read unit.
    Raises: imports.not_found
    """
    if not is_id("imp", import_id):
        raise ImportNotFound()
    found = dynamodb().get_item(TableName=table_name(), Key=to_row(_key(import_id)), ConsistentRead=True)
    if "Item" not in found:
        raise ImportNotFound()
    row = from_row(found["Item"])
    return {**row, "reasons": {name[len(_REASON) :]: row[name] for name in sorted(row) if name.startswith(_REASON)}}


def start(import_id: str, *, etag: str, size: int, has_bom: bool, now: int, due: int) -> bool:
    """The file is there and will be planned; False when the import was started before.

    Access:  update IMP#<id>/IMP, 1 write, and 1 in the due index.
    Only if: it awaits its upload.
    """
    seen = {
        "etag": etag,
        "size": size,
        "has_bom": has_bom,
        "started_at": now,
        **due_attributes(DUE_KIND, due, import_id),
    }
    return _move(import_id, ("awaiting_upload",), "planning", seen)


def run(import_id: str, *, columns: Sequence[str], encoding: str, chunks: int, records: int) -> bool:
    """The plan is complete: from now on chunks may be imported; False when it was so before.

    Access:  update IMP#<id>/IMP, 1 write.
    Only if: it is being planned.
    """
    found = {"columns": list(columns), "encoding": encoding, "chunks": chunks, "records": records}
    return _move(import_id, ("planning",), "running", found)


def complete(import_id: str, chunks: int, now: int) -> bool:
    """Every chunk is done; leaves the due index. False when somebody else completed it.

    Access:  update IMP#<id>/IMP, 1 write, and 1 in the due index.
    Only if: it is running and all its chunks are done.
    """
    return _move(import_id, ("running",), "completed", {"finished_at": now}, chunks_done=chunks)


def fail(import_id: str, problem: str, now: int) -> bool:
    """The file is refused, or gone; leaves the due index. False when the import has ended already.

    Access:  update IMP#<id>/IMP, 1 write, and 1 in the due index.
    Only if: it is being planned or running.
    """
    return _move(import_id, ("planning", "running"), "failed", {"problem": problem, "finished_at": now})


def push_on(import_id: str, due_at: str, *, due: int, watched: int) -> bool:
    """Look at this import again later; False when another timer did, or it has ended.

    Access:  update IMP#<id>/IMP, 1 write, and 2 in the due index.
    Only if: it stands at the place in the index where it was found.
    """
    return _write(
        lambda: dynamodb().update_item(
            TableName=table_name(),
            Key=to_row(_key(import_id)),
            UpdateExpression="SET due_at = :next, watched = :watched",
            ConditionExpression="due_at = :found",
            ExpressionAttributeValues=to_row({
                ":next": due_attributes(DUE_KIND, due, import_id)["due_at"], ":found": due_at, ":watched": watched,
            }),
        )
    )  # fmt: skip


def put_segment(import_id: str, segment: Segment) -> None:
    """Store a stretch of the plan; a repeat finds the same file and writes nothing.

    Access:  put IMP#<id>/PLAN#<n>, 3 writes for 64 chunks.
    Only if: it is new.
    """
    row = {
        "pk": f"IMP#{import_id}", "sk": f"PLAN#{segment.number:04d}", "chunks": [list(one) for one in segment.chunks],
        "next_offset": segment.next_offset, "next_line": segment.next_line, "votes": list(segment.votes),
    }  # fmt: skip
    _write(
        lambda: dynamodb().put_item(
            TableName=table_name(), Item=to_row(row), ConditionExpression="attribute_not_exists(pk)"
        )
    )


def list_segments(import_id: str) -> list[Segment]:
    """The plan as far as it goes, in order.

    Access: query IMP#<id>/PLAN#…, strongly consistent, 1 read unit a segment (at most 31).
    """
    return [_segment(row) for row in _query(import_id, "PLAN#")]


def find_chunk(import_id: str, chunk: int) -> tuple[Chunk, bool] | None:
    """Where a chunk lies, and whether it is done; None when the plan has no such chunk.

    Access: batch get of its plan segment and its marker, strongly consistent, 2 read units.
    """
    plan = {"pk": f"IMP#{import_id}", "sk": f"PLAN#{chunk // SEGMENT_CHUNKS:04d}"}
    marker = {"pk": f"IMP#{import_id}", "sk": f"CH#{chunk:06d}"}
    found = {}
    for key in (plan, marker):
        answer = dynamodb().get_item(TableName=table_name(), Key=to_row(key), ConsistentRead=True)
        found[key["sk"]] = from_row(answer["Item"]) if "Item" in answer else None
    if found[plan["sk"]] is None:
        return None
    chunks = _segment(found[plan["sk"]]).chunks
    place = chunk % SEGMENT_CHUNKS
    return (chunks[place], found[marker["sk"]] is not None) if place < len(chunks) else None


def chunk_done_writes(
    import_id: str, chunk: int, *, imported: int, refusals: Sequence[tuple[int, str]], shown: int, now: int
) -> list[Write]:
    """Entries that mark a chunk as done and count what became of its lines; `shown` refusals go onto the import itself.

    Access:  put IMP#<id>/CH#<n> and update IMP#<id>/IMP, 2 entries.
    Only if: the chunk was not done before, and the import is running.
    Refused: ChunkDone, NotRunning
    """
    marker = {
        "pk": f"IMP#{import_id}", "sk": f"CH#{chunk:06d}", "imported": imported, "at": now,
        "refused": zlib.compress(json.dumps(refusals, separators=(",", ":")).encode(), 9) if refusals else None,
    }  # fmt: skip
    reasons = sorted(Counter(reason for _, reason in refusals).items())
    added = [("chunks_done", 1), ("imported", imported), ("refused", len(refusals))]
    added += [(_REASON + reason, lines) for reason, lines in reasons]
    names = {f"#a{place}": name for place, (name, _) in enumerate(added)}
    values: dict[str, Any] = {f":a{place}": count for place, (_, count) in enumerate(added)}
    update = "ADD " + ", ".join(f"#a{place} :a{place}" for place in range(len(added)))
    if refusals and shown:
        update += " SET shown = list_append(if_not_exists(shown, :none), :shown)"
        values |= {":none": [], ":shown": [list(one) for one in refusals[:shown]]}
    return [
        Write(
            {"Put": {
                "TableName": table_name(), "Item": to_row(marker), "ConditionExpression": "attribute_not_exists(pk)",
            }},
            ChunkDone(),
        ),
        Write(
            {"Update": {
                "TableName": table_name(),
                "Key": to_row(_key(import_id)),
                "UpdateExpression": update,
                "ConditionExpression": "#status = :running",
                "ExpressionAttributeNames": {"#status": "status", **names},
                "ExpressionAttributeValues": to_row({":running": "running", **values}),
            }},
            NotRunning(),
        ),
    ]  # fmt: skip


def list_done_chunks(import_id: str) -> set[int]:
    """Numbers of the chunks that are done.

    Access: query IMP#<id>/CH#…, strongly consistent, 1 read unit per 4 KB of markers.
    """
    return {int(row["sk"].removeprefix("CH#")) for row in _query(import_id, "CH#", only="sk")}


def list_refusals(import_id: str) -> Iterator[tuple[int, str]]:
    """All refused lines (line, reason), in order of the file, read page by page.

    Access: as `list_done_chunks`.
    """
    for row in _query(import_id, "CH#"):
        if "refused" in row:
            yield from ((line, reason) for line, reason in json.loads(zlib.decompress(row["refused"])))


def shown_refusals(row: dict[str, Any]) -> list[tuple[int, str]]:
    """The refusals an import's own row shows: some of the first, by line."""
    return sorted((line, reason) for line, reason in row.get("shown", []))[:SHOWN_REFUSALS]


def _key(import_id: str) -> dict[str, str]:
    return {"pk": f"IMP#{import_id}", "sk": "IMP"}


def _segment(row: dict[str, Any]) -> Segment:
    chunks = tuple(Chunk(*one) for one in row["chunks"])
    number = int(row["sk"].removeprefix("PLAN#"))
    return Segment(number, chunks, row["next_offset"], row["next_line"], Votes(*row["votes"]))


def _query(import_id: str, prefix: str, only: str | None = None) -> Iterator[dict[str, Any]]:
    projection = {"ProjectionExpression": only} if only else {}
    pages = (
        dynamodb()
        .get_paginator("query")
        .paginate(
            TableName=table_name(),
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            ExpressionAttributeValues=to_row({":pk": f"IMP#{import_id}", ":prefix": prefix}),
            ConsistentRead=True,
            **projection,
        )
    )
    for page in pages:
        yield from map(from_row, page["Items"])


def _move(
    import_id: str, before: tuple[str, ...], after: str, facts: dict[str, Any], chunks_done: int | None = None
) -> bool:
    """Change the status and note facts with it; False when the import is not where it would have to be."""
    names = {"#status": "status", **{f"#{name}": name for name in facts}}
    sets = ", ".join(["#status = :after", *(f"#{name} = :{name}" for name in facts)])
    condition = f"#status IN ({', '.join(f':before{place}' for place in range(len(before)))})"
    values = {":after": after, **{f":before{place}": status for place, status in enumerate(before)}}
    if chunks_done is not None:
        condition += " AND chunks_done = :chunks_done"
        values[":chunks_done"] = chunks_done
    ended = " REMOVE due_pk, due_at" if after in ("completed", "failed") else ""
    return _write(
        lambda: dynamodb().update_item(
            TableName=table_name(),
            Key=to_row(_key(import_id)),
            UpdateExpression=f"SET {sets}{ended}",
            ConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=to_row({**values, **{f":{name}": value for name, value in facts.items()}}),
        )
    )


def _write(send: Any) -> bool:
    """Send a conditional write; False when its condition failed."""
    try:
        retry_busy(send)
    except Exception as error:
        if is_condition_failed(error):
            return False
        raise
    return True
