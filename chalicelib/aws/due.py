"""The sparse index of what is due: any row that still needs something at a known time carries `due_pk` and `due_at`.

Queue messages are the fast path; the minute timers walk this index and suffice alone when a queue or the stream is
down. A row leaves the index in the same write that makes the follow-up unnecessary, so the index never lies about truth
for longer than its own lag, and every handler checks the row itself before it acts.

    due   hash due_pk "DUE#<kind>#<0..3>"   range due_at "<12-digit epoch seconds>#<id>"   keys only
"""

from __future__ import annotations

from collections.abc import Iterator

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.core.due import SHARDS
from chalicelib.core.settings import table_name


def list_due(kind: str, until: int, *, limit: int = 1_000) -> Iterator[dict[str, str]]:
    """Keys `{pk, sk, due_at}` of rows of this kind due at or before `until`, earliest first within each partition.

    Access: query due, eventually consistent, 0.5 read units per 4 KB of keys; four queries a call.
    """
    for shard in range(SHARDS):
        pages = (
            dynamodb()
            .get_paginator("query")
            .paginate(
                TableName=table_name(),
                IndexName="due",
                KeyConditionExpression="due_pk = :pk AND due_at < :end",
                ExpressionAttributeValues=to_row({":pk": f"DUE#{kind}#{shard}", ":end": f"{until + 1:012d}"}),
                PaginationConfig={"MaxItems": limit},
            )
        )
        for page in pages:
            for row in page["Items"]:
                yield from_row(row)
