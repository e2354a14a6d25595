"""What providers say, in every order and number of times: early, late, twice, fifty at once, wrong, or never."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from chalicelib.core.ids import order_id_for, payment_id_for
from chalicelib.fulfilment.deliver import deliver_by_hand, deliver_due
from chalicelib.orders import store as orders
from chalicelib.orders.release_unpaid import cancel_order, release_due
from chalicelib.orders.rules import status_of
from chalicelib.payments.model import Notice
from chalicelib.payments.receive_notice import receive_notice
from chalicelib.refunds.finish_refund import finish_refunds
from tests import shop
from tests.faults.audit import check_invariants, quiesce, run_timers
from tests.faults.bank import open_bank

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def bank(monkeypatch):
    return open_bank(monkeypatch)


def captured(bank, order, *, amount_minor=None, currency=None):
    """Money reaches the bank; the notice about it."""
    payment_id = payment_id_for(order.order_id)
    one = bank.capture(payment_id, amount_minor or order.total_minor, currency or order.currency)
    return Notice("sandbox", f"evt_{one.txn}", "paid", payment_id, one.txn, one.amount_minor, one.currency)


def status(order) -> str:
    return status_of(orders.get_order(order.order_id))


def test_fifty_notices_at_once_deliver_once(clock, bank):
    product_id = shop.make_product(clock.at, keys_in_stock=4)
    order = shop.place({product_id: 2}, clock.at)
    notice = captured(bank, order)
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda _: receive_notice(notice, clock.at), range(50)))
    after = orders.get_order(order.order_id)
    assert [one.status for one in after.history] == ["pending_payment", "delivered"]
    assert shop.stock_of(product_id, clock.at).available == 2
    check_invariants(quiesce(clock), bank=bank)
    assert bank.refunds == {}


def test_a_notice_that_comes_before_its_order_is_kept_and_found_by_the_timer(clock, bank):
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    wanted = {"number": "early"}
    payment_id = payment_id_for(order_id_for(shop.SHOP, "early"))
    one = bank.capture(payment_id, 990, "CNY")
    receive_notice(Notice("sandbox", "evt_early", "paid", payment_id, one.txn, 990, "CNY"), clock.at)
    run_timers()
    order = shop.place({product_id: 1}, clock.at, **wanted)
    run_timers()
    assert status(order) == "delivered"
    check_invariants(quiesce(clock), bank=bank)


def test_money_that_came_twice_goes_back_once(clock, bank):
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    order = shop.place({product_id: 1}, clock.at)
    first, second = captured(bank, order), captured(bank, order)
    for notice in (first, second, first, second, second):
        receive_notice(notice, clock.at)
    check_invariants(quiesce(clock), bank=bank)
    assert status(order) == "delivered"
    assert [bank.refunded_of(notice.provider_txn) for notice in (first, second)] == [0, 990]


def test_money_that_came_again_in_another_currency_goes_back_in_that_currency(clock, bank):
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    order = shop.place({product_id: 1}, clock.at)
    receive_notice(captured(bank, order), clock.at)
    again = captured(bank, order, amount_minor=140, currency="USD")
    for _ in range(3):
        receive_notice(again, clock.at)
    now = quiesce(clock)
    check_invariants(now, bank=bank)
    assert status(order) == "delivered"
    assert bank.refunded_of(again.provider_txn) == 140
    assert [(one.amount_minor, one.currency) for one in orders.get_order(order.order_id).refunds] == [(140, "USD")]


def test_a_lost_notice_is_made_good_by_asking_before_the_hold_ends(clock, bank):
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    order = shop.place({product_id: 1}, clock.at)
    notice = captured(bank, order)  # and never told
    bank.is_down = True
    assert release_due([order.order_id], clock.advance(900)).later
    assert status(order) == "pending_payment"
    bank.is_down = False
    release_due([order.order_id], clock.advance(60))
    assert status(order) == "delivered"
    receive_notice(notice, clock.advance(7_200))  # told after all
    check_invariants(quiesce(clock), bank=bank)
    assert bank.refunds == {}


def test_a_provider_that_never_answers_keeps_an_order_for_an_hour_and_no_longer(clock, bank):
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    order = shop.place({product_id: 1}, clock.at)
    bank.is_down = True
    release_due([order.order_id], clock.advance(900 + 3_599))
    assert status(order) == "pending_payment"
    release_due([order.order_id], clock.advance(1))
    assert status(order) == "expired"


@pytest.mark.parametrize("how", ["expired", "cancelled"])
@pytest.mark.parametrize("has_stock", [True, False])
def test_money_for_a_closed_order_buys_new_keys_or_goes_back(clock, bank, how, has_stock):
    product_id = shop.make_product(clock.at, keys_in_stock=2)
    order = shop.place({product_id: 2}, clock.at)
    if how == "cancelled":
        cancel_order(order, by="key_test", now=clock.at)
    else:
        release_due([order.order_id], clock.advance(900))
    if not has_stock:
        other = shop.place({product_id: 1}, clock.at)
        receive_notice(captured(bank, other), clock.at)
    notice = captured(bank, order)
    receive_notice(notice, clock.advance(5))
    check_invariants(quiesce(clock), bank=bank)
    assert status(order) == ("delivered" if has_stock else "refunded")
    assert bank.refunded_of(notice.provider_txn) == (0 if has_stock else 1_980)


@pytest.mark.parametrize(("amount_minor", "currency"), [(989, "CNY"), (991, "CNY"), (990, "USD")])
def test_a_wrong_sum_is_held_until_a_person_decides(clock, bank, amount_minor, currency):
    delayed = {"mode": "delayed", "delay_minutes": 5}
    lines = {shop.make_product(clock.at, keys_in_stock=1, price_minor=495, delivery=delayed): 1,
             shop.make_product(clock.at, keys_in_stock=1, price_minor=495): 1}  # fmt: skip
    order = shop.place(lines, clock.at)
    receive_notice(captured(bank, order, amount_minor=amount_minor, currency=currency), clock.at)
    check_invariants(quiesce(clock), bank=bank)
    held = orders.get_order(order.order_id)
    assert (status_of(held), [line.delivered_at for line in held.lines]) == ("needs_review", [None, None])
    deliver_by_hand(order.order_id, by="key_op", now=clock.at)
    assert status(order) == "delivered"


def test_a_part_of_a_wrong_sum_given_back_does_not_hand_out_the_rest(clock, bank):
    """An operator who gives one line back has not said that the rest may go out unpaid."""
    from tests.faults.flows import Subject, World, _refund

    delayed = {"mode": "delayed", "delay_minutes": 5}
    lines = {shop.make_product(clock.at, keys_in_stock=1, delivery=delayed): 1,
             shop.make_product(clock.at, keys_in_stock=1): 1}  # fmt: skip
    order = shop.place(lines, clock.at)
    notice = captured(bank, order, amount_minor=1)
    receive_notice(notice, clock.at)
    _refund(World(clock), Subject(order.order_id, {}), line_ids=[1], is_operator=True)
    check_invariants(quiesce(clock), bank=bank)
    held = orders.get_order(order.order_id)
    assert (status_of(held), held.lines[1].delivered_at) == ("needs_review", None)
    _refund_rest(order, clock.at)
    check_invariants(quiesce(clock), bank=bank)
    assert (status(order), bank.refunded_of(notice.provider_txn)) == ("refunded", 1)


def _refund_rest(order, now):
    from chalicelib.refunds.model import AskRefund
    from chalicelib.refunds.request_refund import request_refund

    request_refund(orders.get_order(order.order_id), AskRefund(), is_operator=True, by="key_op", now=now)
    finish_refunds(order.order_id, now)


def test_extra_money_the_provider_will_not_take_back_calls_a_person_and_the_goods_stay_reachable(clock, bank):
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    order = shop.place({product_id: 1}, clock.at)
    receive_notice(captured(bank, order), clock.at)
    receive_notice(captured(bank, order), clock.at)
    bank.moods = ["failed"]
    finish_refunds(order.order_id, clock.at)
    assert status(order) == "needs_review"
    deliver_by_hand(order.order_id, by="key_op", now=clock.at)  # looked at, and done
    assert status(order) == "delivered"
    check_invariants(quiesce(clock), bank=bank)


def test_messages_shuffled_and_tripled_end_as_in_order_and_once(clock, bank):
    purchases = []
    for _ in range(4):
        product_id = shop.make_product(clock.at, keys_in_stock=6)
        paid, late, unpaid = (shop.place({product_id: 2}, clock.at) for _ in range(3))
        cancel_order(late, by="key_test", now=clock.at)
        purchases.append((product_id, (paid, late, unpaid), [captured(bank, order) for order in (paid, late)]))
    end = clock.advance(900)
    for seed, (_, placed, notices) in enumerate(purchases):
        messages = [(receive_notice, notice) for notice in notices]
        for order in placed:
            messages += [(handle, order.order_id) for handle in (deliver_due, finish_refunds)]
            messages.append((release_due, [order.order_id]))
        messages *= 3
        random.Random(seed).shuffle(messages)
        for handle, message in messages:
            handle(message, end)
    check_invariants(quiesce(clock), bank=bank)
    for seed, (product_id, placed, _) in enumerate(purchases):
        assert [status(order) for order in placed] == ["delivered", "delivered", "expired"], f"seed {seed}"
        assert shop.stock_of(product_id, clock.at).available == 2, f"seed {seed}"
