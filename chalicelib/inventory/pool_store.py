"""Rows that tell which lots a product has. `inventory.store` composes them; nobody else calls this file.

    POOL#<product_id> / META   lots [[lot id, expiry, main shelves, return shelves, unit cost], …] by expiry, v version
    LOT#<lot_id> / LOT         product_id, shards, return_shards, expires_at, batch facts, opened_at; never changed

This file never touches a shelf's free keys.
"""

from __future__ import annotations

from functools import lru_cache

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import Write, is_condition_failed, retry_busy
from chalicelib.core.errors import Busy
from chalicelib.core.settings import table_name
from chalicelib.inventory.errors import LotNotFound
from chalicelib.inventory.model import Lot, OpenLot
from chalicelib.inventory.rules import expiry_of, sort_lots

_TRIES = 10


def pool_key(product_id: str) -> dict[str, dict]:
    return to_row({"pk": f"POOL#{product_id}", "sk": "META"})


def read_pool_row(row: dict[str, dict]) -> list[OpenLot]:
    return [OpenLot(*fields) for fields in from_row(row)["lots"]]


def get_lots(product_id: str) -> list[OpenLot]:
    """All lots of a product in selling order; none for a product that never had keys.

    Access: get POOL#<product>/META, strongly consistent, 1 read unit per 4 KB (about 80 lots).
    """
    found = dynamodb().get_item(TableName=table_name(), Key=pool_key(product_id), ConsistentRead=True)
    return read_pool_row(found["Item"]) if "Item" in found else []


def new_lot_write(lot: Lot, now: int, if_refused: Exception) -> Write:
    """Entry that puts a lot's own row.

    Access:  put LOT#<lot>/LOT, 1 entry.
    Only if: the lot is new.
    Refused: `if_refused`
    """
    item = to_row({
        "pk": f"LOT#{lot.lot_id}", "sk": "LOT", "product_id": lot.product_id, "shards": lot.shards,
        "return_shards": lot.return_shards, "expires_at": lot.expires_at, "supplier": lot.supplier,
        "unit_cost_minor": lot.unit_cost_minor, "import_id": lot.import_id, "opened_at": now,
    })  # fmt: skip
    put = {"TableName": table_name(), "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
    return Write({"Put": put}, if_refused)


@lru_cache(maxsize=10_000)
def get_return_shards(lot_id: str) -> int:
    """How many return shelves a lot has; it never changes, so it is read once per process.

    Access: get LOT#<lot>/LOT, strongly consistent, 1 read unit.
    Raises: inventory.lot_not_found
    """
    key = to_row({"pk": f"LOT#{lot_id}", "sk": "LOT"})
    found = dynamodb().get_item(
        TableName=table_name(), Key=key, ConsistentRead=True, ProjectionExpression="return_shards"
    )
    if "Item" not in found:
        raise LotNotFound()
    return from_row(found["Item"])["return_shards"]


def add_to_pool(lot: Lot) -> None:
    """List a lot in its product's pool, at its place in selling order. Repeating it changes nothing.

    Access:  get and update POOL#<product>/META, again when another lot was listed in between.
    Only if: the version is the one read.
    Refused: service.busy after 10 races lost
    """
    opened = OpenLot(lot.lot_id, expiry_of(lot.expires_at), lot.shards, lot.return_shards, lot.unit_cost_minor)
    for _ in range(_TRIES):
        found = dynamodb().get_item(TableName=table_name(), Key=pool_key(lot.product_id), ConsistentRead=True)
        row = from_row(found["Item"]) if "Item" in found else {"lots": [], "v": 0}
        lots = [OpenLot(*fields) for fields in row["lots"]]
        if opened.lot_id in {known.lot_id for known in lots}:
            return
        request = {
            "TableName": table_name(),
            "Key": pool_key(lot.product_id),
            "UpdateExpression": "SET lots = :lots, v = :next",
            "ConditionExpression": "v = :seen" if row["v"] else "attribute_not_exists(pk)",
            "ExpressionAttributeValues": to_row({
                ":lots": [
                    [one.lot_id, one.expires_at, one.shards, one.return_shards]
                    + ([one.unit_cost_minor] if one.unit_cost_minor is not None else [])
                    for one in sort_lots([*lots, opened])
                ],
                ":next": row["v"] + 1,
                **({":seen": row["v"]} if row["v"] else {}),
            }),
        }  # fmt: skip
        try:
            retry_busy(lambda request=request: dynamodb().update_item(**request))
        except Exception as error:
            if not is_condition_failed(error):
                raise
        else:
            return
    raise Busy()
