"""A shop as its customers see it, for the benchmarks: the real app behind Chalice's stand-in for API Gateway.

Orders look like real ones (names in Chinese, a buyer with address, phone, device; a return address with a query),
because the size of a row decides what it costs. Needs a stage that is deployed and in the environment.
"""

from __future__ import annotations

import importlib
import io
import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest import mock

from chalice.test import Client

from chalicelib.accounts.api_keys import issue_api_key
from chalicelib.core.ids import order_id_of_payment, payment_id_for
from chalicelib.payments import sandbox_store
from chalicelib.payments.adapters.sandbox import sign_notice
from tests import shop as stockroom

PRODUCT_NAME = "Steam 钱包充值卡 100 元（中国区）自动发货"
BASE_URL = "https://api.shop.example.com"
_numbers = count(1)


@contextmanager
def remembering() -> Iterator[None]:
    """Let processes remember products, lots and API keys for an hour instead of seconds: on a slow machine they would
    be read again in the middle of a step, and the count would depend on the machine."""
    from chalicelib.catalog import store as catalog
    from chalicelib.edge import auth
    from chalicelib.inventory import memory

    with (
        mock.patch.object(catalog, "KEEP_SECONDS", 3_600),
        mock.patch.object(auth, "REMEMBER_SECONDS", 3_600),
        mock.patch.object(memory, "POOL_SECONDS", 3_600),
    ):
        yield


def quiet() -> io.StringIO:
    """Let the product log as always, but into memory: the cost of logging stays, the noise goes."""
    from chalicelib.edge.observe import log

    kept = io.StringIO()
    for handler in log._logger.handlers:
        handler.setStream(kept)
    return kept


class Shop:
    """One shop and its operator, calling over HTTP in process."""

    def __init__(self, now: int | None = None):
        self.now = now or int(time.time())
        self.client = Client(importlib.import_module("app").app)
        shop_id = f"shop_{next(_numbers):05d}"
        self.keys = {
            "shop": issue_api_key("shop", self.now, shop_id=shop_id),
            "operator": issue_api_key("operator", self.now),
        }
        quiet()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        scope: str = "shop",
        expected: int = 200,
        key: str | None = None,
    ) -> dict:
        """One request; its answer. Raises: RuntimeError when the status is another."""
        headers = {"Authorization": f"Bearer {self.keys[scope]}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        return self._send(method, path, headers, content, expected)

    def _send(self, method: str, path: str, headers: dict, content: bytes, expected: int) -> dict:
        answer = self.client.http.request(method, path, headers=headers, body=content)
        if answer.status_code != expected:
            raise RuntimeError(f"{method} {path} answered {answer.status_code}: {answer.body!r}")
        return answer.json_body

    def product(self, keys: int = 0, *, sealed: bool = False, **members: Any) -> str:
        """A product on sale with that many keys in one lot; unsealed keys can be sold, but not shown."""
        product_id = stockroom.make_product(self.now, name=PRODUCT_NAME, hold_minutes=15, **members)
        if keys:
            stockroom.add_keys(product_id, keys, self.now, sealed=sealed)
        return product_id

    def wish(self, lines: dict[str, int]) -> dict:
        number = next(_numbers)
        return {
            "merchant_order_no": f"2026112215304588{number:08d}",
            "lines": [{"product_id": product_id, "quantity": quantity} for product_id, quantity in lines.items()],
            "buyer": {
                "buyer_id": f"u_{1029384756 + number}",
                "email": f"zhang.xiaoming.{number:05d}@mail.example.com",
                "phone": "+8613800138000",
                "ip": "2001:db8:85a3::8a2e:370:7334",
                "device_id": f"3f2504e0-4f89-41d3-9a0c-{number:012d}",
            },
            "payment": {
                "provider": "sandbox",
                "return_url": f"https://www.shop.example.com/zh-CN/orders/2026112215304588{number:08d}?from=pay",
            },
        }

    def place(self, lines: dict[str, int], *, key: str | None = None) -> dict:
        return self.call("POST", "/v1/orders", self.wish(lines), expected=201, key=key)

    def notice(self, order: dict) -> tuple[dict, bytes]:
        """The buyer has paid at the sandbox: its signed notice, not yet sent."""
        payment_id = payment_id_for(order["order_id"])
        assert order_id_of_payment(payment_id) == order["order_id"]
        capture = sandbox_store.capture(payment_id, order["total_minor"], order["currency"], self.now)
        data = {
            "payment_id": payment_id, "txn": capture.txn, "amount_minor": capture.captured_minor,
            "currency": capture.currency,
        }  # fmt: skip
        content = json.dumps(
            {"id": capture.event_id, "type": "payment.paid", "created": self.now, "data": data}, separators=(",", ":")
        ).encode()
        return sign_notice(content, int(time.time())), content

    def send_notice(self, notice: tuple[dict, bytes]) -> None:
        headers, content = notice
        self._send("POST", "/v1/notices/sandbox", headers, content, 200)

    def pay(self, order: dict) -> None:
        self.send_notice(self.notice(order))

    def reveal(self, order: dict) -> list[dict]:
        return self.call("POST", f"/v1/orders/{order['order_id']}/reveal", {})["keys"]

    def refund(self, order: dict, *, key: str | None = None) -> dict:
        return self.call("POST", f"/v1/orders/{order['order_id']}/refunds", {}, expected=201, key=key)

    def start_import(self, product_id: str, content: bytes) -> str:
        """An operator's CSV file, uploaded and started; the workers have to do the rest."""
        wanted = {"product_id": product_id, "filename": "keys.csv", "format": "csv"}
        made = self.call("POST", "/v1/imports", wanted, scope="operator", expected=201)
        upload = made["upload"]
        request = urllib.request.Request(
            upload["url"], data=content, headers=upload["headers"], method=upload["method"]
        )
        with urllib.request.urlopen(request, timeout=60):
            pass
        path = f"/v1/imports/{made['import_id']}/start"
        self.call("POST", path, {}, scope="operator", expected=202)
        return made["import_id"]
