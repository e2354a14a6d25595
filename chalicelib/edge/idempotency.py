"""Idempotency-Key: one key, one request, one resource.

The guard row is written before the work and names the id the work will use. A repeat finds that id and runs the same
work again, which every create survives because it is a conditional write under that id. So there is no "in progress"
state to get stuck in: a crash anywhere is finished by the repeat.

    IDEM#<scope>:<shop>#<key>/IDEM    body_hash, resource_id, ttl_at (90 days)
"""

from __future__ import annotations

import hashlib
from typing import Any

from chalicelib.aws.transact import put_if_absent
from chalicelib.edge.errors import IdempotencyMismatch
from chalicelib.edge.http import Call

KEEP_SECONDS = 90 * 86_400
REPLAYED = {"Idempotent-Replayed": "true"}


def request_hash(call: Call) -> str:
    """What makes two requests the same: method, path and the validated body, whatever its spacing or member order."""
    path = call.request.context.get("path") or call.request.path
    text = f"{call.request.method} {path}\n{call.body.model_dump_json() if call.body else ''}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def resource_for(call: Call, new_id: str, *, same_request: str | None = None) -> tuple[str, bool]:
    """The id this request creates its resource under, and whether the key was seen before.

    Access:  put IDEM#…, 1 write; none when the request carries no Idempotency-Key.
    Only if: the key is new; otherwise the stored id answers.
    Raises:  request.idempotency_mismatch when the key was used with another request.
    """
    key = call.idempotency_key
    if key is None:
        return new_id, False
    body_hash = same_request or request_hash(call)
    seen = _remember(f"{call.caller.scope}:{call.caller.shop_id or ''}", key, body_hash, new_id, call.now)
    if seen is None:
        return new_id, False
    if seen["body_hash"] != body_hash:
        raise IdempotencyMismatch(field="Idempotency-Key")
    return seen["resource_id"], True


def _remember(owner: str, key: str, body_hash: str, resource_id: str, now: int) -> dict[str, Any] | None:
    row = {
        "pk": f"IDEM#{owner}#{key}",
        "sk": "IDEM",
        "body_hash": body_hash,
        "resource_id": resource_id,
        "ttl_at": now + KEEP_SECONDS,
    }
    return put_if_absent(row)
