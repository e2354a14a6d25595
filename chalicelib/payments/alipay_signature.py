"""Alipay's wire form: what is signed in requests, notices and answers, and how amounts and times are written. Pure.

Signed is `name=value` of all parameters, sorted and joined by `&`, values not URL-encoded and empty ones included: in a
request without `sign`, in a notice without `sign` and `sign_type`. An answer is signed as it stands on the wire: just
the characters of its node, escaped slashes and inner spaces too. The digest is SHA-256 whatever a message says.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from chalicelib.payments.rsa_signature import sign_sha256, verify_sha256

_MAX_FORM_BYTES = 64 * 1024
_MAX_FORM_FIELDS = 200
_AMOUNT = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,2})?")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")
_ARMOURED = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_SCANNER = json.JSONDecoder(parse_float=str, parse_int=str)  # numbers stay text: no amount ever becomes a float
_AHEAD_OF_UTC = timedelta(hours=8)


def string_to_sign(params: dict[str, str]) -> bytes:
    """The signed text of parameters.

    Example:
        >>> string_to_sign({"b": "2 &", "a": ""})
        b'a=&b=2 &'
    """
    return "&".join(f"{name}={params[name]}" for name in sorted(params)).encode()


def sign_request(params: dict[str, str], private_key: str) -> dict[str, str]:
    """The parameters with their `sign`. Raises: ValueError when the key is none."""
    return {**params, "sign": sign_sha256(private_key, string_to_sign(params))}


def is_signed(message: bytes, signature: Any, keys: list[str]) -> bool:
    """Whether one of the keys (or certificates) signed the message. No key: no."""
    return any(verify_sha256(key, message, signature) for key in keys)


def split_keys(text: str) -> list[str]:
    """The keys of a setting that holds one or, while Alipay's is being changed, several: each in its PEM lines, or
    bare and with an empty line between them.

    Example:
        >>> split_keys("MIIB\\nIjAN\\n\\nMIIC")
        ['MIIB\\nIjAN', 'MIIC']
    """
    armoured = [found.group(0) for found in _ARMOURED.finditer(text)]
    rest = _ARMOURED.sub("\n\n", text)
    return armoured + [one.strip() for one in _BLANK_LINE.split(rest) if one.strip()]


def read_form(raw_body: bytes) -> dict[str, str]:
    """A notice's fields. Raises: ValueError when it is not a form, not UTF-8, or names a field twice: whoever reads the
    first of two values and checks the second believes what nobody signed.
    """
    if len(raw_body) > _MAX_FORM_BYTES:
        raise ValueError("too long")
    pairs = parse_qsl(
        raw_body.decode("ascii"),
        keep_blank_values=True,
        strict_parsing=True,
        errors="strict",
        max_num_fields=_MAX_FORM_FIELDS,
    )
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field twice")
    return fields


def string_of_notice(fields: dict[str, str]) -> bytes:
    """What Alipay signed of a notice."""
    return string_to_sign({name: value for name, value in fields.items() if name not in ("sign", "sign_type")})


def read_answer(body: bytes, node_name: str) -> tuple[dict, bytes, Any]:
    """An answer's node, the characters of it that are signed, and the signature (None when there is none).

    A JSON scanner finds where the node ends, because a text in it may hold any brace. Numbers come as text.
    Raises: ValueError when it is no such answer.
    """
    text = body.decode("utf-8")
    try:
        members = _members(text)
    except RecursionError:
        raise ValueError("too deep") from None
    node, raw = members.get(node_name) or members.get("error_response") or (None, "")
    if not isinstance(node, dict):
        raise ValueError("no such answer")
    return node, raw.encode(), members.get("sign", (None, ""))[0]


def _members(text: str) -> dict[str, tuple[Any, str]]:
    """The members of the outermost object: each value, and the characters it is written with."""
    members: dict[str, tuple[Any, str]] = {}
    at, opening = _skip(text, 0), "{"
    while text[at : at + 1] == opening:
        name, at = _SCANNER.raw_decode(text, _skip(text, at + 1))
        at = _skip(text, at)
        if not isinstance(name, str) or name in members or text[at : at + 1] != ":":
            raise ValueError("not an object")
        start = _skip(text, at + 1)
        value, end = _SCANNER.raw_decode(text, start)
        members[name] = value, text[start:end]
        at, opening = _skip(text, end), ","
    if opening == "{" or text[at : at + 1] != "}" or _skip(text, at + 1) != len(text):
        raise ValueError("not an object")
    return members


def _skip(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]


def to_yuan(amount_minor: int) -> str:
    """Fen as Alipay writes money.

    Example:
        >>> to_yuan(4999), to_yuan(5)
        ('49.99', '0.05')
    """
    return f"{Decimal(amount_minor) / 100:.2f}"


def to_minor(yuan: Any) -> int:
    """Alipay's money in fen. Raises: ValueError for anything but plain digits with two places at most.

    Example:
        >>> to_minor("49.99"), to_minor("7"), to_minor("-0.1")
        (4999, 700, -10)
    """
    if not isinstance(yuan, str) or not _AMOUNT.fullmatch(yuan):
        raise ValueError("not an amount")
    return int(Decimal(yuan) * 100)


def to_china_time(at: int) -> str:
    """An instant as Alipay writes it.

    Example:
        >>> to_china_time(1_781_500_000)
        '2026-06-15 13:06:40'
    """
    return (datetime.fromtimestamp(at, UTC) + _AHEAD_OF_UTC).strftime("%Y-%m-%d %H:%M:%S")


def from_china_time(text: str) -> int:
    """The instant that Alipay wrote. Raises: ValueError

    Example:
        >>> from_china_time("2026-06-15 13:06:40")
        1781500000
    """
    written = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return int((written - _AHEAD_OF_UTC).timestamp())
