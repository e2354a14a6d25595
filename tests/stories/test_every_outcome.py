"""What becomes of an order by each outcome the simulator knows, at several providers: the table of its guide, held.

One shop and one stage for all of them; every story has a product of its own, at a price whose last digits choose.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.core import clock as product_clock
from tests import shop
from tests.stories.shopfront import PROVIDERS, Shopfront, make_keys, open_shopfront, open_stage, wait_until

HOLD_SECONDS = 15 * 60
MATCH, FINISH = "payments.workers.every_minute_match_notices", "refunds.workers.every_minute_finish_refunds"
METHODS = {"alipay": "precreate"}  # where the provider's server is asked first
ASKED_FIRST_AT = {"alipay": 60, "paypal": 30, "stripe": 60, "wechat_pay": 30, "wechat_virtual": 20}


@pytest.fixture(scope="module")
def front(backend, tmp_path_factory) -> Iterator[Shopfront]:
    folder = tmp_path_factory.mktemp("providers")
    keys = make_keys(tmp_path_factory.mktemp("keys"))
    with (
        pytest.MonkeyPatch.context() as patch,
        open_stage(backend, patch),
        open_shopfront(backend, keys, folder, patch) as opened,
    ):
        for provider in PROVIDERS:
            opened.open_account(provider)
        yield opened


def ordered(front: Shopfront, provider: str, digits: int, keys_in_stock: int = 3) -> tuple[dict, str]:
    product_id = front.product(1000 + digits, keys_in_stock=keys_in_stock)
    return front.order(product_id, provider, METHODS.get(provider)), product_id


def available(product_id: str) -> int:
    return shop.stock_of(product_id, product_clock.now()).available


def reveal(front: Shopfront, order: dict) -> int:
    return front.shop.try_call("POST", f"/v1/orders/{order['order_id']}/reveal", {})[0]


@pytest.mark.parametrize(
    ("provider", "longer_seconds"),
    # Stripe's session is complete and unpaid: money may be on its way, so the order is kept for an hour more.
    [("alipay", 0), ("paypal", 0), ("stripe", 3_600), ("wechat_pay", 0)],
)
def test_a_failed_payment_leaves_the_order_open_until_it_expires(front, provider, longer_seconds):
    order, product_id = ordered(front, provider, 1)
    assert front.pay(order).state == "failed"
    assert front.look(order)["status"] == "pending_payment"
    with front.later(HOLD_SECONDS + longer_seconds - 60):
        front.deliver_message("order-expiry", {"order_id": order["order_id"]})
        assert front.look(order)["status"] == "pending_payment"
    with front.later(HOLD_SECONDS + longer_seconds + 1):
        front.deliver_message("order-expiry", {"order_id": order["order_id"]})
        assert front.look(order)["status"] == "expired"
    assert available(product_id) == 3


@pytest.mark.parametrize("provider", ["paypal", "stripe"])
def test_slow_money_is_delivered_when_it_comes(front, provider):
    order, _ = ordered(front, provider, 2)
    front.pay(order)
    wait_until(lambda: front.record(order).state == "paid", "slow money")
    front.wait_for_notices(provider, order["payment"]["payment_id"])
    assert front.look(order)["status"] == "delivered"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_lost_notice_is_made_good_by_asking_on_schedule(front, provider):
    order, _ = ordered(front, provider, 3)
    front.pay(order)
    assert front.world.events(provider, order["payment"]["payment_id"]) == []
    with front.later(ASKED_FIRST_AT[provider] - 10):
        front.deliver_message("order-expiry", {"order_id": order["order_id"]})
        assert front.look(order)["status"] == "pending_payment"
    with front.later(ASKED_FIRST_AT[provider] + 1):
        front.deliver_message("order-expiry", {"order_id": order["order_id"]})
        assert front.look(order)["status"] == "delivered"
    assert reveal(front, order) == 200


@pytest.mark.parametrize(
    ("provider", "digits", "copies"),
    [("alipay", 4, 2), ("stripe", 4, 2), ("paypal", 9, 50), ("wechat_pay", 9, 50)],
)
def test_notices_that_come_again_deliver_once(front, provider, digits, copies):
    order, product_id = ordered(front, provider, digits)
    front.pay(order)
    told = front.world.events(provider, order["payment"]["payment_id"])[-1]
    assert (told.kind, told.copies, told.state) == ("paid", copies, "taken")
    assert front.look(order)["status"] == "delivered"
    assert front.history(order) == ["pending_payment", "delivered"]
    assert available(product_id) == 2


@pytest.mark.parametrize("provider", ["alipay", "stripe", "wechat_virtual"])
def test_a_wrong_amount_waits_for_a_person_who_gives_back_all_that_came(front, provider):
    order, _ = ordered(front, provider, 5)
    assert front.pay(order).paid_minor == 1006
    seen = front.look(order)
    assert (seen["status"], seen["review_reason"]) == ("needs_review", "wrong_amount")
    assert reveal(front, order) == 409
    assert front.refund(order, by=front.operator)["status"] == "refunded"
    assert front.record(order).refunded_minor == 1006


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_refund_nobody_answered_is_asked_about_and_paid_once(front, provider):
    order, product_id = ordered(front, provider, 6)
    front.pay(order)
    asked = front.shop.post(f"/v1/orders/{order['order_id']}/refunds")
    assert (asked["status"], front.look(order)["status"]) == ("pending", "refunding")
    wait_until(lambda: front.record(order).refunds[0].state == "succeeded", "the refund")
    with front.later(61):
        front.tick(FINISH)
        assert front.look(order)["status"] == "refunded"
    assert [(one.refund_no, one.amount_minor) for one in front.record(order).refunds] == [(asked["refund_id"], 1006)]
    assert available(product_id) == 3


@pytest.mark.parametrize("provider", ["alipay", "stripe", "wechat_pay", "wechat_virtual"])
def test_a_refund_that_fails_calls_a_person(front, provider):
    order, product_id = ordered(front, provider, 7)
    front.pay(order)
    seen = front.refund(order)
    assert (seen["status"], seen["review_reason"]) == ("needs_review", "refund_failed")
    assert front.record(order).refunded_minor == 0
    assert available(product_id) == 2


@pytest.mark.parametrize("provider", ["alipay", "paypal", "stripe", "wechat_pay"])
def test_a_provider_that_is_down_at_first_is_reached_by_the_same_request(front, provider):
    wish = front.wish(front.product(1008), provider, METHODS.get(provider))
    status, refused = front.shop.try_call("POST", "/v1/orders", wish)
    assert (status, refused["error"]["code"]) == (503, "payments.provider_unavailable")
    assert refused["error"]["retry"] == "same_request"
    order = front.shop.post("/v1/orders", wish)
    front.pay(order)
    assert front.look(order)["status"] == "delivered"


@pytest.mark.parametrize(("ends", "status"), [("won", "delivered"), ("lost", "refunded")])
@pytest.mark.parametrize("provider", ["paypal", "stripe"])
def test_a_dispute_freezes_the_order_until_it_is_decided(front, provider, ends, status):
    order, _ = ordered(front, provider, 10)
    front.pay(order, "success" if provider == "paypal" else None)
    if provider == "paypal":  # told once the payment is known here; Stripe's comes together with it
        front.providers.control("dispute", provider=provider, our_no=front.record(order).our_no, state="opened")
        front.wait_for_notices(provider, front.record(order).our_no)
    front.tick(MATCH)  # its dispute may have been told before the payment, and by a number we did not know yet
    seen = front.look(order)
    assert (seen["status"], seen["review_reason"]) == ("needs_review", "disputed")
    assert [(one["state"], one["amount_minor"]) for one in seen["disputes"]] == [("open", 1010)]
    assert reveal(front, order) == 409
    assert front.operator.try_call("POST", f"/v1/orders/{order['order_id']}/refunds", {})[0] == 409
    front.providers.control("dispute", provider=provider, our_no=order["payment"]["payment_id"], state=ends)
    front.wait_for_notices(provider, order["payment"]["payment_id"])
    seen = front.look(order)
    assert (seen["status"], seen["disputes"][0]["state"]) == (status, ends)
    assert reveal(front, order) == (200 if ends == "won" else 409)
    assert front.record(order).refunds == [], "the provider took the money by itself"


def test_a_complaint_whose_end_nobody_tells_is_settled_by_hand(front):
    order, _ = ordered(front, "wechat_virtual", 0)
    record = front.pay(order)
    front.providers.control("dispute", provider="wechat_virtual", our_no=record.our_no, state="opened")
    front.wait_for_notices("wechat_virtual", record.our_no)
    assert front.look(order)["status"] == "needs_review"
    (dispute,) = front.look(order)["disputes"]
    assert dispute["state"] == "open"
    path = f"/v1/orders/{order['order_id']}/disputes/{dispute['dispute_id']}/settle"
    front.operator.post(path, {"outcome": "won", "note": "settled in the console"})
    assert front.look(order)["status"] == "delivered"


@pytest.mark.parametrize(("provider", "has_stock"), [("alipay", True), ("stripe", True), ("wechat_pay", False)])
def test_late_money_buys_new_keys_or_goes_back(front, provider, has_stock):
    order, product_id = ordered(front, provider, 11, keys_in_stock=1)
    front.pay(order)
    assert front.look(order)["status"] == "pending_payment"
    with front.later(HOLD_SECONDS + 1):
        front.deliver_message("order-expiry", {"order_id": order["order_id"]})
        assert front.look(order)["status"] == "expired"
    assert front.record(order).state == "closed"
    if not has_stock:
        front.order(product_id, "sandbox")
    wait_until(lambda: front.record(order).state == "paid", "late money")
    front.wait_for_notices(provider, order["payment"]["payment_id"])
    front.work()
    with front.later(61):
        front.tick(FINISH)
    wait_until(lambda: all(one.state != "pending" for one in front.record(order).refunds), "its refund")
    front.wait_for_notices(provider, order["payment"]["payment_id"])
    front.work()
    assert front.look(order)["status"] == ("delivered" if has_stock else "refunded")
    assert front.record(order).refunded_minor == (0 if has_stock else 1011)


@pytest.mark.parametrize("provider", ["paypal", "stripe"])
def test_a_refund_that_is_taken_back_calls_a_person(front, provider):
    order, _ = ordered(front, provider, 12)
    front.pay(order)
    front.refund(order)
    wait_until(lambda: front.record(order).refunds[0].reversed_at is not None, "the refund's end")
    front.wait_for_notices(provider, order["payment"]["payment_id"])
    front.work()
    seen = front.look(order)
    assert (seen["status"], seen["review_reason"]) == ("needs_review", "refund_reversed")
    assert [one["status"] for one in seen["refunds"]] == ["reversed"]
