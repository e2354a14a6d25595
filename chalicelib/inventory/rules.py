"""How a take is planned, how runs are cut and joined, when a journal entry is old, how figures add up. Pure.

Called by the stores and use-cases of inventory. Randomness comes in as a `random.Random`, time as an argument.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chalicelib.core.ids import taken_at
from chalicelib.inventory.model import NEVER, Entry, OpenLot, Run, Shelf, Stock

RUN_SIZE = 500  # keys in one run at import: small enough to spread, large enough to keep a shelf under 1 KB
JOURNAL_CAP = 60  # entries a shelf bears before it refuses takes
HELP_ABOVE = 10  # entries from which a buyer may help cleaning
HELP_ALWAYS = 18  # entries from which every buyer helps
HELP_SECONDS = 5  # how old an entry is before others look after it: until then its own process is about to
GRACE_SECONDS = 30  # how long a take may stay unsettled before the sweeper asks whose it is
MAX_PIECES = 99  # a transaction holds 100 writes
MAX_LOTS = 90  # of one order: closing it writes the order and a return shelf per lot, in one transaction
KEPT_MARKS = 60  # batches of change records remembered per product; 60 marks keep the row under 1 KB
COUNT_OVERLAP_SECONDS = 5  # an order this young may be missing from the index that the full count walks
_FRAGMENTED_RUNS = 20


@dataclass(frozen=True)
class TakeFromRun:
    """Cut the quantity off one run; `whole` when the run is used up by it. Needs no exact knowledge of the shelf."""

    shelf_id: str
    index: int = 0
    whole: bool = False


@dataclass(frozen=True)
class TakeRuns:
    """Replace the runs seen by the rest of them: several runs of one shelf at once, refused when they have changed."""

    shelf_id: str
    seen: tuple[Run, ...]
    taken: tuple[Run, ...]
    rest: tuple[Run, ...]


@dataclass(frozen=True)
class Gather:
    """One transaction over several shelves, all or nothing."""

    parts: tuple[TakeRuns, ...]


@dataclass(frozen=True)
class Look:
    """Too little is known: read all shelves and the pool, strongly consistent."""


@dataclass(frozen=True)
class SoldOut:
    """A fresh look shows fewer keys than wanted."""

    free: int


Step = TakeFromRun | TakeRuns | Gather | Look | SoldOut


def shelves_for(keys: int) -> tuple[int, int]:
    """Main and return shelves of a lot of that many keys.

    Example:
        >>> shelves_for(300), shelves_for(10_000), shelves_for(1_000_000)
        ((1, 1), (20, 5), (64, 16))
    """
    shards = max(1, min(64, -(-keys // RUN_SIZE)))
    return shards, max(1, min(16, -(-shards // 4)))


def plan_take(
    quantity: int,
    lots: list[OpenLot],
    known: Mapping[str, Shelf],
    *,
    is_fresh: bool,
    dice: random.Random,
    favourite: str | None = None,
    avoided: frozenset[str] = frozenset(),
    most_lots: int = MAX_LOTS,
) -> Step:
    """The next thing to try, given what is known of the shelves.

    lots      those that may be sold from, the one to be sold first in front
    known     shelves seen, in this call or earlier; absent means nothing is known
    is_fresh  everything in `known` was just read with strong consistency: only then may the answer be SoldOut
    favourite the shelf this process took from last: staying there lets its own journal entries be removed for free
    avoided   shelves whose journal is full at this moment
    most_lots so many lots the keys may come from at most: more could not be given back in one transaction

    One shelf that has enough is taken from directly. Else everything left is gathered, earliest lot first.
    """
    if not is_fresh and quantity <= RUN_SIZE and len(lots) == 1 and not any(s in known for s in lots[0].shelves):
        # A new process and one lot: a blind try at one shelf is right nearly always and saves the look.
        untried = [shelf_id for shelf_id in lots[0].main_shelves if shelf_id not in avoided]
        return TakeFromRun(dice.choice(untried)) if untried else Look()
    missing = quantity
    sources: list[Shelf] = []
    for lot in lots:
        seen = [known[shelf_id] for shelf_id in lot.shelves if shelf_id in known]
        usable = [shelf for shelf in seen if shelf.free > 0 and shelf.shelf_id not in avoided]
        if not sources:
            fitting = [shelf for shelf in usable if shelf.free >= quantity]
            if fitting:
                return plan_on_shelf(quantity, _choose(fitting, favourite, dice))
        if not is_fresh and len(seen) < len(lot.shelves):
            return Look()
        sources += sorted(usable, key=lambda shelf: -shelf.free)
        missing = quantity - sum(shelf.free for shelf in sources)
        if missing <= 0:
            break
    if not is_fresh:
        return Look()
    if len(sources) > MAX_PIECES or len({lot_id_of(shelf.shelf_id) for shelf in sources}) > most_lots:
        sources = _fullest([known[one] for lot in lots for one in lot.shelves if one in known], avoided, most_lots)
        missing = quantity - sum(shelf.free for shelf in sources)
    if missing > 0:
        return SoldOut(sum(shelf.free for shelf in sources))
    return Gather(tuple(_gather(quantity, sources)))


def _fullest(shelves: list[Shelf], avoided: frozenset[str], most_lots: int) -> list[Shelf]:
    """When the keys lie too scattered for one transaction: the fullest shelves of the fullest lots, of whatever age."""
    sources = [shelf for shelf in shelves if shelf.free > 0 and shelf.shelf_id not in avoided]
    free: dict[str, int] = {}
    for shelf in sources:
        free[lot_id_of(shelf.shelf_id)] = free.get(lot_id_of(shelf.shelf_id), 0) + shelf.free
    kept = set(sorted(free, key=lambda lot_id: -free[lot_id])[:most_lots])
    fitting = [shelf for shelf in sources if lot_id_of(shelf.shelf_id) in kept]
    return sorted(fitting, key=lambda shelf: -shelf.free)[:MAX_PIECES]


def lot_id_of(shelf_id: str) -> str:
    """The lot a shelf belongs to.

    Example:
        >>> lot_id_of("lot_1#r3")
        'lot_1'
    """
    return shelf_id.partition("#")[0]


def _choose(fitting: list[Shelf], favourite: str | None, dice: random.Random) -> Shelf:
    for shelf in fitting:
        if shelf.shelf_id == favourite:
            return shelf
    return dice.choices(fitting, weights=[shelf.free for shelf in fitting])[0]


def _gather(quantity: int, sources: Iterable[Shelf]) -> Iterable[TakeRuns]:
    for shelf in sources:
        part = min(quantity, shelf.free)
        taken, rest = cut(shelf.runs, part)
        yield TakeRuns(shelf.shelf_id, shelf.runs, taken, rest)
        quantity -= part
        if quantity == 0:
            return


def plan_on_shelf(quantity: int, shelf: Shelf) -> TakeFromRun | TakeRuns:
    """Which form of the update fits the shelf as last seen: a piece of a run, a whole run, or several runs.

    A run that is too short is passed over while a longer one exists: that form survives other buyers' takes in between.
    """
    for index, (_, count) in enumerate(shelf.runs):
        if count >= quantity:
            return TakeFromRun(shelf.shelf_id, index, whole=count == quantity)
    taken, rest = cut(shelf.runs, quantity)
    return TakeRuns(shelf.shelf_id, shelf.runs, taken, rest)


def cut(runs: Iterable[Run], quantity: int) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Take a quantity off the front: (taken, rest).

    Raises: ValueError when the runs hold less.

    Example:
        >>> cut([(10, 2), (20, 5)], 4)
        (((10, 2), (20, 2)), ((22, 3),))
    """
    taken: list[Run] = []
    rest: list[Run] = []
    for start, count in runs:
        part = min(count, quantity)
        if part:
            taken.append((start, part))
        if count > part:
            rest.append((start + part, count - part))
        quantity -= part
    if quantity:
        raise ValueError("the runs hold fewer keys than wanted")
    return tuple(taken), tuple(rest)


def join(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The same numbers in as few runs as possible, ascending.

    Raises: ValueError when a number is there twice: that would be a key for two buyers.

    Example:
        >>> join([(7, 3), (1, 2), (3, 4)])
        ((1, 9),)
    """
    joined: list[Run] = []
    for start, count in sorted(runs):
        if joined and start < joined[-1][0] + joined[-1][1]:
            raise ValueError("a number is in stock twice")
        if joined and start == joined[-1][0] + joined[-1][1]:
            joined[-1] = (joined[-1][0], joined[-1][1] + count)
        else:
            joined.append((start, count))
    return tuple(joined)


def count_keys(runs: Iterable[Run]) -> int:
    return sum(count for _, count in runs)


def spread(start: int, count: int, shards: int) -> dict[int, list[Run]]:
    """Consecutive numbers as runs of at most 500, dealt over the main shelves by their place in the lot.

    The place decides, not the call: two imports of neighbouring chunks never agree on one shelf by accident.

    Example:
        >>> spread(400, 700, 4)
        {0: [(400, 100)], 1: [(500, 500)], 2: [(1000, 100)]}
    """
    dealt: dict[int, list[Run]] = {}
    while count:
        block = start // RUN_SIZE
        part = min(count, (block + 1) * RUN_SIZE - start)
        dealt.setdefault(block % shards, []).append((start, part))
        start, count = start + part, count - part
    return dealt


def journal_key(order_id: str, quantity: int, take_id: str) -> str:
    """The name of a take inside a shelf; short, because it is paid for by the byte."""
    return f"{order_id.removeprefix('ord_')}.{quantity}.{take_id}"


def read_journal_key(key: str) -> Entry:
    """The inverse of `journal_key`.

    Example:
        >>> read_journal_key(journal_key("ord_0123456789abcdef", 5, "1abcdefghjkmn"))
        Entry(order_id='ord_0123456789abcdef', quantity=5, take_id='1abcdefghjkmn')
    """
    order, quantity, take_id = key.rsplit(".", 2)
    return Entry(f"ord_{order}", int(quantity), take_id)


def entries_older(journal: Iterable[str], seconds: int, now: int) -> list[str]:
    """Journal keys whose take began at least so long ago."""
    return [key for key in journal if taken_at(read_journal_key(key).take_id) <= now - seconds]


def entries_to_settle(journal: Iterable[str], now: int) -> list[str]:
    """Journal keys whose take began 30 seconds ago or earlier: by now their order exists, or never will."""
    return entries_older(journal, GRACE_SECONDS, now)


def entries_owned(journal: Iterable[str], takes: Mapping[str, set[str]]) -> list[str]:
    """Journal keys whose order exists *with that very take*.

    An order that merely exists proves nothing: of a double submit only one take became the order's.
    """
    entries = [(key, read_journal_key(key)) for key in journal]
    return [key for key, entry in entries if entry.take_id in takes.get(entry.order_id, ())]


def may_help(entries: int, dice: random.Random) -> bool:
    """Whether a buyer who meets a journal of that length looks after others' entries too; likelier as it grows."""
    return entries > HELP_ABOVE and dice.random() < (entries - HELP_ABOVE) / (HELP_ALWAYS - HELP_ABOVE)


def is_fragmented(runs: tuple[Run, ...]) -> bool:
    """Whether joining neighbours is worth a write: many runs, and joining makes them fewer by a quarter."""
    return len(runs) > _FRAGMENTED_RUNS and len(join(runs)) <= len(runs) * 3 // 4


def sort_lots(lots: Iterable[OpenLot]) -> list[OpenLot]:
    """Selling order: earliest expiry first, then the one opened first (lot ids sort by time)."""
    return sorted(lots, key=lambda lot: (lot.expires_at, lot.lot_id))


def sellable(lots: Iterable[OpenLot], now: int) -> list[OpenLot]:
    return [lot for lot in lots if lot.expires_at > now]


def add_up(shelves: Iterable[Shelf], held: int, now: int) -> Stock:
    """The stock figures of a product.

    `available`, `expired` and `quarantined` are exact. `held` trails by the lag of the change stream, so it is kept
    within what is not elsewhere; `sold` is the rest: the parts always add up to the import. Nothing disables keys yet.

    Example:
        >>> add_up([Shelf("l#0", free=6, imported=10), Shelf("l#r0", free=1, quarantined=1)], 5, 0)
        Stock(imported=10, total=10, available=7, held=2, sold=0, expired=0, disabled=0, quarantined=1)
    """
    seen = list(shelves)
    imported = sum(shelf.imported for shelf in seen)
    available = sum(shelf.free for shelf in seen if shelf.expires_at > now)
    expired = sum(shelf.free for shelf in seen if shelf.expires_at <= now)
    quarantined = sum(shelf.quarantined for shelf in seen)
    elsewhere = imported - available - expired - quarantined
    held = max(0, min(held, elsewhere))
    return Stock(
        imported=imported,
        total=imported,
        available=available,
        held=held,
        sold=elsewhere - held,
        expired=expired,
        disabled=0,
        quarantined=quarantined,
    )


@dataclass(frozen=True)
class Held:
    """The running count of a product's held keys, as its row has it.

    `marks` name the latest batches of change records counted in; `counted_at` is when the orders were last counted.
    """

    held: int = 0
    version: int = 0
    marks: tuple[str, ...] = ()
    counted_at: int = 0


def count_in(row: Held, mark: str, changes: Iterable[tuple[int, int]]) -> Held | None:
    """The row after one batch of changes (recorded at, difference); None when there is nothing to write.

    A batch that comes twice is known by its mark. Changes recorded well before the last full count are in that count.
    """
    if mark in row.marks:
        return None
    difference = sum(change for recorded_at, change in changes if recorded_at >= row.counted_at - COUNT_OVERLAP_SECONDS)
    if difference == 0:
        return None
    return Held(row.held + difference, row.version + 1, (*row.marks, mark)[-KEPT_MARKS:], row.counted_at)


def expiry_of(expires_at: int | None) -> int:
    return NEVER if expires_at is None else expires_at
