"""What may happen to an order, and what follows from it. Pure: facts in, a new order out; nothing is written here.

pending_payment ──paid──> delivered | partially_delivered | paid (manual or delayed lines wait)
      │  └─wrong amount──> needs_review
      ├─cancel──> cancelled ──late payment──> delivering ──stock──> delivered …
      └─time────> expired   ──late payment──> delivering ──no stock──> refunding
any paid state ──refund──> refunding ──money back──> refunded | partially_refunded
                                    └─provider said no──> needs_review
any paid state ──dispute──> needs_review ──won──> as before
                                         └─lost, or all money taken back by hand──> refunded
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chalicelib.orders.model import Attempt, Dispute, Happening, Line, Order, Refund

FIRST_LOOK_SECONDS = 60

MOVES: dict[str, set[str]] = {
    "pending_payment": {"paid", "delivered", "partially_delivered", "cancelled", "expired", "needs_review"},
    "paid": {"delivered", "partially_delivered", "refunding", "refunded", "needs_review"},
    "delivering": {"delivered", "partially_delivered", "paid", "refunding", "refunded", "needs_review"},
    "delivered": {"refunding", "refunded", "needs_review"},
    "partially_delivered": {"delivered", "refunding", "refunded", "needs_review"},
    "cancelled": {"delivering", "needs_review"},
    "expired": {"delivering", "needs_review"},
    "refunding": {
        "refunded",
        "partially_refunded",
        "needs_review",
        "paid",
        "delivered",
        "partially_delivered",
        "delivering",
    },
    "refunded": {"refunding", "needs_review"},
    "partially_refunded": {"refunding", "refunded", "needs_review"},
    "needs_review": {
        "refunding",
        "delivered",
        "partially_delivered",
        "paid",
        "delivering",
        "refunded",
        "partially_refunded",
    },
}


def status_of(order: Order) -> str:
    """The status that an order's facts amount to; the first rule that fits wins.

    An unpaid order is pending or closed. Money in motion outranks goods; a doubt outranks everything but money in
    motion.
    """
    if any(refund.state == "pending" for refund in order.refunds):
        return "refunding"
    if order.review:
        return "needs_review"
    if order.paid_at is None:
        return order.closed or "pending_payment"
    refunded = [line for line in order.lines if is_refunded(order, line)]
    if refunded:
        return "refunded" if len(refunded) == len(order.lines) else "partially_refunded"
    delivered = [line for line in order.lines if line.delivered_at is not None]
    if delivered:
        return "delivered" if len(delivered) == len(order.lines) else "partially_delivered"
    if any(not line.extents for line in order.lines):
        return "delivering"
    return "paid"


def is_refunded(order: Order, line: Line) -> bool:
    return line.refund_no > 0 and order.refund(line.refund_no).state == "succeeded"


def may_move(status: str, wanted: str) -> bool:
    """Whether the machine above has this edge; staying is always allowed."""
    return wanted == status or wanted in MOVES[status]


def happened(before: Order, after: Order, now: int, by: str, note: str = "") -> Order:
    """The changed order with one more entry in its history and the next version.

    Raises: AssertionError when the machine has no such edge: a fault of ours, never a caller's.
    """
    status = status_of(after)
    if not may_move(status_of(before), status):
        raise AssertionError(f"an order cannot go from {status_of(before)} to {status}")
    return replace(after, version=before.version + 1, history=(*before.history, Happening(now, status, by, note)))


def pay(
    order: Order, *, amount_minor: int, currency: str, provider_txn: str, now: int, by: str, attempt: int = 1
) -> Order:  # fmt: skip
    """The order after a provider said that money arrived.

    The right sum delivers at once what is due at once. Any other sum or currency stops everything for a person to look
    at. Money for an order that is closed makes it `delivering`: keys are looked for, or the money goes back. A second
    payment for a paid order, through the same provider or another, is money that has to go back, and nothing else.
    """
    if order.paid_at is not None or order.review:
        if provider_txn in known_txns(order):
            return order
        return _give_back_extra(order, amount_minor, currency, provider_txn, now, by, attempt)
    paid = replace(
        order, paid_at=now, paid_minor=amount_minor, paid_currency=currency, provider_txn=provider_txn,
        paid_attempt=attempt,
    )  # fmt: skip
    if amount_minor != order.total_minor or currency != order.currency:
        held = replace(paid, review="wrong_amount", lines=_scheduled(order, now))
        return happened(order, held, now, by, "wrong_amount")
    if order.closed:
        return happened(
            order, replace(paid, closed=None, lines=_scheduled(order, now)), now, by, f"late_after_{order.closed}"
        )
    return happened(order, replace(paid, lines=_hand_out_now(_scheduled(order, now), now)), now, by)


def known_txns(order: Order) -> set[str]:
    """The provider transactions this order has already accounted for."""
    extra = {refund.provider_txn for refund in order.refunds if refund.provider_txn}
    return extra | ({order.provider_txn} if order.provider_txn else set())


def _give_back_extra(
    order: Order, amount_minor: int, currency: str, provider_txn: str, now: int, by: str, attempt: int
) -> Order:  # fmt: skip
    refund = Refund(
        refund_no=len(order.refunds) + 1, lines=(), amount_minor=amount_minor, state="pending", asked_at=now,
        asked_by=by, reason="paid_again", next_try_at=now, provider_txn=provider_txn,
        currency=currency if currency != order.paid_currency else None,
        attempt=attempt if attempt != order.paid_attempt else 0,
    )  # fmt: skip
    return happened(order, replace(order, refunds=(*order.refunds, refund)), now, by, "paid_again")


def _scheduled(order: Order, now: int) -> tuple[Line, ...]:
    return tuple(
        replace(line, deliver_at=now + line.delay_minutes * 60) if line.mode == "delayed" else line
        for line in order.lines
    )


def _hand_out_now(lines: tuple[Line, ...], now: int) -> tuple[Line, ...]:
    return tuple(replace(line, delivered_at=now) if line.mode == "auto" and line.extents else line for line in lines)


def lines_due(order: Order, now: int) -> list[Line]:
    """Lines a machine should hand out by now: paid, not delivered, not refunded, not waiting for a person or a later
    minute.
    """
    if order.paid_at is None or order.review:
        return []
    return [
        line
        for line in order.lines
        if line.delivered_at is None
        and line.refund_no == 0
        and (line.mode == "auto" or (line.mode == "delayed" and line.deliver_at is not None and line.deliver_at <= now))
    ]


def lines_without_keys(order: Order) -> list[Line]:
    """Paid lines that hold no keys: those of an order that was paid after its keys had gone back."""
    return [line for line in order.lines if not line.extents and line.delivered_at is None and line.refund_no == 0]


def offer_again(order: Order, attempt: Attempt, now: int, by: str) -> Order:
    """The order with one more way to pay it; the latest is the one the buyer is shown. A way it has already, as the
    latest, changes nothing.
    """
    if order.attempt(len(order.attempts) + 1) == attempt:
        return order
    return happened(order, replace(order, attempts=(*order.attempts, attempt)), now, by, f"offered_{attempt.provider}")


def has_open_dispute(order: Order) -> bool:
    return any(one.state == "open" for one in order.disputes)


def open_dispute(order: Order, dispute: Dispute, now: int, by: str) -> Order:
    """The order frozen: what was not handed out stays here, what was not revealed is shown to nobody. A dispute that is
    known already changes at most its deadline.
    """
    known = next((one for one in order.disputes if one.dispute_id == dispute.dispute_id), None)
    if known is not None:
        if known.state != "open" or dispute.due_at in (None, known.due_at):
            return order
        moved = _disputes_with(order, replace(known, due_at=dispute.due_at))
        return replace(order, disputes=moved, version=order.version + 1)
    frozen = replace(order, disputes=(*order.disputes, dispute), review=order.review or "disputed")
    return happened(order, frozen, now, by, "dispute_opened")


def win_dispute(order: Order, dispute_id: str, now: int, by: str) -> Order:
    """The money stays with us: the order thaws, unless something else is to be looked at."""
    known = next((one for one in order.disputes if one.dispute_id == dispute_id), None)
    if known is None or known.state != "open":
        return order
    decided = replace(order, disputes=_disputes_with(order, replace(known, state="won", closed_at=now)))
    if decided.review == "disputed" and not has_open_dispute(decided):
        decided = replace(decided, review=None)
    return happened(order, decided, now, by, "dispute_won")


def lose_dispute(order: Order, dispute: Dispute, now: int, by: str) -> Order:
    """The money is gone. A dispute that begins with its end is taken in whole. What becomes of the goods is decided by
    `refunds.rules.money_went_back`.
    """
    known = next((one for one in order.disputes if one.dispute_id == dispute.dispute_id), None)
    if known is not None and known.state != "open":
        return order
    lost = replace(known or dispute, state="lost", closed_at=now)
    disputes = _disputes_with(order, lost) if known else (*order.disputes, lost)
    return replace(order, disputes=disputes)


def _disputes_with(order: Order, changed: Dispute) -> tuple[Dispute, ...]:
    return tuple(changed if one.dispute_id == changed.dispute_id else one for one in order.disputes)


def deliver(order: Order, line_ids: set[int], now: int, by: str, note: str = "") -> Order:
    """The order with these lines handed out. Every one of them must hold its keys."""
    lines = tuple(replace(line, delivered_at=now) if line.line_id in line_ids else line for line in order.lines)
    if any(line.line_id in line_ids and not line.extents for line in lines):
        raise AssertionError("a line without keys cannot be delivered")
    return happened(order, replace(order, lines=lines, review=None), now, by, note)


def with_keys(order: Order, take_id: str, extents_by_product: dict[str, tuple]) -> Order:
    """The order owning the keys of a new take. Not a happening by itself: delivery or scheduling follows in the same
    write.
    """
    lines = tuple(
        replace(line, extents=extents_by_product[line.product_id])
        if line in lines_without_keys(order) and line.product_id in extents_by_product
        else line
        for line in order.lines
    )
    return replace(order, lines=lines, takes=(*order.takes, take_id))


def close(order: Order, how: str, now: int, by: str) -> Order:
    """An unpaid order cancelled or expired; its extents go back to stock in the same transaction."""
    lines = tuple(replace(line, extents=()) for line in order.lines)
    return happened(order, replace(order, closed=how, lines=lines), now, by)


def next_due(order: Order) -> tuple[str, int] | None:
    """What a machine still has to do for this order, and when: the sparse `due` index is made from this.

    Unpaid orders are not in it: the timeline index holds them by expiry (decision 0003).
    """
    pending = [refund.next_try_at for refund in order.refunds if refund.state == "pending"]
    if pending:
        return "refund", min(pending)
    if order.paid_at is None or order.review:
        return None
    waiting = [line for line in order.lines if line.delivered_at is None and line.refund_no == 0]
    instants = [order.paid_at if line.mode == "auto" or not line.extents else line.deliver_at
                for line in waiting if line.mode != "manual" or not line.extents]  # fmt: skip
    return ("deliver", min(instants)) if instants else None


def follow_ups(before: Order | None, after: Order) -> list[tuple[str, dict[str, str], int]]:
    """The messages that one change of an order calls for: (queue fact, message, due instant).

    An unpaid order is looked after from its first minute: its provider may have been paid and not been heard. One that
    was closed, or paid by one of several ways, must not be payable any more.
    """
    message = {"order_id": after.order_id}
    if before is None and status_of(after) == "pending_payment":
        return [("order-expiry", message, min(after.created_at + FIRST_LOOK_SECONDS, after.expires_at))]
    messages = []
    was_closed = before is not None and after.closed is not None and before.closed is None
    was_paid = before is not None and after.paid_at is not None and before.paid_at is None
    if was_closed or (was_paid and after.attempts):
        messages.append(("payment-close", message, 0))
    due = next_due(after)
    if due is not None and (before is None or next_due(before) != due):
        kind, at = due
        messages.append(({"deliver": "delivery-due", "refund": "refund-due"}[kind], message, at))
    return messages


def may_be_revealed(order: Order) -> list[Line]:
    """Lines whose keys their buyer may see: handed out, and no refund of them begun."""
    if order.review:
        return []
    return [line for line in order.lines if line.delivered_at is not None and line.refund_no == 0]


def is_in_refund_window(order: Order, line: Line, now: int) -> bool:
    """Whether the product's policy, as it was at checkout, still allows a refund without an operator."""
    return order.paid_at is not None and now <= order.paid_at + line.refund_window_minutes * 60


def may_be_refunded_by_shop(order: Order, now: int) -> list[Line]:
    """Lines a shop or buyer may give back by itself: paid, never revealed, within the product's window.

    Undelivered goods may always be given back: the buyer has nothing yet.
    """
    if order.paid_at is None or order.review:
        return []
    return [
        line
        for line in order.lines
        if line.refund_no == 0
        and line.revealed_at is None
        and (line.delivered_at is None or is_in_refund_window(order, line, now))
    ]


def held_by_product(row: dict[str, Any]) -> dict[str, int]:
    """Keys that a plain order row keeps for a buyer who has not paid: {product_id: quantity}; empty in every other
    status.
    """
    if row.get("st") != "pending_payment":
        return {}
    held: dict[str, int] = {}
    for line in row["lines"]:
        held[line["p"]] = held.get(line["p"], 0) + line["q"]
    return held


def refund_id_of(order: Order, refund: Refund) -> str:
    """A refund's id: the order's, and which refund of it. The provider knows the refund by this id, for ever."""
    return f"rfd_{order.order_id.removeprefix('ord_')}_{refund.refund_no}"
