"""People have different numbers in hand; any of them finds the order, and lists are paged without loss."""

from __future__ import annotations

import pytest

from chalicelib.orders.release_unpaid import release_all_due
from chalicelib.orders.store import get_order
from tests import shop
from tests.api import Api, order_body


@pytest.fixture
def api(stack, clock, monkeypatch):
    monkeypatch.setenv("BASE_URL", "https://api.test")
    return Api(clock.at)


def test_every_number_of_an_order_finds_it(api, clock):
    product_id = shop.make_product(clock.at, keys_in_stock=5)
    order = api.shop.post("/v1/orders", order_body(product_id)).body
    api.shop.post("/v1/orders", order_body(product_id, number="other"))
    shop.pay(get_order(order["order_id"]), clock.at)
    paid = api.shop.get(f"/v1/orders/{order['order_id']}").body

    for number in (
        "merchant_order_no=A-1",
        f"order_id={order['order_id']}",
        f"payment_id={order['payment']['payment_id']}",
        f"provider_txn={paid['payment']['provider_txn']}",
    ):
        for who in (api.operator, api.shop):
            found = who.get(f"/v1/orders?{number}").body["orders"]
            assert [one["order_id"] for one in found] == [order["order_id"]], number
    assert api.operator.get("/v1/orders?merchant_order_no=nothing").body["orders"] == []
    assert api.operator.get("/v1/orders?merchant_order_no=A-1&status=expired").body["orders"] == []


def test_the_list_is_newest_first_and_every_order_is_on_exactly_one_page(api, clock):
    release_all_due(clock.at)  # the first tick of a new stack: the list begins here
    product_id = shop.make_product(clock.at, keys_in_stock=40)
    placed = []
    for number in range(25):
        clock.advance(7 * 3_600)  # over more than a week: pages cross days, and days without orders
        placed.append(api.shop.post("/v1/orders", order_body(product_id, number=f"N-{number}")).body["order_id"])
    seen, cursor = [], ""
    while True:
        page = api.operator.get(f"/v1/orders?limit=4{cursor}").body
        seen += [one["order_id"] for one in page["orders"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == placed[::-1]


def test_the_list_can_be_narrowed_to_one_status(api, clock):
    product_id = shop.make_product(clock.at, keys_in_stock=9)
    ids = [api.shop.post("/v1/orders", order_body(product_id, number=f"N-{n}")).body["order_id"] for n in range(6)]
    shop.pay(get_order(ids[2]), clock.at)
    found = api.operator.get("/v1/orders?status=delivered").body["orders"]
    assert [one["order_id"] for one in found] == [ids[2]]
    pending = api.operator.get("/v1/orders?status=pending_payment").body["orders"]
    assert {one["order_id"] for one in pending} == set(ids) - {ids[2]}


def test_the_history_tells_who_did_what_and_when(api, clock):
    product_id = shop.make_product(clock.at, keys_in_stock=2)
    order_id = api.shop.post("/v1/orders", order_body(product_id)).body["order_id"]
    shop.pay(get_order(order_id), clock.advance(5))
    clock.advance(5)
    api.shop.post(f"/v1/orders/{order_id}/reveal")
    entries = api.operator.get(f"/v1/orders/{order_id}/history").body["entries"]
    assert [entry["what"] for entry in entries] == ["pending_payment", "delivered", "delivered", "reveal"]
    assert entries[1]["by"] == "provider:sandbox"
    assert entries[3]["note"] != ""
