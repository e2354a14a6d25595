"""Bring pending refunds to their end: ask the provider, never pay twice, put the keys where they belong.

Called right after a refund was asked for, by the refund queue, and by the minute timer (which suffices alone). The
refund id is the order's and never changes, so repeating the request at the provider is safe; from the second time on
the provider is first asked whether it already did it.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from chalicelib.aws.transact import transact
from chalicelib.edge.observe import failure_facts, log
from chalicelib.inventory import store as inventory
from chalicelib.orders import store as orders
from chalicelib.orders.errors import OrderChanged
from chalicelib.orders.model import Order, Refund
from chalicelib.orders.rules import next_due, refund_id_of
from chalicelib.payments.errors import ProviderUnavailable
from chalicelib.payments.model import Payment, RefundResult
from chalicelib.payments.providers import payment_asked
from chalicelib.refunds.rules import extents_of, reverse_refund, settle_refund

_TRIES = 6


def finish_refunds(order_id: str, now: int, *, base_url: str = "") -> Order | None:
    """Settle every pending refund of an order as far as its provider knows.

    Raises: orders.changed_meanwhile when the order kept changing; the message comes again.
    """
    order = orders.find_order(order_id)
    for refund in order.refunds if order else ():
        if refund.state == "pending":
            order = _finish(order, refund.refund_no, now, base_url)
    return order


def next_try(order: Order) -> int | None:
    """When this order's refund is to be asked about again, None when nothing is pending."""
    due = next_due(order)
    return due[1] if due and due[0] == "refund" else None


def _finish(order: Order, refund_no: int, now: int, base_url: str) -> Order:
    result = _ask_provider(order, order.refund(refund_no), now, base_url)
    for _ in range(_TRIES):
        settled = settle_refund(order, refund_no, result, now)
        if settled is order:
            return order
        try:
            if settled.refund(refund_no).state != "succeeded":
                return orders.save(order, settled)
            transact([orders.save_write(order, settled), *_key_writes(order, order.refund(refund_no))])
            return settled
        except OrderChanged:
            order = orders.get_order(order.order_id)
    raise OrderChanged()


def _ask_provider(order: Order, refund: Refund, now: int, base_url: str) -> RefundResult:
    if refund.amount_minor == 0:  # too little was paid, and other lines took all of it back
        return RefundResult("succeeded")
    refund_id = refund_id_of(order, refund)
    try:
        provider, payment = _payment_of(order, refund, base_url)
        known = provider.find_refund(payment, refund_id) if refund.tries or now > refund.asked_at else None
        if known is not None and known.state != "unknown":
            return known
        return known or provider.refund(payment, refund_id, refund.amount_minor, now)
    except Exception as error:  # no answer is not a no: the refund waits and is asked about again
        log.error("refund could not be settled", extra={"order_id": order.order_id, **failure_facts(error)})
        return RefundResult("unknown")


def recheck_refund(order_id: str, refund_no: int, now: int) -> None:
    """A provider says that a refund it had confirmed came to nothing: ask its books, and if so call a person.

    Raises: orders.changed_meanwhile; payments.provider_unavailable when it does not know: the message comes again,
            for nothing else remembers what was said
    """
    for _ in range(_TRIES):
        order = orders.find_order(order_id)
        if order is None or order.refund(refund_no).state != "succeeded":
            return
        provider, payment = _payment_of(order, order.refund(refund_no), "")
        found = provider.find_refund(payment, refund_id_of(order, order.refund(refund_no)))
        if found is not None and found.state in ("unknown", "pending"):
            raise ProviderUnavailable()
        if found is None or found.state != "failed":
            return
        try:
            orders.save(order, reverse_refund(order, refund_no, now))
            return
        except OrderChanged:
            continue
    raise OrderChanged()


def _payment_of(order: Order, refund: Refund, base_url: str) -> tuple[ModuleType, Payment]:
    """The payment a refund goes back to: the one that paid the order, or the extra one."""
    provider, payment = payment_asked(order, refund.attempt or order.paid_attempt, base_url)
    return provider, replace(
        payment,
        provider_txn=refund.provider_txn or order.provider_txn,
        paid_minor=refund.amount_minor if refund.provider_txn else order.paid_minor,
        currency=refund.currency or order.paid_currency or order.currency,
    )


def _key_writes(order: Order, refund: Refund) -> list:
    returned = extents_of(order, refund, is_revealed=False)
    quarantined = extents_of(order, refund, is_revealed=True)
    return inventory.return_writes(
        [(order.order_id, returned)] if returned else [], [(order.order_id, quarantined)] if quarantined else []
    )
