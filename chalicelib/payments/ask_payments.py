"""Ask an order's providers about every way to pay it, and take in what was paid and never told.

Called by the queue `payment-close` when somebody wants to know: an operator settling a difference of a statement. Money
that is found goes through the same door as a notice, so asking twice changes nothing.
"""

from __future__ import annotations

from chalicelib.core.ids import payment_id_for
from chalicelib.edge.observe import failure_facts, log
from chalicelib.orders import store as orders
from chalicelib.orders.rules import known_txns
from chalicelib.payments.model import Notice
from chalicelib.payments.providers import payment_asked
from chalicelib.payments.receive_notice import receive_notice


def ask_payments(order_id: str, now: int) -> bool:
    """Take in what any provider of the order says is paid. False when one could not be asked."""
    order = orders.find_order(order_id)
    if order is None:
        return True
    done = True
    for number in range(1, len(order.attempts) + 2):
        tried = order.attempt(number)
        try:
            adapter, payment = payment_asked(order, number)
            found = adapter.find(payment)
        except Exception as error:
            log.error("provider could not be asked", extra={"order_id": order_id, **failure_facts(error)})
            done = False
            continue
        done = done and found.state != "unknown"
        if found.state == "paid" and found.provider_txn and found.provider_txn not in known_txns(order):
            money = Notice(
                provider=tried.provider, event_id=f"asked:{found.provider_txn}", kind="paid",
                payment_id=payment_id_for(order_id, number), provider_txn=found.provider_txn,
                amount_minor=found.amount_minor, currency=found.currency, account_id=tried.account_id,
            )  # fmt: skip
            receive_notice(money, now)
    return done
