"""Orders: one buyer's purchase, from reservation to delivery or refund.

An order holds ranges of key numbers (extents), never keys. Everything that ever happened to it is in its `history`. Its
status is not stored by hand: `rules.status_of` derives it from facts (paid, delivered, refunded, …), so the two cannot
disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal[
    "pending_payment", "paid", "delivering", "delivered", "partially_delivered", "cancelled", "expired",
    "refunding", "refunded", "partially_refunded", "needs_review",
]  # fmt: skip
Extent = tuple[str, int, int]  # lot id, first number, count


@dataclass(frozen=True)
class Line:
    """One product of an order, under the terms of the moment it was placed.

    `extents` are the keys it holds; empty once they went back to stock. `deliver_at` is set by payment for a delayed
    line.
    """

    line_id: int
    product_id: str
    name: str
    quantity: int
    unit_price_minor: int
    mode: str
    delay_minutes: int
    refund_window_minutes: int
    extents: tuple[Extent, ...] = ()
    deliver_at: int | None = None
    delivered_at: int | None = None
    revealed_at: int | None = None
    refund_no: int = 0
    cost_minor: int | None = None  # what its keys cost us, in the order's currency; None: not known of all of them

    @property
    def total_minor(self) -> int:
        return self.quantity * self.unit_price_minor


@dataclass(frozen=True)
class Attempt:
    """One way an order was offered for payment. `account_id` is None for what belongs to the whole stage; `payer_id` is
    who pays in the provider's words, where its method wants to know (WeChat: openid).
    """

    provider: str
    method: str | None = None
    account_id: str | None = None
    payer_id: str | None = None


@dataclass(frozen=True)
class Dispute:
    """Money a buyer's bank or the provider asks back. While it is open, nothing is handed out or shown."""

    dispute_id: str
    state: Literal["open", "won", "lost"]
    amount_minor: int
    reason: str
    opened_at: int
    due_at: int | None = None
    closed_at: int | None = None


@dataclass(frozen=True)
class Refund:
    """Money on its way back. `lines` are those whose goods end with it; none for a payment that came twice.

    `provider_txn` is set when the money is not that of the order's own payment; `request_id` when the caller asked
    under an Idempotency-Key, so that a repeat finds the very refund it asked for.
    """

    refund_no: int
    lines: tuple[int, ...]
    amount_minor: int
    state: Literal["pending", "succeeded", "failed", "reversed"]
    asked_at: int
    asked_by: str
    reason: str
    next_try_at: int
    tries: int = 0
    finished_at: int | None = None
    reversed_at: int | None = None
    provider_txn: str | None = None
    request_id: str | None = None
    currency: str | None = None  # of extra money that is not in the order's own
    attempt: int = 0  # by which attempt the money came that goes back; 0: the one that paid the order


@dataclass(frozen=True)
class Happening:
    """One entry of an order's history: what state it came to, when, by whom, and a short fixed note."""

    at: int
    status: str
    by: str
    note: str = ""


@dataclass(frozen=True)
class Order:
    order_id: str
    shop_id: str
    merchant_order_no: str
    created_at: int
    expires_at: int
    total_minor: int
    currency: str
    provider: str
    lines: tuple[Line, ...]
    buyer: dict[str, Any]
    body_hash: str
    takes: tuple[str, ...]
    version: int = 1
    fenced: frozenset[str] = frozenset()
    return_url: str | None = None
    paid_at: int | None = None
    paid_minor: int = 0
    paid_currency: str | None = None
    provider_txn: str | None = None
    closed: Literal["cancelled", "expired"] | None = None
    review: str | None = None
    refunds: tuple[Refund, ...] = ()
    reveals: tuple[int, ...] = ()
    history: tuple[Happening, ...] = field(default=())
    method: str | None = None
    account_id: str | None = None
    payer_id: str | None = None
    attempts: tuple[Attempt, ...] = ()  # further ones; the first stands in the order's own members
    paid_attempt: int = 1
    disputes: tuple[Dispute, ...] = ()

    def attempt(self, number: int) -> Attempt | None:
        """The attempt of that number, counted from 1, or None."""
        every = (Attempt(self.provider, self.method, self.account_id, self.payer_id), *self.attempts)
        return every[number - 1] if 0 < number <= len(every) else None

    def line(self, line_id: int) -> Line:
        return next(line for line in self.lines if line.line_id == line_id)

    def refund(self, refund_no: int) -> Refund:
        return next(refund for refund in self.refunds if refund.refund_no == refund_no)
