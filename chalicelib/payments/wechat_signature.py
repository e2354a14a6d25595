"""The cryptography of WeChat Pay's API v3: signing requests, verifying what WeChat sends, opening what it seals.

A request is signed over method, path with query, time, nonce and body; an answer or a notice over time, nonce and body.
The key that verifies is named by the header `Wechatpay-Serial`: a public key's id, or the serial number of a platform
certificate. Notices and certificates are sealed with AES-256-GCM under the merchant's APIv3 key.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from chalicelib.payments.rsa_signature import sign_sha256, verify_sha256

SCHEME = "WECHATPAY2-SHA256-RSA2048"
WINDOW_SECONDS = 300
CHINA = timezone(timedelta(hours=8))
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_HEX = re.compile(r"[0-9A-Fa-f]{1,64}")


def authorization(
    method: str, path: str, body: bytes, *, mchid: str, serial_no: str, private_key: str, at: int, nonce: str
) -> str:
    """The header of that name for exactly this request. Raises: ValueError when the key cannot be used."""
    signed = f"{method}\n{path}\n{at}\n{nonce}\n".encode() + body + b"\n"
    signature = sign_sha256(private_key, signed)
    return (
        f'{SCHEME} mchid="{mchid}",nonce_str="{nonce}",signature="{signature}",timestamp="{at}",serial_no="{serial_no}"'
    )


def client_parameters(appid: str, prepay_id: str, *, private_key: str, at: int, nonce: str) -> dict[str, str]:
    """What a page inside WeChat hands to `chooseWXPay`, a mini-program to `requestPayment`."""
    package = f"prepay_id={prepay_id}"
    signature = sign_sha256(private_key, f"{appid}\n{at}\n{nonce}\n{package}\n".encode())
    shown = {"appId": appid, "timeStamp": str(at), "nonceStr": nonce, "package": package, "signType": "RSA"}
    return shown | {"paySign": signature}


def is_from_wechat(headers: Any, raw_body: bytes, key_of: Callable[[str], str | None], now: int) -> bool:
    """Whether WeChat signed exactly these bytes within five minutes of `now`. `key_of` gives the key of a serial.

    What the message says of its own algorithm may only confirm the one there is.
    """
    serial, stamp, nonce, signature, scheme = (
        headers.get(f"wechatpay-{name}") for name in ("serial", "timestamp", "nonce", "signature", "signature-type")
    )
    if not (serial and stamp and nonce and signature and nonce.isascii()) or scheme not in (None, SCHEME):
        return False
    if not (len(stamp) <= 12 and stamp.isascii() and stamp.isdigit() and abs(now - int(stamp)) <= WINDOW_SECONDS):
        return False
    key = key_of(serial)
    return key is not None and verify_sha256(key, f"{stamp}\n{nonce}\n".encode() + raw_body + b"\n", signature)


def open_sealed(sealed: Any, apiv3_keys: list[str]) -> bytes | None:
    """The plain bytes, by the first of the keys that opens them; None when none does, or it is not sealed at all."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        if sealed["algorithm"] != "AEAD_AES_256_GCM":
            return None
        nonce, extra = sealed["nonce"].encode(), (sealed.get("associated_data") or "").encode()
        ciphertext = base64.b64decode(sealed["ciphertext"], validate=True)
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    for key in apiv3_keys:
        try:
            if len(key.encode()) == 32:
                return AESGCM(key.encode()).decrypt(nonce, ciphertext, extra)
        except (InvalidTag, ValueError):
            continue
    return None


def certificates(text: str, now: int) -> dict[str, str]:
    """The certificates of a text, with PEM lines or one without, by their own serial numbers; those valid at `now`."""
    from cryptography import x509

    found = {}
    for content in _CERTIFICATE.findall(text) or [text]:
        try:
            one = x509.load_der_x509_certificate(base64.b64decode("".join(content.split()), validate=True))
            if one.not_valid_before_utc.timestamp() <= now <= one.not_valid_after_utc.timestamp():
                found[f"{one.serial_number:X}"] = content
        except ValueError:
            continue
    return found


def sealed_certificates(answer: Any, apiv3_keys: list[str], now: int) -> dict[str, str]:
    """The same out of an answer of `/v3/certificates`; what an entry says of its certificate counts for nothing."""
    found = {}
    for entry in answer["data"]:
        plain = open_sealed(entry["encrypt_certificate"], apiv3_keys) or b""
        found |= certificates(plain.decode("ascii", "replace"), now)
    return found


def plain_serial(serial: str) -> str | None:
    """A certificate's serial number in the one way of writing it that we compare; None when it is not one."""
    return (serial.lstrip("0") or "0").upper() if _HEX.fullmatch(serial) else None


def plain_json(plain: bytes | None) -> Mapping[str, Any]:
    """A sealed object that was opened. Raises: ValueError when it was not, or is none."""
    thing = json.loads(plain) if plain is not None else None
    if not isinstance(thing, dict):
        raise ValueError("nothing was opened")
    return thing


def china_time(at: int) -> str:
    """A moment as WeChat writes it.

    >>> china_time(1781500900)
    '2026-06-15T13:21:40+08:00'
    """
    return datetime.fromtimestamp(at, UTC).astimezone(CHINA).isoformat()
