"""Refusals of payments."""

from __future__ import annotations

from chalicelib.core.errors import InvalidRequest, NotFound, Refused, Unavailable


class UnknownProvider(InvalidRequest):
    code = "payments.unknown_provider"
    sentence = "This payment provider is not available here."


class BadNotice(Refused):
    """A notice that fails verification, whatever the reason: senders learn nothing about which check failed."""

    code = "payments.bad_notice"
    status = 400
    sentence = "The notice could not be verified."


class NoSuchPayment(NotFound):
    code = "payments.not_found"
    sentence = "There is no such payment."


class ProviderUnavailable(Unavailable):
    code = "payments.provider_unavailable"
    sentence = "The payment provider did not answer; send the same request again shortly."
    retry_after_seconds = 5


class ProviderRefused(Refused):
    code = "payments.provider_refused"
    status = 502
    retry = "later"
    sentence = "The payment provider refused the request; the operator has to look at its settings."
