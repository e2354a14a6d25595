"""Rows of payments: what a provider opened for an order, and what it said to us under its own id of the message.

    O#<order_id>/PAY#<attempt>                     ref, url, qr, client: what a provider opened for this order
    NOTICE#<provider>#<provider_txn>/<event_id>    kind, payment_id, provider_txn, amount_minor, currency, refund_id, …

The key begins with the provider's number of the money (the event's own id where there is none), so all that was ever
said about one payment stands together and an order is found by its provider's number. A notice about an order that does
not exist (yet) also stands in the `due` index until it finds its order or is a day old.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import is_condition_failed, put_if_absent, retry_busy
from chalicelib.core.due import due_attributes
from chalicelib.core.settings import table_name
from chalicelib.payments.model import DisputeFacts, Notice, Started


def put_session(order_id: str, started: Started, now: int, attempt: int = 1) -> None:
    """Keep what a provider opened for an order. Opening it again is the same payment, so the latest record stands.

    Access:  put O#<order_id>/PAY#<attempt>, 1 write unit per KB.
    Only if: no later one is kept. Being late is a success.
    """
    row = {
        "pk": f"O#{order_id}", "sk": f"PAY#{attempt}", "ref": started.provider_ref, "url": started.pay_url,
        "qr": started.qr_text, "client": started.client, "at": now,
    }  # fmt: skip
    try:
        retry_busy(
            lambda: dynamodb().put_item(
                TableName=table_name(),
                Item=to_row(row),
                ConditionExpression="attribute_not_exists(pk) OR #at < :at",
                ExpressionAttributeNames={"#at": "at"},
                ExpressionAttributeValues=to_row({":at": now}),
            )
        )
    except Exception as error:
        if not is_condition_failed(error):
            raise


def find_session(order_id: str, attempt: int = 1) -> Started | None:
    """What a provider opened for an order, or None.

    Access: get O#<order_id>/PAY#<attempt>, strongly consistent, 1 read unit.
    """
    key = to_row({"pk": f"O#{order_id}", "sk": f"PAY#{attempt}"})
    found = dynamodb().get_item(TableName=table_name(), Key=key, ConsistentRead=True)
    if "Item" not in found:
        return None
    row = from_row(found["Item"])
    return Started(row.get("url"), row.get("ref"), row.get("qr"), row.get("client"), row["at"])


def put_notice(notice: Notice, now: int, *, is_matched: bool) -> None:
    """Record a notice; an unmatched one becomes due at once.

    Access:  put NOTICE#…/<event_id>, 1 write; +1 in the due index when unmatched.
    Only if: this message was not recorded before. A repeat is a success and changes nothing.
    """
    row: dict[str, Any] = {
        "pk": _partition(notice.provider, notice.provider_txn or notice.event_id), "sk": notice.event_id, "provider":
        notice.provider, "event_id": notice.event_id, "kind": notice.kind, "payment_id": notice.payment_id,
        "provider_txn": notice.provider_txn, "amount_minor": notice.amount_minor, "currency": notice.currency,
        "refund_id": notice.refund_id, "provider_refund_id": notice.provider_refund_id,
        "refunded_total_minor": notice.refunded_total_minor, "account_id": notice.account_id, "received_at": now,
        "dispute": asdict(notice.dispute) if notice.dispute else None,
    }  # fmt: skip
    if not is_matched:
        row |= due_attributes("notice", now, notice.event_id)
    put_if_absent(row)


def find_notice(pk: str, sk: str) -> tuple[Notice, int] | None:
    """A recorded notice by its row key and when it came, or None.

    Access: get NOTICE#…/<event_id>, strongly consistent, 1 read unit.
    """
    found = dynamodb().get_item(TableName=table_name(), Key=to_row({"pk": pk, "sk": sk}), ConsistentRead=True)
    if "Item" not in found:
        return None
    row = from_row(found["Item"])
    members = {name: row.get(name) for name in Notice.__dataclass_fields__}
    if members["dispute"]:
        members["dispute"] = DisputeFacts(**members["dispute"])
    return Notice(**members), row["received_at"]


def settle_notice(pk: str, sk: str) -> None:
    """Take a notice out of the due index: it found its order, or nobody will ever come for it.

    Access:  update NOTICE#…/<event_id>, 1 write, and 1 in the index.
    Only if: the notice exists.
    """
    retry_busy(
        lambda: dynamodb().update_item(
            TableName=table_name(),
            Key=to_row({"pk": pk, "sk": sk}),
            UpdateExpression="REMOVE due_pk, due_at",
            ConditionExpression="attribute_exists(pk)",
        )
    )


def find_payment_id(provider: str, provider_txn: str) -> str | None:
    """The payment that a provider's number belongs to, or None. Of all that was said about that money, some messages
    name the payment and some do not.

    Access: query NOTICE#<provider>#<provider_txn>, eventually consistent, 0.5 read units per 4 KB.
    """
    pages = (
        dynamodb()
        .get_paginator("query")
        .paginate(
            TableName=table_name(),
            KeyConditionExpression="pk = :pk",
            FilterExpression="attribute_exists(payment_id)",
            ExpressionAttributeValues=to_row({":pk": _partition(provider, provider_txn)}),
        )
    )
    return next((from_row(row)["payment_id"] for page in pages for row in page["Items"]), None)


def _partition(provider: str, number: str) -> str:
    return f"NOTICE#{provider}#{number}"
