"""Decisions about money going back; pure.

Whole lines are refunded, at what was paid for them. What all refunds together give back never exceeds what was paid: a
line is refunded once, and the refund that ends the order takes exactly what is left.
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib.orders.errors import Disputed
from chalicelib.orders.model import Extent, Line, Order, Refund
from chalicelib.orders.rules import happened, has_open_dispute, is_in_refund_window, is_refunded
from chalicelib.payments.model import RefundResult
from chalicelib.refunds.errors import NothingLeft, NotPaid, Revealed, UnderReview, UnknownLine, WindowOver

FIRST_RETRY_SECONDS = 60
LONGEST_RETRY_SECONDS = 3_600


def ask_refund(
    order: Order, line_ids: list[int] | None, *, is_operator: bool, now: int, by: str, reason: str,
    request_id: str | None = None,
) -> Order:  # fmt: skip
    """The order with a pending refund of these lines (None: of all that are left).

    Raises: refunds.not_paid, refunds.unknown_line, refunds.nothing_left, refunds.revealed, refunds.window_over,
            refunds.under_review, orders.disputed
    """
    if order.paid_at is None:
        raise NotPaid()
    known = {line.line_id for line in order.lines}
    if line_ids is not None and not set(line_ids) <= known:
        raise UnknownLine(field="line_ids")
    open_lines = [line for line in order.lines if line.refund_no == 0]
    wanted = [line for line in open_lines if line_ids is None or line.line_id in line_ids]
    if not wanted or (line_ids is not None and len(wanted) < len(set(line_ids))):
        raise NothingLeft(field="line_ids" if line_ids else None)
    if has_open_dispute(order):
        raise Disputed()
    if not is_operator:
        _check_policy(order, wanted, now)
    return _with_refund(order, wanted, now, by, reason, request_id)


def _check_policy(order: Order, wanted: list[Line], now: int) -> None:
    if order.review:
        raise UnderReview()
    if any(line.revealed_at is not None for line in wanted):
        raise Revealed()
    if any(line.delivered_at is not None and not is_in_refund_window(order, line, now) for line in wanted):
        raise WindowOver()


def refund_everything(order: Order, now: int, *, by: str, reason: str) -> Order:
    """The order with a pending refund of all that is left: goods can no longer be given."""
    return _with_refund(order, [line for line in order.lines if line.refund_no == 0], now, by, reason)


def _with_refund(
    order: Order, wanted: list[Line], now: int, by: str, reason: str, request_id: str | None = None
) -> Order:
    refund_no = len(order.refunds) + 1
    is_last = {line.line_id for line in wanted} == {line.line_id for line in order.lines if line.refund_no == 0}
    refund = Refund(
        refund_no=refund_no,
        lines=tuple(line.line_id for line in wanted),
        amount_minor=left_minor(order) if is_last else min(sum(line.total_minor for line in wanted), left_minor(order)),
        state="pending",
        asked_at=now,
        asked_by=by,
        reason=reason,
        next_try_at=now + FIRST_RETRY_SECONDS,
        request_id=request_id,
    )
    chosen = set(refund.lines)
    lines = tuple(replace(line, refund_no=refund_no) if line.line_id in chosen else line for line in order.lines)
    # A wrong sum stays under review until nothing is left: giving back a part does not mean that the rest may go out.
    review = None if order.review == "refund_failed" else order.review
    after = replace(order, lines=lines, refunds=(*order.refunds, refund), review=review)
    return happened(order, after, now, by, f"refund_{refund_no}")


def money_went_back(
    order: Order, amount_minor: int, now: int, *, by: str, reason: str, request_id: str
) -> Order:  # fmt: skip
    """The order after money left without our asking: a lost dispute, a refund made by hand at the provider.

    All that was left ends the goods too, as a refund of ours would; a part of it calls a person, who knows what it was
    for. `request_id` names the event: one that was taken in before changes nothing.
    """
    if order.paid_at is None or amount_minor < 1 or any(one.request_id == request_id for one in order.refunds):
        return order
    left = left_minor(order)
    open_lines = [line for line in order.lines if line.refund_no == 0] if amount_minor >= left else []
    refund_no = len(order.refunds) + 1
    refund = Refund(
        refund_no=refund_no, lines=tuple(line.line_id for line in open_lines), amount_minor=min(amount_minor, left),
        state="succeeded", asked_at=now, asked_by=by, reason=reason, next_try_at=now, finished_at=now,
        request_id=request_id,
    )  # fmt: skip
    chosen = set(refund.lines)
    lines = tuple(
        replace(line, refund_no=refund_no, extents=()) if line.line_id in chosen else line for line in order.lines
    )
    review = (None if not has_open_dispute(order) else order.review) if open_lines else order.review or reason
    after = replace(order, lines=lines, refunds=(*order.refunds, refund), review=review)
    return happened(order, after, now, by, reason)


def reverse_refund(order: Order, refund_no: int, now: int) -> Order:
    """The order after the provider took a refund back that it had confirmed: the buyer has no money, and a person has
    to find out where to send it. The goods stay ended; the lines may be refunded anew.
    """
    refund = order.refund(refund_no)
    if refund.state != "succeeded":
        return order
    lines = tuple(replace(line, refund_no=0) if line.refund_no == refund_no else line for line in order.lines)
    after = _replaced(order, replace(refund, state="reversed", reversed_at=now))
    return happened(
        order, replace(after, lines=lines, review=order.review or "refund_reversed"), now, "provider",
        f"refund_{refund_no}_reversed",
    )  # fmt: skip


def left_minor(order: Order) -> int:
    """What of the order's own payment is not given back and not on its way back."""
    gone = sum(
        one.amount_minor
        for one in order.refunds
        if one.state not in ("failed", "reversed") and one.provider_txn is None
    )
    return order.paid_minor - gone


def settle_refund(order: Order, refund_no: int, result: RefundResult, now: int) -> Order:
    """The order after the provider's answer about one of its refunds.

    `succeeded` ends the lines; `failed` frees them and calls a person; `pending` and `unknown` wait, each time longer,
    and the provider is asked again under the same refund id.
    """
    refund = order.refund(refund_no)
    if refund.state != "pending":
        return order
    if result.state == "succeeded":
        lines = tuple(replace(line, extents=()) if line.refund_no == refund_no else line for line in order.lines)
        settled = replace(_replaced(order, replace(refund, state="succeeded", finished_at=now)), lines=lines)
        if refund.lines and all(is_refunded(settled, line) for line in lines):
            settled = replace(settled, review=None)
        return happened(order, settled, now, "provider", f"refund_{refund_no}_succeeded")
    if result.state == "failed":
        lines = tuple(replace(line, refund_no=0) if line.refund_no == refund_no else line for line in order.lines)
        settled = _replaced(order, replace(refund, state="failed", finished_at=now))
        review = order.review or "refund_failed"
        return happened(order, replace(settled, lines=lines, review=review), now, "provider", "refund_failed")
    pause = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2**refund.tries)
    waiting = _replaced(order, replace(refund, tries=refund.tries + 1, next_try_at=now + pause))
    return replace(waiting, version=order.version + 1)


def _replaced(order: Order, refund: Refund) -> Order:
    refunds = tuple(refund if one.refund_no == refund.refund_no else one for one in order.refunds)
    return replace(order, refunds=refunds)


def extents_of(order: Order, refund: Refund, *, is_revealed: bool) -> list[Extent]:
    """The keys a refund takes back: those nobody has seen (they can be sold again), or those that were revealed."""
    return [
        extent
        for line in order.lines
        if line.line_id in refund.lines and (line.revealed_at is not None) == is_revealed
        for extent in line.extents
    ]
