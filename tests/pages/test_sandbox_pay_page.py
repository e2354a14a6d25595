"""The sandbox's pay page: its five buttons do what they say, and it exists only where the sandbox does."""

import urllib.error
import urllib.request

import pytest

from chalicelib.orders import store as orders
from chalicelib.orders.rules import status_of


@pytest.mark.parametrize(
    ("outcome", "said", "status"),
    [
        ("paid", "Paid. The order has been told.", "delivered"),
        ("failed", "The payment failed.", "pending_payment"),
        ("paid_late", "after the order has expired", "pending_payment"),
        ("paid_twice", "told more than once", "delivered"),
        ("wrong_amount", "wrong amount", "needs_review"),
    ],
)
def test_each_button_brings_the_order_to_what_it_says(site, browser, outcome, said, status):
    order = site.place()
    window = browser(phone=outcome == "failed")
    window.open(site.pay_page(order))
    assert window.see(".amount").text == "19.80 CNY"
    assert order.merchant_order_no in window.see(".sum").text
    window.click(f"[data-outcome={outcome}]")
    window.wait_for("#result", said)
    assert status_of(orders.get_order(order.order_id)) == status


def test_the_buyer_is_sent_back_to_the_shop(site, browser):
    order = site.place(payment={"provider": "sandbox", "return_url": "https://shop.example/thanks?a=1&b=2"})
    window = browser()
    window.open(site.pay_page(order))
    assert not window.shows("#return")
    window.click("[data-outcome=paid]")
    assert window.see("#return").get_attribute("href") == "https://shop.example/thanks?a=1&b=2"


def test_the_page_alone_never_gives_away_the_order_page(site, browser):
    """The payment id follows from the order number; only who came from the order page may go back to it."""
    order = site.place()
    window = browser()
    window.open(site.pay_page(order))
    window.click("[data-outcome=paid]")
    window.wait_for("#result", "Paid")
    assert not window.shows("#order-link")
    token = site.order_page(order).rpartition("/")[2]
    assert token not in window.driver.page_source


@pytest.mark.parametrize("spoilt", ["pay_0000000000000000", "pay_", "x", "pay_%3Cscript%3E"])
def test_an_unknown_payment_is_not_found(site, spoilt):
    assert status_at(f"{site.url}/sandbox/pay/{spoilt}") == 404


def test_a_stage_that_takes_real_money_has_no_such_page(site, monkeypatch):
    order = site.place()
    assert status_at(site.pay_page(order)) == 200
    monkeypatch.setenv("SANDBOX", "off")
    assert status_at(site.pay_page(order)) == 404


def status_at(url):
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code
