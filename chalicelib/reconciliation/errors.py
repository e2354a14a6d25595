"""Refusals of reconciliations."""

from __future__ import annotations

from chalicelib.core.errors import Conflict, InvalidRequest, NotFound


class NoSuchReconciliation(NotFound):
    code = "reconciliation.not_found"
    sentence = "There is no such reconciliation."


class NoSuchDifference(NotFound):
    code = "reconciliation.difference_not_found"
    sentence = "The reconciliation has no difference of that number."


class DayNotOver(Conflict):
    code = "reconciliation.day_not_over"
    retry = "later"
    sentence = "The provider's day has not ended yet; there can be no statement of it."


class NotUploaded(Conflict):
    code = "reconciliation.not_uploaded"
    retry = "later"
    sentence = "The statement is not uploaded yet; send it to the upload address first."


class StatementTooLarge(InvalidRequest):
    code = "reconciliation.file_too_large"
    status = 413
    sentence = "The file is larger than 32 MB; reconcile it by the provider's API."


class BadAction(InvalidRequest):
    code = "reconciliation.bad_action"
    sentence = "This difference cannot be settled in that way; its `actions` say how."


class AlreadySettled(Conflict):
    code = "reconciliation.already_settled"
    sentence = "Somebody settled this difference before, with another action."
