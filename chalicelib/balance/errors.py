"""Refusals of the prepaid balance."""

from __future__ import annotations

from chalicelib.core.errors import Conflict, InvalidRequest, NotFound


class InsufficientBalance(Conflict):
    code = "balance.insufficient"
    retry = "later"
    sentence = "The shop's balance does not cover this; nothing was taken."


class AlreadySpent(Conflict):
    """The order's spending stands already: its order stands too, and is what the caller wants to read."""

    code = "balance.already_spent"
    retry = "same_request"
    sentence = "This order has been paid out of the balance already; send the same request again to read it."


class UnknownShop(InvalidRequest):
    code = "balance.unknown_shop"
    sentence = "There is no such shop."


class NoSuchTopUp(NotFound):
    """Absent, or another shop's: the answers are identical."""

    code = "balance.top_up_not_found"
    sentence = "There is no such top-up."


class PaysItself(InvalidRequest):
    code = "balance.pays_itself"
    sentence = "A balance cannot be topped up out of a balance; choose another provider."
