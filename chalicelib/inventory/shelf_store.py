"""Rows of shelves: their keys and attributes, and every write to them that is not a take (those are in `take_store`).

    L#<lot>#<shard> / A    main shelf      runs [[first, count], …]  av free keys  j {journal key: taken}
    L#<lot>#r<n> / A       return shelf    xp lot expiry  im imported keys  q quarantined keys
                                           [due_pk due_at] while something is to be settled

Called by `inventory.store` and the sweeper. This file never reads an order.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import Write, is_condition_failed, retry_busy
from chalicelib.core.due import due_attributes
from chalicelib.core.settings import table_name
from chalicelib.inventory.errors import LotNotFound
from chalicelib.inventory.model import OpenLot, Run, Shelf
from chalicelib.inventory.rules import GRACE_SECONDS, JOURNAL_CAP, count_keys, read_journal_key

# A shelf enters the index of what is due with its first unsettled take and is left alone by the following ones.
SET_DUE = "due_pk = if_not_exists(due_pk, :due_pk), due_at = if_not_exists(due_at, :due_at)"
_BATCH = 100


def shelf_key(shelf_id: str) -> dict[str, dict]:
    return to_row({"pk": f"L#{shelf_id}", "sk": "A"})


def read_shelf(row: dict[str, dict]) -> Shelf:
    """A row as a shelf. A journal value is the first number when one run was cut, else the list of runs."""
    plain = from_row(row)
    journal = {}
    for key, value in plain.get("j", {}).items():
        runs = [(value, read_journal_key(key).quantity)] if isinstance(value, int) else value
        journal[key] = tuple((start, count) for start, count in runs)
    return Shelf(
        shelf_id=plain["pk"].removeprefix("L#"),
        runs=tuple((start, count) for start, count in plain.get("runs", [])),
        free=plain.get("av", 0),
        expires_at=plain.get("xp", 0),
        journal=journal,
        imported=plain.get("im", 0),
        quarantined=plain.get("q", 0),
    )


def new_shelf_writes(lot: OpenLot, if_refused: Exception) -> list[Write]:
    """Entries that put the empty shelves of a new lot.

    Access:  put L#<lot>#<shard>/A, one entry per shelf (at most 80).
    Only if: the shelf is new: an existing one is never emptied.
    Refused: `if_refused`
    """
    return [
        Write(
            {
                "Put": {
                    "TableName": table_name(),
                    "Item": {
                        **shelf_key(shelf_id),
                        **to_row({"runs": [], "av": 0, "j": {}, "xp": lot.expires_at, "im": 0, "q": 0}),
                    },
                    "ConditionExpression": "attribute_not_exists(pk)",
                }
            },
            if_refused,
        )
        for shelf_id in lot.shelves
    ]


def get_shelf(shelf_id: str) -> Shelf | None:
    """Access: get L#<shelf>/A, strongly consistent, 1 read unit."""
    found = dynamodb().get_item(TableName=table_name(), Key=shelf_key(shelf_id), ConsistentRead=True)
    return read_shelf(found["Item"]) if "Item" in found else None


def read_rows(keys: Iterable[dict[str, dict]]) -> list[dict[str, dict]]:
    """Rows by key, in any order; absent ones are left out.

    Access: batch get, strongly consistent, 1 read unit per 4 KB each, a request per 100 keys.
    """
    wanted = list(keys)
    found: list[dict[str, dict]] = []
    pause = 0.02
    while wanted:
        request = {table_name(): {"Keys": wanted[:_BATCH], "ConsistentRead": True}}
        answer = retry_busy(lambda request=request: dynamodb().batch_get_item(RequestItems=request))
        found += answer["Responses"].get(table_name(), [])
        left = answer.get("UnprocessedKeys", {}).get(table_name(), {}).get("Keys", [])
        wanted = left + wanted[_BATCH:]
        if left:
            time.sleep(pause)
            pause = min(1.0, pause * 2)
    return found


def put_back(shelf_id: str, key: str, runs: tuple[Run, ...]) -> bool:
    """Undo one take: its keys return to the front of its shelf and its entry goes. False when that was done before.

    Access:  update L#<shelf>/A, 1 write.
    Only if: the journal still has the entry, which this same write removes: it can happen once.
    """
    return _conditional({
        "TableName": table_name(),
        "Key": shelf_key(shelf_id),
        "UpdateExpression": "SET runs = list_append(:runs, runs), av = av + :n REMOVE j.#t",
        "ConditionExpression": "attribute_exists(j.#t)",
        "ExpressionAttributeNames": {"#t": key},
        "ExpressionAttributeValues": to_row({":runs": runs, ":n": count_keys(runs)}),
    })  # fmt: skip


def drop_entries(shelf_id: str, keys: list[str]) -> None:
    """Remove journal entries whose keys belong to their orders now. Repeating it changes nothing.

    Access:  update L#<shelf>/A, 1 write per 60 entries.
    Only if: the shelf exists.
    """
    for first in range(0, len(keys), JOURNAL_CAP):
        names = {f"#d{number}": key for number, key in enumerate(keys[first : first + JOURNAL_CAP])}
        _conditional({
            "TableName": table_name(),
            "Key": shelf_key(shelf_id),
            "UpdateExpression": "REMOVE " + ", ".join(f"j.{name}" for name in names),
            "ConditionExpression": "attribute_exists(pk)",
            "ExpressionAttributeNames": names,
        })  # fmt: skip


def replace_runs(shelf_id: str, seen: tuple[Run, ...], joined: tuple[Run, ...]) -> bool:
    """The same free numbers in fewer runs.

    Access:  update L#<shelf>/A, 1 write.
    Only if: the runs are those seen.
    """
    return _conditional({
        "TableName": table_name(),
        "Key": shelf_key(shelf_id),
        "UpdateExpression": "SET runs = :joined",
        "ConditionExpression": "runs = :seen",
        "ExpressionAttributeValues": to_row({":seen": seen, ":joined": joined}),
    })  # fmt: skip


def set_next_sweep(shelf_id: str, now: int) -> None:
    """Take a shelf out of the index of what is due when its journal is empty; else let it be due again later.

    Access:  update L#<shelf>/A, 1 write and 1 in the index (2 writes when entries remain).
    Only if: the journal is empty at that very moment: a take that slipped in keeps the shelf in the index.
    """
    emptied = _conditional({
        "TableName": table_name(),
        "Key": shelf_key(shelf_id),
        "UpdateExpression": "REMOVE due_pk, due_at",
        "ConditionExpression": "size(j) = :none",
        "ExpressionAttributeValues": to_row({":none": 0}),
    })  # fmt: skip
    if not emptied:
        _conditional({
            "TableName": table_name(),
            "Key": shelf_key(shelf_id),
            "UpdateExpression": "SET due_pk = :due_pk, due_at = :due_at",
            "ConditionExpression": "attribute_exists(pk)",
            "ExpressionAttributeValues": to_row(due_values(shelf_id, now)),
        })  # fmt: skip


def add_runs_write(shelf_id: str, runs: list[Run]) -> Write:
    """Entry: newly imported numbers go on sale.

    Access:  update L#<shelf>/A, 1 entry.
    Only if: the lot was opened.
    Refused: inventory.lot_not_found
    """
    return _add(
        shelf_id,
        "SET runs = list_append(runs, :runs), av = av + :n, im = im + :n",
        {":runs": runs, ":n": count_keys(runs)},
    )


def return_write(shelf_id: str, returned: list[Run], quarantined: int) -> Write:
    """Entry: keys come back from closed orders, for sale again or, when somebody may have seen them, never again.

    The shelf becomes due at once, so that the sweeper joins its runs.

    Access:  update L#<lot>#r<n>/A, 1 entry.
    Only if: the lot was opened. Whether the orders still held the keys is the condition of the orders' own entries.
    Refused: inventory.lot_not_found
    """
    update = "SET runs = list_append(runs, :runs), av = av + :n, q = q + :quarantined"
    values = {":runs": returned, ":n": count_keys(returned), ":quarantined": quarantined}
    if returned:
        return _add(shelf_id, f"{update}, {SET_DUE}", {**values, **due_values(shelf_id, 0)})
    return _add(shelf_id, update, values)


def _add(shelf_id: str, update: str, values: dict[str, Any]) -> Write:
    return Write(
        {
            "Update": {
                "TableName": table_name(),
                "Key": shelf_key(shelf_id),
                "UpdateExpression": update,
                "ConditionExpression": "attribute_exists(pk)",
                "ExpressionAttributeValues": to_row(values),
            }
        },
        LotNotFound(),
    )


def due_values(shelf_id: str, now: int) -> dict[str, str]:
    due = due_attributes("take", now + GRACE_SECONDS, shelf_id)
    return {":due_pk": due["due_pk"], ":due_at": due["due_at"]}


def _conditional(request: dict[str, Any]) -> bool:
    """Send one conditional update, repeated while the table is busy. False when its condition refused it."""
    try:
        retry_busy(lambda: dynamodb().update_item(**request))
    except Exception as error:
        if not is_condition_failed(error):
            raise
        return False
    return True
