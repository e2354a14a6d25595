"""Sealing card keys: AES-256-GCM under data keys that only KMS can unwrap. The only place that imports `cryptography`.

Every key is bound to its place, twice: product, lot and number are authenticated with the ciphertext, product and
lot with the wrapped data key (KMS encryption context). A blob moved to another place does not open. Called by the
import worker (seal) and by the reveal function (unseal); never logs, and its errors never carry a value.

    blob = nonce (12 bytes) + ciphertext + tag (16 bytes)

Unwrapped data keys are kept in memory, limited in number, age and uses: one KMS call opens a thousand keys of a lot.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chalicelib.aws.clients import kms
from chalicelib.core.settings import card_key_alias
from chalicelib.keys.errors import SealingUnavailable, UnsealingFailed
from chalicelib.keys.model import PAGE_KEYS, PlainFields, PlainKey, SealedKey

MAX_KEPT = 200
KEEP_SECONDS = 300
MAX_USES = 20_000
_NONCE_BYTES = 12
# What KMS answers when it *did* answer and the blob is wrong; everything else is KMS not being able to.
_WRONG_BLOB = {"InvalidCiphertextException", "IncorrectKeyException"}


@dataclass(frozen=True)
class DataKey:
    """A key for sealing one chunk of an import: in clear for now, wrapped for ever."""

    plain: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


@dataclass
class _Kept:
    plain: bytes = field(repr=False)
    until: float
    uses: int = 0


_kept: OrderedDict[tuple[str, str, str, bytes], _Kept] = OrderedDict()
_lock = threading.Lock()


def new_data_key(product_id: str, lot_id: str) -> DataKey:
    """A fresh data key for one chunk of a lot. One KMS call.

    Raises: keys.sealing_unavailable
    """
    try:
        made = kms().generate_data_key(
            KeyId=card_key_alias(), KeySpec="AES_256", EncryptionContext=_context(product_id, lot_id)
        )
    except Exception as error:
        raise SealingUnavailable() from error
    return DataKey(made["Plaintext"], made["CiphertextBlob"])


def seal_page(
    product_id: str, lot_id: str, page: int, keys: list[PlainFields] | list[dict[str, str]], data_key: DataKey
) -> list[bytes]:
    """Seal the keys of one page, numbered from `page * 16`, each under a nonce of its own."""
    cipher = _cipher(data_key.plain)
    blobs = []
    for number, fields in enumerate(keys, page * PAGE_KEYS):
        nonce = os.urandom(_NONCE_BYTES)
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        blobs.append(nonce + cipher.encrypt(nonce, text, _identity(product_id, lot_id, number)))
    return blobs


def unseal(product_id: str, sealed: Sequence[SealedKey]) -> list[PlainKey]:
    """Open keys of one product, in order. The product comes from the order line, not from where the blob was found.

    Raises: keys.sealing_unavailable; keys.unsealing_failed (also counted as the metric `UnsealingFailed`)
    """
    return [PlainKey(key.key_id, _open(product_id, key)) for key in sealed]


def _open(product_id: str, key: SealedKey) -> PlainFields:
    from cryptography.exceptions import InvalidTag

    cipher = _cipher(_unwrap(product_id, key.lot_id, key.wrapped_key))
    nonce, rest = key.blob[:_NONCE_BYTES], key.blob[_NONCE_BYTES:]
    try:
        return PlainFields(json.loads(cipher.decrypt(nonce, rest, _identity(product_id, key.lot_id, key.number))))
    except (InvalidTag, ValueError):
        raise failed() from None


def failed() -> UnsealingFailed:
    """The refusal for a key that is not what it should be, counted: an alarm watches the metric."""
    from chalicelib.edge.observe import count

    count("UnsealingFailed")
    return UnsealingFailed()


def forget_data_keys() -> None:
    """Drop every unwrapped data key."""
    with _lock:
        _kept.clear()


def _unwrap(product_id: str, lot_id: str, wrapped_key: bytes) -> bytes:
    # The identity is part of the name, so that a key once unwrapped cannot be used where KMS would have refused.
    name = (card_key_alias(), product_id, lot_id, wrapped_key)
    with _lock:
        kept = _kept.get(name)
        if kept and kept.until > time.monotonic() and kept.uses < MAX_USES:
            kept.uses += 1
            _kept.move_to_end(name)
            return kept.plain
    try:
        plain = kms().decrypt(
            CiphertextBlob=wrapped_key, KeyId=card_key_alias(), EncryptionContext=_context(product_id, lot_id)
        )["Plaintext"]
    except Exception as error:
        code = (getattr(error, "response", None) or {}).get("Error", {}).get("Code")
        if code in _WRONG_BLOB:
            raise failed() from error
        raise SealingUnavailable() from error
    with _lock:
        _kept[name] = _Kept(plain, time.monotonic() + KEEP_SECONDS, 1)
        while len(_kept) > MAX_KEPT:
            _kept.popitem(last=False)
    return plain


def _cipher(plain_key: bytes) -> Any:
    # Imported here: `cryptography` costs a cold start 20 ms, and routes that only name our refusals must not pay it.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(plain_key)


def _identity(product_id: str, lot_id: str, number: int) -> bytes:
    return f"kamiflow|v1|{product_id}|{lot_id}|{number}".encode()


def _context(product_id: str, lot_id: str) -> dict[str, str]:
    return {"purpose": "card-key", "product": product_id, "lot": lot_id}
