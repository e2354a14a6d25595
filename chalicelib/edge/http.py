"""How an HTTP call gets in and an answer gets out: the `endpoint` decorator that every route of the product wears.

It checks the caller's key and scope, parses and validates the body and query with the same pydantic models that
document them, turns refusals into the one error body, and writes one log line per call. `ENDPOINTS` is what the OpenAPI
document is made from. It never decides anything about the business.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any

from chalice import Blueprint, Response
from pydantic import BaseModel, ValidationError

from chalicelib.core import clock, settings
from chalicelib.core.errors import InvalidRequest, Refused
from chalicelib.edge.errors import (
    BadIdempotencyKey,
    BodyTooLarge,
    Internal,
    MalformedBody,
    NotAllowed,
    NotAuthenticated,
    WrongContentType,
)
from chalicelib.edge.observe import failure_facts, log

MAX_BODY_BYTES = 256 * 1024
_SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
}


@dataclass(frozen=True)
class Caller:
    """Who is calling: an API key's owner. `shop_id` is None for operators."""

    scope: str
    key_id: str
    shop_id: str | None = None

    @property
    def name(self) -> str:
        """How audit records name the caller."""
        return f"{self.scope}:{self.shop_id or ''}:{self.key_id}"


@dataclass(frozen=True)
class Call:
    """One request as a view sees it."""

    request: Any
    request_id: str
    now: clock.Instant
    caller: Caller | None
    body: Any = None
    query: Any = None

    @cached_property
    def raw_body(self) -> bytes:
        return self.request.raw_body

    @property
    def source_ip(self) -> str:
        return self.request.context.get("identity", {}).get("sourceIp", "")

    @property
    def user_agent(self) -> str:
        return self.request.headers.get("user-agent", "")[:200]

    @property
    def base_url(self) -> str:
        """The public address of this deployment: configured, or that of the request itself."""
        if settings.base_url():
            return settings.base_url()
        context, headers = self.request.context, self.request.headers
        host = context.get("domainName") or headers.get("host", "")
        path = context.get("path", "")
        resource = context.get("resourcePath", "")
        prefix = path.split("/")[1] if path and resource and not path.startswith(resource.split("{")[0]) else ""
        return f"https://{host}/{prefix}".rstrip("/")

    @property
    def idempotency_key(self) -> str | None:
        key = self.request.headers.get("idempotency-key")
        if key is not None and not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
            raise BadIdempotencyKey(field="Idempotency-Key")
        return key


@dataclass(frozen=True)
class Endpoint:
    """What the API reference says of one route."""

    method: str
    path: str
    view: Callable
    scopes: tuple[str, ...]
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    answer: type[BaseModel] | None
    status: int
    refusals: tuple[type[Refused], ...] = ()
    creates: bool = False
    is_page: bool = False
    extra: dict = field(default_factory=dict)


ENDPOINTS: list[Endpoint] = []


def endpoint(
    bp: Blueprint,
    method: str,
    path: str,
    *,
    scopes: tuple[str, ...] = (),
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    answer: type[BaseModel] | None = None,
    status: int = 200,
    refusals: tuple[type[Refused], ...] = (),
    creates: bool = False,
    is_page: bool = False,
    **extra: Any,
) -> Callable:
    """Register a view `(call, **path_parameters) -> answer model | (answer model, headers) | chalice.Response`.

    `scopes` empty means public. `body` None means the view reads `call.raw_body` itself (provider notices) or takes
    none. `creates` documents that the call honours Idempotency-Key.
    """

    def register(view: Callable) -> Callable:
        ENDPOINTS.append(
            Endpoint(method, path, view, scopes, body, query, answer, status, refusals, creates, is_page, extra)
        )

        @wraps(view)
        def answered(**path_parameters: str) -> Response:
            return _answer(bp.current_request, ENDPOINT, path_parameters)

        ENDPOINT = ENDPOINTS[-1]
        bp.route(path, methods=[method], content_types=["*/*"])(answered)
        return view

    return register


def _answer(request: Any, one: Endpoint, path_parameters: dict[str, str]) -> Response:
    started = time.perf_counter()
    request_id = request.context.get("requestId") or f"req-{time.time_ns():x}"
    caller: Caller | None = None
    code = None
    try:
        if one.scopes:
            caller = _authenticate(request, one.scopes)
        call = Call(
            request,
            request_id,
            clock.now(),
            caller,
            body=_parse_body(request, one.body) if one.body else None,
            query=_parse_query(request, one.query) if one.query else _refuse_query(request, one),
        )
        response = _to_response(one.view(call, **path_parameters), one.status)
    except Refused as refused:
        code, response = refused.code, error_response(refused, request_id)
    except Exception as error:  # a fault of ours: recorded by type and place, answered without detail
        log.error("unexpected failure", extra={"request_id": request_id, "route": one.path, **failure_facts(error)})
        code, response = Internal.code, error_response(Internal(), request_id)
    response.headers = {**_SECURITY_HEADERS, "X-Request-Id": request_id, **response.headers}
    log.info(
        "answered",
        extra={
            "request_id": request_id,
            "method": one.method,
            "route": one.path,
            "status": response.status_code,
            "code": code,
            "caller": caller.key_id if caller else None,
            "duration_ms": round((time.perf_counter() - started) * 1000, 1),
        },
    )
    return response


def error_response(refused: Refused, request_id: str) -> Response:
    """A refusal as an HTTP answer."""
    headers = {"Content-Type": "application/json"}
    if refused.retry_after_seconds is not None:
        headers["Retry-After"] = str(refused.retry_after_seconds)
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(json.dumps(refused.body(request_id), ensure_ascii=False), headers, refused.status)


def _to_response(result: Any, status: int) -> Response:
    if isinstance(result, Response):
        return result
    model, headers = result if isinstance(result, tuple) else (result, {})
    body = model.model_dump_json() if model is not None else ""
    return Response(body, {"Content-Type": "application/json", **headers}, status)


def _authenticate(request: Any, scopes: tuple[str, ...]) -> Caller:
    from chalicelib.edge.auth import find_caller

    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    caller = find_caller(token.strip()) if scheme.lower() == "bearer" else None
    if caller is None:
        raise NotAuthenticated()
    if caller.scope not in scopes:
        raise NotAllowed()
    return caller


def _parse_body(request: Any, model: type[BaseModel]) -> BaseModel:
    raw = request.raw_body or b""
    if len(raw) > MAX_BODY_BYTES:
        raise BodyTooLarge()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise WrongContentType()
    if raw and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise WrongContentType()
    return _validated(lambda: model.model_validate_json(_strict_json(raw or b"{}"), strict=True))


def _strict_json(raw: bytes) -> bytes:
    """The body again, once it is known to be one JSON object with each member named once.

    JSON has one kind of number, so `2.0` is the integer 2; where that happens the body is written anew.

    Raises: request.malformed_body
    """
    floats: list[str] = []

    def number(text: str) -> int | float:
        floats.append(text)
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError("a number beyond every range")
        return int(value) if value.is_integer() else value

    try:
        parsed = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_members_once, parse_constant=_no_constant, parse_float=number
        )
    except (ValueError, RecursionError) as error:
        raise MalformedBody() from error
    if not isinstance(parsed, dict):
        raise MalformedBody()
    return json.dumps(parsed).encode() if floats else raw


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parse_query(request: Any, model: type[BaseModel]) -> BaseModel:
    given: dict[str, str] = {}
    for name in request.query_params or {}:
        values = request.query_params.getlist(name)
        if len(values) != 1:
            raise InvalidRequest("Name this parameter once.", field=_safe_name(name))
        given[name] = values[0]
    return _validated(lambda: model.model_validate(given))


def _refuse_query(request: Any, one: Endpoint) -> None:
    """A parameter we would ignore is a mistake the caller should hear of; pages are exempt (links get decorated)."""
    if request.query_params and one.scopes:
        raise InvalidRequest("This call takes no query parameters.", field=_safe_name(next(iter(request.query_params))))


def _validated(validate: Callable[[], BaseModel]) -> BaseModel:
    try:
        return validate()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise MalformedBody() from None
        field_path = ".".join(_safe_name(str(part)) for part in first["loc"])
        raise InvalidRequest(f"{first['msg']}.", field=field_path or None) from None


def _safe_name(name: str) -> str:
    """A caller's member name, fit to be repeated in an answer: printable, short."""
    return "".join(character for character in name if character.isprintable())[:80]
