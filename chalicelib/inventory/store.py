"""Stock: take keys, give them back, put imported and returned keys on sale, count them. The front door of inventory.

Called by checkout, fulfilment, refunds, imports and the sweeper. It knows no rows itself: shelves are in
`shelf_store` and `take_store`, lots in `pool_store`, the count of held keys in `held_store`. What to try is decided by
`rules.plan_take`.
How it works and why: docs/decisions/0001-extent-allocator.md. It never writes an order.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Sequence

from chalicelib.aws.transact import Write, transact
from chalicelib.core.errors import Busy
from chalicelib.inventory import held_store, memory, pool_store, rules, shelf_store, take_store
from chalicelib.inventory.errors import LotNotFound, OutOfStock
from chalicelib.inventory.model import Extent, Lot, OpenLot, Piece, Run, Shelf, Stock, Take
from chalicelib.inventory.take_store import Attempt, Doubt, Trial

_TRIES = 30
_TRUST = 3  # failed tries after which a look is too old to go on with
_CLEANED_AT_ONCE = 16
Given = Sequence[tuple[str, Sequence[Extent]]]  # (order id, extents) of orders that give keys back


def take(
    product_id: str, quantity: int, *, order_id: str, take_id: str, now: int, most_lots: int = rules.MAX_LOTS
) -> Take:
    """Lift `quantity` free keys of a product off the shelves for an order that is about to be written.

    Earliest-expiring lot first, all or nothing. One take id may serve several products of an order, but no product
    twice; `most_lots` is what is left of the lots one order may have. When this raises, the caller writes no order
    under it: whatever an unanswered try may still do is swept back.

    Access:  update of one shelf, 1 write; a transaction over several shelves when none has enough; a batch get of the
             product's shelves and pool row when too little is known, and always before a refusal.
    Only if: the keys are free, their lot has not expired, and this take was not noted before.
    Refused: inventory.out_of_stock; service.busy when other buyers were faster every time
    """
    if memory.is_sold_out(product_id, quantity):
        raise OutOfStock()
    search = _Search(product_id, quantity, most_lots)
    doubt: Doubt | None = None
    for number in range(_TRIES):
        step = search.next_step(now)
        if isinstance(step, rules.SoldOut):
            if most_lots == rules.MAX_LOTS:  # of fewer lots it says nothing to the next buyer
                memory.remember_sold_out(product_id, step.free)
            raise OutOfStock()
        if isinstance(step, rules.Look):
            search.look()
            continue
        keys = take_store.journal_keys(step, quantity, order_id, take_id)
        if doubt and doubt.keys != keys:
            # An unanswered try is left for another shelf only after its journal entry has been made impossible.
            landed = take_store.close_doubt(doubt, now)
            if landed:
                return _taken(order_id, take_id, landed, is_clean=False)
            search.closed |= doubt.keys.keys()
            doubt = None
            continue
        attempt = take_store.try_step(step, keys, quantity, now)
        if attempt.taken is not None:
            search.remember_success(step, attempt)
            _help_clean(attempt, now)
            return _taken(order_id, take_id, attempt, is_clean=not attempt.is_repeated and doubt is None)
        if attempt.is_repeated:
            doubt = Doubt(keys, step)
        search.remember_refusal(step, attempt)
        for shelf in attempt.shelves:
            if len(shelf.journal) >= rules.JOURNAL_CAP:
                _clean(shelf)
        if number > 1 or attempt.is_busy:
            time.sleep(memory.dice.uniform(0, 0.01 * 2 ** min(number, 5)))
    raise Busy()


def take_for(wanted: Sequence[tuple[str, int]], *, order_id: str, take_id: str, now: int, taken: list[Take]) -> None:
    """Take keys of several products for one order, appending to `taken` as it goes, so that a failure half-way can be
    given back. All together come from at most 90 lots, and every product still to come is left at least one.

    Raises: as `take`
    """
    left = rules.MAX_LOTS
    for number, (product_id, quantity) in enumerate(wanted):
        most_lots = left - (len(wanted) - number - 1)
        taken.append(take(product_id, quantity, order_id=order_id, take_id=take_id, now=now, most_lots=most_lots))
        left -= len({extent[0] for extent in taken[-1].extents})


class _Search:
    """What one take knows of the shelves while it tries: from memory at first, from the table as it goes on."""

    def __init__(self, product_id: str, quantity: int, most_lots: int) -> None:
        self.product_id, self.quantity, self.most_lots = product_id, quantity, most_lots
        lots = memory.recall_pool(product_id)
        if lots is None:
            lots = pool_store.get_lots(product_id)
            memory.remember_pool(product_id, lots)
        self.lots = lots
        self.known = memory.recall_shelves([shelf_id for lot in lots for shelf_id in lot.shelves])
        self.favourite = memory.recall_favourite(product_id)
        self.avoided: set[str] = set()  # busy or with a full journal at this moment
        self.closed: set[str] = set()  # closed for this take until it is swept
        self.is_fresh = False
        self.tries_since_look = _TRUST  # nothing was looked at in this call yet

    def next_step(self, now: int) -> rules.Step:
        """The next thing to try. A refusal only after a look, never while keys lie on shelves that were passed over.

        Raises: service.busy when the rest of the stock lies on shelves closed for this take: another take may have it.
        """
        step = rules.plan_take(
            self.quantity, rules.sellable(self.lots, now), self.known, is_fresh=self.is_fresh, dice=memory.dice,
            favourite=self.favourite, avoided=frozenset(self.avoided | self.closed), most_lots=self.most_lots,
        )  # fmt: skip
        if not isinstance(step, rules.SoldOut):
            return step
        if any(self.known[shelf_id].free for shelf_id in self.closed & self.known.keys()):
            raise Busy()
        if self.avoided:
            self.avoided.clear()
            return rules.Look()
        return step

    def look(self) -> None:
        self.lots, self.known, _ = _look(self.product_id, self.lots)
        self.is_fresh, self.tries_since_look = True, 0

    def remember_success(self, step: Trial, attempt: Attempt) -> None:
        for shelf in attempt.shelves:
            memory.remember_shelf(shelf)
        if not isinstance(step, rules.Gather):
            # Many buyers in one process would all crowd on one shelf: with a long journal it is nobody's favourite.
            crowded = any(len(shelf.journal) > rules.HELP_ABOVE for shelf in attempt.shelves)
            memory.remember_favourite(self.product_id, None if crowded else step.shelf_id)

    def remember_refusal(self, step: Trial, attempt: Attempt) -> None:
        """The shelves that refused are known anew; what else was known has aged, so no refusal rests on it."""
        self.is_fresh, self.tries_since_look = False, self.tries_since_look + 1
        refused = {shelf.shelf_id: shelf for shelf in attempt.shelves}
        for shelf in attempt.shelves:
            memory.remember_shelf(shelf)
        self.known = {**(self.known if self.tries_since_look < _TRUST else {}), **refused}
        self.favourite = next((shelf_id for shelf_id, shelf in refused.items() if shelf.free >= self.quantity), None)
        self.avoided |= {shelf.shelf_id for shelf in attempt.shelves if len(shelf.journal) >= rules.JOURNAL_CAP}
        if attempt.is_busy and not isinstance(step, rules.Gather):
            self.avoided.add(step.shelf_id)


def _look(
    product_id: str, lots: list[OpenLot], *also: dict[str, dict]
) -> tuple[list[OpenLot], dict[str, Shelf], list[dict]]:
    """Pool and all shelves, strongly consistent, in one batch; in two when the pool has changed since it was read.

    Rows of the product whose keys are given in `also` come with the same batch.
    """
    found_lots, shelves, others = _read_all(product_id, lots, also)
    if found_lots != lots:
        lots, shelves, others = _read_all(product_id, found_lots, also)
    memory.remember_pool(product_id, lots)
    for shelf in shelves:
        memory.remember_shelf(shelf)
    return lots, {shelf.shelf_id: shelf for shelf in shelves}, others


def _read_all(
    product_id: str, lots: list[OpenLot], also: Sequence[dict[str, dict]]
) -> tuple[list[OpenLot], list[Shelf], list[dict]]:
    pool_key = pool_store.pool_key(product_id)
    shelf_keys = [shelf_store.shelf_key(shelf_id) for lot in lots for shelf_id in lot.shelves]
    pools, shelves, others = [], [], []
    for row in shelf_store.read_rows([pool_key, *shelf_keys, *also]):
        key = {"pk": row["pk"], "sk": row["sk"]}
        if key == pool_key:
            pools.append(pool_store.read_pool_row(row))
        elif key in also:
            others.append(row)
        else:
            shelves.append(shelf_store.read_shelf(row))
    return (pools[0] if pools else []), shelves, others


def _taken(order_id: str, take_id: str, attempt: Attempt, *, is_clean: bool) -> Take:
    pieces = [
        Piece(
            allocator=shelf_id,
            journal_key=rules.journal_key(order_id, rules.count_keys(runs), take_id),
            extents=tuple((rules.lot_id_of(shelf_id), start, count) for start, count in runs),
            is_clean=is_clean,
        )
        for shelf_id, runs in (attempt.taken or {}).items()
    ]
    return Take(order_id, take_id, tuple(pieces))


def _help_clean(attempt: Attempt, now: int) -> None:
    """Look after other buyers' entries when a journal has grown long; they leave with this process's next take."""
    for shelf in attempt.shelves:
        if rules.may_help(len(shelf.journal), memory.dice):
            with contextlib.suppress(Exception):  # the keys are taken; the sweeper tidies up what this cannot
                old = rules.entries_older(shelf.journal, rules.HELP_SECONDS, now)
                memory.remember_removable(shelf.shelf_id, _owned(old))


def _clean(shelf: Shelf) -> None:
    """A full journal blocks its shelf: remove at once what is settled."""
    settled = _owned(list(shelf.journal))
    if settled:
        shelf_store.drop_entries(shelf.shelf_id, settled)


def _owned(journal: list[str]) -> list[str]:
    """Those of up to 16 of the entries, picked by chance, whose order exists with that very take."""
    from chalicelib.orders.store import list_takes

    entries = memory.dice.sample(sorted(journal), min(_CLEANED_AT_ONCE, len(journal)))
    takes = list_takes(sorted({rules.read_journal_key(key).order_id for key in entries}))
    return rules.entries_owned(entries, takes)


def give_back(taken: Take) -> None:
    """Put the keys of a take back that no order will own. Repeating it, or racing the sweeper, changes nothing.

    Access:  update of each shelf taken from, 1 write each.
    Only if: the shelf's journal still has the take's entry; the same write removes it.
    """
    for piece in taken.pieces:
        runs = tuple((start, count) for _, start, count in piece.extents)
        shelf_store.put_back(piece.allocator, piece.journal_key, runs)
    memory.forget_sold_out()


def cost_minor_of(product_id: str, extents: Sequence[Extent]) -> int | None:
    """What these keys cost us, in the product's currency; None when the cost of some is not known.

    Access: none right after a take; else one read of the pool row.
    """
    lots = memory.recall_pool(product_id) or pool_store.get_lots(product_id)
    costs = {lot.lot_id: lot.unit_cost_minor for lot in lots}
    if not extents or any(costs.get(lot_id) is None for lot_id, _, _ in extents):
        return None
    return sum(costs[lot_id] * count for lot_id, _, count in extents)


def confirm(taken: Take) -> None:
    """The order that owns this take is written: its journal entries may go. The next take here removes them."""
    memory.remember_confirmed(taken.pieces)


def return_writes(returned: Given, quarantined: Given = ()) -> list[Write]:
    """Entries that put keys of closed orders back on sale, and count keys that must never be sold again.

    One entry per lot, whatever the number of orders: all go to one return shelf, picked by the first order's id, so
    that batches spread while each stays cheap. Pass both kinds of one transaction together: a row may be in it once.

    Access:  an update of L#<lot>#r<n>/A per lot; get LOT#<lot>/LOT once per process.
    Only if: the lot exists. That the orders held the keys until now is the condition of the orders' own entries.
    Refused: inventory.lot_not_found
    """
    first = min((order_id for order_id, _ in (*returned, *quarantined)), default="")
    runs: dict[str, list[Run]] = {}
    spoiled: dict[str, int] = {}
    for _, extents in returned:
        for lot_id, start, count in extents:
            runs.setdefault(lot_id, []).append((start, count))
    for _, extents in quarantined:
        for lot_id, _, count in extents:
            spoiled[lot_id] = spoiled.get(lot_id, 0) + count
    memory.forget_sold_out()
    writes = []
    for lot_id in sorted(runs.keys() | spoiled.keys()):
        shelf_id = f"{lot_id}#r{zlib.crc32(first.encode()) % pool_store.get_return_shards(lot_id)}"
        joined = list(rules.join(runs.get(lot_id, [])))
        writes.append(shelf_store.return_write(shelf_id, joined, spoiled.get(lot_id, 0)))
    return writes


def quarantine_writes(quarantined: Given) -> list[Write]:
    """Entries that count keys as quarantined: refunded after somebody may have read them. See `return_writes`."""
    return return_writes((), quarantined)


def open_lot(lot: Lot, now: int) -> None:
    """Create a lot, its empty shelves and its place in the product's selling order. Repeating it changes nothing.

    Access:  transaction of LOT#<lot>/LOT and its shelves (at most 81 puts); get and update POOL#<product>/META.
    Only if: the lot is new; the pool's version is the one read.
    """
    expires_at = rules.expiry_of(lot.expires_at)
    already_open = LotNotFound()  # stands for 'the rows exist': caught here, shown to nobody
    opened = OpenLot(lot.lot_id, expires_at, lot.shards, lot.return_shards)
    try:
        transact([
            pool_store.new_lot_write(lot, now, already_open),
            *shelf_store.new_shelf_writes(opened, already_open),
        ])  # fmt: skip
    except LotNotFound as refused:
        if refused is not already_open:
            raise
    pool_store.add_to_pool(lot)
    memory.forget_pool(lot.product_id)
    memory.forget_sold_out()


def add_keys_writes(lot: Lot, start: int, count: int) -> list[Write]:
    """Entries that put consecutive new numbers of a lot on sale, for one transaction with the caller's own marker.

    Access:  an update per shelf met: one per 500 numbers, rounded up.
    Only if: the lot was opened. That the numbers are new is the condition of the caller's marker.
    Refused: inventory.lot_not_found
    """
    memory.forget_sold_out()
    dealt = rules.spread(start, count, lot.shards)
    return [shelf_store.add_runs_write(f"{lot.lot_id}#{shard}", runs) for shard, runs in sorted(dealt.items())]


def read_stock(product_id: str, now: int) -> Stock:
    """Where every key of a product is at this moment.

    Access: a batch get of the pool row, its shelves and POOL#<product>/HELD, strongly consistent; one read of the pool
            before it when this process does not know the lots.
    """
    lots = memory.recall_pool(product_id)
    if lots is None:
        lots = pool_store.get_lots(product_id)
    _, shelves, others = _look(product_id, lots, held_store.held_key(product_id))
    return rules.add_up(shelves.values(), sum(held_store.read_held_row(row).held for row in others), now)
