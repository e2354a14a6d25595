"""Refusals of the edge: what a request can get wrong before any domain sees it."""

from __future__ import annotations

from chalicelib.core.errors import Conflict, InvalidRequest, Refused


class MalformedBody(Refused):
    code = "request.malformed_body"
    status = 400
    sentence = "The body is not one JSON object in UTF-8 with each member named once."


class BodyTooLarge(Refused):
    code = "request.body_too_large"
    status = 413
    sentence = "The body is larger than this call accepts."


class WrongContentType(Refused):
    code = "request.wrong_content_type"
    status = 415
    sentence = "Send the body as application/json, not compressed."


class BadCursor(Refused):
    code = "request.bad_cursor"
    status = 400
    sentence = "The cursor is not one that this list gave out for this caller."


class BadIdempotencyKey(InvalidRequest):
    code = "request.bad_idempotency_key"
    sentence = "Idempotency-Key takes 1 to 255 printable ASCII characters."


class IdempotencyMismatch(Conflict):
    code = "request.idempotency_mismatch"
    sentence = "This Idempotency-Key was used before with another request."


class NotAuthenticated(Refused):
    code = "auth.not_authenticated"
    status = 401
    sentence = "Send a valid API key as 'Authorization: Bearer …'."


class NotAllowed(Refused):
    code = "auth.not_allowed"
    status = 403
    sentence = "This API key may not make this call."


class TooManyRequests(Refused):
    """Answered by the HTTP entrance before a request reaches our code; declared to be documented like the rest."""

    code = "request.too_many"
    status = 429
    retry = "later"
    sentence = "Too many requests; wait a little and send the same request again."


class Internal(Refused):
    code = "service.internal"
    status = 500
    retry = "same_request"
    sentence = "Something went wrong on our side; it has been recorded under this request id."
