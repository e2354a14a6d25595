"""Open a shop's top-up at a provider, and show how it is paid for as long as it can be.

The top-up is written before any provider hears of it, so whatever is paid can be asked about. Every provider promises
that opening the same payment twice is one payment: a crash between its answer and ours is healed by the next call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.balance import top_up_store
from chalicelib.balance.errors import PaysItself
from chalicelib.balance.model import TopUp
from chalicelib.balance.rules import is_over, next_ask_at, payment_of_top_up
from chalicelib.payments.model import Started
from chalicelib.payments.providers import account_with, adapter_named, offered_attempt

if TYPE_CHECKING:
    from chalicelib.checkout.model import WantedPayment


def open_top_up(
    wanted: WantedPayment, amount_minor: int, currency: str, *, shop_id: str, top_up_id: str, base_url: str, now: int
) -> tuple[TopUp, Started | None]:
    """The top-up under this id, and how it is paid. A repeat answers the one that stands.

    Raises: balance.pays_itself, payments.unknown_provider, payments.unknown_method, payments.currency_not_taken,
            payments.provider_unavailable, payments.provider_refused
    """
    if wanted.provider == "balance":
        raise PaysItself(field="payment.provider")
    offered = offered_attempt(wanted, shop_id, currency, None)
    top_up = TopUp(
        top_up_id, shop_id, amount_minor, currency, wanted.provider, now, method=offered.method,
        account_id=offered.account_id, payer_id=offered.payer_id, return_url=wanted.return_url,
    )  # fmt: skip
    facts = adapter_named(wanted.provider).FACTS
    top_up = top_up_store.put_top_up(top_up, next_ask_at(top_up, facts, now))
    return top_up, show_payment(top_up, base_url, now, payer_session=wanted.payer_session)


def show_payment(top_up: TopUp, base_url: str, now: int, *, payer_session: str | None = None) -> Started | None:
    """How an open top-up is paid; None when there is nothing (more) to pay.

    Raises: payments.provider_unavailable, payments.provider_refused
    """
    if top_up.state != "open" or is_over(top_up, now):
        return None
    adapter = adapter_named(top_up.provider)
    keeps = adapter.FACTS.keeps_session
    session = top_up_store.find_session(top_up.top_up_id) if keeps else None
    if session is None:
        account, first = account_with(top_up.provider, top_up.account_id), next(iter(adapter.FACTS.methods))
        payment = payment_of_top_up(top_up, account, first, base_url, payer_session=payer_session)
        session = adapter.start(payment, now)
        if keeps:  # before anybody gets the address: the payment can always be asked about
            top_up_store.put_session(top_up.top_up_id, session)
    return session
