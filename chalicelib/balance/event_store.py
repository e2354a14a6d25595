"""Rows of events: what shops may want to hear of. Only ever added.

EVENT#<shop_id> / <at>#<event_id>   type, data
"""

from __future__ import annotations

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import Write
from chalicelib.balance.model import Event
from chalicelib.core.settings import table_name


def event_write(shop_id: str, event: Event, if_there: Exception) -> Write:
    """The transaction entry that records an event.

    Access:  put EVENT#<shop>/<at>#<event_id>, 2 writes in the caller's transaction.
    Only if: it was not recorded before.
    Refused: `if_there`
    """
    row = {
        "pk": f"EVENT#{shop_id}", "sk": f"{event.at:012d}#{event.event_id}", "type": event.type, "data": event.data,
    }  # fmt: skip
    put = {"TableName": table_name(), "Item": to_row(row), "ConditionExpression": "attribute_not_exists(pk)"}
    return Write({"Put": put}, if_there)


def list_events(shop_id: str, before: str | None, limit: int) -> tuple[list[Event], str | None]:
    """One page of a shop's events, newest first, and the position to go on from (None at the end).

    Access: query EVENT#<shop>, eventually consistent, 0.5 read units per 4 KB.
    """
    page = dynamodb().query(
        TableName=table_name(),
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues=to_row({":pk": f"EVENT#{shop_id}"}),
        ScanIndexForward=False,
        Limit=limit,
        **({"ExclusiveStartKey": to_row({"pk": f"EVENT#{shop_id}", "sk": before})} if before else {}),
    )
    last = page.get("LastEvaluatedKey")
    events = [
        Event(row["sk"].partition("#")[2], int(row["sk"].partition("#")[0]), row["type"], row["data"])
        for row in map(from_row, page["Items"])
    ]
    return events, from_row(last)["sk"] if last else None
