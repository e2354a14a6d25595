"""Rows of disputes, for those who look at all of them: deadlines for people, labels for the risk engine.

    DISPUTE/<12-digit opened_at>#<provider>#<dispute_id>    order_id, shop_id, state, amount_minor, currency, reason, …

The order holds the truth; these rows follow it. One partition: disputes are rare.
"""

from __future__ import annotations

from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import is_condition_failed, retry_busy
from chalicelib.core.settings import table_name
from chalicelib.orders.model import Dispute, Order


def put_label(order: Order, provider: str, dispute: Dispute) -> dict[str, Any]:
    """Record what is known of a dispute, and answer it.

    Access:  put DISPUTE/…, 1 write.
    Only if: nothing is recorded of a later version of the order. Being late is a success.
    """
    row: dict[str, Any] = {
        "pk": "DISPUTE", "sk": f"{dispute.opened_at:012d}#{provider}#{dispute.dispute_id}", "provider": provider,
        "dispute_id": dispute.dispute_id, "order_id": order.order_id, "shop_id": order.shop_id, "state": dispute.state,
        "order_v": order.version, "amount_minor": dispute.amount_minor, "currency": order.paid_currency,
        "reason": dispute.reason, "opened_at": dispute.opened_at, "evidence_due_at": dispute.due_at,
        "closed_at": dispute.closed_at, "was_revealed": any(line.revealed_at for line in order.lines),
    }  # fmt: skip
    try:
        retry_busy(
            lambda: dynamodb().put_item(
                TableName=table_name(),
                Item=to_row(row),
                ConditionExpression="attribute_not_exists(pk) OR order_v <= :version",
                ExpressionAttributeValues=to_row({":version": order.version}),
            )
        )
    except Exception as error:
        if not is_condition_failed(error):
            raise
    return row


def list_labels(before_sk: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """One page of disputes, newest first, and the position to go on from (None on the last page).

    Access: query DISPUTE backwards, 0.5 read units per 4 KB.
    """
    start = {"ExclusiveStartKey": to_row({"pk": "DISPUTE", "sk": before_sk})} if before_sk else {}
    page = dynamodb().query(
        TableName=table_name(),
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues=to_row({":pk": "DISPUTE"}),
        ScanIndexForward=False,
        Limit=limit,
        **start,
    )
    last = page.get("LastEvaluatedKey")
    return [from_row(row) for row in page["Items"]], from_row(last)["sk"] if last else None
