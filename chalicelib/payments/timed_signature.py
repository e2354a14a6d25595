"""The signature header `t=<unix seconds>,v1=<hex>[,v1=<hex>…]`: HMAC-SHA256 of `<t>.<raw body>`, good for a while.

Stripe signs so, and our sandbox imitates it. Pure: clock and keys come in as arguments. One refusal for every failure.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from chalicelib.payments.errors import BadNotice

TOLERANCE_SECONDS = 300
_MAX_HEADER_CHARACTERS = 4096


def sign(raw_body: bytes, key: bytes, at: int) -> str:
    """The header value for a body sent at this instant."""
    return f"t={at},v1={_mac(raw_body, key, str(at))}"


def verify(header: str | None, raw_body: bytes, keys: Iterable[bytes], now: int) -> None:
    """Accept a body that any of the keys signed, at most 300 seconds ago or ahead; a header may hold several `v1`.

    A message dated ahead is refused like an old one: otherwise whoever got hold of one could replay it until then.
    Raises: payments.bad_notice, without a word about which check failed.
    """
    if not header or len(header) > _MAX_HEADER_CHARACTERS or not header.isascii():
        raise BadNotice()
    parts = [part.partition("=")[::2] for part in header.split(",")]
    times = [value for name, value in parts if name == "t"]
    given = [value for name, value in parts if name == "v1"]
    if len(times) != 1 or not (times[0].isdigit() and len(times[0]) <= 12) or not given:
        raise BadNotice()
    if abs(now - int(times[0])) > TOLERANCE_SECONDS:
        raise BadNotice()
    # An empty key would let anybody sign: a blank entry in the settings is no key at all.
    expected = [_mac(raw_body, key, times[0]) for key in keys if key.strip()]
    if not any([hmac.compare_digest(mac, signature) for mac in expected for signature in given]):  # every pair, always
        raise BadNotice()


def _mac(raw_body: bytes, key: bytes, at: str) -> str:
    return hmac.new(key, at.encode() + b"." + raw_body, hashlib.sha256).hexdigest()
