"""HTTP for payment providers: one address per account, raw bytes in, the answer each wants out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chalice import Blueprint, Response

from chalicelib.core.errors import NotFound
from chalicelib.edge.errors import BodyTooLarge
from chalicelib.edge.http import MAX_BODY_BYTES, Call, endpoint
from chalicelib.payments.errors import BadNotice, NoSuchAccount, UnknownProvider
from chalicelib.payments.providers import account_with, adapter_named

bp = Blueprint(__name__)
_REFUSALS = (BadNotice, NotFound, BodyTooLarge)
_MESSAGE = "the provider's own message, signed by it"


@endpoint(bp, "POST", "/v1/notices/{provider}", refusals=_REFUSALS, raw_body=_MESSAGE)
def post_notice(call: Call, provider: str):
    """Take in a signed message of a provider that serves the whole stage. Answered only once it is stored; any repeat
    is harmless.
    """
    return _take(call, provider, None)


@endpoint(bp, "POST", "/v1/notices/{provider}/{account_id}", refusals=_REFUSALS, raw_body=_MESSAGE)
def post_account_notice(call: Call, provider: str, account_id: str):
    """Take in a provider's signed message about one payment account. Answered only once it is stored; any repeat is
    harmless. What the answer looks like is the provider's choice.
    """
    return _take(call, provider, account_id)


@endpoint(bp, "GET", "/v1/notices/{provider}/{account_id}", refusals=_REFUSALS)
def get_account_notice(call: Call, provider: str, account_id: str):
    """Answer a provider's console that checks whether this address is ours, where it does so (WeChat's message push).
    Changes nothing.
    """
    try:
        adapter, account = adapter_named(provider), account_with(provider, account_id)
    except (UnknownProvider, NoSuchAccount):
        raise NotFound() from None
    if not hasattr(adapter, "prove_address"):
        raise NotFound()
    return Response(adapter.prove_address(account, _Headers(call.request)), {"Content-Type": "text/plain"}, 200)


def _take(call: Call, provider: str, account_id: str | None) -> Response:
    from dataclasses import replace

    from chalicelib.balance.rules import is_top_up_id
    from chalicelib.payments.receive_notice import receive_notice, with_payment

    try:
        adapter, account = adapter_named(provider), account_with(provider, account_id)
    except (UnknownProvider, NoSuchAccount):
        raise NotFound() from None
    if len(call.raw_body) > MAX_BODY_BYTES:
        raise BodyTooLarge()
    notice = adapter.read_notice(account, _Headers(call.request), call.raw_body, call.now)
    if notice is not None:
        notice = with_payment(replace(notice, account_id=account_id))
        if is_top_up_id(notice.payment_id or ""):
            from chalicelib.balance.receive_top_up import receive_top_up

            receive_top_up(notice, call.now)
        else:
            receive_notice(notice, call.now)
    taken = adapter.FACTS.taken
    return Response(taken.body, {"Content-Type": taken.content_type}, taken.status)


class _Headers(Mapping):
    """The headers of a request by any case, and its query as `x-query-<name>`: some providers sign there."""

    def __init__(self, request: Any):
        self._request = request

    def __getitem__(self, name: str) -> str:
        name = name.lower()
        if name.startswith("x-query-"):
            return (self._request.query_params or {})[name.removeprefix("x-query-")]
        return self._request.headers[name]

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self._request.headers if not name.lower().startswith("x-query-"))
        yield from (f"x-query-{name}" for name in self._request.query_params or {})

    def __len__(self) -> int:
        return len(list(iter(self)))
