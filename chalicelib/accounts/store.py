"""Rows of shops and their API keys. Keys are stored as SHA-256 digests only.

KEY#<sha256 hex> / KEY     scope, key_id, shop_id, label, status, created_at
SHOPS / <shop_id>          name, created_at
"""

from __future__ import annotations

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.core.settings import table_name


def find_api_key(key_hash: str) -> dict | None:
    """An API key's row by its digest, or None.

    Access: get KEY#<hash>/KEY, eventually consistent, 0.5 read units; remembered 30 s by the caller.
    """
    found = dynamodb().get_item(TableName=table_name(), Key=to_row({"pk": f"KEY#{key_hash}", "sk": "KEY"}))
    return from_row(found["Item"]) if "Item" in found else None


def put_api_key(key_hash: str, *, key_id: str, scope: str, shop_id: str | None, label: str, now: int) -> None:
    """Record a new API key. The plain key is never written.

    Access:  put KEY#<hash>/KEY, 1 write.
    Only if: the digest is new.
    """
    dynamodb().put_item(
        TableName=table_name(),
        Item=to_row({
            "pk": f"KEY#{key_hash}", "sk": "KEY", "key_id": key_id, "scope": scope, "shop_id": shop_id,
            "label": label, "status": "active", "created_at": now,
        }),
        ConditionExpression="attribute_not_exists(pk)",
    )  # fmt: skip


def revoke_api_key(key_hash: str) -> None:
    """Switch a key off; every process forgets it within 30 seconds.

    Access:  update KEY#<hash>/KEY, 1 write.
    Only if: the key exists.
    """
    dynamodb().update_item(
        TableName=table_name(),
        Key=to_row({"pk": f"KEY#{key_hash}", "sk": "KEY"}),
        UpdateExpression="SET #status = :revoked",
        ConditionExpression="attribute_exists(pk)",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues=to_row({":revoked": "revoked"}),
    )


def put_shop(shop_id: str, name: str, now: int) -> None:
    """Record a shop once; repeating it changes nothing.

    Access: update SHOPS/<shop_id>, 1 write.
    """
    dynamodb().update_item(
        TableName=table_name(),
        Key=to_row({"pk": "SHOPS", "sk": shop_id}),
        UpdateExpression="SET #name = if_not_exists(#name, :name), created_at = if_not_exists(created_at, :now)",
        ExpressionAttributeNames={"#name": "name"},
        ExpressionAttributeValues=to_row({":name": name, ":now": now}),
    )


def list_shop_ids() -> list[str]:
    """All shops, for looking up an order by the shop's own number across shops.

    Access: query SHOPS, 0.5 read units per 4 KB, paged to the end (a stack serves tens of shops).
    """
    pages = (
        dynamodb()
        .get_paginator("query")
        .paginate(
            TableName=table_name(),
            KeyConditionExpression="pk = :shops",
            ExpressionAttributeValues=to_row({":shops": "SHOPS"}),
            ProjectionExpression="sk",
        )
    )
    return [from_row(row)["sk"] for page in pages for row in page["Items"]]
