"""Payments: what we tell providers and what they tell us, in our own words.

A *payment* is one order's wish to be paid through one provider; its id is derived from the order's. A *notice* is a
provider's verified word about a payment. A provider is one file in `adapters/`; the contract is the docstring of that
package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NoticeKind = Literal["paid", "failed", "refunded", "refund_failed", "other"]


@dataclass(frozen=True)
class Payment:
    """What an adapter needs to know of an order. `provider_ref` is the provider's own handle (Stripe: session id)."""

    payment_id: str
    order_id: str
    total_minor: int
    currency: str
    title: str
    expires_at: int
    base_url: str
    return_url: str | None = None
    provider_ref: str | None = None
    provider_txn: str | None = None


@dataclass(frozen=True)
class Started:
    """Where the buyer pays, and the provider's own handle of it, if it has one."""

    pay_url: str
    provider_ref: str | None = None


@dataclass(frozen=True)
class Notice:
    """A verified message of a provider. `event_id` is the provider's id of the message, `provider_txn` of the money."""

    provider: str
    event_id: str
    kind: NoticeKind
    payment_id: str | None
    provider_txn: str | None
    amount_minor: int | None
    currency: str | None
    refund_id: str | None = None


@dataclass(frozen=True)
class Found:
    """A provider's answer about a payment. `unknown` means: ask again later, conclude nothing."""

    state: Literal["paid", "unpaid", "unknown"]
    amount_minor: int | None = None
    currency: str | None = None
    provider_txn: str | None = None


@dataclass(frozen=True)
class RefundResult:
    """What became of a refund at the provider. `pending` and `unknown` are asked again with the same refund id, never
    repeated with a new one.
    """

    state: Literal["succeeded", "pending", "failed", "unknown"]
    provider_refund_id: str | None = None
