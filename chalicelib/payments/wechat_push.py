"""The message push of WeChat's mini-program platform: is it genuine, and what does it say. Pure.

In secure mode `msg_signature` covers the encrypted message, and the app id inside proves whom it is for. In plain mode
`signature` covers token, time and nonce and *not the body*: whoever saw one address could send another body with it.
So a plain message is only ever a hint, and none is taken once an encryption key is set.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

OLDEST_SECONDS = 25 * 3600  # WeChat tries for about a day, and may send the first time along
AHEAD_SECONDS = 300
_BLOCK = 32
_MAX_FIELD = 256


def sign(*parts: str) -> str:
    """Hex SHA-1 of the parts, sorted and joined.

    Example:
        >>> sign("token", "1781500000", "nonce") == sign("nonce", "token", "1781500000")
        True
    """
    return hashlib.sha1("".join(sorted(parts)).encode(), usedforsecurity=False).hexdigest()


def echo_of(query: dict[str, Any], tokens: list[str]) -> str:
    """What WeChat wants to read back when an operator enters our address in the console (a GET, signed like a plain
    message). Raises: ValueError when it is not signed with one of the tokens.
    """
    at, nonce, echo = query.get("timestamp"), query.get("nonce"), query.get("echostr")
    if not all(isinstance(one, str) and 0 < len(one) <= _MAX_FIELD and one.isascii() for one in (at, nonce, echo)):
        raise ValueError("not a check of an address")
    _check(query.get("signature"), [sign(token, at, nonce) for token in tokens if token.strip()])
    return echo


def read_message(
    query: dict[str, Any], raw_body: bytes, tokens: list[str], aes_keys: list[str], app_id: str, now: int
) -> tuple[dict, bool]:
    """The message, and whether its body is proven. Any of the tokens and keys will do, while they are rotated.

    Raises: ValueError, LookupError, TypeError, RecursionError: it is not genuine, not for us, or not a message.
    """
    at, nonce = query["timestamp"], query["nonce"]
    if not all(isinstance(one, str) and 0 < len(one) <= _MAX_FIELD and one.isascii() for one in (at, nonce)):
        raise ValueError("no time or nonce")
    if not (at.isdigit() and len(at) <= 12 and -AHEAD_SECONDS <= now - int(at) <= OLDEST_SECONDS):
        raise ValueError("too old, or ahead of time")
    usable = [token for token in tokens if token.strip()]
    outer = _object(json.loads(raw_body))
    if not aes_keys:
        _check(query.get("signature"), [sign(token, at, nonce) for token in usable])
        return outer, False
    sealed = outer["Encrypt"]
    if not isinstance(sealed, str):
        raise ValueError("not an encrypted message")
    _check(query.get("msg_signature"), [sign(token, at, nonce, sealed) for token in usable])
    for key in aes_keys:
        try:
            return _object(json.loads(decrypt(sealed, key, app_id))), True
        except ValueError:
            continue
    raise ValueError("no key opens it")


def decrypt(sealed: str, encoding_aes_key: str, app_id: str) -> bytes:
    """The message inside: 16 random bytes, its length, itself, the app id. Raises: ValueError, also for another app."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    key = base64.b64decode(encoding_aes_key.strip() + "=")
    if len(key) != 32:
        raise ValueError("not an encryption key of the message push")
    opener = Cipher(AES(key), CBC(key[:16])).decryptor()
    plain = opener.update(base64.b64decode(sealed, validate=True)) + opener.finalize()
    padding = plain[-1] if plain else 0
    if not 1 <= padding <= _BLOCK or plain[-padding:] != bytes([padding]) * padding:
        raise ValueError("wrong padding")
    length = int.from_bytes(plain[16:20], "big")
    message, owner = plain[20 : 20 + length], plain[20 + length : -padding]
    if len(message) != length or not app_id or not hmac.compare_digest(owner, app_id.encode()):
        raise ValueError("for another app")
    return message


def _check(given: Any, expected: list[str]) -> None:
    """Every pair is compared, always; without a token nothing is right."""
    if not (isinstance(given, str) and given.isascii()):
        raise ValueError("no signature")
    if not any([hmac.compare_digest(given, one) for one in expected]):
        raise ValueError("not signed with our token")


def _object(found: Any) -> dict:
    if not isinstance(found, dict):
        raise ValueError("not a message")
    return found
