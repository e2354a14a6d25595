"""Runs the embedded backend (ministack) so that its data outlives it: snapshots all along, not only at a clean stop.

Started by `infra/local/backend.py` with the Python of ministack's own virtual environment; imports nothing of ours.
Never serves another address than the one it is told, and ends itself when the process that started it is gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time

import ministack.app as ministack
from ministack.core.persistence import PERSIST_STATE, save_all

EVERY_SECONDS = 1.0
# A snapshot stalls the server, so a big state is saved less often: at most this share of the time goes into it.
BUSY_SHARE = 0.1

# Calls that change nothing. Whatever is not known to be harmless counts as a change.
_READS = ("Get", "Query", "Describe", "List", "BatchGet", "TransactGet", "Decrypt", "Encrypt", "GenerateDataKey")
_SERVICE_OF_TARGET = {
    "DynamoDB": "dynamodb",
    "DynamoDBStreams": "dynamodb",
    "AmazonSQS": "sqs",
    "TrentService": "kms",
    "secretsmanager": "secretsmanager",
}

_changed: set[str] = set()
_serve = ministack.app


def _note_change(scope: dict) -> None:
    """Remember which service a request may have changed; `*` stands for all of them."""
    headers = dict(scope.get("headers") or ())
    prefix, _, operation = headers.get(b"x-amz-target", b"").decode().partition(".")
    if not operation:
        if scope.get("method") not in ("GET", "HEAD", "OPTIONS"):
            _changed.add("*")
    elif not operation.startswith(_READS):
        _changed.add(_SERVICE_OF_TARGET.get(prefix.partition("_")[0], "*"))


async def _keep(parent: int) -> None:
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if PERSIST_STATE and _changed:
            names = set(_changed)
            _changed.clear()
            services = ministack._build_persistence_save_dict()
            began = time.monotonic()
            save_all(services if "*" in names else {name: services[name] for name in names if name in services})
            await asyncio.sleep((time.monotonic() - began) / BUSY_SHARE)


async def _app(scope: dict, receive: object, send: object) -> None:
    if scope["type"] == "lifespan":
        keeping = asyncio.get_running_loop().create_task(_keep(os.getppid()))
        try:
            await _serve(scope, receive, send)
        finally:
            keeping.cancel()
        return
    await _serve(scope, receive, send)
    # Noted after the answer, so that a change is never marked as saved before it has happened.
    if scope["type"] == "http":
        _note_change(scope)


if __name__ == "__main__":
    ministack.app = _app
    ministack.main()
