"""Rows of balances and their entries.

    BALANCE#<shop_id> / <currency>                         balance_minor, low_balance_minor, told_v, v
    BALANCE#<shop_id>#<currency> / E#<at>#<entry_id>       kind, amount_minor (signed), order_id, refund_id, …
    BALANCE#<shop_id>#<currency> / X#<entry_id>            the same facts under the entry's name alone, and `left_minor`

A balance moves only in a transaction with its entry, and an entry's X row must be new: so the entries add up to the
balance, and one cause moves it once. The condition of a spending is the balance itself; nothing is read first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.due import list_due
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import Write, is_condition_failed, retry_busy, transact
from chalicelib.balance.errors import AlreadySpent, InsufficientBalance
from chalicelib.balance.model import Balance, BalanceEntry
from chalicelib.balance.rules import refund_entry_id, spend_id
from chalicelib.core.due import due_attributes
from chalicelib.core.ids import payment_id_for
from chalicelib.core.settings import table_name

_FACTS = ("kind", "amount_minor", "at", "order_id", "refund_id", "payment_id", "reference", "by", "left_minor")


class EntryExists(Exception):
    """An entry under this id stands already: the cause was booked before. Never leaves a use-case or adapter."""


class _NothingLeft(Exception):
    """There is no such spending, or less is left of it."""


def find_balance(shop_id: str, currency: str) -> Balance | None:
    """A shop's balance in a currency, or None when it never had one.

    Access: get BALANCE#<shop>/<currency>, strongly consistent, 1 read unit.
    """
    found = dynamodb().get_item(TableName=table_name(), Key=_balance_key(shop_id, currency), ConsistentRead=True)
    return _to_balance(from_row(found["Item"])) if "Item" in found else None


def list_balances(shop_id: str) -> list[Balance]:
    """All balances of a shop, one per currency.

    Access: query BALANCE#<shop>, strongly consistent, 1 read unit.
    """
    page = dynamodb().query(
        TableName=table_name(),
        ConsistentRead=True,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues=to_row({":pk": f"BALANCE#{shop_id}"}),
    )
    return [_to_balance(from_row(row)) for row in page["Items"]]


def list_watched(now: int) -> list[tuple[str, str]]:
    """(shop, currency) of balances whose shop named an amount below which it wants to be told.

    Access: query due, four queries.
    """
    return [(row["pk"].removeprefix("BALANCE#"), row["sk"]) for row in list_due("balance", now)]


def set_low_balance(shop_id: str, currency: str, low_balance_minor: int | None) -> None:
    """Name the amount below which the shop is told, or none. What was told before is told anew if it still holds.

    Access: update BALANCE#<shop>/<currency>, 1 write, and 1 in the due index.
    """
    due = due_attributes("balance", 0, f"{shop_id}.{currency}")
    begin = "v = if_not_exists(v, :zero) + :one, balance_minor = if_not_exists(balance_minor, :zero)"
    if low_balance_minor is None:
        update = f"SET {begin} REMOVE low_balance_minor, told_v, due_pk, due_at"
        values: dict[str, Any] = {}
    else:
        update = f"SET {begin}, low_balance_minor = :low, due_pk = :due_pk, due_at = :due_at REMOVE told_v"
        values = {":low": low_balance_minor, ":due_pk": due["due_pk"], ":due_at": due["due_at"]}
    retry_busy(
        lambda: dynamodb().update_item(
            TableName=table_name(),
            Key=_balance_key(shop_id, currency),
            UpdateExpression=update,
            ExpressionAttributeValues=to_row({":zero": 0, ":one": 1, **values}),
        )
    )


def spend_writes(
    shop_id: str, currency: str, amount_minor: int, order_id: str, now: int, *, payment_id: str | None = None
) -> list[Write]:
    """The transaction entries that pay an order out of its shop's balance; for the order's own transaction.

    Access:  update BALANCE#<shop>/<currency>, put two entry rows: 6 writes in the caller's transaction.
    Only if: the balance covers it, and the order was not paid so before.
    Refused: balance.insufficient, balance.already_spent
    """
    entry = BalanceEntry(
        spend_id(order_id), "spend", -amount_minor, currency, now, order_id=order_id,
        payment_id=payment_id or payment_id_for(order_id), left_minor=amount_minor,
    )  # fmt: skip
    return [*_entry_writes(shop_id, entry, AlreadySpent()), _move(shop_id, currency, -amount_minor)]


def entry_writes(shop_id: str, entry: BalanceEntry) -> list[Write]:
    """The transaction entries of any other change of a balance: top-ups and adjustments.

    Access:  update BALANCE#<shop>/<currency>, put two entry rows: 6 writes in the caller's transaction.
    Only if: the entry is new, and the balance does not fall below zero.
    Refused: EntryExists, balance.insufficient
    """
    return [*_entry_writes(shop_id, entry, EntryExists()), _move(shop_id, entry.currency, entry.amount_minor)]


def name_write(shop_id: str, entry: BalanceEntry) -> Write:
    """The transaction entry that notes a cause without moving the balance: money that came in another currency.

    Access:  put BALANCE#<shop>#<currency>/X#<entry_id>, 2 writes in the caller's transaction.
    Only if: it was not noted before.
    Refused: EntryExists
    """
    return _entry_writes(shop_id, entry, EntryExists())[0]


def credit_refund(
    shop_id: str, currency: str, order_id: str, refund_id: str, amount_minor: int, now: int
) -> int | None:  # fmt: skip
    """Give money of an order back onto its shop's balance under a refund id, once.

    Access:  transaction of three entry rows and BALANCE#<shop>/<currency>, 8 writes.
    Only if: the refund id is new, and so much is left of what the order spent.
    Refused: the amount that was booked under this id before; None when nothing was and nothing can be.
    """
    entry = BalanceEntry(
        refund_entry_id(refund_id), "refund", amount_minor, currency, now, order_id=order_id, refund_id=refund_id
    )
    take = {
        "TableName": table_name(),
        "Key": _name_key(shop_id, currency, spend_id(order_id)),
        "UpdateExpression": "SET left_minor = left_minor - :amount",
        "ConditionExpression": "left_minor >= :amount",
        "ExpressionAttributeValues": to_row({":amount": amount_minor}),
    }
    writes = [*_entry_writes(shop_id, entry, EntryExists()), Write({"Update": take}, _NothingLeft())]
    try:
        transact([*writes, _move(shop_id, currency, amount_minor)])
    except EntryExists:
        booked = find_entry(shop_id, currency, entry.entry_id)
        return booked.amount_minor if booked else None
    except _NothingLeft:
        return None
    return amount_minor


def find_entry(shop_id: str, currency: str, entry_id: str) -> BalanceEntry | None:
    """The entry of a cause, or None.

    Access: get BALANCE#<shop>#<currency>/X#<entry_id>, strongly consistent, 1 read unit.
    """
    key = _name_key(shop_id, currency, entry_id)
    found = dynamodb().get_item(TableName=table_name(), Key=key, ConsistentRead=True)
    return _to_entry(from_row(found["Item"])) if "Item" in found else None


def list_entries(
    shop_id: str, currency: str, before: str | None, limit: int
) -> tuple[list[BalanceEntry], str | None]:  # fmt: skip
    """One page of a balance's entries, newest first, and the position to go on from (None at the end).

    Access: query BALANCE#<shop>#<currency>, eventually consistent, 0.5 read units per 4 KB.
    """
    page = dynamodb().query(
        TableName=table_name(),
        KeyConditionExpression="pk = :pk AND sk BETWEEN :from AND :until",
        ExpressionAttributeValues=to_row({":pk": _partition(shop_id, currency), ":from": "E#", ":until": "E#~"}),
        ScanIndexForward=False,
        Limit=limit,
        **({"ExclusiveStartKey": to_row({"pk": _partition(shop_id, currency), "sk": before})} if before else {}),
    )
    last = page.get("LastEvaluatedKey")
    return [_to_entry(from_row(row)) for row in page["Items"]], from_row(last)["sk"] if last else None


def list_entries_between(shop_id: str, currency: str, from_at: int, until_at: int) -> list[BalanceEntry]:
    """All entries of a balance between two instants (both included), oldest first.

    Access: query BALANCE#<shop>#<currency>, strongly consistent, 1 read unit per 4 KB.
    """
    pages = (
        dynamodb()
        .get_paginator("query")
        .paginate(
            TableName=table_name(),
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :from AND :until",
            ExpressionAttributeValues=to_row({
                ":pk": _partition(shop_id, currency), ":from": f"E#{from_at:012d}", ":until": f"E#{until_at:012d}~",
            }),
        )
    )  # fmt: skip
    return [_to_entry(from_row(row)) for page in pages for row in page["Items"]]


def told_write(balance: Balance, *, is_fall: bool) -> Write:
    """The transaction entry that notes that the shop was told of this version of its balance. `is_fall` False: it was
    found low, and who knows since when.

    Only if: it was not told of this fall or a later one; for a balance found low: of none since it last rose.
    Refused: EntryExists
    """
    untold = "(attribute_not_exists(told_v) OR told_v < :version)" if is_fall else "attribute_not_exists(told_v)"
    update = {
        "TableName": table_name(),
        "Key": _balance_key(balance.shop_id, balance.currency),
        "UpdateExpression": "SET told_v = :version",
        "ConditionExpression": f"attribute_exists(low_balance_minor) AND {untold}",
        "ExpressionAttributeValues": to_row({":version": balance.version}),
    }
    return Write({"Update": update}, EntryExists())


def forget_told(shop_id: str, currency: str, version: int) -> None:
    """Note that the balance rose again at this version: the next fall is a new one.

    Access:  update BALANCE#<shop>/<currency>, 1 write.
    Only if: what was told is older. Otherwise nothing is to be done.
    """
    try:
        retry_busy(
            lambda: dynamodb().update_item(
                TableName=table_name(),
                Key=_balance_key(shop_id, currency),
                UpdateExpression="REMOVE told_v",
                ConditionExpression="told_v < :version",
                ExpressionAttributeValues=to_row({":version": version}),
            )
        )
    except Exception as error:
        if not is_condition_failed(error):
            raise


def read_balance_row(row: dict[str, Any]) -> Balance:
    """A plain row, as the change stream brings it."""
    return _to_balance(row)


def _entry_writes(shop_id: str, entry: BalanceEntry, if_there: Exception) -> list[Write]:
    facts = {name: getattr(entry, name) for name in _FACTS}
    named = {**_name(shop_id, entry.currency, entry.entry_id), **facts}
    listed = {
        **facts, "pk": _partition(shop_id, entry.currency), "sk": f"E#{entry.at:012d}#{entry.entry_id}",
        "left_minor": None,
    }  # fmt: skip
    return [
        Write(
            {
                "Put": {
                    "TableName": table_name(),
                    "Item": to_row(row),
                    "ConditionExpression": "attribute_not_exists(pk)",
                }
            },
            if_there,
        )
        for row in (named, listed)
    ]


def _move(shop_id: str, currency: str, amount_minor: int) -> Write:
    """The one write that changes an amount. A spending of more than there is has no row to succeed on."""
    update: dict[str, Any] = {"TableName": table_name(), "Key": _balance_key(shop_id, currency)}
    if amount_minor < 0:
        update |= {
            "UpdateExpression": "SET balance_minor = balance_minor - :amount, v = v + :one",
            "ConditionExpression": "balance_minor >= :amount",
            "ExpressionAttributeValues": to_row({":amount": -amount_minor, ":one": 1}),
        }
    else:
        update |= {
            "UpdateExpression": "SET balance_minor = if_not_exists(balance_minor, :zero) + :amount, "
            "v = if_not_exists(v, :zero) + :one",
            "ExpressionAttributeValues": to_row({":amount": amount_minor, ":one": 1, ":zero": 0}),
        }
    return Write({"Update": update}, InsufficientBalance())


def _balance_key(shop_id: str, currency: str) -> dict[str, dict]:
    return to_row({"pk": f"BALANCE#{shop_id}", "sk": currency})


def _partition(shop_id: str, currency: str) -> str:
    return f"BALANCE#{shop_id}#{currency}"


def _name(shop_id: str, currency: str, entry_id: str) -> dict[str, str]:
    return {"pk": _partition(shop_id, currency), "sk": f"X#{entry_id}"}


def _name_key(shop_id: str, currency: str, entry_id: str) -> dict[str, dict]:
    return to_row(_name(shop_id, currency, entry_id))


def _to_balance(row: dict[str, Any]) -> Balance:
    return Balance(
        shop_id=row["pk"].removeprefix("BALANCE#"), currency=row["sk"], balance_minor=row["balance_minor"],
        version=row["v"], low_balance_minor=row.get("low_balance_minor"), told_version=row.get("told_v"),
    )  # fmt: skip


def _to_entry(row: dict[str, Any]) -> BalanceEntry:
    entry_id = row["sk"].removeprefix("X#") if row["sk"].startswith("X#") else row["sk"].split("#", 2)[2]
    facts = BalanceEntry(entry_id, row["kind"], row["amount_minor"], row["pk"].rpartition("#")[2], row["at"])
    return replace(facts, **{name: row[name] for name in _FACTS[3:] if name in row})
