"""Decisions about balances; pure: how entries are called, what providers learn of top-ups, when they are asked."""

from __future__ import annotations

from chalicelib.balance.model import BalanceEntry, Event, TopUp
from chalicelib.core.ids import is_id
from chalicelib.payments.model import Account, Payment, ProviderFacts, StatementLine

OPEN_SECONDS = 86_400  # how long a top-up can be paid
GIVE_UP_SECONDS = 3 * 86_400  # a provider that cannot close a payment is not asked for longer
_ASK_LATER_SECONDS = 1_800


def spend_id(order_id: str) -> str:
    """The id of the one entry by which an order is paid; also the provider's number of that money."""
    return f"spend:{order_id}"


def refund_entry_id(refund_id: str) -> str:
    return f"refund:{refund_id}"


def top_up_entry_id(provider: str, txn: str) -> str:
    return f"topup:{provider}:{txn}"


def adjustment_entry_id(adjustment_id: str) -> str:
    return f"adjustment:{adjustment_id}"


def ledger_event_of(entry: BalanceEntry) -> str:
    """The event of the ledger that an entry belongs to.

    Example:
        >>> ledger_event_of(BalanceEntry("spend:ord_1", "spend", -5, "CNY", 0))
        'paid:ord_1'
    """
    kind, _, rest = entry.entry_id.partition(":")
    return {"spend": f"paid:{rest}", "refund": f"refunded:{rest}"}.get(kind, entry.entry_id)


def is_top_up_id(payment_id: str | None) -> bool:
    """Whether a payment id is that of a top-up; an order's begins otherwise."""
    return payment_id is not None and is_id("top", payment_id)


def payment_of_top_up(top_up: TopUp, account: Account, method: str, base_url: str, **more: str | None) -> Payment:
    """What a provider may know of a top-up. Its id is both the order's and the payment's, in the provider's eyes."""
    path = f"/v1/notices/{top_up.provider}" + (f"/{top_up.account_id}" if top_up.account_id else "")
    return Payment(
        payment_id=top_up.top_up_id, order_id=top_up.top_up_id, total_minor=top_up.amount_minor,
        currency=top_up.currency, title="Balance top-up", expires_at=top_up.created_at + OPEN_SECONDS,
        base_url=base_url, account=account, method=top_up.method or method, notify_url=base_url + path,
        return_url=top_up.return_url, payer_id=top_up.payer_id, **more,
    )  # fmt: skip


def next_ask_at(top_up: TopUp, facts: ProviderFacts, now: int) -> int:
    """When a provider is asked about an unpaid top-up: by its own schedule, then every half hour, and at its end."""
    ends_at = top_up.created_at + OPEN_SECONDS
    planned = [top_up.created_at + age for age in facts.ask_after_seconds if top_up.created_at + age > now]
    later = planned[0] if planned else now + _ASK_LATER_SECONDS
    return min(later, ends_at) if now < ends_at else later


def is_over(top_up: TopUp, now: int) -> bool:
    return now >= top_up.created_at + OPEN_SECONDS


def is_given_up(top_up: TopUp, now: int) -> bool:
    return now >= top_up.created_at + GIVE_UP_SECONDS


def low_event(shop_id: str, currency: str, version: int, balance_minor: int, low_balance_minor: int, at: int) -> Event:
    """What a shop is told once when its balance falls below the amount it named. The id is that of the fall."""
    data = {
        "shop_id": shop_id, "currency": currency, "balance_minor": balance_minor,
        "low_balance_minor": low_balance_minor,
    }  # fmt: skip
    return Event(f"low-{currency}-{version:012d}", at, "balance.low", data)


def to_statement_line(entry: BalanceEntry) -> StatementLine:
    """An entry as the balance, seen as a provider, states it: what was spent came to us, what was refunded went."""
    if entry.kind == "spend":
        return StatementLine(
            "payment", entry.entry_id, entry.payment_id, -entry.amount_minor, entry.currency, entry.at
        )  # fmt: skip
    if entry.kind == "refund":
        paid_by = spend_id(entry.order_id or "")
        return StatementLine(
            "refund", paid_by, entry.refund_id, -entry.amount_minor, entry.currency, entry.at,
            refund_txn=entry.entry_id,
        )  # fmt: skip
    return StatementLine("other", entry.entry_id, entry.reference, -entry.amount_minor, entry.currency, entry.at)
