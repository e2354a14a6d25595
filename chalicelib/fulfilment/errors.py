"""Refusals of delivery and reveal."""

from __future__ import annotations

from chalicelib.core.errors import Conflict, Refused


class NothingToDeliver(Conflict):
    code = "fulfilment.nothing_to_deliver"
    sentence = "This order has no paid line that waits for a person to deliver it."


class NotDelivered(Conflict):
    code = "fulfilment.not_delivered"
    retry = "later"
    sentence = "The order has no delivered keys to show."


class RevealedTooOften(Refused):
    code = "fulfilment.revealed_too_often"
    status = 429
    retry = "later"
    sentence = "The keys of this order were shown many times just now; wait some minutes."
    retry_after_seconds = 600
