"""Refusals of card keys.

Unavailable
└── SealingUnavailable   KMS does not answer: nothing was sealed or opened, and nothing was stored in clear
Refused
└── UnsealingFailed      a sealed key is not what was sealed for this place; counted, because it should never happen
"""

from __future__ import annotations

from chalicelib.core.errors import Refused, Unavailable


class SealingUnavailable(Unavailable):
    code = "keys.sealing_unavailable"
    sentence = (
        "Card keys cannot be sealed or opened right now; nothing was changed. Send the same request again shortly."
    )
    retry_after_seconds = 5


class UnsealingFailed(Refused):
    """Raised for a blob that was altered, moved from another key, or asked for under another identity; also for a
    lost one."""

    code = "keys.unsealing_failed"
    status = 500
    retry = "never"
    sentence = "A card key of this order cannot be opened. Support has been told; do not send it again."
