"""Order rows: accepted, or refused with nothing changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.aws.transact import transact
from chalicelib.core.ids import order_id_for
from chalicelib.orders import store
from chalicelib.orders.errors import OrderChanged
from chalicelib.orders.model import Happening, Line, Order, Refund
from chalicelib.orders.order_row import to_order, to_order_row
from chalicelib.orders.order_token import order_id_of_token, order_token
from tests.faults.audit import all_rows

NOW = 1_772_323_200


def an_order(number: str = "m", take_id: str = "t1", **members) -> Order:
    line = Line(1, "prd_1", "x", 2, 100, "auto", 0, 60, extents=(("lot", 1, 2),))
    facts = {"order_id": order_id_for("s", number), "shop_id": "s", "merchant_order_no": number, "created_at": NOW,
             "expires_at": NOW + 900, "total_minor": 200, "currency": "CNY", "provider": "sandbox", "lines": (line,),
             "buyer": {"email": "a@example.com"}, "body_hash": "h", "takes": (take_id,),
             "history": (Happening(NOW, "pending_payment", "key"),)}  # fmt: skip
    return Order(**{**facts, **members})


@pytest.mark.parametrize(
    "order",
    [
        an_order(),
        an_order(paid_at=NOW, paid_minor=0, refunds=(Refund(1, (), 0, "succeeded", NOW, "k", "", NOW),)),
        an_order(refunds=(Refund(1, (1,), 5, "pending", NOW, "k", "r", NOW, 3, None, "x", "q", "USD"),), paid_at=NOW),
        an_order(closed="expired", lines=(replace(an_order().lines[0], extents=()),), buyer={}),
    ],
    ids=["new", "a refund of nothing", "every member of a refund", "closed"],
)
def test_a_row_reads_back_as_the_order_it_was(order):
    assert to_order(to_order_row(order)) == order


def test_the_first_order_under_a_number_stays(stack):
    first, second = an_order(), an_order(take_id="t2", body_hash="other")
    assert store.put_order(first, "t1") is None
    before = all_rows()
    assert store.put_order(second, "t2") == first
    assert all_rows() == before
    assert store.put_order(first, "t1") is None, "the repeat of a write that worked is a success"


def test_a_fenced_take_can_never_own_an_order_and_another_one_can(stack):
    assert store.fence_take(an_order().order_id, "t1", NOW) is False
    before = all_rows()
    with pytest.raises(OrderChanged):
        store.put_order(an_order(), "t1")
    assert all_rows() == before
    assert store.find_order(an_order().order_id) is None
    assert store.put_order(an_order(take_id="t2"), "t2") is None


def test_the_fence_leaves_an_order_its_own_take_and_shuts_out_others(stack):
    order = an_order(paid_at=NOW)
    store.put_order(order, "t1")
    assert store.fence_take(order.order_id, "t1", NOW) is True
    assert store.fence_take(order.order_id, "t9", NOW) is False
    taking = replace(order, takes=("t1", "t9"), version=2)
    before = all_rows()
    for write in (lambda: store.save(order, taking), lambda: transact([store.save_write(order, taking)])):
        with pytest.raises(OrderChanged):
            write()
    assert all_rows() == before
    store.save(order, replace(taking, takes=("t1", "t2")))
    assert store.save(order, replace(taking, takes=("t1", "t2"))).takes == ("t1", "t2"), "a repeat, although fenced"


def test_of_two_changes_to_one_version_the_second_is_refused(stack):
    order = an_order()
    store.put_order(order, "t1")
    store.save(order, replace(order, reveals=(NOW,), version=2))
    before = all_rows()
    other = replace(order, review="x", version=2)
    for write in (lambda: store.save(order, other), lambda: transact([store.save_write(order, other)])):
        with pytest.raises(OrderChanged):
            write()
    assert all_rows() == before


def test_a_token_opens_its_own_order_and_nothing_else_opens_it(stack):
    order_id = an_order().order_id
    token = order_token(order_id)
    assert order_id_of_token(token) == order_id
    other = order_token(an_order("n").order_id)
    wrong = [order_id, order_id[4:], "", token[:-1], token + "0", token[:16] + other[16:], token.upper(), "é" * 42]
    assert [order_id_of_token(one) for one in wrong] == [None] * len(wrong)
