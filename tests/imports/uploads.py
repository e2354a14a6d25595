"""Imports in a few words, for tests: upload a file, start it, carry its messages, open what is on sale."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import boto3

from chalicelib.aws import sealing
from chalicelib.aws.clients import dynamodb, s3, sqs
from chalicelib.core import settings
from chalicelib.core.ids import new_id, new_take_id
from chalicelib.imports import store, workers
from chalicelib.imports.answers import NewImport
from chalicelib.imports.import_chunk import import_chunk
from chalicelib.imports.plan_import import plan_import
from chalicelib.imports.start_import import create_import, start_import
from chalicelib.inventory import memory
from chalicelib.inventory import store as inventory
from chalicelib.keys import store as keys


def upload(product_id: str, body: bytes, now: int, **members: Any) -> str:
    """A new import with its file in place; returns its id."""
    members = {"product_id": product_id, "filename": "keys.csv", "format": "csv", **members}
    import_id = new_id("imp", now)
    create_import(NewImport.model_validate_json(json.dumps(members), strict=True), import_id, "operator::key_t", now)
    s3().put_object(Bucket=settings.bucket_name(), Key=f"uploads/{import_id}", Body=body)
    return import_id


def run(import_id: str, now: int) -> dict[str, Any]:
    """Start it and do all its work in this process; returns its row."""
    start_import(import_id, now)
    work(import_id, now)
    return store.get_import(import_id)


def work(import_id: str, now: int) -> None:
    """What the messages of an import do, each once, in order."""
    plan_import(import_id, now)
    for chunk in range(store.get_import(import_id).get("chunks") or 0):
        import_chunk(import_id, chunk, now)


def imported(product_id: str, body: bytes, now: int, **members: Any) -> dict[str, Any]:
    return run(upload(product_id, body, now, **members), now)


def messages(fact: str) -> list[dict]:
    """Take every message there is, as Lambda hands it to a worker."""
    url = sqs().get_queue_url(QueueName=settings.queue_name(fact))["QueueUrl"]
    events = []
    while found := sqs().receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        for one in found:
            sqs().delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
            record = {"messageId": one["MessageId"], "body": one["Body"], "eventSource": "aws:sqs"}
            events.append({"Records": [record]})
    return events


def carry_messages() -> list[dict]:
    """Hand messages to the workers until none is left; returns what the workers answered."""
    answers: list[dict] = []
    while True:
        started, chunks = messages("import-started"), messages("import-chunk")
        if not started and not chunks:
            return answers
        answers += [workers.on_import_started(event, None) for event in started]
        answers += [workers.on_import_chunk(event, None) for event in chunks]


def open_all_on_sale(product_id: str, now: int) -> list[dict[str, str]]:
    """Take every key that is on sale, and open it: what buyers would really get."""
    memory.forget_hints()
    free = inventory.read_stock(product_id, now).available
    if not free:
        return []
    taken = inventory.take(product_id, free, order_id=new_id("ord", now)[:20], take_id=new_take_id(now), now=now)
    inventory.give_back(taken)
    opened = sealing.unseal(product_id, keys.read_pages(taken.extents))
    return [dict(key.fields) for key in opened]


def download(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return answer.read()


def everything_stored() -> bytes:
    """Every row of the table as text, binary values decoded; and the reports."""
    client = boto3.client("dynamodb")
    rows = [
        row for page in client.get_paginator("scan").paginate(TableName=settings.table_name()) for row in page["Items"]
    ]
    listed = s3().list_objects_v2(Bucket=settings.bucket_name()).get("Contents", [])
    files = [s3().get_object(Bucket=settings.bucket_name(), Key=one["Key"])["Body"].read() for one in listed]
    return "\n".join(str(row) for row in rows).encode() + b"\n".join(files)


def count_rows(prefix: str) -> int:
    pages = dynamodb().get_paginator("scan").paginate(TableName=settings.table_name())
    return sum(row["pk"]["S"].startswith(prefix) for page in pages for row in page["Items"])
