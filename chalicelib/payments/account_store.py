"""Payment accounts: their rows, and their secrets in Secrets Manager.

    PAYACC/<account_id>    shop_id, provider, mode, status, methods, settings, secret_names, v, created_at, updated_at,
                           held_by, held_until: only while somebody writes its secrets

    kamiflow/<stage>/pay/<account_id>    {"current": {name: value}, "earlier": [{"secrets": {…}, "until": instant}]}

An account's id is derived from shop, provider and mode, so there can be one of each and it is found without an index.
Secrets are written here and read here; no call answers them. What was read is kept for a while: a changed account takes
effect everywhere within 30 seconds, changed secrets within five minutes (hence the overlap of a rotation).
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from chalicelib.aws.clients import dynamodb, secretsmanager
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.secrets import forget_secret, read_secret
from chalicelib.aws.transact import is_condition_failed, put_if_absent, refused_row, retry_busy
from chalicelib.core.ids import is_id, to_base32
from chalicelib.core.settings import stage, table_name
from chalicelib.payments.errors import AccountChanged, AccountExists, NoSuchAccount
from chalicelib.payments.model import Account

KEEP_SECONDS = 30
_MAX_KEPT = 1_000
_kept: dict[tuple[str, str], tuple[float, dict[str, Any] | None]] = {}


def account_id_for(shop_id: str, provider: str, mode: str) -> str:
    """The id of the one account a shop can have with a provider in a mode.

    Example:
        >>> account_id_for("demo", "stripe", "test") == account_id_for("demo", "stripe", "test")
        True
        >>> len(account_id_for("demo", "stripe", "test"))
        23
    """
    digest = hashlib.sha256(f"{shop_id}\n{provider}\n{mode}".encode()).digest()
    return "pac_" + to_base32(int.from_bytes(digest[:12], "big"), 19)


def put_account(row: dict[str, Any]) -> None:
    """Create an account.

    Access:  put PAYACC/<account_id>, 1 write.
    Only if: the shop has none of this provider and mode. A row that already says exactly this is our own earlier try.
    Raises:  payments.account_exists
    """
    wanted = {"pk": "PAYACC", "sk": row["account_id"], **row}
    there = put_if_absent(wanted)
    if there is not None and there != wanted:
        raise AccountExists()
    _kept.pop((table_name(), row["account_id"]), None)


def save_account(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Replace an account that nobody changed since it was read.

    Access:  put PAYACC/<account_id>, 1 write.
    Only if: its version is the one read. A row that already says exactly this is our own earlier try.
    Raises:  payments.account_changed
    """
    wanted = {**after, "pk": "PAYACC", "sk": after["account_id"]}
    try:
        retry_busy(
            lambda: dynamodb().put_item(
                TableName=table_name(),
                Item=to_row(wanted),
                ConditionExpression="v = :seen",
                ExpressionAttributeValues=to_row({":seen": before["v"]}),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        )
    except Exception as error:
        if not is_condition_failed(error):
            raise
        if from_row(refused_row(error)) != wanted:
            raise AccountChanged() from None
    _kept.pop((table_name(), after["account_id"]), None)


def get_account_row(account_id: str) -> dict[str, Any]:
    """An account's row as it is now.

    Access: get PAYACC/<account_id>, strongly consistent, 1 read unit.
    Raises: payments.account_not_found
    """
    row = _read_row(account_id) if is_id("pac", account_id) else None
    if row is None:
        raise NoSuchAccount()
    return row


def list_account_rows(shop_id: str | None = None) -> list[dict[str, Any]]:
    """All accounts, or a shop's.

    Access: query PAYACC, 0.5 read units per 4 KB, to the end (a stack has tens of accounts).
    """
    pages = (
        dynamodb()
        .get_paginator("query")
        .paginate(
            TableName=table_name(),
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_row({":pk": "PAYACC"}),
        )
    )
    rows = [from_row(row) for page in pages for row in page["Items"]]
    return [row for row in rows if shop_id is None or row["shop_id"] == shop_id]


def find_account(account_id: str) -> Account | None:
    """An account ready for its adapter, whatever its status; at most 30 seconds old. None when there is none.

    Access: get PAYACC/<account_id>, 1 read unit, once in 30 seconds per process; its secret once in five minutes.
    """
    row = _keep(account_id) if is_id("pac", account_id) else None
    return _to_account(row) if row else None


def find_open_account(shop_id: str, provider: str) -> Account | None:
    """The account a shop takes money with at a provider: the live one if it is on, else the test one if that is on.

    Access: as `find_account`, twice at most.
    """
    for mode in ("live", "test"):
        row = _keep(account_id_for(shop_id, provider, mode))
        if row and row["status"] == "on":
            return _to_account(row)
    return None


def put_secrets(account_id: str, current: dict[str, str], earlier: list[dict[str, Any]]) -> None:
    """Store an account's secrets; those rotated out stay good until their `until`.

    Access: PutSecretValue; CreateSecret the first time.
    """
    name, text = f"pay/{account_id}", json.dumps({"current": current, "earlier": earlier})
    client = secretsmanager()
    try:
        client.put_secret_value(SecretId=f"kamiflow/{stage()}/{name}", SecretString=text)
    except client.exceptions.ResourceNotFoundException:
        client.create_secret(Name=f"kamiflow/{stage()}/{name}", SecretString=text)
    forget_secret(name)


def read_secrets(account_id: str, *, is_fresh: bool = False) -> dict[str, Any]:
    """What is stored: `{"current": …, "earlier": […]}`; nothing stored is empty. Whoever writes them anew wants them
    fresh: another process may have changed them.

    Access: GetSecretValue, once in five minutes per process.
    """
    if is_fresh:
        forget_secret(f"pay/{account_id}")
    try:
        return json.loads(read_secret(f"pay/{account_id}"))
    except secretsmanager().exceptions.ResourceNotFoundException:
        return {"current": {}, "earlier": []}


def _read_row(account_id: str) -> dict[str, Any] | None:
    key = to_row({"pk": "PAYACC", "sk": account_id})
    found = dynamodb().get_item(TableName=table_name(), Key=key, ConsistentRead=True)
    return from_row(found["Item"]) if "Item" in found else None


def _keep(account_id: str) -> dict[str, Any] | None:
    kept = _kept.get((table_name(), account_id))
    if kept and kept[0] > time.monotonic():
        return kept[1]
    row = _read_row(account_id)
    if len(_kept) >= _MAX_KEPT:
        _kept.clear()
    _kept[(table_name(), account_id)] = (time.monotonic() + KEEP_SECONDS, row)
    return row


def _to_account(row: dict[str, Any]) -> Account:
    stored = read_secrets(row["account_id"])
    now = time.time()  # of a rotation measured in minutes: the clock of this machine is good enough
    return Account(
        provider=row["provider"],
        mode=row["mode"],
        account_id=row["account_id"],
        shop_id=row["shop_id"],
        settings=row["settings"],
        secrets=stored["current"],
        earlier=tuple(one["secrets"] for one in stored["earlier"] if one["until"] > now),
    )


def forget_accounts() -> None:
    """Drop what is kept (tests)."""
    _kept.clear()
