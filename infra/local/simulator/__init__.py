"""The other side: payment providers as a separate server process, written from the providers' own documents.

`make run` and the story tests start it (`server.py`); the product's adapters run unchanged against it. It imports
nothing of the product, so that a mistake cannot hide on both sides. One module per provider, found by its file name and
reached under `/<name>/…`. What every such module has:

    demo_account(world) -> {"mode": "test", "settings": {...}, "secrets": {...}}
        What an operator fills in to use it; settings contain `api_base`, which is `world.base_url("<name>")`.
    handle(request, world) -> Response
        Its HTTP API. Checks our request signatures and refuses bad ones as the provider would.
    notice(world, record, event) -> NoticeRequest | None
        One signed message, made anew for every sending (fresh time, same `event.event_id`). None: nothing is sent.
    taken(status, body) -> bool
        Whether this answer ends the sending.
    RETRY_SECONDS: tuple[int, ...]
        The pauses between one sending and the next, as documented; divided by `world.speed`.
    NOTICES: dict[str, tuple[str, ...]]
        Which messages follow from which happening, by the provider's own names: {"paid": ("TRANSACTION.SUCCESS",)}.
        The name arrives as `event.name`. Happenings: paid, failed, approved, closed (by us), expired (by time),
        refund_created, refunded, refund_failed, dispute_opened, dispute_won, dispute_lost. One that is not listed sends
        nothing; a refund done at once is refund_created and refunded.

What it may have:

    REFUND_SECONDS = 0               a refund stays `pending` so long before it succeeds or fails (divided by speed)
    FEE_BASIS_POINTS = 0, FEE_FIXED_MINOR = 0      what the provider keeps of a payment
    new_txn(world, record) -> str                  its number of the money (record.provider_txn)
    new_refund_id(world, record) -> str            its number of a refund (refund.provider_refund_id)
    new_dispute_id(world, record) -> str           its number of a dispute (dispute.dispute_id)
    pay(world, record, outcome) -> None            what the buyer's click does, instead of `world.pay` (PayPal: approve)
    return_address(world, record) -> str | None    where the buyer goes afterwards, instead of record.return_url
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
import traceback
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl

FRAMEWORK = ("notices", "outcomes", "server", "wallet", "world")


@dataclass(frozen=True)
class Request:
    """A request as it reached a provider: `path` and `target` without the provider's own prefix.

    target   path with the query exactly as sent ("/v3/x?mchid=1"): what request signatures are made over
    query    the same query decoded, the last value of a name; headers have lower-case names
    """

    method: str
    path: str
    target: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises: ValueError."""
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        """The body as a form. Raises: ValueError."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True)
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NoticeRequest:
    """One message to send by POST. `url` None: to where the account's messages go (`world.endpoint(provider)`)."""

    url: str | None
    headers: dict[str, str]
    body: bytes


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(status, body, {"Content-Type": "application/json; charset=utf-8", **(headers or {})})


def provider_names() -> list[str]:
    """All providers found in this folder that can be loaded; a broken one is told on standard error and left out."""
    found = [one.name for one in pkgutil.iter_modules(__path__) if one.name not in FRAMEWORK]
    return sorted(name for name in found if load_provider(name) is not None)


def load_provider(name: str) -> ModuleType | None:
    """The module of a provider, or None when there is none of this name or it cannot be loaded."""
    if not name.isidentifier() or name in FRAMEWORK or name.startswith("_"):
        return None
    full_name = f"{__name__}.{name}"
    try:
        module = importlib.import_module(full_name)
    except ModuleNotFoundError as error:
        if error.name != full_name:
            traceback.print_exc(file=sys.stderr)
        return None
    except Exception:  # one provider's mistake must not take the others down
        traceback.print_exc(file=sys.stderr)
        return None
    return module if hasattr(module, "handle") else None
