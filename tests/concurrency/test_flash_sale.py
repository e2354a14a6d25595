"""Many buyers at once, threads in several processes: nothing is sold twice, nothing is left behind."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from chalicelib.core.errors import Refused
from chalicelib.fulfilment.deliver import deliver_due
from chalicelib.orders import store as orders
from chalicelib.orders.release_unpaid import cancel_order, release_due
from chalicelib.orders.rules import status_of
from chalicelib.payments.receive_notice import receive_notice
from chalicelib.refunds.finish_refund import finish_refunds
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from tests import shop
from tests.concurrency.buyers import Buyer, repeat, send_crowd, some_buyers
from tests.faults.audit import all_rows, check_invariants, quiesce
from tests.faults.bank import open_bank

pytestmark = pytest.mark.usefixtures("stack")


def test_300_keys_and_2000_buyers_make_300_orders_and_1700_clean_refusals(clock):
    product_id = shop.make_product(clock.at)
    shop.add_keys(product_id, 300, clock.at, sealed=False)

    answers = send_crowd([Buyer(product_id, 1, f"F{number}", clock.at) for number in range(2_000)])

    assert answers == {"sold": 300, "inventory.out_of_stock": 1_700}
    placed = [row for row in all_rows() if row["sk"] == "O"]
    assert len(placed) == 300
    assert shop.stock_of(product_id, clock.at).available == 0
    check_invariants(quiesce(clock, seconds=(31,)), is_quiet=True)
    figures = shop.stock_of(product_id, clock.at)
    assert (figures.imported, figures.available, figures.held, figures.sold) == (300, 0, 300, 0)


def test_stock_always_adds_up_while_orders_of_1_to_20_keys_expire_and_are_refunded(clock):
    product_id = shop.make_product(clock.at)
    seen = []
    is_over = threading.Event()

    def observe() -> None:
        while not is_over.wait(0.2):
            seen.append(shop.stock_of(product_id, clock.at))

    with ThreadPoolExecutor(1) as watcher:
        watching = watcher.submit(observe)
        try:
            for number in range(3):
                shop.add_keys(product_id, 100, clock.at, sealed=False, expires_at=clock.at + (30 + number) * 86_400)
            answers = send_crowd(some_buyers(product_id, 120, clock.at, 1))
            assert answers["sold"] >= 20, f"hardly anything was sold: {answers}"
            assert answers.keys() <= {"sold", "inventory.out_of_stock"}
            check_invariants(quiesce(clock, seconds=(61, 61)), is_quiet=True)
            check_invariants(quiesce(clock, seconds=(3_700, 61)), is_quiet=True)
        finally:
            is_over.set()
        watching.result()
    assert len(seen) > 3
    for figures in seen:
        parts = vars(figures)
        assert min(parts.values()) >= 0
        assert sum(parts.values()) - figures.imported == figures.imported, f"does not add up: {parts}"


def test_one_order_pulled_at_from_all_sides_has_one_legal_end(clock, monkeypatch):
    """Notice, expiry, cancelling, delivery and refund of one order all at once, in as many orders as threads make."""
    bank = open_bank(monkeypatch)
    product_id = shop.make_product(clock.at)
    shop.add_keys(product_id, 60, clock.at, sealed=False)
    end = clock.at + 900
    chance = random.Random(7)
    placed = []
    with ThreadPoolExecutor(12) as pool:
        for _ in range(12):
            order = shop.place({product_id: 2}, clock.at)
            one = bank.capture(f"pay_{order.order_id.removeprefix('ord_')}", order.total_minor, order.currency)
            notice = shop.paid_notice(order, provider_txn=one.txn)
            acts = [
                lambda notice=notice: receive_notice(notice, end),
                lambda order=order: release_due([order.order_id], end),
                lambda order=order: cancel_order(order, by="key_test", now=end),
                lambda order=order: deliver_due(order.order_id, end),
                lambda order=order: _refund(order, end),
            ] * 2
            chance.shuffle(acts)
            list(pool.map(_quietly, acts))
            receive_notice(notice, end)
            placed.append(order)
    clock.at = end
    check_invariants(quiesce(clock), bank=bank)
    ends = {status_of(order) for order in orders.get_orders([order.order_id for order in placed])}
    assert ends <= {"delivered", "refunded"}


def _refund(order, now) -> None:
    request_refund(orders.get_order(order.order_id), AskRefund(), is_operator=False, by="key_test", now=now)
    finish_refunds(order.order_id, now)


def _quietly(act) -> None:
    with suppress(Refused):
        act()


def test_one_purchase_submitted_by_16_threads_at_once_is_one_order_and_no_key_is_lost(clock):
    product_id = shop.make_product(clock.at)
    shop.add_keys(product_id, 40, clock.at, sealed=False)
    for number in range(4):
        with ThreadPoolExecutor(16) as pool:
            placed = list(
                pool.map(
                    lambda _, number=number: repeat(lambda: shop.place({product_id: 2}, clock.at, number=f"D{number}")),
                    range(16),
                )
            )
        assert len({order.order_id for order in placed}) == 1
        assert len({order.lines[0].extents for order in placed}) == 1, "two answers about one order differ"
    assert shop.stock_of(product_id, clock.at).available == 40 - 4 * 2
    check_invariants(quiesce(clock, seconds=(31,)))
