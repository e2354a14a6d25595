"""Sending messages. Names by convention (`kamiflow-<stage>-<fact>`), addresses looked up once per process.

A message only ever carries ids and instants: whoever handles it reads the facts again. Longest delay SQS knows: 900
seconds.
"""

from __future__ import annotations

import json
from functools import cache

from chalicelib.aws.clients import sqs
from chalicelib.core.settings import queue_name

MAX_DELAY_SECONDS = 900
_MAX_ENTRIES = 10


@cache
def _queue_url(fact: str) -> str:
    return sqs().get_queue_url(QueueName=queue_name(fact))["QueueUrl"]


def send(fact: str, message: dict, *, delay_seconds: int = 0) -> None:
    """Send one message, visible after `delay_seconds` (capped at 900: the receiver sends it on until its time has
    come).
    """
    send_all(fact, [(message, delay_seconds)])


def send_all(fact: str, messages: list[tuple[dict, int]]) -> None:
    """Send many messages, each with its own delay, in batches of ten.

    Raises: RuntimeError when the queue took only a part; the caller fails, is repeated, and duplicates are harmless.
    """
    for start in range(0, len(messages), _MAX_ENTRIES):
        answer = sqs().send_message_batch(
            QueueUrl=_queue_url(fact),
            Entries=[
                {
                    "Id": str(number),
                    "MessageBody": json.dumps(message, separators=(",", ":")),
                    "DelaySeconds": max(0, min(MAX_DELAY_SECONDS, delay_seconds)),
                }
                for number, (message, delay_seconds) in enumerate(messages[start : start + _MAX_ENTRIES])
            ],
        )
        if answer.get("Failed"):
            raise RuntimeError(f"{len(answer['Failed'])} messages were not taken by the queue")
