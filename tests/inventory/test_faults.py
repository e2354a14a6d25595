"""Takes under faults: seeded histories, every crash point one by one, and proof that the harness can fail.

KAMIFLOW_SEEDS=200 plays more histories than a run of the suite has time for.
"""

from __future__ import annotations

import os
import random

import pytest

from chalicelib.aws.clients import dynamodb
from chalicelib.core.ids import to_base32
from chalicelib.inventory import memory, rules, shelf_store, store, sweep_takes, take_store
from chalicelib.orders import store as orders
from tests.inventory import simulation
from tests.inventory.simulation import START, Crash, Shop

SEEDS = range(1, 1 + int(os.environ.get("KAMIFLOW_SEEDS", "6")))
NOW = START + 5


def test_no_key_is_lost_or_sold_twice_whatever_fails(stack, monkeypatch):
    simulation.lower_limits(monkeypatch)
    faults: dict[str, int] = {}
    for seed in SEEDS:
        try:
            world = simulation.play(seed)
        except AssertionError as broken:
            raise AssertionError(f"seed {seed}: {broken}") from broken
        for kind, count in world.faults.items():
            faults[kind] = faults.get(kind, 0) + count
    kinds = ("crash_before", "crash_after", "lost_answer", "conflict", "throttle", "stall")
    assert all(faults[kind] >= 5 for kind in kinds), f"the faults did not happen: {faults}"


# -- every crash point ----------------------------------------------------------------------------------------------


class CrashAt:
    """Lets a process die before or after its n-th call."""

    def __init__(self, number: int, when: str):
        self.left, self.when, self.calls = number, when, 0

    def before(self, **_):
        self.calls += 1
        if self.when == "before" and self.calls == self.left:
            raise Crash()

    def after(self, **_):
        if self.when == "after" and self.calls == self.left:
            raise Crash()

    def run(self, work) -> bool:
        """Whether the work was interrupted."""
        events = dynamodb().meta.events
        events.register_first("before-call.dynamodb", self.before)
        events.register_last("after-call.dynamodb", self.after)
        try:
            work()
        except Crash:
            memory.forget_hints()
            return True
        finally:
            events.unregister("before-call.dynamodb", self.before)
            events.unregister("after-call.dynamodb", self.after)
        return False


def _buy(shop: Shop, order_id: str, quantity: int) -> None:
    simulation.buy(shop, order_id, quantity, lambda: NOW, random.Random(order_id + str(quantity)))


def _stray(shop: Shop, order_id: str) -> None:
    """Keys lifted by a process that then died: work for the sweeper."""
    take_id = to_base32(START - 60, 7) + "strays"
    store.take(shop.product_id, 3, order_id=order_id, take_id=take_id, now=NOW)


FLOWS = {
    "one key": (lambda shop, order_id: None, lambda shop, order_id: _buy(shop, order_id, 1)),
    "keys of several shelves and lots": (lambda shop, order_id: None, lambda shop, order_id: _buy(shop, order_id, 30)),
    "the same order twice": (
        lambda shop, order_id: _buy(shop, order_id, 2),
        lambda shop, order_id: simulation.buy(shop, order_id, 2, lambda: NOW, random.Random(9)),
    ),
    "expiry": (
        lambda shop, order_id: _buy(shop, order_id, 5),
        lambda shop, order_id: simulation.expire(shop, order_id, lambda: NOW, random.Random(1)),
    ),
    "paid too late": (
        lambda shop, order_id: (
            _buy(shop, order_id, 14),
            simulation.expire(shop, order_id, lambda: NOW, random.Random(1)),
        ),
        lambda shop, order_id: simulation.pay_late(shop, order_id, lambda: NOW, random.Random(1)),
    ),
    "the sweeper": (_stray, lambda shop, order_id: sweep_takes.sweep_takes(NOW)),
}


@pytest.mark.parametrize("name", FLOWS)
def test_a_crash_before_or_after_any_call_is_healed_by_one_sweep(stack, name):
    prepare, work = FLOWS[name]
    number, crashes = 0, 0
    is_running = True
    while is_running:
        number += 1
        for when in ("before", "after"):
            shop = Shop.open(number * 2 + (when == "after"))
            order_id = shop.new_order_id(random.Random(f"{name}{number}{when}"))
            prepare(shop, order_id)
            memory.forget_hints()
            is_running = CrashAt(number, when).run(lambda shop=shop, order_id=order_id: work(shop, order_id))
            crashes += is_running
            sweep_takes.sweep_takes(NOW + rules.GRACE_SECONDS)
            simulation.verify(shop, NOW, by_selling_the_rest=False)
    assert crashes >= 6


# -- broken on purpose ----------------------------------------------------------------------------------------------


def _without_journal_condition(patch):
    real = take_store._take_expressions
    cut = "attribute_not_exists(j.#t) AND "

    def broken(step, quantity):
        update, condition, values = real(step, quantity)
        return update, condition.replace(cut, ""), values

    patch.setattr(take_store, "_take_expressions", broken)


def _without_runs_condition(patch):
    real = take_store._take_expressions

    def broken(step, quantity):
        update, condition, values = real(step, quantity)
        return update, condition.replace(" AND runs = :seen", " AND :seen = :seen"), values

    patch.setattr(take_store, "_take_expressions", broken)


def _unconditional_give_back(patch):
    real = shelf_store._conditional

    def broken(request):
        return real({**request, "ConditionExpression": request["ConditionExpression"].replace("j.#t", "pk")})

    patch.setattr(shelf_store, "_conditional", broken)


def _give_back_keeps_the_entry(patch):
    real = shelf_store._conditional

    def broken(request):
        return real({**request, "UpdateExpression": request["UpdateExpression"].replace(" REMOVE j.#t", "")})

    patch.setattr(shelf_store, "_conditional", broken)


def _no_fence(patch):
    def broken(order_id, take_id, now):
        return take_id in orders.list_takes([order_id]).get(order_id, ())

    patch.setattr(sweep_takes, "fence_take", broken)


def _clean_up_ignores_the_take_id(patch):
    def broken(journal, takes):
        return [key for key in journal if rules.read_journal_key(key).order_id in takes]

    patch.setattr(rules, "entries_owned", broken)


def _unanswered_try_is_left_open(patch):
    patch.setattr(take_store, "close_doubt", lambda doubt, now: None)


def _confirmed_before_the_order_is_written(patch):
    real = store.take

    def broken(*arguments, **named):
        taken = real(*arguments, **named)
        store.confirm(taken)
        return taken

    patch.setattr(store, "take", broken)


# With the history that is known to notice: the search goes on from there when calls come in another order one day.
MUTANTS = {
    _without_journal_condition: 17,
    _without_runs_condition: 1,
    _unconditional_give_back: 5,
    _give_back_keeps_the_entry: 1,
    _no_fence: 5,
    _clean_up_ignores_the_take_id: 1,
    _unanswered_try_is_left_open: 48,
    _confirmed_before_the_order_is_written: 7,
}


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__.strip("_"))
def test_the_simulation_notices_when_a_safeguard_is_missing(stack, monkeypatch, mutate):
    simulation.lower_limits(monkeypatch)
    mutate(monkeypatch)
    first = MUTANTS[mutate]
    for seed in range(first, first + 60):
        try:
            simulation.play(seed)
        except (AssertionError, ValueError):
            return
    pytest.fail("sixty histories went well without this safeguard")
