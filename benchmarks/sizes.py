"""What DynamoDB charges, from the rows themselves: the documented rules of item size and capacity. Pure.

Local engines get this wrong (writes of updates, transactions, indexes), so the benchmarks calculate and only compare.
Rows are in DynamoDB's own form, `{"pk": {"S": "…"}}`.
"""

from __future__ import annotations

from typing import Any

Row = dict[str, dict[str, Any]]
KB = 1024
INDEXES = {"due": ("due_pk", "due_at"), "timeline": ("day_pk", "day_sk")}  # keys only, both


def row_bytes(row: Row) -> int:
    """The size of a row: names in UTF-8 and values.

    Example:
        >>> row_bytes({"pk": {"S": "月"}, "n": {"N": "1500"}, "l": {"L": [{"S": "ab"}]}})
        15
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in row.items())


def _value_bytes(value: dict[str, Any]) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "B":
        return len(content)
    if kind == "N":  # a byte per two significant digits, one more, and one for a sign
        digits = content.lstrip("-").replace(".", "").strip("0")
        return -(-len(digits) // 2) + 1 + content.startswith("-")
    if kind in ("BOOL", "NULL"):
        return 1
    if kind == "L":  # three bytes, and one per element
        return 3 + sum(1 + _value_bytes(one) for one in content)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + _value_bytes(one) for name, one in content.items())
    if kind == "SS":
        return sum(len(one.encode()) for one in content)
    raise ValueError(f"no row of ours holds a {kind}")


def write_units(before: Row, after: Row) -> int:
    """A write is charged by the larger of what was there and what is there now, in started KB.

    A refused conditional write changes nothing and is charged by what was there; by 1 where there was nothing.
    """
    return max(1, -(-max(row_bytes(before), row_bytes(after)) // KB))


def index_units(before: Row, after: Row) -> int:
    """Writes to the two indexes. Entries are keys only, well under 1 KB: a write each for an entry that comes or goes.

    A change of an index key is both. A change of anything else does not reach an index that holds keys only.
    """
    units = 0
    for keys in INDEXES.values():
        old, new = (
            [row.get(key) for key in keys] if all(key in row for key in keys) else None for row in (before, after)
        )
        if old != new:
            units += (old is not None) + (new is not None)
    return units


def read_units(row: Row | None, *, is_strong: bool) -> float:
    """One row read by its key: a unit per started 4 KB, half of it when eventually consistent; absent rows cost too."""
    return max(1, -(-row_bytes(row or {}) // (4 * KB))) * (1 if is_strong else 0.5)


def query_units(rows: list[Row], *, is_strong: bool) -> float:
    """A page of a query is rounded up as a whole."""
    return max(1, -(-sum(map(row_bytes, rows)) // (4 * KB))) * (1 if is_strong else 0.5)
