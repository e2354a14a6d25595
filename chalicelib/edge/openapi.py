"""The OpenAPI 3.1 document, made from the routes themselves.

`edge/docs_routes.py` serves it, tests and client generators read it. Everything in it comes from `ENDPOINTS`: the
pydantic models that validate requests, the refusals each route declares, and the view's docstring (first clause:
summary). It never describes by hand what the code already says, and the same routes always give the same text.

A view that reads the raw body says what it expects in its route's `extra` entry `raw_body`. Pages (`is_page`)
are left out.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from chalicelib.core.errors import InvalidRequest, NotFound, Refused, Unavailable
from chalicelib.edge.errors import (
    BadIdempotencyKey,
    BodyTooLarge,
    IdempotencyMismatch,
    Internal,
    MalformedBody,
    NotAllowed,
    NotAuthenticated,
    TooManyRequests,
    WrongContentType,
)
from chalicelib.edge.http import Endpoint

API_VERSION = "1.0.0"
_REF = "#/components/schemas/{model}"
_METHOD_ORDER = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SCOPE_WORDS = {"operator": "an operator key", "shop": "a shop key"}

_INTRODUCTION = """\
Sell card keys: import them, put products on sale, take orders, get paid, deliver, reveal, refund.

* **API keys.** Send `Authorization: Bearer <api key>`. An *operator* key manages products, stock and
  orders; a *shop* key sells.
* **Money** is an integer in the currency's minor unit: `4999` with `CNY` is ¥49.99. **Instants** are RFC 3339 in UTC.
* **Errors** have one shape. `code` is stable, `retry` says what helps: `never` (change the request), `same_request`
  (send it again as it is), `later` (the facts may change).
* **Creates** take `Idempotency-Key`: the same request again gives the first resource with `Idempotent-Replayed: true`;
  another request under the same key is refused.
* **Lists** are read page by page: give `next_cursor` back as `cursor` until it is null.
* **Unknown members and parameters are refused**, so a misspelt name never passes in silence.
"""

_UNITS = {
    "_minor": "in the currency's minor unit",
    "_minutes": "minutes",
    "_seconds": "seconds",
    "_at": "instant, RFC 3339 in UTC",
}

_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "The one shape of every refusal.",
    "additionalProperties": False,
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "additionalProperties": False,
            "required": ["code", "message", "retry", "field", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "stable name, `domain.reason`"},
                "message": {"type": "string", "description": "one sentence for people; may change"},
                "retry": {"type": "string", "enum": ["never", "same_request", "later"], "description": "what may help"},
                "field": {"type": ["string", "null"], "description": "member, parameter or header at fault, if one is"},
                "request_id": {"type": "string", "description": "quote this when asking for support"},
            },
        }
    },
}  # fmt: skip

_HEADERS: dict[str, Any] = {
    "RequestId": {"description": "Names this request in our logs.", "schema": {"type": "string"}},
    "RetryAfter": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer", "minimum": 0}},
    "IdempotentReplayed": {
        "description": "Present when this Idempotency-Key was seen before: the answer shows what was made then.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Any text of yours that names this attempt. Send it again to repeat safely.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    "example": "5f1c7a52-6f0e-4c43-9d0c-3f2b7d8f9e11",
}


class _AnswersWhole(GenerateJsonSchema):
    """An answer always carries every member, also those that have a default."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        is_whole = self.mode == "serialization" and field.get("serialization_exclude_if") is None
        return is_whole or super().field_is_required(field, total)


def build_document(endpoints: list[Endpoint], base_url: str) -> dict[str, Any]:
    """The whole document. Same endpoints, same text: paths, methods and schemas are sorted."""
    calls = sorted((one for one in endpoints if not one.is_page), key=_order)
    models, schemas = _schemas(calls)
    paths: dict[str, dict] = {}
    for one in calls:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, models, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kamiflow", "version": API_VERSION, "description": _INTRODUCTION},
        "servers": [{"url": base_url}],
        "tags": [{"name": name} for name in sorted({_tag(one.path) for one in calls})],
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR_SCHEMA, **_without_queries(calls, models, schemas)},
            "headers": _HEADERS,
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <api key>`"}
            },
        },
    }  # fmt: skip


def _order(one: Endpoint) -> tuple[str, int]:
    return one.path, _METHOD_ORDER.index(one.method)


def _schemas(calls: list[Endpoint]) -> tuple[dict, dict[str, Any]]:
    """All models at once, so that two models of one name get two component names."""
    wanted: set[tuple[type[BaseModel], str]] = set()
    for one in calls:
        wanted |= {(model, "validation") for model in (one.body, one.query) if model}
        wanted |= {(one.answer, "serialization")} if one.answer else set()
    in_order = sorted(wanted, key=lambda pair: (pair[0].__module__, pair[0].__qualname__, pair[1]))
    models, definitions = models_json_schema(in_order, ref_template=_REF, schema_generator=_AnswersWhole)
    schemas = {name: _tidy(schema) for name, schema in sorted(definitions.get("$defs", {}).items())}
    return models, schemas


def _without_queries(calls: list[Endpoint], models: dict, schemas: dict[str, Any]) -> dict[str, Any]:
    """Query models are shown as parameters, not as components."""
    as_parameters = {models[(one.query, "validation")]["$ref"].rpartition("/")[2] for one in calls if one.query}
    return {name: schema for name, schema in schemas.items() if name not in as_parameters}


def _tidy(schema: Any) -> Any:
    """Drop the titles pydantic makes from member names; say the unit that a name ends in where nothing else is said."""
    if isinstance(schema, list):
        return [_tidy(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {member: _tidy(_with_unit(member, one)) for member, one in value.items()}
        if name == "properties"
        else _tidy(value)
        for name, value in schema.items()
        if not (name == "title" and isinstance(value, str))
    }


def _with_unit(member: str, schema: dict[str, Any]) -> dict[str, Any]:
    unit = next((words for ending, words in _UNITS.items() if member.endswith(ending)), None)
    return {**schema, "description": unit} if unit and "description" not in schema else schema


def _operation(one: Endpoint, models: dict, schemas: dict[str, Any]) -> dict[str, Any]:
    summary, description = _words(one)
    operation: dict[str, Any] = {
        "operationId": one.view.__name__,
        "tags": [_tag(one.path)],
        "summary": summary,
        "description": description,
        "parameters": [*_path_parameters(one.path), *_query_parameters(one, models, schemas)],
        "responses": _responses(one, models),
        "security": [{"apiKey": []}] if one.scopes else [],
    }
    if one.creates:
        operation["parameters"].append(_IDEMPOTENCY_KEY)
    if one.body:
        operation["requestBody"] = {
            "required": bool(_component(one.body, "validation", models, schemas).get("required")),
            "content": {"application/json": {"schema": models[(one.body, "validation")]}},
        }
    elif "raw_body" in one.extra:
        operation["requestBody"] = {
            "required": True,
            "description": one.extra["raw_body"],
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    return operation


def _words(one: Endpoint) -> tuple[str, str]:
    """The docstring's first clause, short enough for a list; then all of it, and who may call."""
    text = " ".join((one.view.__doc__ or one.view.__name__.replace("_", " ")).split())
    clause = re.split(r"[.:;](?:\s|$)", text, maxsplit=1)[0].replace("`", "")
    who = " or ".join(_SCOPE_WORDS.get(scope, scope) for scope in one.scopes)
    needs = f"Needs {who}." if one.scopes else "Needs no API key."
    return clause, f"{text}\n\n{needs}"


def _tag(path: str) -> str:
    parts = [part for part in path.split("/") if part and part != "v1"]
    return parts[0] if parts else "service"


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _component(model: type[BaseModel], mode: str, models: dict, schemas: dict[str, Any]) -> dict[str, Any]:
    return schemas[models[(model, mode)]["$ref"].rpartition("/")[2]]


def _query_parameters(one: Endpoint, models: dict, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    schema = _component(one.query, "validation", models, schemas)
    parameters = []
    for name, member in schema.get("properties", {}).items():
        plain = _without_null(member)
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", []), "schema": plain}
        if "description" in plain:
            parameter["description"] = plain.pop("description")
        parameters.append(parameter)
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query string cannot say null: a parameter that may be null is one that may be left out."""
    left = {
        name: value for name, value in schema.items() if name != "anyOf" and not (name == "default" and value is None)
    }
    choices = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    if len(choices) == 1:
        return {**choices[0], **left}
    return {**left, "anyOf": choices} if choices else left


def _responses(one: Endpoint, models: dict) -> dict[str, Any]:
    headers = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    success: dict[str, Any] = {"description": "Done.", "headers": dict(headers)}
    if one.answer:
        success["content"] = {"application/json": {"schema": models[(one.answer, "serialization")]}}
    if one.creates:
        success["headers"]["Idempotent-Replayed"] = {"$ref": "#/components/headers/IdempotentReplayed"}
    by_status: dict[int, dict[str, type[Refused]]] = {}
    for refusal in _refusals(one):
        by_status.setdefault(refusal.status, {})[refusal.code] = refusal
    return {
        str(one.status): success,
        **{str(status): _refusal_answer(status, by_status[status], headers) for status in sorted(by_status)},
    }


def _refusals(one: Endpoint) -> list[type[Refused]]:
    """What this call may be refused with: what it declares, and what its shape implies."""
    found: list[type[Refused]] = [*one.refusals, TooManyRequests, Internal, Unavailable]
    if one.scopes:
        found += [NotAuthenticated, NotAllowed, InvalidRequest]
    if one.body:
        found += [MalformedBody, BodyTooLarge, WrongContentType, InvalidRequest]
    if one.query:
        found += [InvalidRequest]
    if one.creates:
        found += [BadIdempotencyKey, IdempotencyMismatch]
    if "{" in one.path:
        found += [NotFound]
    return found


def _refusal_answer(status: int, refusals: dict[str, type[Refused]], headers: dict[str, Any]) -> dict[str, Any]:
    lines = [f"- `{code}`: {refusals[code].sentence}" for code in sorted(refusals)]
    headers = dict(headers)
    if status in (409, 429, 503):
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
    return {
        "description": "\n".join(lines),
        "headers": headers,
        "content": {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}},
    }
