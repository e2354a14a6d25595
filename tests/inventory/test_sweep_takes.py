"""Settling takes whose process never came back."""

from __future__ import annotations

import pytest

from chalicelib.aws.due import list_due
from chalicelib.aws.transact import transact
from chalicelib.inventory import rules, shelf_store, store
from chalicelib.inventory.sweep_takes import Swept, sweep_takes
from chalicelib.orders import store as orders
from chalicelib.orders.errors import OrderChanged
from tests.inventory.conftest import NOW, all_shelves, order_id, place, shelf, stock, take

pytestmark = pytest.mark.usefixtures("stack")
LATER = NOW + rules.GRACE_SECONDS


def test_keys_of_a_take_without_an_order_go_back_on_sale():
    lot = stock(300)
    take(5)
    assert sweep_takes(LATER) == Swept(shelves=1, dropped=0, given_back=1)
    after = shelf(f"{lot.lot_id}#0")
    assert (after.free, after.journal) == (300, {})


def test_keys_of_a_take_that_an_order_owns_stay_with_it():
    lot = stock(300)
    order = place(take(5))
    assert sweep_takes(LATER) == Swept(shelves=1, dropped=1, given_back=0)
    after = shelf(f"{lot.lot_id}#0")
    assert (after.free, after.journal) == (295, {})
    assert orders.get_order(order.order_id).lines[0].extents == order.lines[0].extents


def test_a_swept_take_can_no_longer_become_an_order():
    lot = stock(300)
    taken = take(5)
    sweep_takes(LATER)
    with pytest.raises(OrderChanged):
        place(taken)
    store.give_back(taken)
    assert shelf(f"{lot.lot_id}#0").free == 300


def test_of_two_takes_for_one_order_the_one_it_does_not_own_goes_back():
    lot = stock(300)
    place(take(5, 1))
    take(5, 1)
    assert sweep_takes(LATER) == Swept(shelves=1, dropped=1, given_back=1)
    assert shelf(f"{lot.lot_id}#0").free == 295


def test_a_take_younger_than_half_a_minute_is_left_alone_and_looked_at_later():
    lot = stock(300)
    take(5, 1, now=NOW)
    young = take(5, 2, now=NOW + 1)
    assert sweep_takes(LATER).given_back == 1
    assert list(shelf(f"{lot.lot_id}#0").journal) == [young.pieces[0].journal_key]
    assert sweep_takes(LATER + rules.GRACE_SECONDS).given_back == 1
    assert shelf(f"{lot.lot_id}#0").free == 300


def test_a_settled_shelf_leaves_the_index_of_what_is_due():
    stock(300)
    take(5)
    assert len(list(list_due("take", LATER))) == 1
    sweep_takes(LATER)
    assert list(list_due("take", LATER + 10_000)) == []


def test_a_take_that_slips_in_keeps_its_shelf_in_the_index():
    lot = stock(300)
    take(5)
    shelf_store.set_next_sweep(f"{lot.lot_id}#0", NOW)
    assert len(list(list_due("take", LATER))) == 1


def test_sweeping_again_changes_nothing():
    lot = stock(300)
    take(5)
    sweep_takes(LATER)
    before = all_shelves(lot)
    assert sweep_takes(LATER + 60) == Swept()
    assert all_shelves(lot) == before


def test_a_take_over_several_shelves_goes_back_to_each():
    lot = stock(1_500)
    take(1_200)
    assert sweep_takes(LATER).given_back == 3
    assert [one.free for one in all_shelves(lot)][:3] == [500, 500, 500]


def test_many_returned_keys_are_joined_into_few_runs():
    lot = stock(300)
    parts = [(order_id(number), [(lot.lot_id, number, 1)]) for number in range(30)]
    take(30)
    for part in parts:
        transact(store.return_writes([part]))
    assert len(shelf(f"{lot.lot_id}#r0").runs) == 30
    sweep_takes(NOW)
    after = shelf(f"{lot.lot_id}#r0")
    assert (after.runs, after.free) == (((0, 30),), 30)
