"""Everything of the product that is not HTTP, driven as Lambda would: queues, the table's change stream, timers.

What to run is read from the Chalice app itself. A handler is started the way Lambda starts it: by the module path and
name of its handler string, with a raw event and a context. Used by `make run`. It retries as Lambda retries, and
decides nothing.
"""

from __future__ import annotations

import base64
import importlib
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from chalice.app import DynamoDBEventConfig, ScheduledEventConfig, SQSEventConfig
from chalice.local import LambdaContext

from chalicelib.core.settings import table_name
from infra.local.backend import ACCOUNT, REGION
from infra.local.stack import client

POLL_SECONDS = 1  # a long poll; short, because stopping waits for it
STREAM_PAUSE_SECONDS = 0.2
STREAM_TRIES = 5


class Events:
    """One thread per queue, stream reader and timer. `start()`, later `stop()`."""

    def __init__(self, app: Any, url: str, say: Callable[[str], None]):
        self._url = url
        self._say = say
        self._ending = threading.Event()
        loops = {
            SQSEventConfig: self._run_queue,
            DynamoDBEventConfig: self._run_stream,
            ScheduledEventConfig: self._run_timer,
        }
        self._threads = [
            threading.Thread(target=loops[type(source)], args=(source,), name=source.name, daemon=True)
            for source in app.event_sources
            if type(source) in loops
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask all to end and wait for the handler calls in progress."""
        self._ending.set()
        for thread in self._threads:
            thread.join(timeout=30)

    @property
    def names(self) -> list[str]:
        return [thread.name for thread in self._threads]

    def _run_queue(self, source: SQSEventConfig) -> None:
        handler = load_handler(source.handler_string)
        sqs = client("sqs", self._url)
        address = sqs.get_queue_url(QueueName=source.queue)["QueueUrl"]
        while not self._ending.is_set():
            try:
                answer = sqs.receive_message(
                    QueueUrl=address,
                    MaxNumberOfMessages=min(source.batch_size, 10),
                    WaitTimeSeconds=POLL_SECONDS,
                    MessageSystemAttributeNames=["All"],
                    MessageAttributeNames=["All"],
                )
                messages = answer.get("Messages", [])
                if messages:
                    result = handler(
                        {"Records": [queue_record(one, source.queue) for one in messages]}, context(source)
                    )
                    failed = failed_ids(result)
                    for one in messages:
                        if one["MessageId"] not in failed:
                            sqs.delete_message(QueueUrl=address, ReceiptHandle=one["ReceiptHandle"])
            except Exception:
                # The messages stay; they come back when their visibility time-out ends, as on AWS.
                self._report(source.name)

    def _run_stream(self, source: DynamoDBEventConfig) -> None:
        """The backend keeps change records only while it runs, so the beginning of its stream is where to start.

        What was still unread when it stopped is found by the minute timers, which need no stream.
        """
        handler = load_handler(source.handler_string)
        streams = client("dynamodbstreams", self._url)
        arn = client("dynamodb", self._url).describe_table(TableName=table_name())["Table"]["LatestStreamArn"]
        shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
        after: str | None = None
        iterator: str | None = None
        while not self._ending.wait(STREAM_PAUSE_SECONDS):
            try:
                if iterator is None:
                    place = {"ShardIteratorType": "TRIM_HORIZON"}
                    if after:
                        place = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
                    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, **place)["ShardIterator"]
                page = streams.get_records(ShardIterator=iterator, Limit=min(source.batch_size, 1000))
                if page["Records"]:
                    self._hand_over(handler, source, [stream_record(one, arn) for one in page["Records"]])
                    after = page["Records"][-1]["dynamodb"]["SequenceNumber"]
                iterator = page.get("NextShardIterator")
            except Exception:
                iterator = None
                self._report(source.name)

    def _hand_over(self, handler: Callable, source: DynamoDBEventConfig, records: list[dict]) -> None:
        """Give a batch to its handler; go on from the first record it reports, as often as Lambda is told to."""
        for _ in range(STREAM_TRIES):
            try:
                failed = failed_ids(handler({"Records": records}, context(source)))
            except Exception:
                self._report(source.name)
                failed = {records[0]["dynamodb"]["SequenceNumber"]}
            numbers = [one["dynamodb"]["SequenceNumber"] for one in records]
            first = next((place for place, number in enumerate(numbers) if number in failed), None)
            if first is None:
                return
            records = records[first:]
            if self._ending.wait(0.5):
                return
        self._say(f"{source.name}: {len(records)} change records given up after {STREAM_TRIES} tries")

    def _run_timer(self, source: ScheduledEventConfig) -> None:
        """On every full minute (all our timers run each minute)."""
        handler = load_handler(source.handler_string)
        while not self._ending.wait(60 - time.time() % 60):
            try:
                handler(timer_event(source.name, int(time.time())), context(source))
            except Exception:
                self._report(source.name)

    def _report(self, name: str) -> None:
        if not self._ending.is_set():
            self._say(f"{name} failed:\n{traceback.format_exc()}")


def load_handler(handler_string: str) -> Callable:
    """`chalicelib.orders.workers.on_order_expiry` -> the callable, as Lambda's runtime finds it."""
    module, _, name = handler_string.rpartition(".")
    return getattr(importlib.import_module(module), name)


def context(source: Any) -> LambdaContext:
    return LambdaContext(function_name=source.name, memory_size=512, max_runtime_ms=60_000)


def queue_record(message: dict, queue: str) -> dict:
    """A received message in the form in which Lambda hands it over."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}",
        "awsRegion": REGION,
    }


def stream_record(record: dict, arn: str) -> dict:
    """A change record in the form in which Lambda hands it over: bytes as base64 text, instants as numbers."""
    return {**_plain(record), "eventSourceARN": arn}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.timestamp()
    return value


def timer_event(name: str, now: int) -> dict:
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": REGION,
        "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{name}"],
        "detail": {},
    }


def failed_ids(result: Any) -> set[str]:
    """The ids a handler reports as failed; an answer without a report means that all went well."""
    if not isinstance(result, dict):
        return set()
    return {one["itemIdentifier"] for one in result.get("batchItemFailures") or []}
