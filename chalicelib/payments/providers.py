"""Finding a provider's adapter, and telling it what it may know of an order. Used by every use-case that meets a
provider.
"""

from __future__ import annotations

from types import ModuleType

from chalicelib.core import settings
from chalicelib.core.ids import payment_id_for
from chalicelib.core.plugs import load_plug
from chalicelib.orders.model import Order
from chalicelib.payments import adapters
from chalicelib.payments.errors import UnknownProvider
from chalicelib.payments.model import Payment


def provider_named(name: str) -> ModuleType:
    """The adapter of a provider that is available on this stage.

    Raises: payments.unknown_provider
    """
    adapter = load_plug(adapters, name) if name != "sandbox" or settings.has_sandbox() else None
    if adapter is None:
        raise UnknownProvider(field="payment.provider")
    return adapter


def payment_of(order: Order, base_url: str) -> Payment:
    """What a provider may know of an order: never who the buyer is, never which keys."""
    return Payment(
        payment_id=payment_id_for(order.order_id),
        order_id=order.order_id,
        total_minor=order.total_minor,
        currency=order.currency,
        title=order.lines[0].name if len(order.lines) == 1 else f"{order.lines[0].name} +{len(order.lines) - 1}",
        expires_at=order.expires_at,
        base_url=base_url,
        return_url=order.return_url,
        provider_txn=order.provider_txn,
    )
