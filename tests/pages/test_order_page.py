"""The buyer's order page in a real browser, on the real app: what a person sees, does, and what then is true."""

import time

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from chalicelib.orders import store as orders
from chalicelib.orders.release_unpaid import cancel_order
from chalicelib.orders.rules import status_of
from tests import shop


def plain_keys(order):
    return [shop.plain_key(lot, start + n) for lot, start, quantity in order.lines[0].extents for n in range(quantity)]


def shown_keys(window):
    window.see("#keys li")
    return [one.text for one in window.driver.find_elements(By.CSS_SELECTOR, "#keys code")]


def test_a_buyer_on_a_phone_pays_and_sees_the_keys_after_saying_yes(site, browser):
    order = site.place(name="星辰点卡 100 元")
    window = browser(language="zh-CN", phone=True)
    window.open(site.order_page(order))
    window.wait_for("h1", "等待付款")
    assert window.see("#clock").text.startswith(("15:00", "14:"))
    assert window.see("#pay-link").text == "支付 ¥19.80"

    window.click("#pay-link")
    window.click("[data-outcome=paid]")
    window.wait_for("#result", "付款成功")
    window.click("#order-link")

    window.wait_for("h1", "已发货")
    assert not window.shows("#keys li"), "keys are never shown unasked"
    window.click("#reveal")
    window.click("#reveal-dialog [value=no]")
    assert orders.get_order(order.order_id).lines[0].revealed_at is None

    window.click("#reveal")
    window.click("#reveal-dialog [value=yes]")
    assert shown_keys(window) == plain_keys(order)
    assert orders.get_order(order.order_id).lines[0].revealed_at is not None
    window.wait_for("#lines .chip", "已查看")
    assert not window.shows("#refund"), "keys that were seen cannot be given back"


def test_the_copy_buttons_put_one_key_or_all_keys_on_the_clipboard(site, browser):
    order = site.place_paid()
    window = browser()
    window.open(site.order_page(order))
    window.click("#reveal")
    window.click("#reveal-dialog [value=yes]")
    keys = shown_keys(window)
    for css, wanted in (("#keys li:nth-child(2) button", keys[1]), ("#keys-tools button", "\n".join(keys))):
        window.click(css)
        window.wait_for("#keys-status", "Copied")
        assert window.run("return navigator.clipboard.readText()") == wanted


def test_keys_can_be_hidden_and_shown_again_without_a_second_confirmation(site, browser):
    order = site.place_paid()
    window = browser()
    window.open(site.order_page(order))
    window.click("#reveal")
    window.click("#reveal-dialog [value=yes]")
    window.see("#keys li")
    window.click("#keys-tools button:last-child")
    assert window.driver.find_elements(By.CSS_SELECTOR, "#keys li") == []
    window.wait_for("#reveal", "Show them again")
    window.click("#reveal")
    assert shown_keys(window) == plain_keys(order)


def test_a_buyer_gives_back_unseen_keys_after_saying_yes(site, browser):
    order = site.place_paid()
    window = browser()
    window.open(site.order_page(order))
    window.wait_for("h1", "Delivered")
    window.click("#refund")
    window.see("#refund-dialog")
    window.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert orders.get_order(order.order_id).refunds == ()

    window.click("#refund")
    window.click("#refund-dialog [value=yes]")
    window.wait_for("h1", "Refunded")
    assert status_of(orders.get_order(order.order_id)) == "refunded"
    assert not window.shows("#reveal") and not window.shows("#refund")
    assert "CN¥19.80" in window.see("#refunds").text


def test_the_page_follows_the_order_without_being_reloaded(site, browser):
    order = site.place()
    window = browser()
    window.open(site.order_page(order))
    window.wait_for("h1", "Waiting for payment")
    cancel_order(orders.get_order(order.order_id), by="shop", now=int(time.time()))
    window.wait_for("h1", "Cancelled")
    assert not window.shows("#pay-link")


def test_a_delayed_line_says_when_it_is_due(site, browser):
    order = site.place_paid(delivery={"mode": "delayed", "delay_minutes": 90})
    window = browser()
    window.open(site.order_page(order))
    window.wait_for("h1", "Paid")
    assert window.see("#lines .chip").text.startswith("Due ")
    assert not window.shows("#reveal")


def test_looking_at_the_page_changes_nothing(site, browser):
    order = site.place_paid()
    window = browser()
    for _ in range(3):
        window.open(site.order_page(order))
        window.wait_for("h1", "Delivered")
    assert orders.get_order(order.order_id) == order
    assert orders.list_audit(order.order_id) == []


@pytest.mark.parametrize(
    "name", ["<script>window.hacked=1</script>", '"><img src=x onerror="window.hacked=1">', "</script><b>"]
)
def test_a_product_name_that_is_markup_is_shown_as_text(site, browser, name):
    order = site.place(name=name)
    window = browser()
    for address in (site.order_page(order), site.pay_page(order)):
        window.open(address)
        assert window.see(".name").text == name
        assert window.run("return [window.hacked, document.querySelectorAll('.name *').length]") == [None, 0]


def test_a_link_that_opens_nothing_says_so_kindly_with_404(site, browser):
    order = site.place()
    window = browser(language="zh-CN", phone=True)
    address = site.order_page(order)
    window.open(address[:-1] + ("1" if address.endswith("0") else "0"))
    assert window.see("h1").text == "页面不存在"
    assert window.run("return performance.getEntriesByType('navigation')[0].responseStatus") == 404


def test_the_language_switch_changes_every_word(site, browser):
    order = site.place_paid()
    window = browser(language="fr")
    window.open(site.order_page(order))
    window.wait_for("h1", "Delivered")
    window.click('.switch [lang="zh-Hans"]')
    window.wait_for("h1", "已发货")
    assert window.run("return document.documentElement.lang") == "zh-Hans"
    assert window.see("#reveal").text == "查看卡密"
    window.click('.switch [lang="en"]')
    window.wait_for("h1", "Delivered")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_nothing_sticks_out_sideways_on_a_phone(site, browser, language, dark):
    unpaid, paid = site.place(name="W" * 120), site.place_paid(name="很长的名字" * 24)
    window = browser(language=language, phone=True, dark=dark)
    for address in (site.order_page(unpaid), site.order_page(paid), site.pay_page(unpaid)):
        window.open(address)
        window.see(".lines .name")
        assert window.run("return document.documentElement.scrollWidth") == 390


def test_every_control_has_a_name_and_is_large_enough_for_a_thumb(site, browser):
    order = site.place_paid()
    window = browser(phone=True)
    window.open(site.order_page(order))
    window.click("#reveal")
    window.click("#reveal-dialog [value=yes]")
    window.see("#keys li")
    controls = [one for one in window.driver.find_elements(By.CSS_SELECTOR, "a, button") if one.is_displayed()]
    assert len(controls) >= 7
    assert [one.get_attribute("outerHTML") for one in controls if not one.accessible_name] == []
    assert [one.accessible_name for one in controls if one.size["height"] < 36] == []
