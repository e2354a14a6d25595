"""What becomes of a payment, chosen by the last two digits of its amount in minor units. Pure.

The table for people is docs/providers/simulator.md. Everywhere else an outcome is named by its word.
"""

from __future__ import annotations

SUCCESS = "success"
BY_DIGITS = {
    1: "fail",
    2: "slow",
    3: "notice_lost",
    4: "notice_twice",
    5: "wrong_amount",
    6: "refund_unknown",
    7: "refund_fails",
    8: "down_first",
    9: "notice_50_times",
    10: "dispute",
    11: "late",
    12: "refund_reversed",
}
MEANINGS = {
    SUCCESS: "paid at once, one notice",
    "fail": "the payment fails",
    "slow": "paid 5 seconds after the buyer has paid",
    "notice_lost": "paid, and no notice is ever sent",
    "notice_twice": "paid, every notice of it comes twice",
    "wrong_amount": "one minor unit too much is captured",
    "refund_unknown": "the first refund call is carried out and never answered",
    "refund_fails": "refunds fail",
    "down_first": "the first call that opens the payment is answered 503",
    "notice_50_times": "paid, every notice of it comes 50 times at once",
    "dispute": "a dispute is opened right after the payment",
    "late": "paid only once the payment has been closed or has run out",
    "refund_reversed": "refunds succeed and are taken back 3 seconds later",
}
SLOW_SECONDS = 5
REVERSED_AFTER_SECONDS = 3
LATE_BY_SECONDS = 1
_COPIES = {"notice_twice": 2, "notice_50_times": 50, "notice_lost": 0}


def outcome_of(amount_minor: int) -> str:
    return BY_DIGITS.get(amount_minor % 100, SUCCESS)


def copies_of_notice(outcome: str, kind: str) -> int:
    """How often the same message is sent. A lost one stays lost whatever happens to the payment later."""
    if outcome == "notice_lost":
        return 0
    return _COPIES.get(outcome, 1) if kind == "paid" else 1
