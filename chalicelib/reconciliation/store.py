"""Every read and write of the rows of reconciliations.

    RECONS/<reconciliation_id>                what was asked for, how far it is, what it came to; in `due` until its end
    REC#<reconciliation_id>/D#<run>#<nnnn>    a hundred differences, compressed, written once
    REC#<reconciliation_id>/F#<run>#<nnnn>    five hundred fees on their way into the ledger, compressed, written once
    REC#<reconciliation_id>/S#<number>        what people did about one difference
    RECDAY#<provider>#<account_id>/<day>      what a day's statement has that our books have on another day

`run` is a digest of the result: comparing the same facts again writes the same rows, and of two results that differ,
because something happened in between, the rows never mix. Which one counts is decided by one conditional write.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import Write, is_condition_failed, put_if_absent, retry_busy, transact
from chalicelib.core.due import due_attributes
from chalicelib.core.ids import is_id
from chalicelib.core.settings import table_name
from chalicelib.payments.model import StatementLine
from chalicelib.reconciliation.errors import AlreadySettled, NoSuchReconciliation
from chalicelib.reconciliation.model import Difference, Fee, Ours

DUE_KIND = "reconcile"
PAGE_DIFFERENCES = 100
PAGE_FEES = 500
DAYS_BACK = 14  # how late a refund may come into our books and still be known from its day's statement
_ENDED = ("completed", "failed")


def put_reconciliation(row: dict[str, Any], due: int | None) -> dict[str, Any]:
    """Create a reconciliation; the one that is there already when the same request came before.

    Access:  put RECONS/<id>, 1 write, and 1 in the due index unless it waits for its file.
    Only if: the id is new.
    """
    attributes = due_attributes(DUE_KIND, due, row["reconciliation_id"]) if due is not None else {}
    return put_if_absent({**_key(row["reconciliation_id"]), **row, **attributes}) or row


def get_reconciliation(reconciliation_id: str) -> dict[str, Any]:
    """One reconciliation as it is now.

    Access: get RECONS/<id>, strongly consistent, 1 read unit.
    Raises: reconciliation.not_found
    """
    if not is_id("rec", reconciliation_id):
        raise NoSuchReconciliation()
    found = dynamodb().get_item(TableName=table_name(), Key=to_row(_key(reconciliation_id)), ConsistentRead=True)
    if "Item" not in found:
        raise NoSuchReconciliation()
    return from_row(found["Item"])


def list_reconciliations(before_id: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """One page, newest first, and the id to go on from (None on the last page).

    Access: query RECONS backwards, eventually consistent, 0.5 read units per 4 KB.
    """
    start = {"ExclusiveStartKey": to_row(_key(before_id))} if before_id else {}
    page = dynamodb().query(
        TableName=table_name(),
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues=to_row({":pk": "RECONS"}),
        ScanIndexForward=False,
        Limit=limit,
        **start,
    )
    last = page.get("LastEvaluatedKey")
    return [from_row(row) for row in page["Items"]], from_row(last)["sk"] if last else None


def start(reconciliation_id: str, *, etag: str, size: int, now: int, give_up_at: int, due: int) -> bool:
    """The file is there and will be read; False when the reconciliation was started before.

    Access:  update RECONS/<id>, 1 write, and 1 in the due index.
    Only if: it awaits its upload.
    """
    facts = {"etag": etag, "size": size, "next_try_at": now, "give_up_at": give_up_at}
    return _move(reconciliation_id, ("awaiting_upload",), "queued", facts, due)


def wait(reconciliation_id: str, *, why: str, tries: int, next_try_at: int) -> bool:
    """There is no statement yet; asked again at `next_try_at`. False when another copy has noted that.

    Access:  update RECONS/<id>, 1 write, and 2 in the due index.
    Only if: it has no result, and nobody else noted this try.
    """
    facts = {"why": why, "tries": tries, "next_try_at": next_try_at}
    return _move(reconciliation_id, ("queued", "waiting"), "waiting", facts, next_try_at, tries=tries - 1)


def put_result(reconciliation_id: str, run: str, differences: Sequence[Difference], fees: Sequence[Fee]) -> None:
    """Store a result in pages, before anything refers to it.

    Access:  put REC#<id>/D#… and REC#<id>/F#…, 1 write per KB; some 4 for 100 differences, some 8 for 500 fees.
    Only if: the page is new; of the same run it is the same page.
    """
    for kind, rows, size in (
        ("D#", [_to_plain(one) for one in differences], PAGE_DIFFERENCES),
        ("F#", [list(one) for one in fees], PAGE_FEES),
    ):
        for page in range(pages_of(len(rows), size)):
            packed = json.dumps(rows[page * size : (page + 1) * size], separators=(",", ":")).encode()
            put_if_absent({**_page_key(reconciliation_id, kind, run, page), "rows": zlib.compress(packed)})


def pages_of(rows: int, size: int) -> int:
    """How many pages so many rows take."""
    return -(-rows // size)


def post(reconciliation_id: str, facts: dict[str, Any], due: int) -> bool:
    """A result stands; from now on its fees are posted. False when another result stands already.

    Access:  update RECONS/<id>, 1 write, and 2 in the due index.
    Only if: it has no result.
    """
    return _move(reconciliation_id, ("queued", "waiting"), "posting", {**facts, "fees_done": 0, "settled": 0}, due)


def note_fees(reconciliation_id: str, before: int, done: int) -> bool:
    """So many pages of fees are in the ledger; False when another copy has noted that or more.

    Access:  update RECONS/<id>, 1 write.
    Only if: it stood at `before`.
    """
    return _write(
        lambda: dynamodb().update_item(
            TableName=table_name(),
            Key=to_row(_key(reconciliation_id)),
            UpdateExpression="SET fees_done = :done",
            ConditionExpression="#status = :posting AND fees_done = :before",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues=to_row({":posting": "posting", ":before": before, ":done": done}),
        )
    )


def complete(reconciliation_id: str, now: int) -> bool:
    """Everything is in its place; leaves the due index. False when another copy completed it.

    Access:  update RECONS/<id>, 1 write, and 1 in the due index.
    Only if: it posts fees.
    """
    return _move(reconciliation_id, ("posting",), "completed", {"finished_at": now}, None)


def fail(reconciliation_id: str, problem: str, now: int) -> bool:
    """There will be no result; leaves the due index. False when it has one, or has failed already.

    Access:  update RECONS/<id>, 1 write, and 1 in the due index.
    Only if: it has no result.
    """
    return _move(reconciliation_id, ("queued", "waiting"), "failed", {"problem": problem, "finished_at": now}, None)


def push_on(reconciliation_id: str, due_at: str, due: int) -> bool:
    """Look at this one again later; False when another timer did, or it has ended.

    Access:  update RECONS/<id>, 1 write, and 2 in the due index.
    Only if: it stands at the place in the index where it was found.
    """
    return _write(
        lambda: dynamodb().update_item(
            TableName=table_name(),
            Key=to_row(_key(reconciliation_id)),
            UpdateExpression="SET due_at = :next",
            ConditionExpression="due_at = :found",
            ExpressionAttributeValues=to_row({
                ":next": due_attributes(DUE_KIND, due, reconciliation_id)["due_at"], ":found": due_at,
            }),
        )
    )  # fmt: skip


def list_differences(row: dict[str, Any], first: int, limit: int) -> list[tuple[int, Difference]]:
    """Differences of a result by number, from `first` on, at most `limit` and at most a hundred.

    Access: get REC#<id>/D#…, one or two pages, eventually consistent, 0.5 read units per 4 KB. They never change.
    """
    limit = min(limit, PAGE_DIFFERENCES, row.get("differences", 0) - first + 1)
    if limit < 1 or first < 1:
        return []
    found = []
    for page in range((first - 1) // PAGE_DIFFERENCES, (first + limit - 2) // PAGE_DIFFERENCES + 1):
        rows = _get_page(row, "D#", page)
        numbers = range(page * PAGE_DIFFERENCES + 1, page * PAGE_DIFFERENCES + 1 + len(rows))
        found += [
            (number, _to_difference(one))
            for number, one in zip(numbers, rows, strict=True)
            if first <= number < first + limit
        ]
    return found


def list_fees(row: dict[str, Any], page: int) -> list[Fee]:
    """One page of a result's fees.

    Access: get REC#<id>/F#…, eventually consistent, 0.5 read units per 4 KB.
    """
    return [Fee(*one) for one in _get_page(row, "F#", page)]


def list_steps(reconciliation_id: str, first: int, last: int) -> dict[int, dict[str, Any]]:
    """What people did about the differences from one number to another: {number: {action, by, at, note, …}}.

    Access: query REC#<id>/S#…, strongly consistent, 1 read unit per 4 KB.
    """
    page = dynamodb().query(
        TableName=table_name(),
        ConsistentRead=True,
        KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
        ExpressionAttributeValues=to_row({
            ":pk": f"REC#{reconciliation_id}", ":first": f"S#{first:07d}", ":last": f"S#{last:07d}",
        }),
    )  # fmt: skip
    rows = [from_row(row) for row in page["Items"]]
    return {int(row["sk"].removeprefix("S#")): row for row in rows}


def note_answer(reconciliation_id: str, number: int, *, answer: str, by: str, now: int) -> None:
    """Keep what a provider said about a difference that stays open.

    Access:  update REC#<id>/S#<number>, 1 write.
    Only if: it is not settled. Being late is a success.
    """
    _write(
        lambda: dynamodb().update_item(
            TableName=table_name(),
            Key=to_row(_step_key(reconciliation_id, number)),
            UpdateExpression="SET answer = :answer, asked_by = :by, asked_at = :now",
            ConditionExpression="attribute_not_exists(#action)",
            ExpressionAttributeNames={"#action": "action"},
            ExpressionAttributeValues=to_row({":answer": answer, ":by": by, ":now": now}),
        )
    )


def settle(reconciliation_id: str, number: int, step: dict[str, Any]) -> dict[str, Any]:
    """Settle a difference for ever; answers what settled it: this, or the same action before.

    Access:  transaction of update REC#<id>/S#<number> and update RECONS/<id>, 4 writes; 1 read on a repeat.
    Only if: it is not settled.
    Raises:  reconciliation.already_settled when another action did
    """
    names = {f"#{name}": name for name in step}
    settled = {
        "TableName": table_name(),
        "Key": to_row(_step_key(reconciliation_id, number)),
        "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in step),
        "ConditionExpression": "attribute_not_exists(#action)",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": to_row({f":{name}": value for name, value in step.items()}),
    }
    counted = {
        "TableName": table_name(),
        "Key": to_row(_key(reconciliation_id)),
        "UpdateExpression": "ADD settled :one",
        "ConditionExpression": "attribute_exists(pk)",
        "ExpressionAttributeValues": to_row({":one": 1}),
    }
    try:
        transact([Write({"Update": settled}, AlreadySettled()), Write({"Update": counted}, NoSuchReconciliation())])
    except AlreadySettled:
        there = list_steps(reconciliation_id, number, number)[number]
        if there["action"] != step["action"]:
            raise
        return there
    return step


def put_day(provider: str, account_id: str | None, day: str, *, reconciliation_id: str, seen: bytes) -> None:
    """Remember what a day's statement has that our books have on another day. The latest result stands.

    Access: put RECDAY#…/<day>, 1 write per KB; some 12 for a day of 100,000 payments.
    """
    row = {**_day_key(provider, account_id, day), "reconciliation_id": reconciliation_id, "seen": seen}
    retry_busy(lambda: dynamodb().put_item(TableName=table_name(), Item=to_row(row)))


def list_days(provider: str, account_id: str | None, from_day: str, before_day: str) -> dict[str, bytes]:
    """What `put_day` remembered of the days from one up to, and not with, another: {day: marks}.

    Access: query RECDAY#…, strongly consistent, 1 read unit per 4 KB.
    """
    pages = (
        dynamodb()
        .get_paginator("query")
        .paginate(
            TableName=table_name(),
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :from AND :before",
            ExpressionAttributeValues=to_row({
                ":pk": _day_key(provider, account_id, "")["pk"], ":from": from_day, ":before": before_day,
            }),
        )
    )  # fmt: skip
    rows = [from_row(row) for page in pages for row in page["Items"]]
    return {row["sk"]: row["seen"] for row in rows if row["sk"] != before_day}


def _key(reconciliation_id: str) -> dict[str, str]:
    return {"pk": "RECONS", "sk": reconciliation_id}


def _page_key(reconciliation_id: str, kind: str, run: str, page: int) -> dict[str, str]:
    return {"pk": f"REC#{reconciliation_id}", "sk": f"{kind}{run}#{page:04d}"}


def _step_key(reconciliation_id: str, number: int) -> dict[str, str]:
    return {"pk": f"REC#{reconciliation_id}", "sk": f"S#{number:07d}"}


def _day_key(provider: str, account_id: str | None, day: str) -> dict[str, str]:
    return {"pk": f"RECDAY#{provider}#{account_id or ''}", "sk": day}


def _get_page(row: dict[str, Any], kind: str, page: int) -> list[Any]:
    key = to_row(_page_key(row["reconciliation_id"], kind, row["run"], page))
    found = dynamodb().get_item(TableName=table_name(), Key=key)
    if "Item" not in found:  # just written: ask the one that knows
        found = dynamodb().get_item(TableName=table_name(), Key=key, ConsistentRead=True)
    return json.loads(zlib.decompress(from_row(found["Item"])["rows"]))


def _to_plain(one: Difference) -> dict[str, Any]:
    theirs = {name: value for name, value in asdict(one.theirs).items() if value is not None} if one.theirs else None
    return {"o": one.outcome, "n": one.order_id, "u": list(one.ours) if one.ours else None, "t": theirs}


def _to_difference(plain: dict[str, Any]) -> Difference:
    theirs = StatementLine(**{"our_no": None, **plain["t"]}) if plain["t"] else None
    return Difference(plain["o"], plain["n"], Ours(*plain["u"]) if plain["u"] else None, theirs)


def _move(
    reconciliation_id: str,
    before: tuple[str, ...],
    after: str,
    facts: dict[str, Any],
    due: int | None,
    tries: int | None = None,
) -> bool:
    """Change the status and note facts with it; False when the reconciliation is not where it would have to be."""
    values: dict[str, Any] = {**facts, "status": after}
    if due is not None:
        values |= due_attributes(DUE_KIND, due, reconciliation_id)
    sets = ", ".join(f"#{name} = :{name}" for name in values)
    condition = f"#status IN ({', '.join(f':before{place}' for place in range(len(before)))})"
    seen: dict[str, Any] = {f":before{place}": status for place, status in enumerate(before)}
    names = {f"#{name}": name for name in values}
    if tries is not None:
        condition += " AND #tries = :seen"
        seen[":seen"] = tries
        names["#tries"] = "tries"
    return _write(
        lambda: dynamodb().update_item(
            TableName=table_name(),
            Key=to_row(_key(reconciliation_id)),
            UpdateExpression=f"SET {sets}" + (" REMOVE due_pk, due_at" if after in _ENDED else ""),
            ConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=to_row({**seen, **{f":{name}": value for name, value in values.items()}}),
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
