"""Stock to test with, orders that own takes, and a counter of requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.transact import transact
from chalicelib.core.ids import new_id, new_take_id
from chalicelib.inventory import memory, rules, shelf_store, store
from chalicelib.inventory.model import Lot, Shelf, Take
from chalicelib.orders import store as orders
from chalicelib.orders.model import Line, Order

NOW = 1_772_323_200
PRODUCT = "prd_00000000000000000aa"


def order_id(number: int) -> str:
    return f"ord_{number:016d}"


def lot_id() -> str:
    return new_id("lot", NOW)


def stock(keys: int, *, expires_at: int | None = None, shards: int | None = None, product_id: str = PRODUCT) -> Lot:
    """An open lot with that many keys on sale, chunk by chunk as an import adds them."""
    main, returns = rules.shelves_for(keys)
    lot = Lot(lot_id(), product_id, shards or main, returns, expires_at)
    store.open_lot(lot, NOW)
    for first in range(0, keys, 20_000):
        transact(store.add_keys_writes(lot, first, min(20_000, keys - first)))
    memory.forget_hints()
    return lot


def take(quantity: int, number: int = 1, *, now: int = NOW, product_id: str = PRODUCT) -> Take:
    return store.take(product_id, quantity, order_id=order_id(number), take_id=new_take_id(now), now=now)


def place(taken: Take, *, quantity: int | None = None, expires_at: int = NOW + 900, product_id: str = PRODUCT) -> Order:
    """The unpaid order that owns a take."""
    count = quantity or sum(count for _, _, count in taken.extents)
    line = Line(1, product_id, "x", count, 100, "auto", 0, 0, extents=tuple(taken.extents))
    order = Order(
        taken.order_id, "shop", taken.order_id, NOW, expires_at, 100 * count, "CNY", "sandbox", (line,), {}, "h",
        (taken.take_id,),
    )  # fmt: skip
    assert orders.put_order(order, taken.take_id) is None
    return order


def shelf(shelf_id: str) -> Shelf:
    found = shelf_store.get_shelf(shelf_id)
    assert found is not None
    return found


def all_shelves(lot: Lot) -> list[Shelf]:
    names = [str(number) for number in range(lot.shards)] + [f"r{number}" for number in range(lot.return_shards)]
    return [shelf(f"{lot.lot_id}#{name}") for name in names]


@contextmanager
def _counting() -> Iterator[Counter]:
    calls: Counter = Counter()

    def count(model, **_):
        calls[model.name] += 1

    events = dynamodb().meta.events
    events.register("before-call.dynamodb", count)
    try:
        yield calls
    finally:
        events.unregister("before-call.dynamodb", count)


@pytest.fixture
def counting() -> Callable:
    """`with counting() as calls:` counts requests by operation."""
    return _counting


@contextmanager
def _answer_lost(operation: str, times: int = 1) -> Iterator[None]:
    """The next calls of that operation are carried out, but their caller sees an internal error."""
    from botocore.exceptions import ClientError

    left = [times]

    def lose(model, **_):
        if model.name == operation and left[0]:
            left[0] -= 1
            raise ClientError({"Error": {"Code": "InternalServerError", "Message": "lost"}}, operation)

    events = dynamodb().meta.events
    events.register("after-call.dynamodb", lose)
    try:
        yield
    finally:
        events.unregister("after-call.dynamodb", lose)


@pytest.fixture
def answer_lost() -> Callable:
    return _answer_lost


@contextmanager
def _busy(times: int, operation: str = "UpdateItem") -> Iterator[None]:
    """The next calls of that operation meet another transaction: nothing is judged or written."""
    from tests.inventory.simulation import refusal

    left = [times]

    def refuse(model, **_):
        if model.name == operation and left[0]:
            left[0] -= 1
            return refusal("conflict", operation)
        return None

    events = dynamodb().meta.events
    events.register_first("before-call.dynamodb", refuse)
    try:
        yield
    finally:
        events.unregister("before-call.dynamodb", refuse)


@pytest.fixture
def busy() -> Callable:
    return _busy
