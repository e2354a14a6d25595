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


class NoStatement(Refused):
    code = "payments.no_statement"
    status = 409
    retry = "later"
    sentence = "The provider has no statement of that day, or not yet; upload its file, or ask again later."


class BadStatement(InvalidRequest):
    code = "payments.bad_statement"
    sentence = "The file is not a statement of this provider."


class UnknownMethod(InvalidRequest):
    code = "payments.unknown_method"
    sentence = "This provider has no such way to pay, or something it needs is missing."


class CurrencyNotTaken(InvalidRequest):
    code = "payments.currency_not_taken"
    sentence = "This provider does not take the currency of the order."


class NoSuchDispute(NotFound):
    code = "payments.dispute_not_found"
    sentence = "The order has no such dispute."


class NoSuchAccount(NotFound):
    code = "payments.account_not_found"
    sentence = "There is no such payment account."


class AccountExists(Refused):
    code = "payments.account_exists"
    status = 409
    sentence = "The shop has an account of this provider in this mode already."


class AccountChanged(Refused):
    code = "payments.account_changed"
    status = 409
    retry = "same_request"
    sentence = "Somebody else changed the account at the same moment; send the change again."


class BadAccount(InvalidRequest):
    code = "payments.bad_account"
    sentence = "A setting or secret of the account is missing, unknown, or not of the form the provider demands."
