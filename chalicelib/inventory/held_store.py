"""Rows that count the keys of unpaid orders, per product. A figure, not a fact: orders are the fact, and the count is
redone from them every minute. `inventory.store` and `inventory.figures` call this file.

    POOL#<product_id> / HELD   held  v version  marks [batch, …]  counted_at  [due_pk due_at] while held is not zero
"""

from __future__ import annotations

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.due import list_due
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import is_condition_failed, retry_busy
from chalicelib.core.due import due_attributes
from chalicelib.core.settings import table_name
from chalicelib.inventory.rules import Held


def held_key(product_id: str) -> dict[str, dict]:
    return to_row({"pk": f"POOL#{product_id}", "sk": "HELD"})


def read_held_row(row: dict[str, dict]) -> Held:
    plain = from_row(row)
    return Held(plain["held"], plain["v"], tuple(plain["marks"]), plain["counted_at"])


def get_row(product_id: str) -> Held:
    """The count of a product; zero at version 0 when there is no row yet.

    Access: get POOL#<product>/HELD, strongly consistent, 1 read unit.
    """
    found = dynamodb().get_item(TableName=table_name(), Key=held_key(product_id), ConsistentRead=True)
    return read_held_row(found["Item"]) if "Item" in found else Held()


def list_products(now: int) -> list[str]:
    """Products whose count is not zero.

    Access: query due, four queries.
    """
    return [row["pk"].removeprefix("POOL#") for row in list_due("held", now)]


def put_row(product_id: str, wanted: Held) -> bool:
    """Write a new count. False when another writer was first: read again and decide again.

    Access:  put POOL#<product>/HELD, 1 write; 1 more in the index when the count leaves or reaches zero.
    Only if: the version is the one before the wanted one.
    """
    due = due_attributes("held", 0, product_id) if wanted.held else {}
    item = {
        **held_key(product_id),
        **to_row({
            "held": wanted.held, "v": wanted.version, "marks": wanted.marks, "counted_at": wanted.counted_at, **due,
        }),
    }  # fmt: skip
    is_first = wanted.version == 1
    request = {
        "TableName": table_name(),
        "Item": item,
        "ConditionExpression": "attribute_not_exists(pk)" if is_first else "v = :seen",
        **({} if is_first else {"ExpressionAttributeValues": to_row({":seen": wanted.version - 1})}),
    }
    try:
        retry_busy(lambda: dynamodb().put_item(**request))
    except Exception as error:
        if not is_condition_failed(error):
            raise
        return False
    return True
