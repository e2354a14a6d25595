"""Refusals of refunds."""

from __future__ import annotations

from chalicelib.core.errors import Conflict, InvalidRequest


class NotPaid(Conflict):
    code = "refunds.not_paid"
    sentence = "Nothing was paid for this order; cancel it instead."


class NothingLeft(Conflict):
    code = "refunds.nothing_left"
    sentence = "These lines are refunded already, or their refund is on its way."


class Revealed(Conflict):
    code = "refunds.revealed"
    sentence = "The keys have been shown; only an operator can refund them."


class WindowOver(Conflict):
    code = "refunds.window_over"
    sentence = "The product's refund window is over; only an operator can refund it."


class UnderReview(Conflict):
    code = "refunds.under_review"
    sentence = "The order is under review; only an operator can refund it."


class UnknownLine(InvalidRequest):
    code = "refunds.unknown_line"
    sentence = "The order has no such line."
