"""Rows of products.

    CATALOG/<product_id>    name, price_minor, currency, status, key_fields, delivery, hold_minutes, refund_policy, v, …

One partition: a catalogue is read far more than written, and readers keep products for a few seconds.
"""

from __future__ import annotations

import time
from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import is_condition_failed, put_if_absent, retry_busy
from chalicelib.catalog.errors import NoSuchProduct, ProductChanged
from chalicelib.core.ids import is_id
from chalicelib.core.settings import table_name

KEEP_SECONDS = 3
_MAX_KEPT = 500
_kept: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}


def put_product(product: dict[str, Any]) -> bool:
    """Create a product under its id; False when the id exists already (a repeat of the same request).

    Access:  put CATALOG/<product_id>, 1 write.
    Only if: the id is new.
    """
    return put_if_absent({"pk": "CATALOG", "sk": product["product_id"], **product}) is None


def get_product(product_id: str) -> dict[str, Any]:
    """One product as it is now.

    Access: get CATALOG/<product_id>, strongly consistent, 1 read unit.
    Raises: catalog.product_not_found
    """
    if not is_id("prd", product_id):
        raise NoSuchProduct()
    found = dynamodb().get_item(
        TableName=table_name(), Key=to_row({"pk": "CATALOG", "sk": product_id}), ConsistentRead=True
    )
    if "Item" not in found:
        raise NoSuchProduct()
    return from_row(found["Item"])


def read_product(product_id: str) -> dict[str, Any]:
    """One product, at most 3 seconds old: for checkout, where the catalogue is read over and over.

    Access: as `get_product`, once in 3 seconds per process and product.
    Raises: catalog.product_not_found
    """
    kept = _kept.get((table_name(), product_id))
    if kept and kept[0] > time.monotonic():
        return kept[1]
    product = get_product(product_id)
    if len(_kept) >= _MAX_KEPT:
        _kept.clear()
    _kept[(table_name(), product_id)] = (time.monotonic() + KEEP_SECONDS, product)
    return product


def save_product(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Replace a product that nobody changed since it was read.

    Access:  put CATALOG/<product_id>, 1 write.
    Only if: its version is the one read.
    Raises:  catalog.product_changed
    """
    try:
        retry_busy(
            lambda: dynamodb().put_item(
                TableName=table_name(),
                Item=to_row({**after, "pk": "CATALOG", "sk": after["product_id"]}),
                ConditionExpression="v = :seen",
                ExpressionAttributeValues=to_row({":seen": before["v"]}),
            )
        )
    except Exception as error:
        if is_condition_failed(error):
            raise ProductChanged() from None
        raise
    _kept.pop((table_name(), after["product_id"]), None)


def list_products(after_id: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """One page of products by id (oldest first), and the id to go on after (None on the last page).

    Access: query CATALOG, eventually consistent, 0.5 read units per 4 KB.
    """
    start = {"ExclusiveStartKey": to_row({"pk": "CATALOG", "sk": after_id})} if after_id else {}
    page = dynamodb().query(
        TableName=table_name(),
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues=to_row({":pk": "CATALOG"}),
        Limit=limit,
        **start,
    )
    last = page.get("LastEvaluatedKey")
    return [from_row(row) for row in page["Items"]], from_row(last)["sk"] if last else None
