"""The one place that reads the wall clock. Rules never import it: time comes to them as an argument.

An instant is an integer of seconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

Instant = int


def now() -> Instant:
    """The present instant, whole seconds, UTC."""
    return int(time.time())


def iso(at: Instant | None) -> str | None:
    """An instant as RFC 3339 text in UTC.

    Example:
        >>> iso(0)
        '1970-01-01T00:00:00Z'
    """
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
