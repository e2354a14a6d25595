"""Ask providers about unpaid top-ups, in case a notice was lost; after a day, see to it that nobody can pay any more.

Called by the minute timer, which suffices alone. Money that comes after the end is taken in all the same.
"""

from __future__ import annotations

from chalicelib.balance import top_up_store
from chalicelib.balance.receive_top_up import ask_provider, take_money
from chalicelib.balance.rules import is_given_up, is_over, next_ask_at, payment_of_top_up
from chalicelib.payments.providers import account_with, adapter_named


def ask_top_up(top_up_id: str, now: int) -> str:
    """Look after one top-up that is due. Answers 'taken', 'closed', 'waiting', or 'ended' when it was before."""
    top_up = top_up_store.find_top_up(top_up_id)
    if top_up is None or top_up.state != "open":
        return "ended"
    found = ask_provider(top_up)
    if found.state == "paid" and found.provider_txn and found.currency == top_up.currency:
        take_money(top_up, found, now)
        return "taken"
    if found.state == "paid":  # in another currency: noted once, and nothing more is to be expected
        take_money(top_up, found, now)
        top_up_store.close_top_up(top_up_id)
        return "closed"
    adapter = adapter_named(top_up.provider)
    if is_over(top_up, now) and (is_given_up(top_up, now) or _is_closed(top_up, adapter)):
        top_up_store.close_top_up(top_up_id)
        return "closed"
    top_up_store.ask_again(top_up_id, next_ask_at(top_up, adapter.FACTS, now))
    return "waiting"


def _is_closed(top_up, adapter) -> bool:
    """Whether nobody can pay any more. A provider that cannot be told so has its word taken for it."""
    if not adapter.FACTS.can_close:
        return True
    account, first = account_with(top_up.provider, top_up.account_id), next(iter(adapter.FACTS.methods))
    return adapter.close(payment_of_top_up(top_up, account, first, "")) == "closed"
