"""What makes two keys the same, and what makes one acceptable. Pure; the fingerprint's secret comes in as an argument.

Called by the import worker for every line, and by the catalogue for the patterns of a product.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from chalicelib.keys.model import MAX_VALUE_CHARACTERS, KeyField, KeyFormat, PlainFields
from chalicelib.keys.patterns import check_pattern, compile_pattern

__all__ = ["check_pattern", "fingerprint", "normalise", "parse_format", "read_key"]

# Characters nobody can see: controls (but line end and tab), Unicode's default-ignorable ones. Format characters
# (category Cf) are looked up instead of listed.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)
_DOMAIN = b"kamiflow card key v1"


def normalise(text: str) -> str:
    """The one form of a value: NFKC, without invisible characters, trimmed; letter case is kept.

    Full-width and half-width spellings, pasted zero-width characters and byte order marks so become the same key.

    Example:
        >>> normalise("\\ufeff ＡＢ１\\u200b２ ")
        'AB12'
    """
    if text.isascii() and text.isprintable():
        return text.strip()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    while True:
        # Taking a character out can let its neighbours combine, hence until nothing changes.
        before = text
        text = unicodedata.normalize("NFKC", _without_invisible(text))
        if text == before:
            return _without_invisible(text).strip()


def _without_invisible(text: str) -> str:
    text = _INVISIBLE.sub("", text)
    return "".join(character for character in text if unicodedata.category(character) != "Cf")


def parse_format(declared: Iterable[Mapping] | None) -> KeyFormat:
    """The `key_fields` of a product row; none declared means that any fields are taken."""
    return tuple(KeyField(one["name"], one.get("pattern")) for one in declared or ())


def read_key(columns: Sequence[str], values: Sequence[str], wanted: KeyFormat) -> PlainFields | str:
    """The values of one line as a key, or the reason it is refused: wrong_field_count, empty, too_long,
    bad_format:<field>.

    A declared field must have a value; of undeclared ones at least one, and those without are left out.

    Example:
        >>> read_key(["code"], ["x1"], (KeyField("code", "[A-Z][0-9]"),))
        'bad_format:code'
    """
    if len(values) != len(columns):
        return "wrong_field_count"
    fields = PlainFields((name, normalise(value)) for name, value in zip(columns, values, strict=True))
    if not any(fields.values()) or (wanted and not all(fields.values())):
        return "empty"
    if any(len(value) > MAX_VALUE_CHARACTERS for value in fields.values()):
        return "too_long"
    for name, pattern in wanted:
        if pattern is not None and not _compiled(pattern).fullmatch(fields[name]):
            return f"bad_format:{name}"
    return PlainFields((name, value) for name, value in fields.items() if value)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return compile_pattern(pattern)


def fingerprint(fields: Mapping[str, str], secret: bytes) -> str:
    """What finds the same key again without knowing it: HMAC-SHA256 over its values under a secret of our own.

    Field names and their order do not count, so that the same key under another heading is still the same key.
    Lengths are part of the text, so that no two different keys can be written alike.

    Example:
        >>> fingerprint({"code": "A"}, b"s") == fingerprint({"pin": "A"}, b"s") != fingerprint({"code": "a"}, b"s")
        True
    """
    values = sorted(value.encode() for value in fields.values() if value)
    text = b"".join(b"%d:%b" % (len(value), value) for value in values)
    return hmac.digest(secret, _DOMAIN + b"\n" + text, hashlib.sha256).hex()
