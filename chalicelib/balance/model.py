"""Prepaid balances: what a shop has paid in, spends on orders and gets back from refunds. Plain frozen data.

A balance is one amount per shop and currency. Every change of it is an *entry*, and the entries add up to it. A
*top-up* is a shop's wish to pay in through a provider; money that arrives for it becomes an entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

EntryKind = Literal["top_up", "adjustment", "spend", "refund"]


@dataclass(frozen=True)
class Balance:
    """`told_version`: the version at which its shop was told that it is low; None when it is not, or not yet."""

    shop_id: str
    currency: str
    balance_minor: int
    version: int
    low_balance_minor: int | None = None
    told_version: int | None = None

    @property
    def is_low(self) -> bool:
        return self.low_balance_minor is not None and self.balance_minor < self.low_balance_minor


@dataclass(frozen=True)
class BalanceEntry:
    """One change of a balance, signed. `entry_id` names its cause and is unique for ever: `spend:<order_id>`.

    `left_minor` is what of a spending was not given back.
    """

    entry_id: str
    kind: EntryKind
    amount_minor: int
    currency: str
    at: int
    order_id: str | None = None
    refund_id: str | None = None
    payment_id: str | None = None
    reference: str | None = None
    by: str | None = None
    left_minor: int | None = None


@dataclass(frozen=True)
class TopUp:
    """`state` is `open` until money came. `review` says why a person has to look: money in another currency came, or
    some went back.
    """

    top_up_id: str
    shop_id: str
    amount_minor: int
    currency: str
    provider: str
    created_at: int
    state: Literal["open", "paid", "closed"] = "open"
    method: str | None = None
    account_id: str | None = None
    payer_id: str | None = None
    return_url: str | None = None
    paid_minor: int = 0
    paid_at: int | None = None
    review: str | None = None


@dataclass(frozen=True)
class Event:
    """Something a shop may want to hear of; kept until it is read, and after."""

    event_id: str
    at: int
    type: str
    data: dict[str, Any]
