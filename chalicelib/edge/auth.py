"""Who is calling: API keys, looked up by the SHA-256 of what was sent.

A key carries at least 160 random bits, so a plain digest is enough: there is no dictionary to try. Found keys are
remembered for 30 seconds per process; a revoked key stops working within that time.
"""

from __future__ import annotations

import hashlib
import time

from chalicelib.accounts import store
from chalicelib.edge.http import Caller

REMEMBER_SECONDS = 30
_MAX_REMEMBERED = 1_000
_seen: dict[str, tuple[float, Caller | None]] = {}


def find_caller(api_key: str) -> Caller | None:
    """The owner of an API key, or None when it is unknown or revoked."""
    if not (20 <= len(api_key) <= 100 and api_key.isascii()):
        return None
    key_hash = hashlib.sha256(api_key.encode()).hexdigest()
    remembered = _seen.get(key_hash)
    if remembered and remembered[0] > time.monotonic():
        return remembered[1]
    row = store.find_api_key(key_hash)
    caller = Caller(row["scope"], row["key_id"], row.get("shop_id")) if row and row["status"] == "active" else None
    if len(_seen) >= _MAX_REMEMBERED:
        _seen.clear()
    _seen[key_hash] = (time.monotonic() + REMEMBER_SECONDS, caller)
    return caller
