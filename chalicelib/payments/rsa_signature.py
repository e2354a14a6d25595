"""RSA signatures with SHA-256 (RSASSA-PKCS1-v1_5), the only kind our providers use; no message can choose another.

Keys come as operators paste them: PKCS#8 or PKCS#1, a certificate in place of a public key, with PEM lines around the
base64 or without, line breaks kept or lost. What one process has read once it does not read again.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from typing import Any

SMALLEST_KEY_BITS = 2048
_ARMOUR = re.compile(r"-----(?:BEGIN|END) [A-Z0-9 ]+-----|\s+")


def sign_sha256(private_key_pem: str, message: bytes) -> str:
    """The signature in base64. Raises: ValueError when the key is not a usable RSA private key (it is not quoted)."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    key = _read_once(_private_key, private_key_pem)
    return base64.b64encode(key.sign(message, PKCS1v15(), SHA256())).decode()


def verify_sha256(public_key_or_certificate_pem: str, message: bytes, signature_b64: Any) -> bool:
    """Whether the signature is this key's over exactly these bytes. A key or signature that cannot be read: no."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    if not isinstance(signature_b64, str):
        return False
    try:
        key = _read_once(_public_key, public_key_or_certificate_pem)
        key.verify(base64.b64decode(signature_b64, validate=True), message, PKCS1v15(), SHA256())
    except (ValueError, InvalidSignature):
        return False
    return True


def _read_once(read: Any, text: str) -> Any:
    if not isinstance(text, str):
        raise ValueError("not a key")
    slot = _slot(read.__name__, hashlib.sha256(text.encode()).digest())
    if not slot:
        slot.append(read(text))
    return slot[0]


@functools.lru_cache(maxsize=64)
def _slot(kind: str, digest: bytes) -> list:
    """Where the key of that text is kept once it is read. Found by digest, so that no key text lives on in a cache."""
    return []


def _private_key(text: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        return _checked(load_der_private_key(_der(text), password=None))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not an RSA private key that can be used") from None


def _public_key(text: str) -> Any:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        der = _der(text)
        try:
            return _checked(load_der_public_key(der))
        except ValueError:
            return _checked(x509.load_der_x509_certificate(der).public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not an RSA public key or certificate that can be used") from None


def _der(text: str) -> bytes:
    return base64.b64decode(_ARMOUR.sub("", text), validate=True)


def _checked(key: Any) -> Any:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

    if not isinstance(key, RSAPrivateKey | RSAPublicKey) or key.key_size < SMALLEST_KEY_BITS:
        raise ValueError("not an RSA key, or too short a one")
    return key
