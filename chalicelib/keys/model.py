"""Card keys: what is sold. A key is a few named fields (code; or card number and password), known by lot and number.

In clear it exists in the memory of the import worker and in the answer of a reveal, nowhere else; the types that
carry it hide themselves when printed. Sealed, it lies in pages of sixteen that are written once and never changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

PAGE_KEYS = 16
MAX_FIELDS = 8
MAX_VALUE_CHARACTERS = 512


class PlainFields(dict[str, str]):
    """The fields of one key in clear. A dict in every respect, except that it never prints its content."""

    def __repr__(self) -> str:
        return f"PlainFields({len(self)} hidden)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)


@dataclass(frozen=True)
class PlainKey:
    """One key, opened for whoever may see it."""

    key_id: str
    fields: PlainFields = field(repr=False)


class KeyField(NamedTuple):
    """A field a key must have, and what its whole value must look like (a pattern that `check_pattern` accepts)."""

    name: str
    pattern: str | None = None


KeyFormat = tuple[KeyField, ...]  # empty: the file's header names the fields, any value goes


@dataclass(frozen=True)
class SealedKey:
    """One key as stored: the blob, and the wrapped data key that opens it."""

    lot_id: str
    number: int
    blob: bytes
    wrapped_key: bytes

    @property
    def key_id(self) -> str:
        """How the API names a key."""
        return f"{self.lot_id}.{self.number}"


@dataclass(frozen=True)
class Guard:
    """Who first imported a key: the lot, and the line of its file."""

    lot_id: str
    line: int
