"""The sandbox provider's books: what it took from a buyer and what it gave back. No order is read or written here.

    SBX#<payment_id> / P   event_id, txn, captured_minor, left_minor, currency, captured_at, refunds {id: amount}

`left_minor` is what can still be refunded; it only ever falls, and never below zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import is_condition_failed, put_if_absent, refused_row, retry_busy
from chalicelib.core.ids import new_id
from chalicelib.core.settings import table_name


@dataclass(frozen=True)
class Capture:
    """Money taken once. `event_id` names the notice about it, however often that is sent."""

    payment_id: str
    event_id: str
    txn: str
    captured_minor: int
    left_minor: int
    currency: str
    captured_at: int
    refunds: dict[str, int]


def capture(payment_id: str, amount_minor: int, currency: str, now: int) -> Capture:
    """Take the money, or tell what was taken before: a payment is captured once, whatever is asked later.

    Access:  put SBX#<payment_id>/P, 1 write.
    Only if: nothing was captured yet.
    Refused: never; the earlier capture is the answer.
    """
    row = {
        "pk": f"SBX#{payment_id}",
        "sk": "P",
        "event_id": new_id("sbe", now),
        "txn": new_id("sbt", now),
        "captured_minor": amount_minor,
        "left_minor": amount_minor,
        "currency": currency,
        "captured_at": now,
        "refunds": {},
    }
    return _to_capture(put_if_absent(row) or row)


def find_capture(payment_id: str) -> Capture | None:
    """What was captured for a payment, or None.

    Access: get SBX#<payment_id>/P, strongly consistent, 1 read unit.
    """
    found = dynamodb().get_item(
        TableName=table_name(), Key=to_row({"pk": f"SBX#{payment_id}", "sk": "P"}), ConsistentRead=True
    )
    return _to_capture(from_row(found["Item"])) if "Item" in found else None


def book_refund(payment_id: str, txn: str, refund_id: str, amount_minor: int) -> int | None:
    """Give money back under a refund id, once.

    Access:  update SBX#<payment_id>/P, 1 write.
    Only if: the money is of this transaction, the refund id is new, and so much is still left.
    Refused: the amount that was booked under this id before; None when nothing was and nothing can be.
    """

    def update() -> int | None:
        try:
            dynamodb().update_item(
                TableName=table_name(),
                Key=to_row({"pk": f"SBX#{payment_id}", "sk": "P"}),
                UpdateExpression="SET refunds.#id = :amount, left_minor = left_minor - :amount",
                ConditionExpression="txn = :txn AND attribute_not_exists(refunds.#id) AND left_minor >= :amount",
                ExpressionAttributeNames={"#id": refund_id},
                ExpressionAttributeValues=to_row({":amount": amount_minor, ":txn": txn}),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except Exception as error:
            if not is_condition_failed(error):
                raise
            row = from_row(refused_row(error))
            return row["refunds"].get(refund_id) if row and row["txn"] == txn else None
        return amount_minor

    return retry_busy(update)


def _to_capture(row: dict) -> Capture:
    return Capture(
        payment_id=row["pk"].removeprefix("SBX#"),
        event_id=row["event_id"],
        txn=row["txn"],
        captured_minor=row["captured_minor"],
        left_minor=row["left_minor"],
        currency=row["currency"],
        captured_at=row["captured_at"],
        refunds=row["refunds"],
    )
