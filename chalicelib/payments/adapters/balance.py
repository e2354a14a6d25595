"""The shops' own prepaid balances, as a provider that keeps its books with us.

An order is paid in the very transaction that writes it (`balance/store.py` `spend_writes`), so there is nothing to
open, nothing to wait for and nobody who sends notices: `start` answers nothing to do, `find` looks the spending up.

    provider's number of the money   spend:<order_id>     of a refund   refund:<refund_id>

A refund is one transaction of balance, entry and what is left of the spending, so the same refund id moves money once
and an order never gets back more than it spent. The account tells the shop; one without a shop can do nothing.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.balance import store as books
from chalicelib.balance.rules import refund_entry_id, spend_id, to_statement_line
from chalicelib.core.errors import Busy
from chalicelib.payments.errors import BadNotice, BadStatement, ProviderRefused
from chalicelib.payments.model import (
    Account,
    Closed,
    Found,
    Method,
    Notice,
    Payment,
    ProviderFacts,
    RefundResult,
    Started,
    StatementLine,
)

_OUT_OF_REACH = (BotoCoreError, ClientError, Busy)

FACTS = ProviderFacts(
    "Prepaid balance",
    {"balance": Method("client", "out of the shop's prepaid balance, at once")},
    keeps_session=False,
    can_close=False,
    ask_after_seconds=(),
)


def start(payment: Payment, now: int) -> Started:
    if payment.account.shop_id is None:
        raise ProviderRefused()
    return Started()


def read_notice(account: Account, headers: Any, raw_body: bytes, now: int) -> Notice | None:
    raise BadNotice()


def find(payment: Payment) -> Found:
    shop_id = payment.account.shop_id
    if shop_id is None:
        return Found("unknown")
    try:
        spent = books.find_entry(shop_id, payment.currency, spend_id(payment.order_id))
    except _OUT_OF_REACH:
        return Found("unknown")
    return Found("paid", -spent.amount_minor, spent.currency, spent.entry_id) if spent else Found("unpaid")


def close(payment: Payment) -> Closed:
    """Money only ever comes with the order itself: what is not paid by now will not be."""
    state = find(payment).state
    return {"paid": "paid", "unpaid": "closed"}.get(state, "unknown")


def refund(payment: Payment, refund_id: str, amount_minor: int, now: int) -> RefundResult:
    shop_id = payment.account.shop_id
    if shop_id is None:
        return RefundResult("unknown")
    if amount_minor < 1:
        return RefundResult("failed")
    try:
        booked_minor = books.credit_refund(shop_id, payment.currency, payment.order_id, refund_id, amount_minor, now)
    except _OUT_OF_REACH:
        return RefundResult("unknown")
    if booked_minor is None:
        return RefundResult("failed")
    # Another amount under the same id: money did move, only not as asked. Neither yes nor no is true.
    return _refunded(refund_id) if booked_minor == amount_minor else RefundResult("unknown")


def find_refund(payment: Payment, refund_id: str) -> RefundResult | None:
    shop_id = payment.account.shop_id
    if shop_id is None:
        return RefundResult("unknown")
    try:
        entry = books.find_entry(shop_id, payment.currency, refund_entry_id(refund_id))
    except _OUT_OF_REACH:
        return RefundResult("unknown")
    return _refunded(refund_id) if entry else None


def statement(account: Account, day: str) -> list[StatementLine]:
    if account.shop_id is None:
        raise ProviderRefused()
    from chalicelib.ledger.days import DAY_SECONDS, start_of

    from_at = start_of(day.replace("-", ""))
    return [
        to_statement_line(entry)
        for balance in books.list_balances(account.shop_id)
        for entry in books.list_entries_between(
            account.shop_id, balance.currency, from_at, from_at + DAY_SECONDS - 1
        )
    ]  # fmt: skip


def parse_statement(account: Account, raw: bytes, day: str) -> list[StatementLine]:
    raise BadStatement()


def _refunded(refund_id: str) -> RefundResult:
    return RefundResult("succeeded", refund_entry_id(refund_id))
