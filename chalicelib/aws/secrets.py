"""Secrets, read from Secrets Manager at run time and kept in memory for five minutes.

    kamiflow/<stage>/root         64 random characters; every internal key is derived from it by purpose
    kamiflow/<stage>/fingerprint  keys the duplicate guard of card keys; only the import worker may read it
    kamiflow/<stage>/<provider>   a payment provider's credentials for the whole stage, JSON
    kamiflow/<stage>/pay/<id>     those of one payment account, JSON (`payments/account_store.py`)

A missing secret fails closed: the call that needs it is refused, nothing falls back to a default.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time

from chalicelib.aws.clients import secretsmanager
from chalicelib.core.settings import stage

KEEP_SECONDS = 300
_kept: dict[str, tuple[float, str]] = {}


def read_secret(name: str) -> str:
    """The text of `kamiflow/<stage>/<name>`.

    Raises: botocore ClientError when it does not exist or may not be read.
    """
    kept = _kept.get(name)
    if kept and kept[0] > time.monotonic():
        return kept[1]
    text = secretsmanager().get_secret_value(SecretId=f"kamiflow/{stage()}/{name}")["SecretString"]
    _kept[name] = (time.monotonic() + KEEP_SECONDS, text)
    return text


def find_secret(name: str) -> dict | None:
    """A provider's credentials as a dict, or None when none are stored."""
    try:
        return json.loads(read_secret(name))
    except secretsmanager().exceptions.ResourceNotFoundException:
        return None


def derived_key(purpose: str) -> bytes:
    """A 32-byte key for one purpose ('order-token', 'cursor', …): HMAC-SHA256 of the purpose under the root secret."""
    return hmac.digest(read_secret("root").encode(), f"kamiflow/{purpose}".encode(), hashlib.sha256)


def forget_secret(name: str) -> None:
    """Read this one anew the next time: it was just written."""
    _kept.pop(name, None)


def forget_secrets() -> None:
    """Drop what is kept, so that the next read asks again (tests, and rotation drills)."""
    _kept.clear()
