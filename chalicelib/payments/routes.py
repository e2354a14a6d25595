"""HTTP for payment providers: one address per provider, raw bytes in, a short answer out."""

from __future__ import annotations

from chalice import Blueprint
from pydantic import BaseModel

from chalicelib.core.errors import NotFound
from chalicelib.edge.errors import BodyTooLarge
from chalicelib.edge.http import MAX_BODY_BYTES, Call, endpoint
from chalicelib.payments.errors import BadNotice, UnknownProvider
from chalicelib.payments.providers import provider_named

bp = Blueprint(__name__)


class NoticeAnswer(BaseModel):
    received: bool


@endpoint(
    bp, "POST", "/v1/notices/{provider}", answer=NoticeAnswer, refusals=(BadNotice, NotFound, BodyTooLarge),
    raw_body="the provider's own message, signed by it",
)  # fmt: skip
def post_notice(call: Call, provider: str):
    """Take in a payment provider's signed message. Answered only once it is stored; any repeat is harmless."""
    from chalicelib.payments.receive_notice import receive_notice

    try:
        adapter = provider_named(provider)
    except UnknownProvider:
        raise NotFound() from None
    if len(call.raw_body) > MAX_BODY_BYTES:
        raise BodyTooLarge()
    notice = adapter.read_notice(call.request.headers, call.raw_body, call.now)
    if notice is not None:
        receive_notice(notice, call.now)
    return NoticeAnswer(received=True)
