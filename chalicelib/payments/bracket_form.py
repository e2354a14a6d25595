"""Nested values as a form in bracket notation, the way Stripe and a few others take them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode


def encode_form(form: dict) -> str:
    """A form body or query: order kept, absent values left out, brackets not escaped.

    Example:
        >>> encode_form({"a": {"b": [{"c": 1}]}, "d": None, "e": "x y"})
        'a[b][0][c]=1&e=x+y'
    """
    return urlencode(list(_pairs("", form))).replace("%5B", "[").replace("%5D", "]")


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _pairs(f"{name}[{key}]" if name else key, inner)
    elif value is not None:
        yield name, str(value)
