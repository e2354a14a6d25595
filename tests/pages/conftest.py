"""A shop with HTTP on this machine and a real browser that looks at it.

site       the whole app behind a real HTTP server on a stage of its own; `site.place(…)`, `site.order_page(order)`
browser    `browser(language="zh-CN", phone=True, dark=False)` opens a window; complaints of the console fail the test
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from chalicelib.core.ids import payment_id_for
from chalicelib.orders import store as orders
from chalicelib.orders.model import Order
from chalicelib.orders.order_token import order_token
from infra.local.server import make_server
from tests import shop

PHONE, DESK = (390, 844), (1280, 900)
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip


class Site:
    def __init__(self, url: str):
        self.url = url

    def place(self, **members) -> Order:
        """An unpaid order of two keys of a new product; `name` and others describe the product."""
        now = int(time.time())
        order_members = {name: members.pop(name) for name in ("number", "payment") if name in members}
        product_id = shop.make_product(now, keys_in_stock=4, **members)
        return shop.place({product_id: 2}, now, **order_members)

    def place_paid(self, **members) -> Order:
        order = self.place(**members)
        shop.pay(order, int(time.time()))
        return orders.get_order(order.order_id)

    def order_page(self, order: Order) -> str:
        return f"{self.url}/o/{order_token(order.order_id)}"

    def pay_page(self, order: Order) -> str:
        return f"{self.url}/sandbox/pay/{payment_id_for(order.order_id)}"


@pytest.fixture
def site(stack: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    from app import app

    server = make_server(app, "127.0.0.1", 0, stack)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("BASE_URL", url)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Site(url)
    server.shutdown()
    server.server_close()
    thread.join()


class Window:
    """A browser window with the few gestures a buyer makes. Looks wait until what they look for is there."""

    def __init__(self, driver: webdriver.Chrome):
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def see(self, css: str) -> WebElement:
        return WebDriverWait(self.driver, 15).until(
            lambda driver: next(
                (one for one in driver.find_elements(By.CSS_SELECTOR, css) if one.is_displayed()), None
            ),
            f"{css} is not shown",
        )

    def shows(self, css: str) -> bool:
        return any(one.is_displayed() for one in self.driver.find_elements(By.CSS_SELECTOR, css))

    def click(self, css: str) -> None:
        self.see(css).click()

    def wait_for(self, css: str, text: str) -> None:
        WebDriverWait(self.driver, 20).until(
            lambda driver: text in self.see(css).text, f"{css} never said {text!r} but {self.see(css).text!r}"
        )

    def run(self, script: str):
        return self.driver.execute_script(script)

    def complaints(self) -> list[str]:
        """What the console holds against the page: a refused script or style, an exception."""
        return [one["message"] for one in self.driver.get_log("browser") if one["level"] == "SEVERE"]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """The machine's own Chromium and driver; where there is none, Selenium fetches one."""
    options = Options()
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium, own_driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium and own_driver:
        options.binary_location = str(Path(chromium).resolve()) if Path(chromium).is_symlink() else chromium
    started = webdriver.Chrome(options=options, service=Service(own_driver) if chromium and own_driver else Service())
    started.set_page_load_timeout(30)
    yield started
    started.quit()


@pytest.fixture
def browser(driver: webdriver.Chrome) -> Iterator[Callable[..., Window]]:
    window = Window(driver)

    def opened(*, language: str = "en", phone: bool = False, dark: bool = False) -> Window:
        width, height = PHONE if phone else DESK
        tell = driver.execute_cdp_cmd
        tell(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tell("Emulation.setEmulatedMedia", {"features": [scheme]})
        agent = driver.execute_script("return navigator.userAgent")
        tell("Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": language})
        tell("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
        return window

    window.complaints()  # what an earlier test left in the console
    yield opened
    complaints = window.complaints()
    driver.get("about:blank")
    assert [one for one in complaints if " 404 " not in one] == []
