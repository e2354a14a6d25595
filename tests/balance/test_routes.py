"""The balance's calls: shops see and watch their own, operators see all and adjust."""

from __future__ import annotations

import pytest

from chalicelib.aws.transact import transact
from chalicelib.balance import store, workers
from chalicelib.balance.receive_top_up import receive_top_up
from chalicelib.payments.model import Notice
from tests import shop
from tests.api import Api
from tests.ledger.test_post_ledger import TIMER

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def api(clock):
    return Api(clock.at)


def adjusted(api, amount_minor=500, **headers):
    body = {"shop_id": shop.SHOP, "currency": "CNY", "amount_minor": amount_minor, "reference": "transfer 7"}
    return api.operator.post("/v1/balance/adjustments", body, **headers)


def top_up_body(**payment):
    return {"amount_minor": 500, "currency": "CNY", "payment": {"provider": "sandbox", **payment}}


def test_an_adjustment_is_made_once_per_idempotency_key(api):
    first = adjusted(api, Idempotency_Key="one")
    assert (first.status, first.body["amount_minor"], first.body["kind"]) == (201, 500, "adjustment")
    again = adjusted(api, Idempotency_Key="one")
    assert again.body == first.body
    assert again.headers["Idempotent-Replayed"] == "true"
    assert adjusted(api, 7, Idempotency_Key="one").code == "request.idempotency_mismatch"
    assert api.shop.get("/v1/balance").body == {
        "shop_id": shop.SHOP,
        "balances": [{"currency": "CNY", "balance_minor": 500, "low_balance_minor": None, "is_low": False}],
    }
    assert adjusted(api, -501).code == "balance.insufficient"
    assert adjusted(api, 0).code == "request.invalid"
    assert api.shop.post("/v1/balance/adjustments", {}).code == "auth.not_allowed"
    unknown = {"shop_id": "nobody", "currency": "CNY", "amount_minor": 1, "reference": "x"}
    assert api.operator.post("/v1/balance/adjustments", unknown).code == "balance.unknown_shop"


def test_a_shop_sees_its_own_balance_and_an_operator_names_the_shop(api):
    adjusted(api)
    assert api.other_shop.get("/v1/balance").body["balances"] == []
    assert api.other_shop.get(f"/v1/balance?shop_id={shop.SHOP}").code == "auth.not_allowed"
    assert api.other_shop.get(f"/v1/balance/entries?currency=CNY&shop_id={shop.SHOP}").code == "auth.not_allowed"
    assert api.operator.get("/v1/balance").code == "request.invalid"
    assert api.operator.get(f"/v1/balance?shop_id={shop.SHOP}").body["balances"][0]["balance_minor"] == 500
    assert api.nobody.get("/v1/balance").code == "auth.not_authenticated"


def test_entries_are_listed_newest_first_and_a_cursor_is_good_for_its_list_only(api, clock):
    for number in range(3):
        adjusted(api, number + 1)
        clock.advance(1)
    first = api.shop.get("/v1/balance/entries?currency=CNY&limit=2").body
    assert [one["amount_minor"] for one in first["entries"]] == [3, 2]
    second = api.shop.get(f"/v1/balance/entries?currency=CNY&limit=2&cursor={first['next_cursor']}").body
    assert ([one["amount_minor"] for one in second["entries"]], second["next_cursor"]) == ([1], None)
    for caller, query in ((api.shop, "currency=USD"), (api.other_shop, "currency=CNY")):
        bad = caller.get(f"/v1/balance/entries?{query}&cursor={first['next_cursor']}")
        assert bad.code == "request.bad_cursor"


def test_a_shop_tops_up_and_reads_how_it_went(api, clock):
    made = api.shop.post("/v1/balance/top-ups", top_up_body(), Idempotency_Key="one")
    top_up = made.body
    assert (made.status, top_up["status"], top_up["paid_minor"]) == (201, "open", 0)
    assert top_up["payment"]["payment_id"] == top_up["top_up_id"]
    assert f"/sandbox/pay/{top_up['top_up_id']}" in top_up["payment"]["pay_url"]
    assert api.shop.post("/v1/balance/top-ups", top_up_body(), Idempotency_Key="one").body == top_up
    money = Notice("sandbox", "e1", "paid", top_up["top_up_id"], "t1", 500, "CNY")
    receive_top_up(money, clock.advance(5))
    read = api.shop.get(f"/v1/balance/top-ups/{top_up['top_up_id']}").body
    assert (read["status"], read["paid_minor"], read["payment"]["pay_url"]) == ("paid", 500, None)
    assert api.shop.get("/v1/balance").body["balances"][0]["balance_minor"] == 500


def test_another_shops_top_up_is_answered_like_one_that_does_not_exist(api):
    top_up_id = api.shop.post("/v1/balance/top-ups", top_up_body()).body["top_up_id"]
    for path in (f"/v1/balance/top-ups/{top_up_id}", "/v1/balance/top-ups/top_x", "/v1/balance/top-ups/ord_1"):
        assert api.other_shop.get(path).code == "balance.top_up_not_found"
    assert api.operator.get(f"/v1/balance/top-ups/{top_up_id}").status == 200


@pytest.mark.parametrize(
    ("payment", "code"),
    [
        ({"provider": "balance"}, "balance.pays_itself"), ({"provider": "nobody"}, "payments.unknown_provider"),
        ({"method": "carrier_pigeon"}, "payments.unknown_method"), ({"return_url": "ftp://x"}, "request.invalid"),
    ],
)  # fmt: skip
def test_a_top_up_that_cannot_be_paid_is_refused_and_not_kept(api, payment, code):
    assert api.shop.post("/v1/balance/top-ups", top_up_body(**payment)).code == code


def test_a_shop_is_told_when_its_balance_falls_low(api, clock):
    adjusted(api)
    set_to = api.shop.patch("/v1/balance", {"currency": "CNY", "low_balance_minor": 100})
    assert set_to.body["balances"][0]["low_balance_minor"] == 100
    assert api.shop.get("/v1/events").body == {"events": [], "next_cursor": None}
    transact(store.spend_writes(shop.SHOP, "CNY", 450, "ord_0123456789abcdef", clock.at))
    workers.every_minute_watch_balances(TIMER, None)
    (event,) = api.shop.get("/v1/events").body["events"]
    assert (event["type"], event["data"]["balance_minor"]) == ("balance.low", 50)
    assert api.shop.get("/v1/balance").body["balances"][0]["is_low"] is True
    assert api.other_shop.get("/v1/events").body["events"] == []
    assert api.operator.get(f"/v1/events?shop_id={shop.SHOP}").body["events"] == [event]
    assert api.shop.patch("/v1/balance", {"currency": "CNY"}).code == "request.invalid"
    ended = api.shop.patch("/v1/balance", {"currency": "CNY", "low_balance_minor": None})
    assert ended.body["balances"][0]["low_balance_minor"] is None
