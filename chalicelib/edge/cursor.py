"""Cursors of paged lists: opaque, signed, bound to the list and the caller, so that none can be forged or carried
over.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from chalicelib.aws.secrets import derived_key
from chalicelib.edge.errors import BadCursor

_MAC_BYTES = 12


def to_cursor(position: Any, binding: str) -> str:
    """A position in a list as text; `binding` names the list, its filter and the caller's shop."""
    body = json.dumps(position, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mac(body, binding) + body).decode().rstrip("=")


def from_cursor(cursor: str | None, binding: str) -> Any:
    """The position a cursor stands for, None for no cursor.

    Raises: request.bad_cursor
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise BadCursor(field="cursor") from None
    mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(body, binding)):
        raise BadCursor(field="cursor")
    return json.loads(body)


def _mac(body: bytes, binding: str) -> bytes:
    return hmac.digest(derived_key("cursor"), binding.encode() + b"\n" + body, hashlib.sha256)[:_MAC_BYTES]
