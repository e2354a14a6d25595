"""The ledger's words: entries, sets of them, and what a day came to. Plain frozen data.

An entry moves an amount of one currency on one account: positive is debit, negative is credit. The entries of one event
are one *set* and come to zero in each currency. Sets are only ever added; a mistake is answered by another set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Entry(NamedTuple):
    account: str
    amount_minor: int
    currency: str


@dataclass(frozen=True)
class EntrySet:
    """All entries of one event. `event_id` is made from the event's own facts, so there can be one set of it."""

    event_id: str
    at: int
    entries: tuple[Entry, ...]
    order_id: str | None = None
    provider_txn: str | None = None


class Movement(NamedTuple):
    """One account in one currency over a day."""

    account: str
    currency: str
    opening_minor: int
    moved_minor: int

    @property
    def closing_minor(self) -> int:
        return self.opening_minor + self.moved_minor


class Gap(NamedTuple):
    """What a shop's balance and the ledger say differently of one event: entries of the balance minus the ledger."""

    event_id: str
    shop_id: str
    currency: str
    amount_minor: int


@dataclass(frozen=True)
class DayClosing:
    """What a day came to. `waiting`: gaps from the day's last hour, whose other half may fall into the next day."""

    day: str
    sets: int
    movements: tuple[Movement, ...]
    differences: tuple[str, ...] = ()
    waiting: tuple[Gap, ...] = ()
    proved_at: int | None = field(default=None)


@dataclass(frozen=True)
class LedgerClock:
    """Every day up to `until` is proved. `version` moves with each set that comes too late for its day."""

    until: str
    version: int
