"""The two attributes that put a row into the sparse index of what is due (read by `aws/due.py`)."""

from __future__ import annotations

import zlib

SHARDS = 4


def due_attributes(kind: str, at: int, row_id: str) -> dict[str, str]:
    """The two attributes that put a row into the index; four partitions a kind, so a rush of one kind is spread."""
    return {"due_pk": f"DUE#{kind}#{zlib.crc32(row_id.encode()) % SHARDS}", "due_at": f"{at:012d}#{row_id}"}
