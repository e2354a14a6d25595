"""Taking keys off shelves: the update and transaction expressions, and what their answers mean.

A take and its journal entry are one write. The entry stays until it is known whose the keys are: the order's (entry
dropped) or nobody's (keys put back and entry dropped, one write, conditional on the entry, so it happens once).
Called by `inventory.store` only. This file never decides what to take; rows of shelves are described in `shelf_store`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import to_row
from chalicelib.aws.transact import is_busy, is_condition_failed, refused_row, retry_busy
from chalicelib.core.settings import table_name
from chalicelib.inventory import memory
from chalicelib.inventory.model import Run, Shelf
from chalicelib.inventory.rules import (
    JOURNAL_CAP,
    Gather,
    TakeFromRun,
    TakeRuns,
    count_keys,
    journal_key,
)
from chalicelib.inventory.shelf_store import SET_DUE, due_values, read_shelf, shelf_key


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
            **values, **due_values(step.shelf_id, now),
            ":q": quantity, ":now": now, ":cap": JOURNAL_CAP + len(removable),
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
        return f"SET j.#t = :taken, runs = :rest, av = av - :q, {SET_DUE}", f"{usual} AND runs = :seen", values
    run = f"runs[{step.index}]"
    if step.whole:
        return f"SET j.#t = {run}[0], av = av - :q, {SET_DUE}", f"{usual} AND {run}[1] = :q", {}
    cut = f"{run}[0] = {run}[0] + :q, {run}[1] = {run}[1] - :q"
    return f"SET j.#t = {run}[0], {cut}, av = av - :q, {SET_DUE}", f"{usual} AND {run}[1] > :q", {}


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
                    **values, ":q": quantity, ":now": now, ":cap": JOURNAL_CAP, **due_values(part.shelf_id, now),
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
                UpdateExpression=f"SET j.#t = :nothing, {SET_DUE}",
                ConditionExpression="attribute_exists(pk) AND attribute_not_exists(j.#t)",
                ExpressionAttributeNames={"#t": key},
                ExpressionAttributeValues=to_row({":nothing": [], **due_values(shelf_id, now)}),
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


class _Sent:
    """Sends a request at most twice, and knows whether it went out more than once: from here or from the library.

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
