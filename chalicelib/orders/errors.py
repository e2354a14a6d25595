"""Refusals of orders."""

from __future__ import annotations

from chalicelib.core.errors import Conflict, InvalidRequest, NotFound


class NoSuchOrder(NotFound):
    """Absent, or another shop's: the answers are identical."""

    code = "orders.not_found"
    sentence = "There is no such order."


class MerchantOrderNoUsed(Conflict):
    code = "orders.merchant_order_no_used"
    sentence = "This merchant_order_no belongs to another order of yours; it is unique for ever."


class TotalChanged(Conflict):
    code = "orders.total_changed"
    sentence = "The total differs from expected_total_minor; read the products again and confirm the new total."


class TotalTooLarge(InvalidRequest):
    code = "orders.total_too_large"
    sentence = "The total is larger than an order may be."


class MixedCurrencies(InvalidRequest):
    code = "orders.mixed_currencies"
    sentence = "All lines of an order must be in one currency."


class NotCancellable(Conflict):
    code = "orders.not_cancellable"
    sentence = "Only an unpaid order can be cancelled; a paid one is refunded."


class OrderChanged(Conflict):
    """The row moved between reading and writing. Use-cases read again and decide anew; callers seldom see it."""

    code = "orders.changed_meanwhile"
    retry = "same_request"
    sentence = "The order was changed at the same moment; send the same request again."


class Disputed(Conflict):
    code = "orders.disputed"
    retry = "later"
    sentence = "The buyer disputes the payment; until that is decided, goods and money stay where they are."


class NotPayable(Conflict):
    code = "orders.not_payable"
    sentence = "The order is paid, closed, or its hold has ended; there is nothing to offer for payment."
