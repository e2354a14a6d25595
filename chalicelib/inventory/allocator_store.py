"""Rows of shelves, each write spelled out with its condition. `inventory.store` composes them; nobody else calls this file.

    L#<lot>#<shard> / A    main shelf      runs [[first, count], …]  av free keys  j {journal key: taken}  xp lot expiry
    L#<lot>#r<n> / A       return shelf    im imported keys  q quarantined keys  [due_pk due_at] while something is to be settled

A take and its journal entry are one write. The entry stays until it is known whose the keys are: the order's (entry dropped)
or nobody's (keys put back and entry dropped, one write, conditional on the entry, so it happens once).
This file never decides what to take, and never reads an order.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.due import due_attributes
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import Write, is_busy, is_condition_failed, refused_row, retry_busy
from chalicelib.core.settings import table_name
from chalicelib.inventory import memory
from chalicelib.inventory.errors import LotNotFound
from chalicelib.inventory.model import Extent, OpenLot, Run, Shelf
from chalicelib.inventory.rules import (
    GRACE_SECONDS,
    JOURNAL_CAP,
    Gather,
    TakeFromRun,
    TakeRuns,
    count_keys,
    journal_key,
    read_journal_key,
)

# The shelf enters the index of what is due with its first unsettled take and is left alone by the following ones.
_SET_DUE = "due_pk = if_not_exists(due_pk, :due_pk), due_at = if_not_exists(due_at, :due_at)"
_BATCH = 100


@dataclass(frozen=True)
class Attempt:
    """What came of one try to take: the extents per shelf when it worked, else the shelves that refused, as they are.

    `is_repeated`: the request was sent more than once, so that a duplicate of it may still be under way.
    `is_busy`: the table said 'not now' twice; whether a try went through all the same is not known.
    """

    taken: dict[str, tuple[Run, ...]] | None
    shelves: tuple[Shelf, ...] = ()
    is_repeated: bool = False
    is_busy: bool = False


Trial = TakeFromRun | TakeRuns | Gather


@dataclass(frozen=True)
class Doubt:
    """A try whose fate is not known: its journal keys by shelf, and what it would have taken."""

    keys: dict[str, str]
    step: Trial


def journal_keys(step: Trial, quantity: int, order_id: str, take_id: str) -> dict[str, str]:
    """The entries a try notes: shelf -> journal key. The same try has the same keys however often it is sent."""
    parts = (
        [(part.shelf_id, count_keys(part.taken)) for part in step.parts]
        if isinstance(step, Gather)
        else [(step.shelf_id, quantity)]
    )
    return {shelf_id: journal_key(order_id, count, take_id) for shelf_id, count in parts}


def try_step(step: Trial, keys: dict[str, str], quantity: int, now: int) -> Attempt:
    """Try what was planned: see `try_take` and `try_gather`."""
    if isinstance(step, Gather):
        return try_gather(step, keys, now)
    return try_take(step, keys[step.shelf_id], quantity, now)


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


def try_take(step: TakeFromRun | TakeRuns, key: str, quantity: int, now: int) -> Attempt:
    """Lift keys off one shelf and note the take in its journal, in one write; settled entries leave in the same write.

    Access:  update L#<shelf>/A, 1 write.
    Only if: this take is not noted yet, the lot has not expired, the journal has room, and the run is long enough
             (or, for several runs, the runs are those seen).
    Refused: answered as an Attempt with the shelf as it is; our own earlier write, its answer lost, counts as taken.
    """
    removable = [entry for entry in memory.pop_removable(step.shelf_id) if entry != key]
    names = {"#t": key} | {f"#d{number}": entry for number, entry in enumerate(removable)}
    update, condition, values = _take_expressions(step, quantity)
    removed = ([f"runs[{step.index}]"] if isinstance(step, TakeFromRun) and step.whole else []) + [
        f"j.#d{number}" for number in range(len(removable))
    ]
    request = {
        "TableName": table_name(),
        "Key": shelf_key(step.shelf_id),
        "UpdateExpression": update + (" REMOVE " + ", ".join(removed) if removed else ""),
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": to_row({
            **values, ":q": quantity, ":now": now, ":cap": JOURNAL_CAP + len(removable), **_due_values(step.shelf_id, now),
        }),
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }  # fmt: skip
    sent = _Sent()
    try:
        answer = sent.send(dynamodb().update_item, **request)
    except Exception as error:
        memory.remember_removable(step.shelf_id, removable)
        if is_busy(error):
            return Attempt(None, (), True, True)
        if not is_condition_failed(error):
            raise
        row = refused_row(error)
        shelf = read_shelf(row) if row else Shelf(step.shelf_id)
        if shelf.journal.get(key):
            return Attempt({step.shelf_id: shelf.journal[key]}, (shelf,), True)
        return Attempt(None, (shelf,), sent.is_repeated(error.response))
    shelf = read_shelf(answer["Attributes"])
    return Attempt({step.shelf_id: shelf.journal[key]}, (shelf,), sent.is_repeated(answer))


def _take_expressions(step: TakeFromRun | TakeRuns, quantity: int) -> tuple[str, str, dict[str, Any]]:
    """Update, condition and values of a take. In one update all operands are the old values: take and tell at once."""
    usual = "attribute_not_exists(j.#t) AND xp > :now AND size(j) < :cap"
    if isinstance(step, TakeRuns):
        values = {":seen": step.seen, ":rest": step.rest, ":taken": step.taken}
        return f"SET j.#t = :taken, runs = :rest, av = av - :q, {_SET_DUE}", f"{usual} AND runs = :seen", values
    run = f"runs[{step.index}]"
    if step.whole:
        return f"SET j.#t = {run}[0], av = av - :q, {_SET_DUE}", f"{usual} AND {run}[1] = :q", {}
    cut = f"{run}[0] = {run}[0] + :q, {run}[1] = {run}[1] - :q"
    return f"SET j.#t = {run}[0], {cut}, av = av - :q, {_SET_DUE}", f"{usual} AND {run}[1] > :q", {}


def try_gather(step: Gather, keys: dict[str, str], now: int) -> Attempt:
    """Lift keys off several shelves, each with its own journal entry, all or nothing.

    Access:  transaction of updates L#<shelf>/A, 2 write units per shelf and KB (at most 99 shelves).
    Only if: for each shelf as in `try_take` for several runs.
    Refused: answered as an Attempt with the shelves that refused.
    """
    entries = []
    for part in step.parts:
        quantity = count_keys(part.taken)
        update, condition, values = _take_expressions(part, quantity)
        entries.append({
            "Update": {
                "TableName": table_name(),
                "Key": shelf_key(part.shelf_id),
                "UpdateExpression": update,
                "ConditionExpression": condition,
                "ExpressionAttributeNames": {"#t": keys[part.shelf_id]},
                "ExpressionAttributeValues": to_row({
                    **values, ":q": quantity, ":now": now, ":cap": JOURNAL_CAP, **_due_values(part.shelf_id, now),
                }),
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        })  # fmt: skip
    taken = {part.shelf_id: part.taken for part in step.parts}
    sent = _Sent()
    try:
        answer = sent.send(dynamodb().transact_write_items, TransactItems=entries)
    except Exception as error:
        if is_busy(error):
            return Attempt(None, (), True, True)
        reasons = (getattr(error, "response", None) or {}).get("CancellationReasons", [])
        refused = [reason for reason in reasons if reason.get("Code") == "ConditionalCheckFailed"]
        if not refused:
            raise
        shelves = tuple(read_shelf(reason["Item"]) for reason in refused if reason.get("Item"))
        if len(shelves) == len(step.parts) and all(shelf.journal.get(keys[shelf.shelf_id]) for shelf in shelves):
            return Attempt(taken, shelves, True)
        return Attempt(None, shelves, sent.is_repeated(error.response))
    return Attempt(taken, (), sent.is_repeated(answer))


class _Sent:
    """Sends a request at most twice, and knows whether it went out more than once: from here, or from the library beneath.

    Two tries and not six: a shelf that is busy is left for another one.
    """

    def __init__(self) -> None:
        self.times = 0

    def send(self, call: Any, **request: Any) -> dict:
        self.times += 1
        try:
            return call(**request)
        except Exception as error:
            if self.times > 1 or not is_busy(error):
                raise
            time.sleep(memory.dice.uniform(0, 0.02))
            return self.send(call, **request)

    def is_repeated(self, response: dict) -> bool:
        return self.times > 1 or response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0


def close_doubt(doubt: Doubt, now: int) -> Attempt | None:
    """Make sure that an unanswered try can never take effect any more, or learn that it has: None when it is closed.

    An empty journal entry under the try's own key makes the table refuse the try, should it still be on its way. For a
    transaction one shelf is enough. The sweeper removes the empty entry like any other.

    Access:  update L#<shelf>/A, 1 write.
    Only if: the try is not noted.
    Refused: answered as an Attempt: the try has worked after all.
    """
    shelf_id, key = next(iter(doubt.keys.items()))
    try:
        retry_busy(
            lambda: dynamodb().update_item(
                TableName=table_name(),
                Key=shelf_key(shelf_id),
                UpdateExpression=f"SET j.#t = :nothing, {_SET_DUE}",
                ConditionExpression="attribute_exists(pk) AND attribute_not_exists(j.#t)",
                ExpressionAttributeNames={"#t": key},
                ExpressionAttributeValues=to_row({":nothing": [], **_due_values(shelf_id, now)}),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        )
    except Exception as error:
        if not is_condition_failed(error):
            raise
        row = refused_row(error)
        noted = read_shelf(row).journal.get(key) if row else None
        if not noted:
            return None  # an unopened shelf, or our own closing of which the answer was lost
        if isinstance(doubt.step, Gather):
            return Attempt({part.shelf_id: part.taken for part in doubt.step.parts}, (), True)
        return Attempt({shelf_id: noted}, (), True)
    return None


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
            "ExpressionAttributeValues": to_row(_due_values(shelf_id, now)),
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
        return _add(shelf_id, f"{update}, {_SET_DUE}", {**values, **_due_values(shelf_id, 0)})
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


def _due_values(shelf_id: str, now: int) -> dict[str, str]:
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


def extents_of(shelf_id: str, runs: Iterable[Run]) -> tuple[Extent, ...]:
    lot_id = shelf_id.partition("#")[0]
    return tuple((lot_id, start, count) for start, count in runs)
