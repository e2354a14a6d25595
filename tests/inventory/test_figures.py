"""The count of held keys: from change records, from the orders themselves, and both at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.aws.rows import to_row
from chalicelib.inventory import figures, held_store, store
from chalicelib.inventory.figures import Change, count_changes, recount_held
from chalicelib.inventory.rules import Held
from chalicelib.inventory.workers import count_records
from chalicelib.orders import store as orders
from chalicelib.orders.rules import close
from tests.inventory.conftest import NOW, PRODUCT, place, stock, take

pytestmark = pytest.mark.usefixtures("stack")


def pending(quantity: int, product_id: str = PRODUCT) -> dict:
    return {"st": "pending_payment", "lines": [{"p": product_id, "q": quantity}]}


def held(product_id: str) -> int:
    return held_store.get_row(product_id).held


def placed(sequence: str, quantity: int, **more) -> Change:
    return Change(sequence, NOW, {}, pending(quantity, **more))


def test_held_keys_follow_the_orders():
    count_changes([placed("1", 3), placed("2", 4)])
    count_changes([Change("3", NOW, pending(3), {"st": "paid", "lines": [{"p": PRODUCT, "q": 3}]})])
    assert held(PRODUCT) == 4


def test_a_batch_delivered_twice_counts_once():
    batch = [placed("1", 3), placed("2", 4)]
    count_changes(batch)
    row = held_store.get_row(PRODUCT)
    count_changes(batch)
    assert held_store.get_row(PRODUCT) == row


def test_a_batch_that_was_half_counted_is_completed(monkeypatch):
    batch = [placed("1", 3), placed("2", 4, product_id="prd_z")]
    with monkeypatch.context() as patch:
        real = held_store.put_row
        patch.setattr(held_store, "put_row", lambda product, row: product != "prd_z" and real(product, row))
        with pytest.raises(Exception, match=r"service\.busy"):
            count_changes(batch)
    count_changes(batch)
    assert (held(PRODUCT), held("prd_z")) == (3, 4)


def test_a_count_is_written_only_over_the_version_it_was_made_from():
    assert held_store.put_row(PRODUCT, Held(5, 1))
    assert not held_store.put_row(PRODUCT, Held(9, 1))
    assert not held_store.put_row(PRODUCT, Held(9, 3))
    assert held_store.get_row(PRODUCT) == Held(5, 1)
    assert held_store.put_row(PRODUCT, Held(6, 2))


def test_the_orders_themselves_are_counted_when_no_record_ever_came():
    stock(300)
    place(take(5, 1))
    place(take(2, 2))
    assert recount_held(NOW) == 1
    assert store.read_stock(PRODUCT, NOW).held == 7
    assert recount_held(NOW + 60) == 0


def test_a_figure_returns_to_zero_although_no_record_came():
    stock(300)
    order = place(take(5, 1))
    recount_held(NOW)
    orders.save(order, close(order, "cancelled", NOW, "shop"))
    assert recount_held(NOW + 60) == 1
    assert held(PRODUCT) == 0
    assert held_store.list_products(NOW + 60) == []


def test_a_wrong_figure_without_any_order_is_corrected():
    count_changes([placed("1", 3)])
    assert recount_held(NOW) == 1
    assert held(PRODUCT) == 0


def test_a_figure_that_was_zero_is_corrected_too():
    held_store.put_row(PRODUCT, Held(0, 1))
    stock(300)
    place(take(5, 1))
    recount_held(NOW)
    assert held(PRODUCT) == 5


def test_a_change_counted_during_the_walk_is_not_overwritten(monkeypatch):
    count_changes([placed("1", 3)])
    real = figures.list_timeline

    def walk(*span):
        count_changes([placed("2", 4)])
        return real(*span)

    monkeypatch.setattr(figures, "list_timeline", walk)
    assert recount_held(NOW) == 0
    assert held(PRODUCT) == 7


def test_records_older_than_the_last_count_do_not_count_again():
    stock(300)
    place(take(5, 1))
    recount_held(NOW)
    count_changes([replace(placed("1", 5), recorded_at=NOW - 60)])
    assert held(PRODUCT) == 5


def test_a_large_slice_is_counted_in_the_first_minute_of_an_hour_only(monkeypatch):
    monkeypatch.setattr(figures, "SMALL_SLICE_ORDERS", 1)
    stock(300)
    place(take(5, 1))
    place(take(2, 2))
    assert NOW % 3_600 == 0
    assert recount_held(NOW - 60) == 0
    assert recount_held(NOW) == 1


def test_the_worker_counts_order_records_and_passes_over_all_others():
    def record(sequence: str, sk: str, row: dict) -> dict:
        keys = to_row({"pk": "O#ord_1", "sk": sk})
        change = {"SequenceNumber": sequence, "ApproximateCreationDateTime": NOW}
        return {"dynamodb": {**change, "Keys": keys, "NewImage": keys | to_row(row)}}

    answer = count_records([
        record("1", "O", pending(3)),
        record("2", "AUDIT#1", {"at": 1}),
        record("3", "O", {"st": "fenced", "fenced": {"t"}}),
    ])  # fmt: skip
    assert answer == {"batchItemFailures": []}
    assert held(PRODUCT) == 3
