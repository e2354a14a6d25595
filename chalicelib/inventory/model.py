"""The words of stock: runs, extents, shelves, lots, takes and figures. Plain frozen data.

A key is (lot, number). A *lot* is one import with one expiry date. Its free numbers lie as *runs* on a few *shelves*:
the main shelves `0…n`, filled by imports, and the return shelves `r0…rn`, filled by orders that gave their keys back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

Run = tuple[int, int]  # first number, how many
Extent = tuple[str, int, int]  # lot id, first number, how many

NEVER = 9_999_999_999  # the expiry instant of a lot that does not expire


@dataclass(frozen=True)
class Lot:
    """One import of keys of one product, under one expiry date and one batch of purchase facts."""

    lot_id: str
    product_id: str
    shards: int
    return_shards: int
    expires_at: int | None = None
    supplier: str | None = None
    unit_cost_minor: int | None = None
    import_id: str | None = None


@dataclass(frozen=True)
class OpenLot:
    """What the product's pool remembers of a lot: enough to find its shelves without reading the lot."""

    lot_id: str
    expires_at: int
    shards: int
    return_shards: int
    unit_cost_minor: int | None = None

    @property
    def main_shelves(self) -> list[str]:
        return [f"{self.lot_id}#{number}" for number in range(self.shards)]

    @property
    def shelves(self) -> list[str]:
        return self.main_shelves + [f"{self.lot_id}#r{number}" for number in range(self.return_shards)]


@dataclass(frozen=True)
class Shelf:
    """One allocator row as somebody saw it: free runs, how many keys that is, the journal of takes not yet settled."""

    shelf_id: str
    runs: tuple[Run, ...] = ()
    free: int = 0
    expires_at: int = NEVER
    journal: dict[str, tuple[Run, ...]] = field(default_factory=dict)
    imported: int = 0
    quarantined: int = 0

    @property
    def lot_id(self) -> str:
        return self.shelf_id.partition("#")[0]


class Entry(NamedTuple):
    """A journal key, read: which take of which order lifted how many keys from a shelf."""

    order_id: str
    quantity: int
    take_id: str


@dataclass(frozen=True)
class Piece:
    """The part of a take that came from one shelf.

    `is_clean`: the first and only attempt was answered, so no late duplicate of the write can still be under way.
    """

    allocator: str
    journal_key: str
    extents: tuple[Extent, ...]
    is_clean: bool = True


@dataclass(frozen=True)
class Take:
    """Keys lifted from stock for an order that is about to be written. `take_id` is what the order must record."""

    order_id: str
    take_id: str
    pieces: tuple[Piece, ...]

    @property
    def extents(self) -> list[Extent]:
        return [extent for piece in self.pieces for extent in piece.extents]


@dataclass(frozen=True)
class Stock:
    """Where every imported key of a product is; the last seven always add up to `total`, which is `imported`."""

    imported: int
    total: int
    available: int
    held: int
    sold: int
    expired: int
    disabled: int
    quarantined: int
