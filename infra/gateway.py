"""What API Gateway itself answers, before any code of ours runs: the same error body, made from the same refusals.

Used by `build.py` for the deployed gateway and by `infra/local/server.py`, so that both answer alike.
"""

from __future__ import annotations

import json

from chalicelib.core.errors import Busy, NotFound, Refused, Unavailable
from chalicelib.edge.errors import BodyTooLarge, WrongContentType

# Gateway response type -> refusal. We use no IAM or gateway authorizer: a complaint about signatures or tokens only
# ever means that nothing is registered under this path and method.
REFUSALS: dict[str, type[Refused]] = {
    "MISSING_AUTHENTICATION_TOKEN": NotFound,
    "INVALID_SIGNATURE": NotFound,
    "ACCESS_DENIED": NotFound,
    "RESOURCE_NOT_FOUND": NotFound,
    "REQUEST_TOO_LARGE": BodyTooLarge,
    "UNSUPPORTED_MEDIA_TYPE": WrongContentType,
    "THROTTLED": Busy,
    "QUOTA_EXCEEDED": Busy,
    "INTEGRATION_FAILURE": Unavailable,
    "INTEGRATION_TIMEOUT": Unavailable,
    "DEFAULT_5XX": Unavailable,
    "WAF_FILTERED": Refused,
    "DEFAULT_4XX": Refused,
}
# Where API Gateway's own status says more than the refusal's.
_STATUS = {"THROTTLED": 429, "QUOTA_EXCEEDED": 429, "WAF_FILTERED": 403, "DEFAULT_4XX": None}
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def error_body(refused: type[Refused], request_id: str) -> str:
    return json.dumps(refused().body(request_id), ensure_ascii=False)


def gateway_responses() -> dict[str, dict]:
    """The value of `x-amazon-apigateway-gateway-responses` in the API's definition, one entry per kind of answer."""
    responses = {}
    for kind, refused in REFUSALS.items():
        headers = {f"gatewayresponse.header.{name}": f"'{text}'" for name, text in HEADERS.items()}
        if refused.retry_after_seconds is not None:
            headers["gatewayresponse.header.Retry-After"] = f"'{refused.retry_after_seconds}'"
        responses[kind] = {
            "responseParameters": headers,
            "responseTemplates": {"application/json": error_body(refused, "$context.requestId")},
        }
        status = _STATUS.get(kind, refused.status)
        if status is not None:
            responses[kind]["statusCode"] = str(status)
    return responses
