"""Finding a provider's adapter and the account to use it with, and telling it what it may know of an order. Used by
every use-case that meets a provider.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from chalicelib.aws.secrets import find_secret
from chalicelib.core import settings
from chalicelib.core.ids import payment_id_for
from chalicelib.core.plugs import load_plug, plug_names
from chalicelib.orders.model import Order
from chalicelib.payments import account_store, adapters
from chalicelib.payments.errors import CurrencyNotTaken, NoSuchAccount, UnknownMethod, UnknownProvider
from chalicelib.payments.model import Account, Payment, ProviderFacts

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


def payment_of(order: Order, account: Account, base_url: str, attempt: int = 1) -> Payment:
    """What a provider may know of an order: never which keys, and of the buyer only what the way to pay demands."""
    tried = order.attempt(attempt)
    if tried is None:
        raise AssertionError("an order has no such attempt")
    path = f"/v1/notices/{tried.provider}" + (f"/{tried.account_id}" if tried.account_id else "")
    return Payment(
        payment_id=payment_id_for(order.order_id, attempt),
        order_id=order.order_id,
        total_minor=order.total_minor,
        currency=order.currency,
        title=order.lines[0].name if len(order.lines) == 1 else f"{order.lines[0].name} +{len(order.lines) - 1}",
        expires_at=order.expires_at,
        base_url=base_url,
        account=account,
        method=tried.method or "",
        notify_url=base_url + path,
        return_url=order.return_url,
        provider_txn=order.provider_txn if attempt == order.paid_attempt else None,
        paid_minor=order.paid_minor or None,
        payer_id=tried.payer_id,
        client_ip=order.buyer.get("ip"),
    )
