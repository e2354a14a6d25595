"""Every read and write of the ledger's rows.

    LEDGER#<yyyymmdd>#<shard 0..7> / <event_id>   at, entries [[account, amount_minor, currency], …], order_id, txn
    LEDGERDAY / <yyyymmdd>                        what a proved day came to, carried on from the day before
    LEDGERDAY / CLOCK                             until  v: every day up to `until` is proved

Day and shard follow from the event, so `attribute_not_exists` on one row makes "one set per event" true. A set that
comes after its day has ended moves the clock back in the same transaction, so its day is proved again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import Write, put_if_absent, transact
from chalicelib.core.errors import Busy
from chalicelib.core.settings import table_name
from chalicelib.ledger.days import SHARDS, day_after, day_of, shard_of
from chalicelib.ledger.model import DayClosing, Entry, EntrySet, Gap, LedgerClock, Movement
from chalicelib.ledger.rules import is_balanced

_TRIES = 8
_BATCH_GET = 100
_CLOCK = {"pk": "LEDGERDAY", "sk": "CLOCK"}


class _Posted(Exception):
    """The set is there already."""


class _Moved(Exception):
    """Somebody else moved the clock first."""


def put_set(entry_set: EntrySet) -> bool:
    """Post the entries of an event. False when they were posted before.

    Access:  put LEDGER#<day>#<shard>/<event_id>, 1 write.
    Only if: the event has no set yet. What stands there stays.
    """
    return put_if_absent(_to_set_row(entry_set)) is None


def put_write(entry_set: EntrySet, if_posted: Exception) -> Write:
    """The transaction entry that posts an event of this very moment with the change it is about.

    Only if: the event has no set yet.
    Refused: `if_posted`
    """
    put = {
        "TableName": table_name(),
        "Item": to_row(_to_set_row(entry_set)),
        "ConditionExpression": "attribute_not_exists(pk)",
    }
    return Write({"Put": put}, if_posted)


def put_late_set(entry_set: EntrySet) -> bool:
    """Post the entries of an event whose day has ended, and have that day proved again. False when posted before.

    Access:  get LEDGERDAY/CLOCK; transaction of put LEDGER#… and update LEDGERDAY/CLOCK, 4 writes.
    Only if: the event has no set yet, and nobody moved the clock meanwhile.
    Raises:  service.busy when the clock kept moving
    """
    for _ in range(_TRIES):
        clock = read_clock()
        until = day_after(day_of(entry_set.at), -1)
        move = _clock_write(clock, min(clock.until, until) if clock else until)
        try:
            transact([put_write(entry_set, _Posted()), move])
            return True
        except _Posted:
            return False
        except _Moved:
            time.sleep(random.uniform(0, 0.05))
    raise Busy()


def find_missing(sets: list[EntrySet]) -> list[EntrySet]:
    """Those of the sets that are not posted.

    Access: batch get LEDGER#…, eventually consistent, 0.5 read units per set.
    """
    there = {row["sk"] for row in _batch_get(sets, is_consistent=False)}
    return [one for one in sets if one.event_id not in there]


def get_sets(sets: list[EntrySet]) -> list[EntrySet]:
    """What is posted of these events, as it stands in the ledger.

    Access: batch get LEDGER#…, strongly consistent, 1 read unit per set.
    """
    return [_to_set(row) for row in _batch_get(sets, is_consistent=True)]


def list_day(day: str) -> list[EntrySet]:
    """All sets of a day.

    Access: 8 queries of LEDGER#<day>#<shard>, strongly consistent, 1 read unit per 4 KB.
    """
    found = []
    for shard in range(SHARDS):
        pages = (
            dynamodb()
            .get_paginator("query")
            .paginate(
                TableName=table_name(),
                ConsistentRead=True,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues=to_row({":pk": _partition(day, shard)}),
            )
        )
        found += [_to_set(from_row(row)) for page in pages for row in page["Items"]]
    return found


def list_page(day: str, after: list | None, limit: int) -> tuple[list[EntrySet], list | None]:
    """One page of a day's sets, and the position to go on after (None at the end). In no order of time.

    Access: up to 8 queries of LEDGER#<day>#<shard>, eventually consistent, 0.5 read units per 4 KB.
    """
    shard, event_id = after or [0, None]
    found: list[EntrySet] = []
    for current in range(shard, SHARDS):
        start = {}
        if event_id is not None and current == shard:
            start = {"ExclusiveStartKey": to_row({"pk": _partition(day, current), "sk": event_id})}
        page = dynamodb().query(
            TableName=table_name(),
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_row({":pk": _partition(day, current)}),
            Limit=limit - len(found),
            **start,
        )
        found += [_to_set(from_row(row)) for row in page["Items"]]
        if len(found) >= limit:
            return found, [current, found[-1].event_id]
    return found, None


def read_clock() -> LedgerClock | None:
    """Up to which day the ledger is proved; None before the first time.

    Access: get LEDGERDAY/CLOCK, strongly consistent, 1 read unit.
    """
    found = dynamodb().get_item(TableName=table_name(), Key=to_row(_CLOCK), ConsistentRead=True)
    if "Item" not in found:
        return None
    row = from_row(found["Item"])
    return LedgerClock(row["until"], row["v"])


def find_day(day: str) -> DayClosing | None:
    """What a day came to when it was proved, or None.

    Access: get LEDGERDAY/<day>, strongly consistent, 1 read unit per 4 KB.
    """
    found = dynamodb().get_item(
        TableName=table_name(), Key=to_row({"pk": "LEDGERDAY", "sk": day}), ConsistentRead=True
    )  # fmt: skip
    if "Item" not in found:
        return None
    row = from_row(found["Item"])
    return DayClosing(
        day=day, sets=row["sets"], movements=tuple(Movement(*one) for one in row["movements"]),
        differences=tuple(row["differences"]), waiting=tuple(Gap(*one) for one in row["waiting"]),
        proved_at=row["proved_at"],
    )  # fmt: skip


def put_day(closing: DayClosing, seen: LedgerClock | None) -> bool:
    """Record what a day came to, and move the clock on to it. False when a late set came meanwhile: prove again.

    Access:  transaction of put LEDGERDAY/<day> and update LEDGERDAY/CLOCK, 2 writes per KB and 2.
    Only if: the clock is as it was before the day's sets were read.
    """
    row = {
        "pk": "LEDGERDAY", "sk": closing.day, "sets": closing.sets, "movements": closing.movements, "differences":
        closing.differences, "waiting": closing.waiting, "proved_at": closing.proved_at,
    }  # fmt: skip
    try:
        transact([
            Write({"Put": {"TableName": table_name(), "Item": to_row(row)}}, _Moved()), _clock_write(seen, closing.day),
        ])  # fmt: skip
    except _Moved:
        return False
    return True


def _clock_write(seen: LedgerClock | None, until: str) -> Write:
    update = {
        "TableName": table_name(),
        "Key": to_row(_CLOCK),
        "UpdateExpression": "SET #until = :until, v = :next",
        "ConditionExpression": "v = :seen" if seen else "attribute_not_exists(pk)",
        "ExpressionAttributeNames": {"#until": "until"},
        "ExpressionAttributeValues": to_row({
            ":until": until, ":next": (seen.version if seen else 0) + 1, ":seen": seen.version if seen else None,
        }),
    }  # fmt: skip
    return Write({"Update": update}, _Moved())


def _partition(day: str, shard: int) -> str:
    return f"LEDGER#{day}#{shard}"


def _key(entry_set: EntrySet) -> dict[str, str]:
    return {"pk": _partition(day_of(entry_set.at), shard_of(entry_set.event_id)), "sk": entry_set.event_id}


def _to_set_row(entry_set: EntrySet) -> dict[str, Any]:
    if not is_balanced(entry_set):
        raise AssertionError(f"the set of {entry_set.event_id} does not come to zero")
    return {
        **_key(entry_set), "at": entry_set.at, "entries": entry_set.entries, "order_id": entry_set.order_id,
        "txn": entry_set.provider_txn,
    }  # fmt: skip


def _to_set(row: dict[str, Any]) -> EntrySet:
    entries = tuple(Entry(*one) for one in row["entries"])
    return EntrySet(row["sk"], row["at"], entries, row.get("order_id"), row.get("txn"))


def _batch_get(sets: list[EntrySet], *, is_consistent: bool) -> Iterator[dict[str, Any]]:
    keys = list({one.event_id: to_row(_key(one)) for one in sets}.values())
    for start in range(0, len(keys), _BATCH_GET):
        wanted = {table_name(): {"Keys": keys[start : start + _BATCH_GET], "ConsistentRead": is_consistent}}
        while wanted:
            answer = dynamodb().batch_get_item(RequestItems=wanted)
            for row in answer["Responses"].get(table_name(), []):
                yield from_row(row)
            wanted = answer.get("UnprocessedKeys") or {}
            if wanted:  # the table asks for a moment
                time.sleep(random.uniform(0, 0.05))
