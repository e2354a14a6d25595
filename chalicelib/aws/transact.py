"""Writes that must be true together, and the retry of writes that met another transaction.

A transaction entry is a `Write`: the raw DynamoDB entry beside the refusal to raise when *its* condition fails. So the
reason of a cancelled transaction is always the name of one business fact.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.core.errors import Busy
from chalicelib.core.settings import table_name

T = TypeVar("T")

MAX_ENTRIES = 100
_TRIES = 6
_BUSY_CODES = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
_BUSY_ERRORS = {
    "TransactionConflictException", "TransactionInProgressException", "ProvisionedThroughputExceededException",
    "ThrottlingException", "RequestLimitExceeded", "InternalServerError", "ServiceUnavailable",
}  # fmt: skip


@dataclass(frozen=True)
class Write:
    """One entry of a transaction (`{"Put": …}`, `{"Update": …}`, `{"ConditionCheck": …}`) and what its refusal is."""

    entry: dict
    if_refused: Exception


def transact(writes: list[Write]) -> None:
    """Write all entries or none.

    Only if: every entry's own condition holds.
    Raises:  the `if_refused` of the first entry whose condition failed; `service.busy` when other writes kept the
             items.
    """
    if len(writes) > MAX_ENTRIES:
        raise ValueError(f"a transaction takes {MAX_ENTRIES} writes, not {len(writes)}")

    def send() -> None:
        client = dynamodb()
        try:
            client.transact_write_items(TransactItems=[write.entry for write in writes])
        except client.exceptions.TransactionCanceledException as cancelled:
            reasons = [reason.get("Code") for reason in cancelled.response.get("CancellationReasons", [])]
            # A failed condition is a fact and final. A conflict is only bad luck: nothing was judged yet.
            for write, reason in zip(writes, reasons, strict=False):
                if reason == "ConditionalCheckFailed":
                    raise write.if_refused from None
            raise

    retry_busy(send)


def is_busy(error: Exception) -> bool:
    """Whether an AWS error says 'not now' (conflict, throttling, internal), as opposed to 'no'."""
    response = getattr(error, "response", None) or {}
    code = response.get("Error", {}).get("Code", "")
    if code == "TransactionCanceledException":
        reasons = {reason.get("Code") for reason in response.get("CancellationReasons", [])} - {None, "None"}
        return bool(reasons) and reasons <= _BUSY_CODES
    return code in _BUSY_ERRORS


def retry_busy(send: Callable[[], T]) -> T:
    """Run one write, again with growing jitter while the table says 'not now'.

    The caller's write must be safe to repeat: conditional, and able to recognise its own earlier success.
    Raises: `service.busy` after 6 tries; every other error as it is.
    """
    for attempt in range(_TRIES):
        try:
            return send()
        except Exception as error:
            if not is_busy(error):
                raise
            if attempt == _TRIES - 1:
                raise Busy() from error
            time.sleep(random.uniform(0, 0.02 * 2**attempt))
    raise AssertionError("unreachable")


def put_if_absent(row: dict[str, Any]) -> dict[str, Any] | None:
    """Write a row that must not exist yet; None values are left out.

    Access:  put <pk>/<sk>, 1 write unit per KB.
    Only if: there is no row under this key.
    Returns: None when written, else the row that was there: perhaps our own, of a try whose answer was lost.
    """
    try:
        retry_busy(
            lambda: dynamodb().put_item(
                TableName=table_name(),
                Item=to_row(row),
                ConditionExpression="attribute_not_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        )
    except Exception as error:
        if not is_condition_failed(error):
            raise
        return from_row(refused_row(error))
    return None


def is_condition_failed(error: Exception) -> bool:
    """Whether a plain conditional write was refused by its own condition."""
    return (getattr(error, "response", None) or {}).get("Error", {}).get("Code") == "ConditionalCheckFailedException"


def refused_row(error: Exception) -> dict[str, Any]:
    """The row that refused a write sent with `ReturnValuesOnConditionCheckFailure: ALL_OLD`; {} if there was none."""
    return getattr(error, "response", {}).get("Item", {}) or {}
