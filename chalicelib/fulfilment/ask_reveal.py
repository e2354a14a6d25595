"""Ask the one function that may decrypt to open an order's keys.

The API's own role cannot call KMS; it may only invoke `reveal_keys`, which checks, audits and locks by itself (decision
0008). Where no such function is configured (the local stack, tests) the same code runs in process.
"""

from __future__ import annotations

import json

from chalicelib.core import settings
from chalicelib.core.errors import Refused, Unavailable


def ask_reveal(order_id: str, *, by: str, source_ip: str, user_agent: str) -> list[dict]:
    """The plain keys of an order, as `fulfilment.reveal.reveal_order` answers them.

    Raises: what that function refuses with; service.unavailable when it failed or could not be reached.
    """
    event = {"order_id": order_id, "by": by, "source_ip": source_ip, "user_agent": user_agent}
    name = settings.reveal_function()
    answer = _invoke(name, event) if name else _run_here(event)
    if "keys" in answer:
        return answer["keys"]
    if answer.get("refused"):
        raise Refused.from_facts(answer["refused"])
    raise Unavailable()


def _invoke(name: str, event: dict) -> dict:
    from chalicelib.aws.clients import lambda_

    return json.loads(lambda_().invoke(FunctionName=name, Payload=json.dumps(event).encode())["Payload"].read())


def _run_here(event: dict) -> dict:
    from chalicelib.fulfilment.workers import reveal_keys

    return reveal_keys(event, None)
