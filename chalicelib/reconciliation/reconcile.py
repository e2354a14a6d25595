"""Bring one reconciliation on: read the statement, compare, keep what differs, and hand its fees to the ledger.

Called by the queue's worker. Nothing is locked: two copies that compare at once come to the same rows, or to rows of
two runs of which one is made the result. A crash anywhere is made good by the next message; the minute timer sends it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from chalicelib.aws import statement_files
from chalicelib.edge.observe import count, log
from chalicelib.payments.errors import (
    BadStatement,
    NoStatement,
    NoSuchAccount,
    ProviderRefused,
    ProviderUnavailable,
    UnknownProvider,
)
from chalicelib.payments.model import StatementLine
from chalicelib.payments.providers import account_with, adapter_named
from chalicelib.reconciliation import store
from chalicelib.reconciliation.gather_movements import gather_movements, movements_of_orders
from chalicelib.reconciliation.model import RESUME_SECONDS, Day, Fee, Outcome
from chalicelib.reconciliation.post_fees import post_fees
from chalicelib.reconciliation.rules import (
    bounded,
    compare,
    counts_of,
    day_of,
    days_before,
    fees_of,
    marks_in,
    merged,
    totals_of,
    wait_seconds,
)

_WAITS = {NoStatement: "no_statement", ProviderUnavailable: "provider_unavailable"}
_ENDS = {
    ProviderRefused: "provider_refused", BadStatement: "bad_statement", statement_files.FileGone: "file_changed",
    NoSuchAccount: "account_not_found", UnknownProvider: "account_not_found",
}  # fmt: skip
_MAX_SEEN = 40_000  # marks a row has room for; more is a statement of somebody else's money


def reconcile(reconciliation_id: str, now: int) -> None:
    """Do what this reconciliation waits for; nothing when its time has not come, or its work is done."""
    row = store.get_reconciliation(reconciliation_id)
    if row["status"] in ("queued", "waiting") and row["next_try_at"] <= now:
        _compare(row, now)
        row = store.get_reconciliation(reconciliation_id)
    if row["status"] == "posting":
        post_fees(row, now)


def _compare(row: dict[str, Any], now: int) -> None:
    # 1 gather
    try:
        day, theirs = _read_statement(row)
    except tuple(_WAITS) as error:
        _wait(row, _WAITS[type(error)], now)
        return
    except tuple(_ENDS) as error:
        _fail(row, _ENDS[type(error)], now)
        return
    provider, account_id = row["provider"], row.get("account_id")
    ours, order_by_txn = gather_movements(provider, account_id, day, theirs)
    days = store.list_days(provider, account_id, days_before(row["day"], store.DAYS_BACK), row["day"])
    known = {
        "order_by_txn": order_by_txn,
        "seen": frozenset().union(*(marks_in(packed) for packed in days.values())),
        "has_day_before": days_before(row["day"], 1) in days,
    }
    # 2 decide; a refund that seems to be missing there is judged again with its order, which knows more than the ledger
    outcome = compare(ours, theirs, day, **known)
    if doubtful := _orders_with_refunds_missing(outcome):
        ours = merged(ours, movements_of_orders(doubtful, provider, account_id))
        outcome = compare(ours, theirs, day, **known)
    # 3 apply
    _keep(row, outcome, fees_of(theirs), now)


def _read_statement(row: dict[str, Any]) -> tuple[Day, list[StatementLine]]:
    adapter = adapter_named(row["provider"])
    account = account_with(row["provider"], row.get("account_id"))
    if row["source"] == "file":
        raw = statement_files.read_statement(row["reconciliation_id"], row["etag"])
        lines = adapter.parse_statement(account, raw, row["day"])
    else:
        lines = adapter.statement(account, row["day"])
    return day_of(row["day"], adapter.FACTS.day_offset_hours), [bounded(line) for line in lines]


def _orders_with_refunds_missing(outcome: Outcome) -> set[str]:
    return {
        one.order_id
        for one in outcome.differences
        if one.outcome == "missing_there" and one.ours.kind == "refund" and one.order_id
    }


def _keep(row: dict[str, Any], outcome: Outcome, fees: list[Fee], now: int) -> None:
    """The pages first, then the row that makes them the result: nothing half written can be seen."""
    reconciliation_id, run = row["reconciliation_id"], _run_of(outcome, fees)
    store.put_result(reconciliation_id, run, outcome.differences, fees)
    seen = b"".join(outcome.seen[:_MAX_SEEN])
    store.put_day(row["provider"], row.get("account_id"), row["day"], reconciliation_id=reconciliation_id, seen=seen)
    facts = {
        "run": run,
        "counts": counts_of(outcome),
        "totals": [list(one) for one in totals_of(outcome, fees)],
        "differences": len(outcome.differences),
        "fee_pages": store.pages_of(len(fees), store.PAGE_FEES),
        "compared_at": now,
    }
    if store.post(reconciliation_id, facts, now + RESUME_SECONDS):
        log.info("reconciliation compared", extra={"reconciliation": reconciliation_id, **facts["counts"]})


def _run_of(outcome: Outcome, fees: list[Fee]) -> str:
    """A digest of everything a result says: the same facts have the same name."""
    digest = hashlib.sha256(json.dumps([counts_of(outcome), [list(one) for one in fees]]).encode())
    for one in outcome.differences:
        theirs = list(asdict(one.theirs).values()) if one.theirs else None
        digest.update(json.dumps([one.outcome, one.order_id, one.ours, theirs]).encode())
    return digest.hexdigest()[:16]


def _wait(row: dict[str, Any], why: str, now: int) -> None:
    """Ask again later; the minute timer finds the row when its time has come. After two days a person is told."""
    tries = row["tries"] + 1
    next_try_at = now + wait_seconds(tries)
    if next_try_at > row["give_up_at"]:
        _fail(row, why, now)
    else:
        store.wait(row["reconciliation_id"], why=why, tries=tries, next_try_at=next_try_at)


def _fail(row: dict[str, Any], problem: str, now: int) -> None:
    if store.fail(row["reconciliation_id"], problem, now):
        log.error("reconciliation failed", extra={"reconciliation": row["reconciliation_id"], "problem": problem})
        count("ReconciliationFailed")
