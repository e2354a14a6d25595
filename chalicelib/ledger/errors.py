"""Refusals of the ledger."""

from __future__ import annotations

from chalicelib.core.errors import Conflict


class DayNotProved(Conflict):
    code = "ledger.day_not_proved"
    retry = "later"
    sentence = "The trial balance of this day is not made yet; it is made after the day has ended."
