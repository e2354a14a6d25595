"""A seeded simulation of buyers, payers, expiries, refunds and the sweeper over the real stores and a real table.

Every actor is a thread, but only one runs at a time: it hands over at each AWS call, and a seeded choice says who goes
on and what goes wrong (crash before or after the call, answer lost, conflict, throttling, a long stall). So a seed
always plays the same history. When the faults have stopped and the sweeper has run, `verify` checks the invariants.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.transact import transact
from chalicelib.core import ids
from chalicelib.core.errors import Busy
from chalicelib.inventory import memory, rules, shelf_store, store, sweep_takes, take_store
from chalicelib.inventory.errors import OutOfStock
from chalicelib.inventory.model import Lot
from chalicelib.orders import store as orders
from chalicelib.orders.errors import OrderChanged
from chalicelib.orders.model import Line, Order

START = 1_772_323_200
_REAL_SLEEP = time.sleep
_MEMORY = ("_pools", "_shelves", "_favourites", "_sold_out", "_confirmed")


class Crash(BaseException):
    """The process ends here. Not an Exception, so that no code under test can catch it."""


@dataclass
class Shop:
    """One product with stock of its own inside the shared table, and what its buyers were told."""

    product_id: str
    lots: list[Lot]
    numbers: set[tuple[str, int]] = field(default_factory=set)
    order_ids: set[str] = field(default_factory=set)
    told: dict[str, tuple[int, list]] = field(default_factory=dict)  # order -> (version, keys shown)
    paid: set[str] = field(default_factory=set)
    revealed: dict[str, set] = field(default_factory=dict)

    @classmethod
    def open(cls, seed: int, *, first_lot_ends: int | None = None) -> Shop:
        """Two lots of two main shelves: 12 keys on each shelf."""
        chance = random.Random(seed)
        tag = f"{seed:06d}{chance.getrandbits(40):012x}"[:19]
        shop = cls(f"prd_{tag}", [])
        for number, expires_at in enumerate([first_lot_ends or START + 9_000, None]):
            lot = Lot(f"lot_{number}{tag[1:]}", shop.product_id, 2, 1, expires_at)
            store.open_lot(lot, START)
            transact([write for first in (0, rules.RUN_SIZE) for write in store.add_keys_writes(lot, first, 12)])
            for first in (0, rules.RUN_SIZE):
                shop.numbers |= {(lot.lot_id, first + offset) for offset in range(12)}
            shop.lots.append(lot)
        memory.forget_hints()
        return shop

    def new_order_id(self, chance: random.Random) -> str:
        order_id = "ord_" + ids.to_base32(chance.getrandbits(80), 16)
        self.order_ids.add(order_id)
        return order_id

    @property
    def shelves(self) -> list[str]:
        return [f"{lot.lot_id}#{name}" for lot in self.lots for name in ("0", "1", "r0")]


def take_id_at(now: int, chance: random.Random) -> str:
    return ids.to_base32(now, 7) + ids.to_base32(chance.getrandbits(30), 6)


# -- what actors do: the same order of calls as checkout, expiry, refund -------------------------------------------


def buy(shop: Shop, order_id: str, quantity: int, now: Callable[[], int], chance: random.Random) -> None:
    """Take, write the order, confirm; give back when the order is somebody else's."""
    take_id = take_id_at(now(), chance)
    try:
        taken = store.take(shop.product_id, quantity, order_id=order_id, take_id=take_id, now=now())
    except (OutOfStock, Busy):
        return
    line = Line(1, shop.product_id, "x", quantity, 100, "auto", 0, 0, extents=tuple(taken.extents))
    order = Order(
        order_id, "shop", order_id, now(), now() + 900, 100 * quantity, "CNY", "sandbox", (line,),
        {"buyer_id": "b"}, "h", (take_id,),
    )  # fmt: skip
    try:
        earlier = orders.put_order(order, take_id)
    except OrderChanged:
        store.give_back(taken)
        return
    except Busy:
        return
    if earlier is not None:
        store.give_back(taken)
        return
    store.confirm(taken)
    shop.told[order_id] = (1, taken.extents)


def _write(before: Order, after: Order, *, returns: list | None = None) -> bool:
    try:
        writes = [orders.save_write(before, replace(after, version=before.version + 1))]
        if returns:
            writes += store.return_writes([(before.order_id, returns)])
        transact(writes)
    except (OrderChanged, Busy):
        return False
    return True


def _keys(order: Order) -> list:
    return [extent for line in order.lines for extent in line.extents]


def _without_keys(order: Order) -> Order:
    return replace(order, lines=tuple(replace(line, extents=()) for line in order.lines))


def expire(shop: Shop, order_id: str, now: Callable[[], int], chance: random.Random) -> None:
    order = orders.find_order(order_id)
    if order and order.paid_at is None and order.closed is None:
        _write(order, replace(_without_keys(order), closed="expired"), returns=_keys(order))


def pay(shop: Shop, order_id: str, now: Callable[[], int], chance: random.Random) -> None:
    order = orders.find_order(order_id)
    if (
        order
        and order.paid_at is None
        and order.closed is None
        and _write(order, replace(order, paid_at=now(), paid_minor=1))
    ):
        shop.paid.add(order_id)


def pay_late(shop: Shop, order_id: str, now: Callable[[], int], chance: random.Random) -> None:
    """An expired order is paid after all: it takes keys again, under a new take."""
    order = orders.find_order(order_id)
    if not order or order.closed is None:
        return
    take_id = take_id_at(now(), chance)
    try:
        taken = store.take(shop.product_id, order.lines[0].quantity, order_id=order_id, take_id=take_id, now=now())
    except (OutOfStock, Busy):
        return
    line = replace(order.lines[0], extents=tuple(taken.extents))
    after = replace(order, lines=(line,), closed=None, paid_at=now(), paid_minor=1, takes=(*order.takes, take_id))
    try:
        orders.save(order, replace(after, version=order.version + 1))
    except OrderChanged:
        store.give_back(taken)
        return
    except Busy:
        return
    store.confirm(taken)
    shop.paid.add(order_id)


def reveal(shop: Shop, order_id: str, now: Callable[[], int], chance: random.Random) -> None:
    order = orders.find_order(order_id)
    if order and order.paid_at is not None and order.lines[0].extents and order.lines[0].revealed_at is None:
        after = replace(order, lines=(replace(order.lines[0], revealed_at=now()),))
        if _write(order, after):
            shop.revealed[order_id] = set(_keys(order))


def refund(shop: Shop, order_id: str, now: Callable[[], int], chance: random.Random) -> None:
    order = orders.find_order(order_id)
    if order and order.paid_at is not None and order.lines[0].revealed_at is None and _keys(order):
        _write(order, _without_keys(order), returns=_keys(order))


# -- the machinery --------------------------------------------------------------------------------------------------


class Actor:
    def __init__(self, world: World, work: Callable[[], None], process: dict):
        self.world, self.process, self.wakes_at, self.is_done = world, process, 0, False
        self.in_trouble = False
        self.failure: BaseException | None = None
        self._turn = threading.Semaphore(0)
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.actor = self  # type: ignore[attr-defined]
        self._thread.start()

    def _run(self) -> None:
        self._turn.acquire()
        try:
            self._work()
        except Crash:
            for kept in self.process.values():
                kept.clear()
        except Busy:
            pass
        except ClientError as error:  # a fault of ours that no repeat overcame: this flow fails, nothing else
            if error.response["Error"]["Message"] not in ("answer lost", "throttled", "conflict", "cancelled"):
                self.failure = error
        except BaseException as error:
            self.failure = error
        self.is_done = True
        self.world.resumed.release()

    def hand_over(self) -> None:
        self.world.resumed.release()
        self._turn.acquire()

    def go_on(self) -> None:
        for name, kept in self.process.items():
            setattr(memory, name, kept)
        self._turn.release()
        self.world.resumed.acquire()
        if self.failure:
            raise self.failure


class World:
    """Who acts when, what time it is, and what goes wrong. Three processes, each with a memory of its own."""

    def __init__(self, seed: int, *, fault_rate: float = 0.02):
        self.chance = random.Random(seed)
        self.fault_rate = fault_rate
        self.at = START
        self.steps = 0
        self.actors: list[Actor] = []
        self.resumed = threading.Semaphore(0)
        self.processes = [{name: {} for name in _MEMORY} for _ in range(3)]
        self.faults: dict[str, int] = {}
        memory.dice.seed(seed)

    def now(self) -> int:
        return self.at

    def start(self, work: Callable[[], None]) -> None:
        self.actors.append(Actor(self, work, self.chance.choice(self.processes)))

    def run(self) -> None:
        """Let actors act until all are done; now and then time jumps ahead and the sweeper runs."""
        while self.actors:
            self.steps += 1
            if self.chance.random() < 0.03:
                self.at += self.chance.choice([1, 5, 35, 35])
                self.start(lambda: sweep_takes.sweep_takes(self.at) and None)
            awake = [actor for actor in self.actors if actor.wakes_at <= self.steps] or self.actors
            actor = self.chance.choice(awake)
            actor.go_on()
            if actor.is_done:
                self.actors.remove(actor)

    def _fault(self, actor: Actor, *kinds: str) -> str | None:
        # Faults come together: what was just unanswered is likely to fail again.
        rate, actor.in_trouble = (0.1 if actor.in_trouble else self.fault_rate), False
        if self.chance.random() >= rate * len(kinds):
            return None
        kind = self.chance.choice(kinds)
        self.faults[kind] = self.faults.get(kind, 0) + 1
        return kind

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Put this world between the stores and the table."""
        events = dynamodb().meta.events
        events.register_first("before-call.dynamodb", self._before)
        events.register_last("after-call.dynamodb", self._after)
        time.sleep = self._sleep
        # Memory ages with the history, not with the machine.
        memory.time = SimpleNamespace(monotonic=lambda: self.steps * 0.05)
        try:
            yield
        finally:
            time.sleep, memory.time = _REAL_SLEEP, time
            events.unregister("before-call.dynamodb", self._before)
            events.unregister("after-call.dynamodb", self._after)
            for name in _MEMORY:
                setattr(memory, name, {})

    def _sleep(self, seconds: float) -> None:
        actor = getattr(threading.current_thread(), "actor", None)
        if actor is None:
            _REAL_SLEEP(seconds)
        else:
            actor.hand_over()

    def _before(self, model, **_):
        actor = getattr(threading.current_thread(), "actor", None)
        if actor is None:
            return None
        actor.hand_over()
        fault = self._fault(actor, "crash_before", "conflict", "throttle", "stall")
        if fault == "crash_before":
            raise Crash()
        if fault == "stall":
            actor.wakes_at = self.steps + self.chance.randrange(20, 120)
            actor.hand_over()
        if fault in ("conflict", "throttle"):
            return refusal(fault, model.name)
        return None

    def _after(self, model, **_):
        actor = getattr(threading.current_thread(), "actor", None)
        if actor is None:
            return
        fault = self._fault(actor, "crash_after", "lost_answer")
        if fault == "crash_after":
            raise Crash()
        if fault == "lost_answer" and model.name in ("UpdateItem", "PutItem", "TransactWriteItems"):
            actor.in_trouble = True
            raise ClientError(
                {"Error": {"Code": "InternalServerError", "Message": "answer lost"}, "ResponseMetadata": {}}, model.name
            )


def refusal(fault: str, operation: str):
    """What the table answers when it says 'not now'; nothing was judged or written."""
    parsed: dict = {"ResponseMetadata": {"HTTPStatusCode": 400, "RetryAttempts": 0}}
    if fault == "throttle":
        parsed["Error"] = {"Code": "ProvisionedThroughputExceededException", "Message": "throttled"}
    elif operation == "TransactWriteItems":
        parsed["Error"] = {"Code": "TransactionCanceledException", "Message": "cancelled"}
        parsed["CancellationReasons"] = [{"Code": "TransactionConflict"}]
    elif operation in ("UpdateItem", "PutItem"):
        parsed["Error"] = {"Code": "TransactionConflictException", "Message": "conflict"}
    else:
        return None
    return AWSResponse("", 400, {}, None), parsed


def lower_limits(patch) -> None:
    """Journals of this small world reach the limits that a busy shop reaches."""
    for module in (rules, take_store):
        patch.setattr(module, "JOURNAL_CAP", 6)
    patch.setattr(rules, "HELP_SECONDS", 0)
    patch.setattr(rules, "HELP_ABOVE", 1)
    patch.setattr(rules, "HELP_ALWAYS", 4)


def play(seed: int) -> World:
    """One history of about thirty actors over 48 keys, then quiet, then the proof."""
    world = World(seed)
    chance = random.Random(seed * 7 + 1)
    shop = Shop.open(seed, first_lot_ends=START + 60 if seed % 4 == 0 else None)
    with world.hooked():
        for _ in range(chance.randrange(7, 12)):
            order_id = shop.new_order_id(chance)
            quantity = chance.choice([1, 1, 2, 3, 5, 12, 20])
            for _ in range(chance.choice([1, 1, 1, 2])):  # sometimes the same order is submitted twice
                world.start(lambda o=order_id, q=quantity: buy(shop, o, q, world.now, chance))
        world.run()
        for act in (expire, pay, expire, pay_late, refund, reveal):
            for order_id in sorted(shop.order_ids):
                if chance.random() < 0.4:
                    world.start(lambda a=act, o=order_id: a(shop, o, world.now, chance))
            for _ in range(chance.randrange(3)):
                order_id = shop.new_order_id(chance)
                world.start(lambda o=order_id: buy(shop, o, chance.choice([1, 2, 9]), world.now, chance))
            if chance.random() < 0.5:
                world.run()
        world.run()
    world.at += rules.GRACE_SECONDS + 1
    quiesce(world.at)
    verify(shop, world.at)
    return world


def quiesce(now: int) -> None:
    """The faults have stopped: two runs of the sweeper, a minute apart."""
    sweep_takes.sweep_takes(now)
    sweep_takes.sweep_takes(now + 60)


def verify(shop: Shop, now: int, *, by_selling_the_rest: bool = True) -> None:
    """The invariants. AssertionError names the one that does not hold."""
    shelves = [shelf_store.get_shelf(shelf_id) for shelf_id in shop.shelves]
    placed = {order.order_id: order for order in orders.get_orders(sorted(shop.order_ids))}
    free = [(s.lot_id, first + offset) for s in shelves for first, count in s.runs for offset in range(count)]
    sold = [
        (lot_id, first + offset)
        for order in placed.values()
        for lot_id, first, count in _keys(order)
        for offset in range(count)
    ]
    assert len(set(free + sold)) == len(free + sold), "a key is in two places"
    assert set(free + sold) == shop.numbers, "a key is lost"
    assert not any(shelf.journal for shelf in shelves), "a take was never settled"
    assert all(shelf.free == rules.count_keys(shelf.runs) for shelf in shelves), "the free count is wrong"
    assert all(count > 0 for shelf in shelves for _, count in shelf.runs), "an empty run"
    for order_id, (version, shown) in shop.told.items():
        assert order_id in placed, "a buyer was shown an order that does not exist"
        assert placed[order_id].version != version or _keys(placed[order_id]) == shown, "shown keys are not the order's"
    for order_id in shop.paid:
        assert placed[order_id].closed is None and placed[order_id].paid_at is not None, "a paid order ended unpaid"
    for order_id, keys in shop.revealed.items():
        assert set(_keys(placed[order_id])) == keys, "revealed keys left their order"
    if not by_selling_the_rest:
        return
    left = sum(shelf.free for shelf in shelves if shelf.expires_at > now)
    drained = drain(shop, now)
    assert len(drained) == len(set(drained)) == left, "what was left could not be sold"
    assert not set(drained) & set(sold), "a sold key was sold again"


def drain(shop: Shop, now: int) -> list[tuple[str, int]]:
    """Buy everything that is left, in large pieces and then in small ones."""
    memory.forget_hints()
    chance = random.Random(now)
    keys: list[tuple[str, int]] = []
    for quantity in (13, 5, 1):
        while True:
            order_id = "ord_" + ids.to_base32(chance.getrandbits(80), 16)
            try:
                taken = store.take(
                    shop.product_id, quantity, order_id=order_id, take_id=take_id_at(now, chance), now=now
                )
            except OutOfStock:
                memory.forget_sold_out()
                break
            keys += [(lot_id, first + n) for lot_id, first, count in taken.extents for n in range(count)]
    return keys
