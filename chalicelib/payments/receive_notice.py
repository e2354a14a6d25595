"""Take in what a provider says: record it, then let the order decide.

Called by the notice routes, and by the minute timer for notices that came before their order. A notice is never trusted
about what was bought: sum and currency are compared with the order's own. Applying a notice twice changes nothing, so
the record is written first and a repeat simply runs again: a crash between the two is finished by the provider's next
try.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chalicelib.aws.transact import transact
from chalicelib.core.ids import attempt_of_payment, order_id_of_payment
from chalicelib.edge.observe import count, log
from chalicelib.inventory import store as inventory
from chalicelib.orders import store as orders
from chalicelib.orders.errors import OrderChanged
from chalicelib.orders.model import Dispute, Order
from chalicelib.orders.rules import lose_dispute, open_dispute, pay, refund_id_of, win_dispute
from chalicelib.payments import dispute_store, store
from chalicelib.payments.errors import NoSuchDispute
from chalicelib.payments.model import Notice
from chalicelib.payments.providers import account_with, adapter_named, payment_of
from chalicelib.refunds.rules import extents_of, left_minor, money_went_back

GIVE_UP_SECONDS = 86_400
_TRIES = 8
_DISPUTES = ("dispute_opened", "dispute_won", "dispute_lost")
_LATER_WORDS = ("refunded", "refund_failed", *_DISPUTES)  # about money that came before: may name it by its number only


def receive_notice(notice: Notice, now: int) -> None:
    """Record a verified notice and apply it to its order, if that is there.

    Raises: orders.changed_meanwhile when the order kept changing; the provider will send again.
    """
    notice = with_payment(notice)
    order_id = order_id_of_payment(notice.payment_id) if notice.payment_id else None
    if order_id is None and notice.kind not in _LATER_WORDS:
        return  # somebody else's payment on the same account: not ours to keep
    order = _order_ready_for(notice, order_id)
    store.put_notice(notice, now, is_matched=order is not None)
    if order is not None:
        _apply(order, notice, now)


def _order_ready_for(notice: Notice, order_id: str | None) -> Order | None:
    """The order a notice is about, if it is there and may hear it now; else the notice waits.

    Words about money that has not come yet wait for it: taken at once, a dispute would make the payment that follows
    look like one too many. A refund made by hand waits for the end of ours: what is left is known only then.
    """
    order = orders.find_order(order_id) if order_id else None
    if order is None or notice.kind not in _LATER_WORDS:
        return order
    is_by_hand = notice.kind == "refunded" and notice.refund_id is None and notice.provider_refund_id is not None
    must_wait = order.paid_at is None or (is_by_hand and any(one.state == "pending" for one in order.refunds))
    return None if must_wait else order


def match_notice(pk: str, sk: str, now: int) -> str:
    """Try again to find the order of a recorded notice.

    Returns: 'applied', 'waiting', or after a day 'abandoned' (the caller raises an alarm: money without an order) or
             'dropped': a refund of money that was never ours to know of.
    """
    found = store.find_notice(pk, sk)
    if found is None:
        return "applied"
    notice, received_at = with_payment(found[0]), found[1]
    order = _order_ready_for(notice, order_id_of_payment(notice.payment_id or ""))
    if order is not None:
        _apply(order, notice, now)
    elif now < received_at + GIVE_UP_SECONDS:
        return "waiting"
    store.settle_notice(pk, sk)
    if order is not None:
        return "applied"
    return "dropped" if notice.kind in ("refunded", "refund_failed") else "abandoned"


def with_payment(notice: Notice) -> Notice:
    """Refunds and disputes may name the money only by the provider's number: what came in under it is known."""
    if notice.payment_id or notice.kind not in _LATER_WORDS or not notice.provider_txn:
        return notice
    return replace(notice, payment_id=store.find_payment_id(notice.provider, notice.provider_txn))


def _apply(order: Order, notice: Notice, now: int) -> None:
    number = attempt_of_payment(notice.payment_id or "")
    tried = order.attempt(number)
    if tried is None or (notice.provider, notice.account_id) != (tried.provider, tried.account_id):
        # Genuine, but from where this order was never offered: recorded for a person, never taken for payment.
        log.error("notice of another provider", extra={"order_id": order.order_id, "provider": notice.provider})
        count("NoticeOfAnotherProvider")
    elif notice.kind == "paid":
        _change(order, lambda order: _paid(order, notice, number, now))
    elif notice.kind == "approved" and order.paid_at is None:
        _bring_in(order, notice, number, now)
    elif notice.kind in _DISPUTES and notice.dispute:
        _apply_dispute(order, notice, now)
    elif notice.kind in ("refunded", "refund_failed"):
        _apply_refund(order, notice, now)


def _paid(order: Order, notice: Notice, number: int, now: int) -> Order:
    return pay(
        order,
        amount_minor=notice.amount_minor or 0,
        currency=notice.currency or "",
        provider_txn=notice.provider_txn or notice.event_id,
        now=now,
        by=f"provider:{notice.provider}",
        attempt=number,
    )


def _bring_in(order: Order, notice: Notice, number: int, now: int) -> None:
    """The buyer said yes: asking the provider brings the money in, unless the order was closed meanwhile."""
    if order.closed:
        return
    tried = order.attempt(number)
    payment = payment_of(order, account_with(tried.provider, tried.account_id), "", number)
    session = store.find_session(order.order_id, number)
    found = adapter_named(tried.provider).find(replace(payment, provider_ref=session.provider_ref if session else None))
    if found.state == "paid" and found.provider_txn:
        money = replace(
            notice, kind="paid", event_id=f"asked:{found.provider_txn}", provider_txn=found.provider_txn,
            amount_minor=found.amount_minor, currency=found.currency,
        )  # fmt: skip
        store.put_notice(money, now, is_matched=True)
        _change(order, lambda order: _paid(order, money, number, now))


def _apply_dispute(order: Order, notice: Notice, now: int) -> None:
    """The order first, then the row that later readers learn from: a repeat does both again, and changes nothing."""
    said, by = notice.dispute, f"provider:{notice.provider}"
    dispute = Dispute(
        said.dispute_id, "open", notice.amount_minor or order.paid_minor, said.reason[:100], now, said.due_at
    )

    def decide(order: Order) -> Order:
        if notice.kind == "dispute_opened":
            return open_dispute(order, dispute, now, by)
        if notice.kind == "dispute_won":  # may be heard before its beginning, which then finds it decided
            return win_dispute(open_dispute(order, dispute, now, by), said.dispute_id, now, by)
        return _lost(order, dispute, now, by)

    after = _change(order, decide)
    for one in after.disputes:
        if one.dispute_id == said.dispute_id:
            dispute_store.put_label(after, notice.provider, one)


def settle_dispute(order_id: str, dispute_id: str, outcome: str, *, by: str, note: str, now: int) -> dict[str, Any]:
    """The end of a dispute as an operator knows it. What was decided before, by whomever, stays.

    Returns: the row of the dispute.
    Raises:  orders.not_found, payments.dispute_not_found, orders.changed_meanwhile
    """

    def decide(order: Order) -> Order:
        if outcome == "won":
            return win_dispute(order, dispute_id, now, by)
        return _lost(order, _known(order, dispute_id), now, by)

    order = orders.get_order(order_id)
    known = _known(order, dispute_id)
    orders.add_audit(order_id, now, {"what": f"dispute_{outcome}", "by": by, "note": f"{dispute_id}: {note}"})
    after = _change(order, decide)
    provider = order.attempt(order.paid_attempt).provider
    return dispute_store.put_label(after, provider, _known(after, known.dispute_id))


def _known(order: Order, dispute_id: str) -> Dispute:
    known = next((one for one in order.disputes if one.dispute_id == dispute_id), None)
    if known is None:
        raise NoSuchDispute()
    return known


def _lost(order: Order, dispute: Dispute, now: int, by: str) -> Order:
    """The money is gone, and so are the goods where it was all of it."""
    lost = lose_dispute(order, dispute, now, by)
    if lost is order:
        return order
    return money_went_back(
        lost, dispute.amount_minor, now, by=by, reason="dispute_lost", request_id=f"dispute:{dispute.dispute_id}"
    )


def _apply_refund(order: Order, notice: Notice, now: int) -> None:
    """The notice is a hint; the provider's own books are asked before an order is settled. Money that went back without
    our asking is taken in as it is told: there is nothing of ours to ask about.
    """
    ours = next((one for one in order.refunds if refund_id_of(order, one) == notice.refund_id), None)
    if ours is not None or any(one.state == "pending" for one in order.refunds):
        from chalicelib.aws.queues import send

        # Doubted even while it is pending here: the answer that calls it done may be on its way to us.
        is_doubted = ours is not None and notice.kind == "refund_failed"
        if is_doubted or any(one.state == "pending" for one in order.refunds):
            send("refund-due", {"order_id": order.order_id, **({"recheck": ours.refund_no} if is_doubted else {})})
    elif notice.kind == "refunded" and notice.refund_id is None and notice.provider_refund_id:
        by, known_as = f"provider:{notice.provider}", f"theirs:{notice.provider_refund_id}"[:100]

        def decide(order: Order) -> Order:
            minor = _went_back_minor(order, notice)
            return money_went_back(order, minor, now, by=by, reason="refunded_by_hand", request_id=known_as)

        _change(order, decide)


def _went_back_minor(order: Order, notice: Notice) -> int:
    """How much this one refund was: said so, or the difference to what had gone back before it."""
    if notice.refunded_total_minor is None:
        return notice.amount_minor or 0
    return max(0, notice.refunded_total_minor - (order.paid_minor - left_minor(order)))


def _change(order: Order, decide: Callable[[Order], Order]) -> Order:
    """Decide and write, anew whenever the order changed in between. Keys that a decision frees move in the same write.

    Raises: orders.changed_meanwhile
    """
    for last in (False,) * (_TRIES - 1) + (True,):
        after = decide(order)
        if after is order:
            return order
        try:
            _write(order, after)
            return after
        except OrderChanged:
            if last:
                raise
            order = orders.get_order(order.order_id)
    raise AssertionError("unreachable")


def _write(before: Order, after: Order) -> None:
    ended = [one for one in after.refunds[len(before.refunds) :] if one.state == "succeeded"]
    returned = [extent for one in ended for extent in extents_of(before, one, is_revealed=False)]
    spoiled = [extent for one in ended for extent in extents_of(before, one, is_revealed=True)]
    if not returned and not spoiled:
        orders.save(before, after)
        return
    writes = inventory.return_writes(
        [(before.order_id, returned)] if returned else [], [(before.order_id, spoiled)] if spoiled else []
    )
    transact([orders.save_write(before, after), *writes])
