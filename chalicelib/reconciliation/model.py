"""Reconciliation: our books of a day held against a provider's statement of it. Plain frozen data.

    awaiting_upload -> queued -> posting -> completed
                         |  \\-> failed              (`problem` says why)
                         \\-> waiting (the provider has no statement yet; asked again, for two days)

*Theirs* is a line of the statement, *ours* a movement our books know. Each of them ends in exactly one place: in a
match, in a difference, or set aside because it belongs to another day or to nothing that both sides keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from chalicelib.payments.model import StatementLine

Status = Literal["awaiting_upload", "queued", "waiting", "posting", "completed", "failed"]
Source = Literal["api", "file"]
OutcomeName = Literal["missing_here", "missing_there", "amount_differs", "state_differs"]
OUTCOMES: tuple[OutcomeName, ...] = ("missing_here", "amount_differs", "state_differs", "missing_there")  # as numbered
Action = Literal["apply", "record", "ask", "accept"]
Suggestion = Literal["apply", "record", "ask", "review"]
Answer = Literal["confirmed", "denied", "pending", "unknown"]

MAX_FILE_BYTES = 32 * 1024 * 1024
EDGE_SECONDS = 900  # what we learn so close to midnight may stand in the statement of either day
GIVE_UP_SECONDS = 2 * 86_400
RESUME_SECONDS = 300  # how long one may stand still before it is pushed on; longer than a worker may run

ACTIONS: dict[Action, str] = {
    "apply": "ask the provider about the order's payments and take in what was paid, as its notice would have",
    "record": "take in a refund that was made at the provider, as its notice would have",
    "ask": "ask the provider about this payment or refund now; what it confirms is settled",
    "accept": "leave both sides as they are; the note says why",
}
PROBLEMS = {
    "no_statement": "the provider had no statement of that day for two days; upload its file",
    "provider_unavailable": "the provider could not be reached for two days",
    "provider_refused": "the provider said no: settings or secrets of the account are to be looked at",
    "bad_statement": "the file is not this provider's statement of that account and day",
    "file_changed": "the file was replaced or removed after the start",
    "account_not_found": "the payment account is gone",
    "gave_up": "it could not be finished within two days; the log says why",
}


class Day(NamedTuple):
    """A provider's day as instants; the end is the first of the next."""

    start: int
    end: int


class Ours(NamedTuple):
    """A movement of our books on the provider's clearing account.

    our_no      our refund id; None for payments, whose order is named
    refund_txn  the provider's number of a refund made by hand there
    state       recorded; else a refund that our order knows and that did not happen here: pending, failed
    """

    event_id: str
    kind: Literal["payment", "refund", "dispute", "top_up"]
    order_id: str | None
    our_no: str | None
    provider_txn: str | None
    amount_minor: int
    currency: str
    at: int
    refund_txn: str | None = None
    state: Literal["recorded", "pending", "failed"] = "recorded"


@dataclass(frozen=True)
class Difference:
    outcome: OutcomeName
    order_id: str | None
    ours: Ours | None
    theirs: StatementLine | None


@dataclass(frozen=True)
class Outcome:
    """What comparing came to.

    elsewhere     ours that belong to the statement of another day
    not_compared  theirs that our books do not keep by line: fees, payouts, corrections
    seen          marks of what this statement has and our books have, or will have, on another day
    """

    matches: tuple[tuple[Ours, StatementLine], ...]
    differences: tuple[Difference, ...]
    elsewhere: tuple[Ours, ...]
    not_compared: tuple[StatementLine, ...]
    seen: tuple[bytes, ...]


class Total(NamedTuple):
    """One currency: what our books say of this day, what the statement says, its fees, and what was not compared."""

    currency: str
    ours_minor: int
    theirs_minor: int
    fees_minor: int
    other_minor: int


class Fee(NamedTuple):
    """What the provider kept for one movement; `reference` names it for ever, whoever reads the statement again."""

    reference: str
    fee_minor: int
    currency: str
