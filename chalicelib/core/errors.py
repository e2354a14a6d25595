"""The shape of every refusal.

A refusal is an answer the caller can act on: a stable `code`, an HTTP `status`, whether and how to `retry`, and one
sentence that is safe to show to anybody. Each domain declares its refusals in its own `errors.py`; `docs/errors.md`
lists all of them and a guard test compares the page with the classes.

    Refused
    ├── InvalidRequest        the body, query or header is not what the call takes
    ├── NotFound              absent, or not the caller's: the two are indistinguishable on purpose
    ├── Conflict              the facts changed; reading again may help
    └── Unavailable           nobody's fault in the request; the same request may be sent again

This module never logs, and never puts a caller's value into a sentence unless it is known to be harmless.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Retry = Literal["never", "same_request", "later"]


class Refused(Exception):
    """A named refusal. Subclasses set the four class attributes; `message` may be sharpened per raise.

    Example:
        >>> Refused("no such product", field="lines.0.product_id").body("req-1")["error"]["field"]
        'lines.0.product_id'
    """

    code: str = "request.refused"
    status: int = 400
    retry: Retry = "never"
    sentence: ClassVar[str] = "The request was refused."
    retry_after_seconds: int | None = None

    def __init__(self, message: str | None = None, *, field: str | None = None, retry_after_seconds: int | None = None):
        self.message = message or self.sentence
        self.field = field
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{self.code}: {self.message}")

    def body(self, request_id: str) -> dict:
        """The one error body of the product: `{"error": {code, message, retry, field, request_id}}`."""
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "retry": self.retry,
                "field": self.field,
                "request_id": request_id,
            }
        }

    def facts(self) -> dict:
        """A refusal as plain data, to cross from one function to another."""
        return {
            "code": self.code, "status": self.status, "retry": self.retry, "message": self.message, "field": self.field,
            "retry_after_seconds": self.retry_after_seconds,
        }  # fmt: skip

    @staticmethod
    def from_facts(facts: dict) -> Refused:
        """The refusal that another function described with `facts`."""
        refused = Refused(facts["message"], field=facts["field"], retry_after_seconds=facts["retry_after_seconds"])
        for name in ("code", "status", "retry"):
            setattr(refused, name, facts[name])
        return refused


class InvalidRequest(Refused):
    code = "request.invalid"
    status = 422
    sentence = "A field of the request is missing or not acceptable."


class NotFound(Refused):
    code = "request.not_found"
    status = 404
    sentence = "There is nothing at this address."


class Conflict(Refused):
    code = "request.conflict"
    status = 409
    sentence = "The request does not fit the present state."


class Unavailable(Refused):
    code = "service.unavailable"
    status = 503
    retry = "same_request"
    sentence = "The service cannot answer right now; send the same request again shortly."
    retry_after_seconds = 2


class Busy(Unavailable):
    """Raised when a conditional write kept losing its race; nothing was written."""

    code = "service.busy"
    sentence = "Too many changes to the same record at once; send the same request again shortly."
    retry_after_seconds = 1
