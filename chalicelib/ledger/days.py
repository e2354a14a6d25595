"""The ledger's days: those of UTC, written `20260301`. Pure."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta

SHARDS = 8
DAY_SECONDS = 86_400


def day_of(at: int) -> str:
    """The day an instant falls on.

    Example:
        >>> day_of(0), day_of(1_772_323_200)
        ('19700101', '20260301')
    """
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%d")


def start_of(day: str) -> int:
    """The first instant of a day.

    Example:
        >>> start_of("20260301")
        1772323200
    """
    return int(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp())


def day_after(day: str, days: int = 1) -> str:
    """The day so many days later, or earlier when negative.

    Example:
        >>> day_after("20260228"), day_after("20260301", -1)
        ('20260301', '20260228')
    """
    return (datetime.strptime(day, "%Y%m%d") + timedelta(days=days)).strftime("%Y%m%d")


def shard_of(event_id: str) -> int:
    """Which of a day's partitions holds the set of an event."""
    return zlib.crc32(event_id.encode()) % SHARDS
