"""What one process remembers between takes. Hints only: every fact is judged again by the table, so forgetting costs a
request and never a key. Called by inventory's stores; bounded; safe for threads.
"""

from __future__ import annotations

import random
import threading
import time

from chalicelib.inventory.model import OpenLot, Piece, Shelf

POOL_SECONDS = 2.0  # how long the list of a product's lots is believed
EMPTY_SECONDS = 5.0  # how long a shelf seen empty is passed over: returned keys are found again after it
SOLD_OUT_SECONDS = 0.5  # how long a refusal is repeated without looking
_MAX_SHELVES = 4_000
_MAX_PRODUCTS = 1_000
_MAX_CONFIRMED = 40  # entries remembered per shelf; the sweeper removes what is forgotten here
_REMOVED_AT_ONCE = 20

dice = random.Random()
_lock = threading.Lock()
_pools: dict[str, tuple[float, list[OpenLot]]] = {}
_shelves: dict[str, tuple[float, Shelf]] = {}
_favourites: dict[str, str] = {}
_sold_out: dict[str, tuple[float, int]] = {}
_confirmed: dict[str, list[str]] = {}


def forget_hints() -> None:
    """Forget everything, as a new process would (tests)."""
    with _lock:
        for kept in (_pools, _shelves, _favourites, _sold_out, _confirmed):
            kept.clear()


def remember_pool(product_id: str, lots: list[OpenLot]) -> None:
    with _lock:
        if len(_pools) >= _MAX_PRODUCTS:
            _pools.clear()
        _pools[product_id] = (time.monotonic(), lots)


def recall_pool(product_id: str) -> list[OpenLot] | None:
    kept = _pools.get(product_id)
    return kept[1] if kept and kept[0] + POOL_SECONDS > time.monotonic() else None


def forget_pool(product_id: str) -> None:
    with _lock:
        _pools.pop(product_id, None)


def remember_shelf(shelf: Shelf) -> None:
    with _lock:
        if len(_shelves) >= _MAX_SHELVES:
            _shelves.clear()
        _shelves[shelf.shelf_id] = (time.monotonic(), shelf)


def recall_shelves(shelf_ids: list[str]) -> dict[str, Shelf]:
    """Shelves seen before: those with keys however long ago, empty ones only while that is news."""
    young = time.monotonic() - EMPTY_SECONDS
    found = {}
    for shelf_id in shelf_ids:
        kept = _shelves.get(shelf_id)
        if kept and (kept[1].free > 0 or kept[0] > young):
            found[shelf_id] = kept[1]
    return found


def remember_favourite(product_id: str, shelf_id: str | None) -> None:
    with _lock:
        if len(_favourites) >= _MAX_PRODUCTS:
            _favourites.clear()
        _favourites[product_id] = shelf_id or ""


def recall_favourite(product_id: str) -> str | None:
    return _favourites.get(product_id) or None


def remember_sold_out(product_id: str, free: int) -> None:
    with _lock:
        if len(_sold_out) >= _MAX_PRODUCTS:
            _sold_out.clear()
        _sold_out[product_id] = (time.monotonic(), free)


def is_sold_out(product_id: str, quantity: int) -> bool:
    """Whether a look within the last half second showed fewer keys than that."""
    kept = _sold_out.get(product_id)
    return bool(kept and kept[0] + SOLD_OUT_SECONDS > time.monotonic() and quantity > kept[1])


def forget_sold_out() -> None:
    """This process is putting keys back: what it knows of empty shelves is no longer true."""
    with _lock:
        _sold_out.clear()
        for shelf_id in [shelf_id for shelf_id, (_, shelf) in _shelves.items() if shelf.free == 0]:
            del _shelves[shelf_id]


def remember_confirmed(pieces: tuple[Piece, ...]) -> None:
    """Entries whose order is written: the next take on their shelf removes them in its own write."""
    with _lock:
        if len(_confirmed) >= _MAX_SHELVES:
            _confirmed.clear()
        for piece in pieces:
            entries = _confirmed.setdefault(piece.allocator, [])
            # After a repeat, a late duplicate of the first attempt may still arrive. The entry left standing makes the
            # table refuse it; the sweeper removes the entry when no duplicate can be alive any more.
            if piece.is_clean and len(entries) < _MAX_CONFIRMED:
                entries.append(piece.journal_key)


def remember_removable(shelf_id: str, journal_keys: list[str]) -> None:
    """Other buyers' entries, shown to be settled, and own ones whose removal did not go through."""
    with _lock:
        entries = _confirmed.setdefault(shelf_id, [])
        entries.extend(key for key in journal_keys[: _MAX_CONFIRMED - len(entries)] if key not in entries)


def pop_removable(shelf_id: str) -> list[str]:
    with _lock:
        entries = _confirmed.get(shelf_id, [])
        popped, _confirmed[shelf_id] = entries[:_REMOVED_AT_ONCE], entries[_REMOVED_AT_ONCE:]
        return popped
