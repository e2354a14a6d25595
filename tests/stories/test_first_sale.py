"""The first sale, told from below: place, pay, deliver, reveal, refund, expire, with the real engine underneath."""

from __future__ import annotations

import pytest

from chalicelib.fulfilment.deliver import deliver_by_hand, deliver_due
from chalicelib.fulfilment.errors import NotDelivered
from chalicelib.fulfilment.reveal import reveal_order
from chalicelib.inventory.errors import OutOfStock
from chalicelib.inventory.figures import recount_held
from chalicelib.orders import store as orders
from chalicelib.orders.release_unpaid import cancel_order, release_all_due, release_due
from chalicelib.orders.rules import status_of
from chalicelib.refunds.errors import Revealed
from chalicelib.refunds.finish_refund import finish_refunds
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from tests import shop

pytestmark = pytest.mark.usefixtures("stack")


def stock(product_id, now):
    recount_held(now)
    return shop.stock_of(product_id, now)


def ask(order, now, *, is_operator=False, line_ids=None):
    asked = request_refund(order, AskRefund(line_ids=line_ids), is_operator=is_operator, by="key_test", now=now)
    return finish_refunds(asked.order_id, now)


def test_a_paid_order_is_delivered_at_once_and_its_keys_are_shown_once_asked_for(clock):
    product_id = shop.make_product(clock.at, keys_in_stock=20)
    order = shop.place({product_id: 3}, clock.at)
    assert stock(product_id, clock.at).held == 3
    with pytest.raises(NotDelivered):
        reveal_order(order.order_id, by="x", source_ip="", user_agent="", now=clock.at)

    shop.pay(order, clock.at)

    shown = reveal_order(order.order_id, by="key_test", source_ip="10.0.0.1", user_agent="t", now=clock.at)
    lots = {
        (lot_id, number) for lot_id, start, count in order.lines[0].extents for number in range(start, start + count)
    }
    assert {key["fields"]["code"] for key in shown} == {shop.plain_key(lot, number) for lot, number in lots}
    after = orders.get_order(order.order_id)
    assert (status_of(after), after.lines[0].revealed_at) == ("delivered", clock.at)
    figures = stock(product_id, clock.at)
    assert (figures.imported, figures.available, figures.held, figures.sold) == (20, 17, 0, 3)
    assert [entry["what"] for entry in orders.list_audit(order.order_id)] == ["reveal"]


def test_an_unrevealed_order_is_refunded_and_its_keys_can_be_sold_again(clock):
    product_id = shop.make_product(clock.at, keys_in_stock=5)
    order = shop.place({product_id: 5}, clock.at)
    shop.pay(order, clock.at)
    with pytest.raises(OutOfStock):
        shop.place({product_id: 1}, clock.at)

    refunded = ask(orders.get_order(order.order_id), clock.at)

    assert status_of(refunded) == "refunded"
    assert stock(product_id, clock.at).available == 5
    shop.place({product_id: 5}, clock.at + 2)


def test_a_revealed_order_is_refunded_by_operators_only_and_its_keys_are_quarantined(clock):
    product_id = shop.make_product(clock.at, keys_in_stock=4)
    order = shop.place({product_id: 2}, clock.at)
    shop.pay(order, clock.at)
    reveal_order(order.order_id, by="key_test", source_ip="", user_agent="", now=clock.at)
    with pytest.raises(Revealed):
        ask(orders.get_order(order.order_id), clock.at)

    refunded = ask(orders.get_order(order.order_id), clock.at, is_operator=True)

    figures = stock(product_id, clock.at)
    assert status_of(refunded) == "refunded"
    assert (figures.available, figures.quarantined, figures.sold) == (2, 2, 0)


def test_an_unpaid_order_expires_and_late_payment_finds_new_keys(clock):
    product_id = shop.make_product(clock.at, keys_in_stock=2, hold_minutes=1)
    order = shop.place({product_id: 2}, clock.at)
    assert release_due([order.order_id], clock.at + 59).later == {order.order_id: clock.at + 60}
    release_due([order.order_id], clock.advance(60))
    assert status_of(orders.get_order(order.order_id)) == "expired"
    assert stock(product_id, clock.at).available == 2

    shop.pay(order, clock.advance(10))
    assert status_of(orders.get_order(order.order_id)) == "delivering"
    deliver_due(order.order_id, clock.at)

    late = orders.get_order(order.order_id)
    assert status_of(late) == "delivered"
    assert len(reveal_order(late.order_id, by="x", source_ip="", user_agent="", now=clock.at)) == 2
    assert stock(product_id, clock.at).available == 0


def test_late_payment_of_a_sold_out_product_is_refunded_by_itself(clock):
    product_id = shop.make_product(clock.at, keys_in_stock=1, hold_minutes=1)
    order = shop.place({product_id: 1}, clock.at)
    release_all_due(clock.advance(61))
    other = shop.place({product_id: 1}, clock.at)
    shop.pay(order, clock.advance(5))
    deliver_due(order.order_id, clock.at)

    refunded = finish_refunds(order.order_id, clock.advance(60))

    assert status_of(refunded) == "refunded"
    assert refunded.refunds[0].amount_minor == order.total_minor
    assert status_of(orders.get_order(other.order_id)) == "pending_payment"


def test_a_delayed_line_is_delivered_on_its_minute_and_not_a_second_before(clock):
    product_id = shop.make_product(
        clock.at, keys_in_stock=1, delivery={"mode": "delayed", "delay_minutes": 30}
    )  # fmt: skip
    order = shop.place({product_id: 1}, clock.at)
    shop.pay(order, clock.at)
    assert status_of(orders.get_order(order.order_id)) == "paid"

    assert deliver_due(order.order_id, clock.at + 1799) == clock.at + 1800
    assert orders.get_order(order.order_id).lines[0].delivered_at is None
    assert deliver_due(order.order_id, clock.at + 1800) is None
    assert status_of(orders.get_order(order.order_id)) == "delivered"


def test_a_manual_line_waits_for_an_operator(clock):
    by_hand = shop.make_product(clock.at, keys_in_stock=1, delivery={"mode": "manual"})
    at_once = shop.make_product(clock.at, keys_in_stock=1)
    order = shop.place({by_hand: 1, at_once: 1}, clock.at)
    shop.pay(order, clock.at)
    assert status_of(orders.get_order(order.order_id)) == "partially_delivered"

    assert status_of(deliver_by_hand(order.order_id, by="key_op", now=clock.at)) == "delivered"
    assert status_of(deliver_by_hand(order.order_id, by="key_op", now=clock.at)) == "delivered"


def test_a_wrong_sum_delivers_nothing_and_waits_for_a_person(clock):
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    order = shop.place({product_id: 1}, clock.at)
    shop.pay(order, clock.at, amount_minor=order.total_minor + 1)
    held = orders.get_order(order.order_id)
    assert (status_of(held), held.lines[0].delivered_at, held.review) == ("needs_review", None, "wrong_amount")
    assert status_of(deliver_by_hand(order.order_id, by="key_op", now=clock.at)) == "delivered"


def test_a_cancelled_order_gives_its_keys_back_and_stays_cancelled(clock):
    product_id = shop.make_product(clock.at, keys_in_stock=3)
    order = shop.place({product_id: 3}, clock.at)
    cancelled = cancel_order(order, by="key_test", now=clock.at)
    assert status_of(cancel_order(cancelled, by="key_test", now=clock.at)) == "cancelled"
    assert stock(product_id, clock.at).available == 3


def test_one_line_of_several_is_refunded_alone(clock):
    first, second = (shop.make_product(clock.at, keys_in_stock=5, price_minor=price) for price in (100, 250))
    order = shop.place({first: 2, second: 3}, clock.at)
    shop.pay(order, clock.at)
    partly = ask(orders.get_order(order.order_id), clock.at, line_ids=[2])
    assert (status_of(partly), partly.refunds[0].amount_minor) == ("partially_refunded", 750)
    assert (stock(first, clock.at).available, stock(second, clock.at).available) == (3, 5)
    rest = ask(partly, clock.at)
    assert (status_of(rest), sum(one.amount_minor for one in rest.refunds)) == ("refunded", order.total_minor)


def test_an_order_of_crumbs_from_very_many_lots_can_still_be_closed_and_refunded(clock):
    crumbs, more = (shop.make_product(clock.at) for _ in range(2))
    for product_id, lots in ((crumbs, 92), (more, 3)):
        for _ in range(lots):
            shop.add_keys(product_id, 1, clock.at, sealed=False)
    with pytest.raises(OutOfStock):  # 92 keys are there, in more lots than one transaction can give back to
        shop.place({crumbs: 91}, clock.at)
    with pytest.raises(OutOfStock):
        shop.place({crumbs: 90, more: 1}, clock.at)
    assert (stock(crumbs, clock.at).available, stock(more, clock.at).available) == (92, 3)

    order = shop.place({crumbs: 89, more: 1}, clock.at)
    assert cancel_order(order, by="key_test", now=clock.at).closed == "cancelled"
    order = shop.place({crumbs: 88, more: 2}, clock.at)
    assert release_due([order.order_id], clock.advance(901)).failed == set()
    assert status_of(orders.get_order(order.order_id)) == "expired"
    order = shop.place({crumbs: 90}, clock.at)
    shop.pay(order, clock.at)
    assert status_of(ask(orders.get_order(order.order_id), clock.at)) == "refunded"
    assert (stock(crumbs, clock.at).available, stock(more, clock.at).available) == (92, 3)
