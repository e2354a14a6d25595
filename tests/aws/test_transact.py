"""Transactions name the fact that refused them, and wait out what is only busy."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from chalicelib.aws import transact as transactions
from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import Write, retry_busy, transact
from chalicelib.core.errors import Busy, Conflict
from chalicelib.core.settings import table_name


class First(Conflict):
    code = "test.first"


class Second(Conflict):
    code = "test.second"


def put(pk: str, refusal: Conflict) -> Write:
    item = to_row({"pk": pk, "sk": "x", "n": 1})
    return Write(
        {"Put": {"TableName": table_name(), "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}, refusal
    )


def exists(pk: str) -> bool:
    return "Item" in dynamodb().get_item(TableName=table_name(), Key=to_row({"pk": pk, "sk": "x"}), ConsistentRead=True)


def error(code: str, **members) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}, **members}, "op")


@pytest.mark.usefixtures("stack")
def test_the_refusal_of_the_entry_that_failed_is_raised_and_nothing_is_written():
    transact([put("b", Second())])
    with pytest.raises(Second):
        transact([put("a", First()), put("b", Second())])
    assert not exists("a")


def test_more_than_a_hundred_entries_are_a_fault_of_ours():
    with pytest.raises(ValueError, match="100"):
        transact([Write({}, First())] * 101)


@pytest.mark.parametrize(
    "busy",
    [
        error("TransactionConflictException"),
        error("ThrottlingException"),
        error("InternalServerError"),
        error("TransactionCanceledException", CancellationReasons=[{"Code": "None"}, {"Code": "TransactionConflict"}]),
    ],
)
def test_a_busy_table_is_asked_again_and_at_last_refused_by_name(monkeypatch, busy):
    monkeypatch.setattr(transactions.time, "sleep", lambda _: None)
    tries = []

    def send():
        tries.append(1)
        if len(tries) < 3:
            raise busy
        return "done"

    assert retry_busy(send) == "done"
    tries.clear()
    with pytest.raises(Busy):
        retry_busy(lambda: (_ for _ in ()).throw(busy))


def test_a_refused_condition_is_never_sent_again():
    tries = []

    def send():
        tries.append(1)
        raise error("TransactionCanceledException", CancellationReasons=[{"Code": "ConditionalCheckFailed"}])

    with pytest.raises(ClientError):
        retry_busy(send)
    assert tries == [1]


def test_a_row_survives_the_way_to_the_table_and_back():
    row = {"s": "汉", "n": -5, "b": b"\x00", "t": True, "l": [1, "a", None], "m": {"x": {"y": 1}}, "ss": {"b", "a"}}
    assert from_row(to_row({**row, "absent": None})) == row


def test_a_float_cannot_reach_a_row():
    with pytest.raises(TypeError):
        to_row({"total_minor": 1.5})
