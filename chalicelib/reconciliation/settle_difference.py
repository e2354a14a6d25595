"""Settle a difference between our books and a statement. Called by the operator's route.

What an action sets going is harmless to set going twice (a provider is asked, a refund is recorded under its own
number), so it comes before the one write that settles the difference: a crash in between leaves it open.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chalicelib.aws.queues import send
from chalicelib.core.errors import InvalidRequest
from chalicelib.core.ids import payment_id_for
from chalicelib.edge.observe import failure_facts, log
from chalicelib.orders import store as orders
from chalicelib.orders.model import Order
from chalicelib.orders.rules import refund_id_of
from chalicelib.payments import store as notices
from chalicelib.payments.model import Notice
from chalicelib.payments.providers import payment_asked
from chalicelib.reconciliation import store
from chalicelib.reconciliation.errors import AlreadySettled, BadAction, NoSuchDifference
from chalicelib.reconciliation.model import Action, Answer, Difference, Ours
from chalicelib.reconciliation.rules import actions_of


def settle_difference(
    reconciliation_id: str, number: int, action: Action, note: str, *, by: str, now: int
) -> Difference:  # fmt: skip
    """Carry an action out and settle the difference with it. Doing the same again is a success and changes nothing.

    A provider that is asked and does not confirm leaves the difference open, with its answer noted.
    Raises: reconciliation.not_found, reconciliation.difference_not_found, reconciliation.bad_action,
      reconciliation.already_settled, request.invalid: accepted without a note
    """
    # 1 gather
    row = store.get_reconciliation(reconciliation_id)
    found = store.list_differences(row, number, 1)
    if not found:
        raise NoSuchDifference()
    difference = found[0][1]
    step = store.list_steps(reconciliation_id, number, number).get(number, {})
    # 2 decide
    if action not in actions_of(difference):
        raise BadAction(field="action")
    if action == "accept" and not note.strip():
        raise InvalidRequest("Say in a note why both sides stay as they are.", field="note")
    if "action" in step:
        if step["action"] != action:
            raise AlreadySettled()
        return difference
    # 3 apply
    answer = _carry_out(row, difference, action, now)
    if answer not in (None, "confirmed"):
        store.note_answer(reconciliation_id, number, answer=answer, by=by, now=now)
        return difference
    settled = {"action": action, "note": note, "by": by, "at": now}
    asked = {"answer": answer, "asked_by": by, "asked_at": now} if answer else {}
    store.settle(reconciliation_id, number, settled | asked)
    log.info("difference settled", extra={"reconciliation": reconciliation_id, "number": number, "action": action})
    return difference


def _carry_out(row: dict[str, Any], difference: Difference, action: Action, now: int) -> Answer | None:
    if action == "apply":
        send("payment-close", {"order_id": difference.order_id, "ask": True})
    elif action == "record":
        _record(row, difference, now)
    elif action == "ask" and difference.outcome == "state_differs":
        send("refund-due", {"order_id": difference.order_id})
    elif action == "ask":
        return _ask(difference.ours)
    return None


def _record(row: dict[str, Any], difference: Difference, now: int) -> None:
    """Put the refund where a notice about it would stand that came before its order: the minute timer takes it in.

    Raises: reconciliation.bad_action
    """
    line, provider, account_id = difference.theirs, row["provider"], row.get("account_id")
    order = orders.find_order(difference.order_id or "")
    if order is None or order.paid_at is None:
        raise BadAction("There is no paid order that this money belongs to.", field="action")
    if any(one.state == "pending" for one in order.refunds):
        raise BadAction("The order has a refund on its way; wait for its end, then record this one.", field="action")
    tried = [
        number
        for number in range(1, len(order.attempts) + 2)
        if (order.attempt(number).provider, order.attempt(number).account_id) == (provider, account_id)
    ]
    if not tried:
        raise BadAction("The order was never offered through this account.", field="action")
    notice = Notice(
        provider=provider, event_id=f"reconciled:{line.refund_txn}", kind="refunded",
        payment_id=payment_id_for(order.order_id, order.paid_attempt if order.paid_attempt in tried else tried[0]),
        provider_txn=line.provider_txn, amount_minor=-line.amount_minor, currency=line.currency,
        provider_refund_id=line.refund_txn, account_id=account_id,
    )  # fmt: skip
    notices.put_notice(notice, now, is_matched=False)


def _ask(ours: Ours) -> Answer:
    """What the provider says, at this moment, of a payment or refund that its statement did not have."""
    order = orders.find_order(ours.order_id or "")
    if order is None:
        return "denied"
    try:
        return _ask_payment(order, ours) if ours.kind == "payment" else _ask_refund(order, ours)
    except Exception as error:
        log.error("provider could not be asked", extra={"order_id": order.order_id, **failure_facts(error)})
        return "unknown"


def _ask_payment(order: Order, ours: Ours) -> Answer:
    answers = []
    for number in range(1, len(order.attempts) + 2):
        adapter, payment = payment_asked(order, number)
        found = adapter.find(payment)
        if found.state == "paid" and found.provider_txn == ours.provider_txn:
            return "confirmed"
        answers.append(found.state)
    return "unknown" if "unknown" in answers else "denied"


def _ask_refund(order: Order, ours: Ours) -> Answer:
    refund = next((one for one in order.refunds if refund_id_of(order, one) == ours.our_no), None)
    if refund is None:
        return "denied"
    adapter, payment = payment_asked(order, refund.attempt or order.paid_attempt)
    payment = replace(payment, provider_txn=refund.provider_txn or order.provider_txn)
    found = adapter.find_refund(payment, ours.our_no or "")
    if found is None:
        return "denied"
    return {"succeeded": "confirmed", "failed": "denied", "pending": "pending"}.get(found.state, "unknown")
