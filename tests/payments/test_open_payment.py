"""Opening a payment: once at the provider, kept before the buyer hears of it, found again when time is up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.orders import store as orders
from chalicelib.orders.release_unpaid import release_due
from chalicelib.orders.rules import status_of
from chalicelib.payments import store
from chalicelib.payments.adapters import stripe
from chalicelib.payments.errors import ProviderUnavailable
from chalicelib.payments.model import Found, Started
from chalicelib.payments.open_payment import open_payment
from tests import shop

BASE = "https://api.test"


@pytest.fixture
def opened(monkeypatch):
    """Stripe as far as it matters here: the same payment is always the same session."""
    asked = []

    def start(payment, now):
        asked.append(payment)
        return Started(f"https://pay.example/{payment.payment_id}", f"cs_{payment.payment_id}")

    monkeypatch.setattr(stripe, "start", start)
    return asked


@pytest.fixture
def order(stack, clock):
    shop.open_account("stripe", secrets={"secret_key": "sk_test_1", "webhook_secret": "whsec_1"})
    product_id = shop.make_product(clock.at, keys_in_stock=2)
    return shop.place({product_id: 1}, clock.at, provider="stripe")


def test_a_session_is_opened_once_and_its_address_is_told_again(order, opened, clock):
    first = open_payment(order, BASE, f"{BASE}/o/x", clock.at, is_new=True)
    assert open_payment(order, BASE, f"{BASE}/o/x", clock.at).pay_url == first.pay_url
    assert len(opened) == 1
    assert opened[0].return_url == f"{BASE}/o/x"


def test_a_provider_that_does_not_answer_leaves_the_order_payable_later(order, opened, clock, monkeypatch):
    def away(payment, now):
        raise ProviderUnavailable()

    with monkeypatch.context() as broken:
        broken.setattr(stripe, "start", away)
        with pytest.raises(ProviderUnavailable):
            open_payment(order, BASE, "", clock.at, is_new=True)
    assert store.find_session(order.order_id) is None
    assert open_payment(order, BASE, "", clock.at)


def test_before_an_order_expires_its_provider_is_asked_about_the_very_session(order, opened, clock, monkeypatch):
    open_payment(order, BASE, "", clock.at, is_new=True)
    seen = []

    def find(payment):
        seen.append(payment.provider_ref)
        return Found("paid", order.total_minor, "CNY", "pi_1")

    monkeypatch.setattr(stripe, "find", find)
    release_due([order.order_id], clock.advance(3_600))
    assert seen == [f"cs_pay_{order.order_id[4:]}"]
    assert status_of(orders.get_order(order.order_id)) == "delivered"


def test_a_closed_or_paid_order_has_no_address_to_pay_at(order, opened, clock):
    shop.pay(order, clock.at, provider="stripe", account_id=order.account_id)
    assert status_of(orders.get_order(order.order_id)) == "delivered"
    assert open_payment(orders.get_order(order.order_id), BASE, "", clock.at) is None
    assert open_payment(order, BASE, "", order.expires_at) is None
    assert opened == []


def test_what_can_be_used_for_minutes_only_is_opened_anew_when_they_are_over(order, opened, clock, monkeypatch):
    method = replace(stripe.FACTS.methods["checkout"], good_seconds=240)
    monkeypatch.setattr(stripe, "FACTS", replace(stripe.FACTS, methods={"checkout": method}))
    open_payment(order, BASE, "", clock.at, is_new=True)
    for seconds, openings in ((239, 1), (1, 2), (239, 2), (1, 3)):
        open_payment(order, BASE, "", clock.advance(seconds))
        assert len(opened) == openings


def test_an_order_on_hold_is_asked_about_on_its_providers_schedule_and_a_lost_notice_is_found(
    order, opened, clock, monkeypatch
):
    open_payment(order, BASE, "", clock.at, is_new=True)
    asked, answer = [], [Found("unpaid")]
    monkeypatch.setattr(stripe, "find", lambda payment: asked.append(clock.at) or answer[0])
    ages = stripe.FACTS.ask_after_seconds
    message, woken = {order.order_id: 0}, []
    while not asked or len(asked) < len(ages) - 1:
        released = release_due([order.order_id], clock.at, message)
        woken.append(released.later[order.order_id])
        message = {order.order_id: released.steps.get(order.order_id, 0)}
        release_due([order.order_id], clock.at, message)  # a message that comes twice asks nothing anew
        clock.at = released.later[order.order_id]
    assert asked == [order.created_at + age for age in ages[: len(asked)]]

    answer[0] = Found("paid", order.total_minor, "CNY", "pi_lost")
    released = release_due([order.order_id], order.created_at + ages[-1], message)
    assert released.later == {}
    assert status_of(orders.get_order(order.order_id)) == "delivered"
    assert store.find_payment_id("stripe", "pi_lost") == f"pay_{order.order_id[4:]}"


def test_a_provider_that_is_down_delays_and_never_loses(order, opened, clock, monkeypatch):
    monkeypatch.setattr(stripe, "find", lambda payment: Found("unknown"))
    released = release_due([order.order_id], order.expires_at + 1, {order.order_id: 0})
    assert released.later == {order.order_id: order.expires_at + 61}
    assert status_of(orders.get_order(order.order_id)) == "pending_payment"
