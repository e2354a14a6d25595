"""The design most card-key shops use, built as well as it can be, to measure ours against: one row per key, the first
free one found through an index of free keys, marked by a conditional update, next one when somebody was faster.

    NK#<product>#<number> / N    free keys stand in the index `due` under FREE#<product>, sold ones do not

Used by `benchmarks.reservation` only; no part of the product.
"""

from __future__ import annotations

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import is_condition_failed
from chalicelib.core.settings import table_name


class SoldOut(Exception):
    """The index shows no free key."""


def fill(product_id: str, keys: int) -> None:
    """Put the rows of so many free keys."""
    rows = [
        {"pk": f"NK#{product_id}#{number:08d}", "sk": "N", "due_pk": f"FREE#{product_id}", "due_at": f"{number:08d}"}
        for number in range(keys)
    ]
    for first in range(0, keys, 25):
        puts = [{"PutRequest": {"Item": to_row(row)}} for row in rows[first : first + 25]]
        dynamodb().batch_write_item(RequestItems={table_name(): puts})


def take_one(product_id: str, order_id: str) -> str:
    """Find the first free key and mark it; again until it works. Answers the key's name.

    Raises: SoldOut
    """
    while True:
        found = dynamodb().query(
            TableName=table_name(),
            IndexName="due",
            KeyConditionExpression="due_pk = :free",
            ExpressionAttributeValues=to_row({":free": f"FREE#{product_id}"}),
            Limit=1,
        )["Items"]
        if not found:
            raise SoldOut()
        name = from_row(found[0])["pk"]
        try:
            dynamodb().update_item(
                TableName=table_name(),
                Key=to_row({"pk": name, "sk": "N"}),
                UpdateExpression="SET order_id = :order REMOVE due_pk, due_at",
                ConditionExpression="attribute_exists(due_pk)",
                ExpressionAttributeValues=to_row({":order": order_id}),
            )
        except Exception as error:
            if not is_condition_failed(error):
                raise
        else:
            return name


def take(product_id: str, quantity: int, order_id: str) -> list[str]:
    """So many keys, one after the other: a crash in between leaves keys marked for an order that never comes to be."""
    return [take_one(product_id, order_id) for _ in range(quantity)]
