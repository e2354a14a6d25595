"""Rows of top-ups.

TOPUP#<top_up_id> / T   shop_id, amount_minor, currency, provider, …, state, paid_minor, [due_pk due_at] while open
TOPUP#<top_up_id> / PAY ref, url, qr, client: what the provider opened for it
"""

from __future__ import annotations

from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import Write, is_condition_failed, put_if_absent, retry_busy
from chalicelib.balance.errors import NoSuchTopUp
from chalicelib.balance.model import TopUp
from chalicelib.core.due import due_attributes
from chalicelib.core.ids import is_id
from chalicelib.core.settings import table_name
from chalicelib.payments.model import Started

_FACTS = (
    "shop_id", "amount_minor", "currency", "provider", "created_at", "state", "method", "account_id", "payer_id",
    "return_url", "paid_minor", "paid_at", "review",
)  # fmt: skip


def put_top_up(top_up: TopUp, ask_at: int) -> TopUp:
    """Write a new top-up, or tell the one that stands under this id: a repeat of the same request.

    Access:  put TOPUP#<top_up_id>/T, 1 write, and 1 in the due index.
    Only if: the id is new.
    """
    row = {**_key(top_up.top_up_id), **{name: getattr(top_up, name) for name in _FACTS}}
    earlier = put_if_absent(row | due_attributes("topup", ask_at, top_up.top_up_id))
    return _to_top_up(earlier) if earlier else top_up


def find_top_up(top_up_id: str) -> TopUp | None:
    """A top-up as it is now, or None.

    Access: get TOPUP#<top_up_id>/T, strongly consistent, 1 read unit.
    """
    if not is_id("top", top_up_id):
        return None
    found = dynamodb().get_item(TableName=table_name(), Key=to_row(_key(top_up_id)), ConsistentRead=True)
    return _to_top_up(from_row(found["Item"])) if "Item" in found else None


def get_top_up(top_up_id: str) -> TopUp:
    """A top-up as it is now.

    Access: as `find_top_up`.
    Raises: balance.top_up_not_found
    """
    top_up = find_top_up(top_up_id)
    if top_up is None:
        raise NoSuchTopUp()
    return top_up


def put_session(top_up_id: str, started: Started) -> None:
    """Keep what a provider opened for a top-up; the first record stays.

    Access:  put TOPUP#<top_up_id>/PAY, 1 write.
    Only if: none is kept yet.
    """
    put_if_absent({
        "pk": f"TOPUP#{top_up_id}", "sk": "PAY", "ref": started.provider_ref, "url": started.pay_url,
        "qr": started.qr_text, "client": started.client,
    })  # fmt: skip


def find_session(top_up_id: str) -> Started | None:
    """What a provider opened for a top-up, or None.

    Access: get TOPUP#<top_up_id>/PAY, strongly consistent, 1 read unit.
    """
    key = to_row({"pk": f"TOPUP#{top_up_id}", "sk": "PAY"})
    found = dynamodb().get_item(TableName=table_name(), Key=key, ConsistentRead=True)
    if "Item" not in found:
        return None
    row = from_row(found["Item"])
    return Started(row.get("url"), row.get("ref"), row.get("qr"), row.get("client"))


def paid_write(top_up_id: str, amount_minor: int, now: int) -> Write:
    """The transaction entry that notes money on a top-up and ends the asking.

    Only if: the top-up exists.
    Refused: balance.top_up_not_found
    """
    entry = {
        "TableName": table_name(),
        "Key": to_row(_key(top_up_id)),
        "UpdateExpression": "SET #state = :paid, paid_at = if_not_exists(paid_at, :now) REMOVE due_pk, due_at "
        "ADD paid_minor :amount",
        "ConditionExpression": "attribute_exists(pk)",
        "ExpressionAttributeNames": {"#state": "state"},
        "ExpressionAttributeValues": to_row({":paid": "paid", ":now": now, ":amount": amount_minor}),
    }
    return Write({"Update": entry}, NoSuchTopUp())


def review_write(top_up_id: str, reason: str) -> Write:
    """The transaction entry that calls a person to a top-up. It stays open, or paid, as it is.

    Only if: the top-up exists.
    Refused: balance.top_up_not_found
    """
    entry = {
        "TableName": table_name(),
        "Key": to_row(_key(top_up_id)),
        "UpdateExpression": "SET review = :reason",
        "ConditionExpression": "attribute_exists(pk)",
        "ExpressionAttributeValues": to_row({":reason": reason}),
    }
    return Write({"Update": entry}, NoSuchTopUp())


def close_top_up(top_up_id: str) -> None:
    """End the asking: nobody can pay any more, or nobody will. Money that comes all the same is still taken.

    Access:  update TOPUP#<top_up_id>/T, 1 write, and 1 in the due index.
    Only if: it is open. Otherwise its end has been written.
    """
    _update(
        top_up_id,
        "SET #state = :closed REMOVE due_pk, due_at",
        {":closed": "closed", ":open": "open"},
    )


def ask_again(top_up_id: str, ask_at: int) -> None:
    """Ask the provider later.

    Access:  update TOPUP#<top_up_id>/T, 1 write, and 2 in the due index.
    Only if: it is open.
    """
    due = due_attributes("topup", ask_at, top_up_id)
    _update(
        top_up_id,
        "SET due_pk = :pk, due_at = :at",
        {":pk": due["due_pk"], ":at": due["due_at"], ":open": "open"},
    )


def _update(top_up_id: str, update: str, values: dict[str, Any]) -> None:
    try:
        retry_busy(
            lambda: dynamodb().update_item(
                TableName=table_name(),
                Key=to_row(_key(top_up_id)),
                UpdateExpression=update,
                ConditionExpression="#state = :open",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues=to_row(values),
            )
        )
    except Exception as error:
        if not is_condition_failed(error):
            raise


def _key(top_up_id: str) -> dict[str, str]:
    return {"pk": f"TOPUP#{top_up_id}", "sk": "T"}


def _to_top_up(row: dict[str, Any]) -> TopUp:
    return TopUp(
        top_up_id=row["pk"].removeprefix("TOPUP#"), **{name: row[name] for name in _FACTS if row.get(name) is not None}
    )  # fmt: skip
