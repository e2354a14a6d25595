"""DynamoDB's typed attribute values <-> plain Python values.

Numbers are integers only: a float in a row would be a bug in money, so it is refused here.
"""

from __future__ import annotations

from typing import Any


def to_value(plain: Any) -> dict:
    """One plain value as an attribute value.

    Raises: TypeError for a float or any type a row may not hold.

    Example:
        >>> to_value({"n": 1, "t": ["a", None, True]})
        {'M': {'n': {'N': '1'}, 't': {'L': [{'S': 'a'}, {'NULL': True}, {'BOOL': True}]}}}
    """
    if isinstance(plain, str):
        return {"S": plain}
    if isinstance(plain, bool):
        return {"BOOL": plain}
    if isinstance(plain, int):
        return {"N": str(plain)}
    if plain is None:
        return {"NULL": True}
    if isinstance(plain, (bytes, bytearray)):
        return {"B": bytes(plain)}
    if isinstance(plain, dict):
        return {"M": {name: to_value(value) for name, value in plain.items()}}
    if isinstance(plain, (list, tuple)):
        return {"L": [to_value(value) for value in plain]}
    if isinstance(plain, (set, frozenset)) and plain and all(isinstance(value, str) for value in plain):
        return {"SS": sorted(plain)}
    raise TypeError(f"a row cannot hold a {type(plain).__name__}")


def to_plain(value: dict) -> Any:
    """One attribute value as a plain value; the inverse of `to_value`."""
    ((kind, content),) = value.items()
    if kind in ("S", "BOOL"):
        return content
    if kind == "N":
        return int(content)
    if kind == "NULL":
        return None
    if kind == "B":
        return bytes(content)
    if kind == "M":
        return {name: to_plain(inner) for name, inner in content.items()}
    if kind == "L":
        return [to_plain(inner) for inner in content]
    if kind == "SS":
        return set(content)
    raise TypeError(f"a row of ours never holds a {kind}")


def to_row(plain: dict[str, Any]) -> dict[str, dict]:
    """A plain dict as an item; absent values (None) are left out, so that sparse indexes stay sparse."""
    return {name: to_value(value) for name, value in plain.items() if value is not None}


def from_row(row: dict[str, dict]) -> dict[str, Any]:
    """An item as a plain dict."""
    return {name: to_plain(value) for name, value in row.items()}
