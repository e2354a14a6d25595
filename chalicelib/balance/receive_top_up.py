"""Take in money for top-ups: what a provider's notice says, or what it answers when asked.

Each transaction of a provider becomes one entry, at the amount that really arrived: the entry is named after it, and a
second one under that name cannot be written. Balance, entry, top-up and ledger change in one transaction.
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib.aws.transact import transact
from chalicelib.balance import store, top_up_store
from chalicelib.balance.model import BalanceEntry, TopUp
from chalicelib.balance.rules import payment_of_top_up, top_up_entry_id
from chalicelib.edge.observe import count, log
from chalicelib.ledger import store as ledger
from chalicelib.ledger.rules import top_up_set
from chalicelib.payments import store as notices
from chalicelib.payments.model import Found, Notice
from chalicelib.payments.providers import account_with, adapter_named

_WENT_BACK = ("refunded", "dispute_opened", "dispute_lost")


def receive_top_up(notice: Notice, now: int) -> None:
    """Record a verified notice about a top-up and apply it. A repeat changes nothing."""
    top_up = top_up_store.find_top_up(notice.payment_id or "")
    notices.put_notice(notice, now, is_matched=True)
    if top_up is None:
        log.error("notice without a top-up", extra={"provider": notice.provider})
        count("NoticeWithoutOrder")
    elif notice.provider != top_up.provider or notice.account_id not in (None, top_up.account_id):
        # Genuine, but from a provider this top-up was never opened at: recorded for a person, never taken for money.
        log.error("notice of another provider", extra={"top_up": top_up.top_up_id, "provider": notice.provider})
        count("NoticeOfAnotherProvider")
    elif notice.kind == "paid":
        found = Found("paid", notice.amount_minor, notice.currency, notice.provider_txn or notice.event_id)
        take_money(top_up, found, now)
    elif notice.kind == "approved":  # the buyer said yes: asking brings the money in
        found = ask_provider(top_up)
        if found.state == "paid":
            take_money(top_up, found, now)
    elif notice.kind in _WENT_BACK:
        _call_a_person(top_up, "money_went_back")


def ask_provider(top_up: TopUp) -> Found:
    """What a provider says became of a top-up."""
    adapter = adapter_named(top_up.provider)
    session = top_up_store.find_session(top_up.top_up_id) if adapter.FACTS.keeps_session else None
    account, first = account_with(top_up.provider, top_up.account_id), next(iter(adapter.FACTS.methods))
    payment = payment_of_top_up(top_up, account, first, "")
    return adapter.find(replace(payment, provider_ref=session.provider_ref) if session else payment)


def take_money(top_up: TopUp, found: Found, now: int) -> bool:
    """Put money that arrived onto the shop's balance, once. In another currency than the balance's it waits for a
    person instead, on the ledger's account of money in doubt. False when it had been taken in before.
    """
    txn, amount_minor, currency = found.provider_txn, found.amount_minor or 0, found.currency or ""
    if not txn or amount_minor < 1:
        log.error("money without number or amount", extra={"top_up": top_up.top_up_id})
        return False
    is_taken = currency == top_up.currency
    entry = BalanceEntry(
        top_up_entry_id(top_up.provider, txn), "top_up", amount_minor, currency, now, payment_id=top_up.top_up_id,
        reference=top_up.top_up_id,
    )  # fmt: skip
    booked = top_up_set(
        top_up.shop_id, top_up.provider, top_up.account_id, txn, amount_minor, currency, now, is_taken=is_taken
    )  # fmt: skip
    if is_taken:
        writes = [
            *store.entry_writes(top_up.shop_id, entry),
            top_up_store.paid_write(top_up.top_up_id, amount_minor, now),
        ]
    else:
        writes = [
            store.name_write(top_up.shop_id, entry), top_up_store.review_write(top_up.top_up_id, "other_currency")
        ]  # fmt: skip
    try:
        transact([*writes, ledger.put_write(booked, store.EntryExists())])
    except store.EntryExists:
        return False
    if not is_taken:
        log.error("top-up in another currency", extra={"top_up": top_up.top_up_id})
        count("TopUpNeedsReview")
    return True


def _call_a_person(top_up: TopUp, reason: str) -> None:
    transact([top_up_store.review_write(top_up.top_up_id, reason)])
    log.error("top-up needs a person", extra={"top_up": top_up.top_up_id, "reason": reason})
    count("TopUpNeedsReview")
