"""The interactive reference in a real browser: it shows every call, asks nobody else, and its console stays clean."""

from selenium.webdriver.support.ui import WebDriverWait

_TEXT = """
const deep = (node) => [...node.querySelectorAll('*')].flatMap((one) =>
  [one, ...(one.shadowRoot ? deep(one.shadowRoot) : [])]);
return deep(document).filter((one) => one.shadowRoot).map((one) => one.shadowRoot.textContent).join(' ');
"""


def test_the_reference_shows_the_calls_and_asks_no_other_host(site, browser):
    window = browser()
    window.open(f"{site.url}/docs")
    WebDriverWait(window.driver, 20).until(lambda _: "Sell card keys" in window.run(_TEXT))
    text = window.run(_TEXT)
    assert "orders" in text and "products" in text and "imports" in text
    asked = window.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert asked and all(address.startswith((site.url, "data:")) for address in asked)

    window.open(f"{site.url}/docs#?route=post-/v1/orders")
    WebDriverWait(window.driver, 20).until(lambda _: "merchant_order_no" in window.run(_TEXT))
