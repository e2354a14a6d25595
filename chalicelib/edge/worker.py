"""How a message gets in: the shape of every queue handler.

A message is a JSON object. Each is handled on its own: one that fails is reported as that one, so the others are not
repeated and the failing one goes to the dead-letter queue after its tries. Handlers raise; nothing is swallowed here.

Chalice starts a worker without importing `app.py`, so everything a worker needs is on the function itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from chalicelib.core.errors import Refused
from chalicelib.edge.observe import failure_facts, log


def each_message(records: list[dict], handle: Callable[..., None], fact: str, *, with_id: bool = False) -> dict:
    """Handle the records of one SQS batch, each on its own; `with_id` hands the message's id to the handler too.

    Returns: the partial batch answer `{"batchItemFailures": [{"itemIdentifier": messageId}, …]}`.
    """
    failures = []
    for record in records:
        started = time.perf_counter()
        try:
            message = json.loads(record["body"])
            if not isinstance(message, dict):
                raise ValueError("a message is a JSON object")
            handle(message, record["messageId"]) if with_id else handle(message)
        except Exception as error:
            failures.append({"itemIdentifier": record["messageId"]})
            log.error("message failed", extra={"fact": fact, "message_id": record["messageId"], **failure_of(error)})
        else:
            duration_ms = round((time.perf_counter() - started) * 1000, 1)
            log.info(
                "message done", extra={"fact": fact, "message_id": record["messageId"], "duration_ms": duration_ms}
            )
    return {"batchItemFailures": failures}


def failure_of(error: Exception) -> dict[str, Any]:
    """The code of a refusal, or type and place of anything else."""
    return {"code": error.code} if isinstance(error, Refused) else failure_facts(error)


def each_due(rows: Iterable[dict[str, str]], handle: Callable[[dict[str, str]], Any]) -> tuple[int, int]:
    """Handle rows of the due index, each on its own: one that fails must not keep the others waiting; the next minute
    tries it.

    Returns: how many were handled, and how many failed.
    """
    done = failed = 0
    for row in rows:
        try:
            handle(row)
            done += 1
        except Exception as error:
            failed += 1
            log.error("due row failed", extra={"pk": row["pk"], **failure_of(error)})
    return done, failed
