"""Finding a provider's adapter and the account to use it with, and telling it what it may know of an order. Used by
every use-case that meets a provider.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

from chalicelib.aws.secrets import find_secret
from chalicelib.core import settings
from chalicelib.core.ids import payment_id_for
from chalicelib.core.plugs import load_plug, plug_names
from chalicelib.edge.observe import failure_facts, log
from chalicelib.orders.model import Attempt, Order
from chalicelib.payments import account_store, adapters, store
from chalicelib.payments.errors import CurrencyNotTaken, NoSuchAccount, UnknownMethod, UnknownProvider
from chalicelib.payments.model import Account, Found, Payment, ProviderFacts

if TYPE_CHECKING:  # pydantic is not for workers
    from chalicelib.checkout.model import WantedPayment

STAGE_WIDE = ("sandbox", "stripe", "balance")  # may be used by every shop without an account of its own


def adapter_named(name: str) -> ModuleType:
    """The adapter of a provider that exists on this stage.

    Raises: payments.unknown_provider
    """
    adapter = load_plug(adapters, name) if name != "sandbox" or settings.has_sandbox() else None
    if adapter is None:
        raise UnknownProvider(field="payment.provider")
    return adapter


def provider_names() -> list[str]:
    """All providers that exist on this stage."""
    return [name for name in plug_names(adapters) if name != "sandbox" or settings.has_sandbox()]


def open_account(shop_id: str, provider: str) -> Account:
    """The account a shop takes money with at a provider at present.

    Raises: payments.unknown_provider: not on this stage, or not switched on for the shop
    """
    adapter_named(provider)
    if provider not in ("sandbox", "balance"):
        account = account_store.find_open_account(shop_id, provider)
        if account is not None:
            return account
    account = _stage_account(provider)
    if account is None:
        raise UnknownProvider(field="payment.provider")
    return replace(account, shop_id=shop_id)


def account_with(provider: str, account_id: str | None) -> Account:
    """The account an order was placed with, or a notice is addressed to, whether it is still on or not.

    Raises: payments.account_not_found
    """
    account = account_store.find_account(account_id) if account_id else _stage_account(provider)
    if account is None or account.provider != provider:
        raise NoSuchAccount()
    return account


def _stage_account(provider: str) -> Account | None:
    """What belongs to the whole stage: the sandbox, the shops' balances, a Stripe account without a shop."""
    if provider not in STAGE_WIDE:
        return None
    if provider != "stripe":
        return Account(provider)
    stored = find_secret("stripe")
    if not stored:
        return None
    secrets = {"secret_key": stored.get("secret_key", "")}
    hooks = [{"webhook_secret": one} for one in stored.get("webhook_secrets", [])]
    own = {"api_base": stored["api_base"]} if stored.get("api_base") else {}
    is_live = secrets["secret_key"].startswith(("sk_live", "rk_live"))
    current = secrets | (hooks[0] if hooks else {})
    return Account("stripe", "live" if is_live else "test", settings=own, secrets=current, earlier=tuple(hooks[1:]))


def offered_attempt(wanted: WantedPayment, shop_id: str, currency: str, client_ip: str | None) -> Attempt:
    """How an order is offered for payment, once all that the way to pay needs is there.

    Raises: payments.unknown_provider, payments.unknown_method, payments.currency_not_taken
    """
    account = open_account(shop_id, wanted.provider)
    facts = adapter_named(wanted.provider).FACTS
    given = {"payer_id": wanted.payer_id, "payer_session": wanted.payer_session, "client_ip": client_ip}
    check_method(facts, wanted.method, currency, {name for name, value in given.items() if value})
    return Attempt(wanted.provider, wanted.method, account.account_id, wanted.payer_id)


def check_method(facts: ProviderFacts, method: str | None, currency: str, given: set[str]) -> str:
    """The method to pay by: the one asked for, or the provider's first.

    Raises: payments.unknown_method, payments.currency_not_taken
    """
    chosen = method or next(iter(facts.methods))
    if chosen not in facts.methods:
        raise UnknownMethod(field="payment.method")
    for needed in facts.methods[chosen].needs:
        if needed not in given:
            raise UnknownMethod(f"This way to pay needs {needed}.", field=f"payment.{needed}")
    if facts.currencies is not None and currency not in facts.currencies:
        raise CurrencyNotTaken(field="payment.provider")
    return chosen


def payment_asked(order: Order, number: int, base_url: str = "") -> tuple[ModuleType, Payment]:
    """The adapter and the payment of one attempt, with the provider's own handle of it, ready to be asked about.

    Access: get O#<order_id>/PAY#<attempt>, 1 read unit, for providers that keep something.
    Raises: payments.account_not_found, payments.unknown_provider
    """
    tried = order.attempt(number)
    adapter = adapter_named(tried.provider)
    payment = payment_of(order, account_with(tried.provider, tried.account_id), base_url, number)
    session = store.find_session(order.order_id, number) if adapter.FACTS.keeps_session else None
    return adapter, replace(payment, provider_ref=session.provider_ref) if session else payment


def ask(order: Order) -> tuple[int, Found]:
    """What became of an unpaid order at the providers it was offered through: the attempt that was paid, and how. With
    none paid, one that does not know makes the answer `unknown`.
    """
    answer = (1, Found("unpaid"))
    for number in range(1, len(order.attempts) + 2):
        try:
            adapter, payment = payment_asked(order, number)
            found = adapter.find(payment)
        except Exception as error:
            log.error("provider could not be asked", extra={"order_id": order.order_id, **failure_facts(error)})
            found = Found("unknown")
        if found.state == "paid" and found.provider_txn:
            return number, found
        if found.state != "unpaid":
            answer = (number, Found("unknown"))
    return answer


def ask_instants(order: Order) -> list[int]:
    """When to ask about an unpaid order in case its notice was lost: by the schedule of the provider it is offered at
    last, and never past its hold, when it is asked anyway.
    """
    tried = order.attempt(len(order.attempts) + 1)
    ages = adapter_named(tried.provider).FACTS.ask_after_seconds
    return [order.created_at + age for age in ages if order.created_at + age < order.expires_at]


def payment_of(order: Order, account: Account, base_url: str, attempt: int = 1) -> Payment:
    """What a provider may know of an order: never which keys, and of the buyer only what the way to pay demands."""
    tried = order.attempt(attempt)
    if tried is None:
        raise AssertionError("an order has no such attempt")
    path = f"/v1/notices/{tried.provider}" + (f"/{tried.account_id}" if tried.account_id else "")
    base_url = base_url or settings.base_url()  # a worker has no request to learn it from
    return Payment(
        payment_id=payment_id_for(order.order_id, attempt),
        order_id=order.order_id,
        total_minor=order.total_minor,
        currency=order.currency,
        title=order.lines[0].name if len(order.lines) == 1 else f"{order.lines[0].name} +{len(order.lines) - 1}",
        expires_at=order.expires_at,
        base_url=base_url,
        account=replace(account, shop_id=order.shop_id),
        method=tried.method or next(iter(adapter_named(tried.provider).FACTS.methods)),
        notify_url=base_url + path if base_url else "",
        return_url=order.return_url,
        provider_txn=order.provider_txn if attempt == order.paid_attempt else None,
        paid_minor=order.paid_minor or None,
        payer_id=tried.payer_id,
        client_ip=order.buyer.get("ip"),
    )
