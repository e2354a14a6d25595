"""Every read and write of order rows.

    O#<order_id>/O                    the order (attribute names are short: one write unit is one KB)
    O#<order_id>/AUDIT#<at>#<chance>  who revealed or did what by hand; only ever added
    CLOCK/unpaid                      until when unpaid orders have been looked through

An order's id is derived from shop and merchant order number, so `attribute_not_exists` on this one row makes that
number unique for ever. Each later change is conditional on the version that was read, so of two concurrent decisions
exactly one is written.

The index `timeline` (keys only) lists orders by the instant their hold ends; written once at creation, never again.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row, to_value
from chalicelib.aws.transact import Write, is_condition_failed, refused_row, retry_busy, transact
from chalicelib.core.ids import is_id
from chalicelib.core.settings import table_name
from chalicelib.orders.errors import MerchantOrderNoUsed, NoSuchOrder, OrderChanged
from chalicelib.orders.model import Order
from chalicelib.orders.order_row import DAY_SHARDS, day_partition, to_order, to_order_row

_FENCED = "fenced"
_BATCH_GET = 100
# The tombstone is the sweeper's fence (decision 0001): it stops the slow writer it was put up against, and nobody else;
# a new try of the same purchase carries a new take.
_MAY_PUT = "attribute_not_exists(pk) OR (st = :fenced AND NOT contains(fenced, :take))"


def put_order(order: Order, take_id: str) -> Order | None:
    """Write a new order that owns the keys of `take_id`.

    Access:  put O#<order_id>/O, 1 write unit per KB, and 1 in the timeline.
    Only if: the order does not exist; or only as a tombstone that did not shut out this take.
    Returns: None when written (also when an earlier try of this very take had been written unseen);
             else the order that was there first.
    Raises:  orders.changed_meanwhile when the sweeper has shut this take out; its keys are back in stock, begin anew.
    """
    try:
        retry_busy(
            lambda: dynamodb().put_item(
                TableName=table_name(),
                Item=to_row(to_order_row(order)),
                ConditionExpression=_MAY_PUT,
                ExpressionAttributeValues=to_row({":fenced": _FENCED, ":take": take_id}),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        )
    except Exception as error:
        if not is_condition_failed(error):
            raise
        row = from_row(refused_row(error))
        if row["st"] == _FENCED:
            raise OrderChanged() from None
        return None if take_id in row["takes"] else to_order(row)
    return None


def put_order_with(order: Order, take_id: str, others: list[Write]) -> Order | None:
    """Write a new order that owns the keys of `take_id` together with other rows, all or nothing.

    Access:  transaction of put O#<order_id>/O and the others, 2 write units per KB each, and 1 in the timeline.
    Only if: as `put_order`, and what the others demand.
    Returns: as `put_order`.
    Raises:  orders.changed_meanwhile; the refusals of the others
    """
    refused = MerchantOrderNoUsed()  # stands for 'a row is there': caught here
    put = {
        "TableName": table_name(),
        "Item": to_row(to_order_row(order)),
        "ConditionExpression": _MAY_PUT,
        "ExpressionAttributeValues": to_row({":fenced": _FENCED, ":take": take_id}),
    }
    try:
        transact([Write({"Put": put}, refused), *others])
    except MerchantOrderNoUsed as error:
        if error is not refused:
            raise
        there = find_order(order.order_id)
        if there is None:
            raise OrderChanged() from None
        return None if take_id in there.takes else there
    return None


def find_order(order_id: str) -> Order | None:
    """An order as it is now, or None.

    Access: get O#<order_id>/O, strongly consistent, 1 read unit per 4 KB.
    """
    if not is_id("ord", order_id):
        return None
    found = dynamodb().get_item(TableName=table_name(), Key=_key(order_id), ConsistentRead=True)
    row = from_row(found.get("Item", {}))
    return to_order(row) if row and row["st"] != _FENCED else None


def get_order(order_id: str) -> Order:
    """An order as it is now.

    Access: as `find_order`.
    Raises: orders.not_found
    """
    order = find_order(order_id)
    if order is None:
        raise NoSuchOrder()
    return order


def get_orders(order_ids: list[str]) -> list[Order]:
    """Those of the orders that exist, in no order.

    Access: batch get, strongly consistent, 1 read unit per 4 KB and order.
    """
    return [to_order(row) for row in _batch_get(order_ids) if row["st"] != _FENCED]


def save_write(before: Order, after: Order) -> Write:
    """The transaction entry that turns one read order into the next.

    Only if: nobody changed it since (`v`), and, where it takes over new keys, the sweeper has not shut that take out.
    Refused: orders.changed_meanwhile
    """
    return Write({"Update": _change(before, after)}, OrderChanged())


def save(before: Order, after: Order) -> Order:
    """Write one changed order.

    Access:  update O#<order_id>/O, 1 write unit per KB; +1 or +2 when it enters, moves in or leaves the due index.
    Only if: as `save_write`. A row that already says exactly this is our own earlier try and counts as written.
    Raises:  orders.changed_meanwhile
    """
    change = _change(before, after)
    try:
        retry_busy(lambda: dynamodb().update_item(**change, ReturnValuesOnConditionCheckFailure="ALL_OLD"))
    except Exception as error:
        if not is_condition_failed(error):
            raise
        row = from_row(refused_row(error))
        for mark in ("fenced", "fenced_at"):  # the sweeper's, about takes that came to nothing
            row.pop(mark, None)
        if row != to_order_row(after):
            raise OrderChanged() from None
    return after


def _change(before: Order, after: Order) -> dict[str, Any]:
    """The difference of two rows as the arguments of an update."""
    old, new = to_order_row(before), to_order_row(after)
    names, values, sets, removes = {}, {":seen": to_value(before.version)}, [], []
    for number, name in enumerate(sorted(old.keys() | new.keys())):
        if old.get(name) == new.get(name):
            continue
        names[f"#a{number}"] = name
        if name in new:
            values[f":a{number}"] = to_value(new[name])
            sets.append(f"#a{number} = :a{number}")
        else:
            removes.append(f"#a{number}")
    condition = "v = :seen"
    if after.takes != before.takes:
        condition += " AND NOT contains(fenced, :take)"
        values[":take"] = to_value(after.takes[-1])
    return {
        "TableName": table_name(),
        "Key": _key(after.order_id),
        "UpdateExpression": f"SET {', '.join(sets)}" + (f" REMOVE {', '.join(removes)}" if removes else ""),
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }


def list_takes(order_ids: list[str]) -> dict[str, set[str]]:
    """Which takes each existing order owns; absent orders and tombstones are left out.

    Access: batch get, strongly consistent, 1 read unit per 4 KB and order.
    """
    return {row["pk"].removeprefix("O#"): set(row["takes"]) for row in _batch_get(order_ids) if row["st"] != _FENCED}


def fence_take(order_id: str, take_id: str, now: int) -> bool:
    """Settle for ever whether an order owns a take.

    Access:  update O#<order_id>/O, 1 write.
    Only if: the order does not own the take: then the take is shut out (a tombstone is put up where there is no order).
    Returns: True when the order owns it, False when it is shut out now.
    """
    try:
        retry_busy(
            lambda: dynamodb().update_item(
                TableName=table_name(),
                Key=_key(order_id),
                UpdateExpression="SET st = if_not_exists(st, :fenced), fenced_at = :now ADD fenced :take",
                ConditionExpression="NOT contains(takes, :id)",
                ExpressionAttributeValues=to_row({":fenced": _FENCED, ":now": now, ":take": {take_id}, ":id": take_id}),
            )
        )
    except Exception as error:
        if is_condition_failed(error):
            return True
        raise
    return False


def list_timeline(from_at: int, until_at: int) -> Iterator[list[dict[str, Any]]]:
    """Plain rows of all orders whose hold ends between two instants (both included), in pages.

    Access: 8 queries of timeline per day touched, 0.5 read units per 4 KB of keys; then 0.5 per order (batch get).
    """
    for day in _days(from_at, until_at):
        for shard in range(DAY_SHARDS):
            pages = (
                dynamodb()
                .get_paginator("query")
                .paginate(
                    TableName=table_name(),
                    IndexName="timeline",
                    KeyConditionExpression="day_pk = :pk AND day_sk BETWEEN :from AND :until",
                    ExpressionAttributeValues=to_row(
                        {":pk": f"{day}#{shard}", ":from": f"{from_at:012d}", ":until": f"{until_at:012d}~"}
                    ),
                )
            )
            for page in pages:
                order_ids = [from_row(row)["pk"].removeprefix("O#") for row in page["Items"]]
                if order_ids:
                    yield [row for row in _batch_get(order_ids) if row["st"] != _FENCED]


def list_newest(before_sk: str | None, limit: int, newest_at: int, oldest_at: int) -> tuple[list[Order], str | None]:
    """One page of orders, latest end of hold first, and the position to go on from (None at the end).

    At most seven days are looked through per page, so a quiet shop may get a short page with a next one.

    Access: 8 queries of timeline per day, then a batch get of at most `limit` orders.
    """
    top = int(before_sk.split("#")[0]) if before_sk else newest_at
    days = list(_days(oldest_at, top))[::-1]
    found: list[str] = []
    for day in days[:7]:
        for shard in range(DAY_SHARDS):
            page = dynamodb().query(
                TableName=table_name(),
                IndexName="timeline",
                KeyConditionExpression="day_pk = :pk AND day_sk < :top",
                ExpressionAttributeValues=to_row(
                    {":pk": f"{day}#{shard}", ":top": before_sk or f"{newest_at + 1:012d}"}
                ),
                ScanIndexForward=False,
                Limit=limit,
            )
            found += [from_row(row)["day_sk"] for row in page["Items"]]
        if len(found) >= limit:
            break
    positions = sorted(found, reverse=True)[:limit]
    orders = {order.order_id: order for order in get_orders([one.split("#")[1] for one in positions])}
    ordered = [orders[one.split("#")[1]] for one in positions if one.split("#")[1] in orders]
    if len(positions) == limit:
        return ordered, positions[-1]
    return ordered, f"{_day_start(days[6]):012d}" if len(days) > 7 else None


def read_clock() -> dict[str, int] | None:
    """Until when unpaid orders have been looked through: `{until, since}`, or None before the first time.

    Access: get CLOCK/unpaid, strongly consistent, 1 read unit.
    """
    found = dynamodb().get_item(
        TableName=table_name(), Key=to_row({"pk": "CLOCK", "sk": "unpaid"}), ConsistentRead=True
    )
    return from_row(found["Item"]) if "Item" in found else None


def move_clock(until: int, since: int) -> None:
    """Note that every unpaid order up to `until` has been settled; never backwards.

    Access:  update CLOCK/unpaid, 1 write.
    Only if: the clock is behind. Already further is a success.
    """
    try:
        dynamodb().update_item(
            TableName=table_name(),
            Key=to_row({"pk": "CLOCK", "sk": "unpaid"}),
            UpdateExpression="SET #until = :until, since = if_not_exists(since, :since)",
            ConditionExpression="attribute_not_exists(pk) OR #until < :until",
            ExpressionAttributeNames={"#until": "until"},
            ExpressionAttributeValues=to_row({":until": until, ":since": since}),
        )
    except Exception as error:
        if not is_condition_failed(error):
            raise


def add_audit(order_id: str, now: int, entry: dict[str, Any]) -> None:
    """Add one audit record. There is no function to change or remove one.

    Access:  put O#<order_id>/AUDIT#…, 1 write.
    Only if: no record stands under that key.
    """
    row = {"pk": f"O#{order_id}", "sk": f"AUDIT#{now:012d}#{secrets.token_hex(6)}", "at": now, **entry}
    dynamodb().put_item(TableName=table_name(), Item=to_row(row), ConditionExpression="attribute_not_exists(pk)")


def list_audit(order_id: str) -> list[dict[str, Any]]:
    """All audit records of an order, oldest first.

    Access: query O#<order_id>, strongly consistent, 1 read unit per 4 KB.
    """
    pages = (
        dynamodb()
        .get_paginator("query")
        .paginate(
            TableName=table_name(),
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :audit)",
            ExpressionAttributeValues=to_row({":pk": f"O#{order_id}", ":audit": "AUDIT#"}),
        )
    )
    return [from_row(row) for page in pages for row in page["Items"]]


def _batch_get(order_ids: list[str]) -> Iterator[dict[str, Any]]:
    unique = list(dict.fromkeys(order_ids))
    for start in range(0, len(unique), _BATCH_GET):
        wanted = {
            table_name(): {"Keys": [_key(one) for one in unique[start : start + _BATCH_GET]], "ConsistentRead": True}
        }
        while wanted:
            answer = dynamodb().batch_get_item(RequestItems=wanted)
            for row in answer["Responses"].get(table_name(), []):
                yield from_row(row)
            wanted = answer.get("UnprocessedKeys") or {}
            if wanted:  # the table asks for a moment
                time.sleep(random.uniform(0, 0.05))


def _key(order_id: str) -> dict[str, dict]:
    return to_row({"pk": f"O#{order_id}", "sk": "O"})


def _day_start(day: str) -> int:
    from datetime import UTC, datetime

    return int(datetime.strptime(day, "T#%Y%m%d").replace(tzinfo=UTC).timestamp())


def _days(from_at: int, until_at: int) -> Iterator[str]:
    day = from_at - from_at % 86_400
    while day <= until_at:
        yield day_partition(day)
        day += 86_400
