"""How a request of ours gets out: HTTP to providers, one attempt, and an honest word about what became of it.

Three ends, told apart by type: an `Answer` (whatever its status), `NotSent` (nothing reached the other side) and
`OutcomeUnknown` (it may have been carried out: ask before sending again). No retry, no redirect, no proxy from the
environment, and each connection is new: one kept over a pause of the function is a frequent cause of unknown outcomes.
Never logs; no address, header or body in an exception.
"""

from __future__ import annotations

import ipaddress
import json
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

CONNECT_SECONDS = 3
READ_SECONDS = 10  # between two bytes; a whole answer may take twice as long
MAX_ANSWER_BYTES = 1024 * 1024
MAX_STATEMENT_BYTES = 16 * 1024 * 1024
_PUBLIC_NAME = re.compile(r"[a-z0-9.-]+\.[a-z][a-z0-9-]*")  # no bare host name, no address in any notation


class NotSent(Exception):
    """The other side never got it: name unknown, connection refused, certificate not trusted, address not allowed."""


class OutcomeUnknown(Exception):
    """The request left us and no complete, readable answer came back."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)  # of `send`: names in any case find them

    def json(self) -> Any:
        """The body as JSON. Raises: OutcomeUnknown when it is not."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise OutcomeUnknown("the answer is not JSON") from None


def send(
    method: str, url: str, *, headers: dict, body: bytes | None = None, is_configured: bool = False,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> Answer:  # fmt: skip
    """One request, once. Only a host the operator configured may be this machine or its network, and without TLS.
    Raises: NotSent, OutcomeUnknown.
    """
    import urllib3
    from botocore.httpsession import get_cert_path  # the trust store of every AWS call: the same on every machine

    parts = urlsplit(url)
    is_public = parts.scheme == "https" and _PUBLIC_NAME.fullmatch(parts.hostname or "")
    if parts.username is not None or not (is_public or (is_configured and _is_near(parts.hostname or ""))):
        raise NotSent("address not allowed")
    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
    until, received = time.monotonic() + 2 * READ_SECONDS, bytearray()
    try:
        with urllib3.PoolManager(retries=False, timeout=timeout, ca_certs=get_cert_path(True)) as fresh:
            answer = fresh.request(method, url, body=body, headers=headers, redirect=False, preload_content=False)
            while piece := answer.read1(64 * 1024):
                received += piece
                if len(received) > max_bytes or time.monotonic() > until:
                    raise OutcomeUnknown("the answer is too long")
            return Answer(answer.status, bytes(received), answer.headers)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        refused = (urllib3.exceptions.ConnectTimeoutError, urllib3.exceptions.NewConnectionError)
        if isinstance(error, refused) or any(isinstance(one, ssl.SSLCertVerificationError) for one in error.args):
            raise NotSent("no connection") from None
        raise OutcomeUnknown("no complete answer") from None


def _is_near(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def wall_clock() -> float:
    """The instant to stamp a request with, where a provider wants to see that it is fresh. No decision rests on it."""
    return time.time()
