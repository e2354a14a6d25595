"""`make demo`: the whole story of a sale, over HTTP only, against a running `make run`; fails on the first wrong step.

It knows nothing of the product's insides: whoever can send these requests can sell. Takes about two minutes, because
it really waits for an order to expire and for another to be delivered on its minute.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import time
import urllib.error
from datetime import datetime
from pathlib import Path
from typing import Any

from infra.local.api import Api, Failed, import_keys, wait_until
from infra.local.seed import csv_of_keys

FIELDS = ["card_number", "password"]
STATES = ("imported", "available", "held", "sold", "expired", "disabled", "quarantined")


class Story:
    """The steps in order. Each prints what it did after it has been checked."""

    def __init__(self, operator: Api, shop: Api):
        self.operator = operator
        self.shop = shop
        self.began = time.monotonic()
        self.run = f"{time.time():.0f}"
        self.number = 0

    def tell(self) -> None:
        self.chapter("An operator creates three products and imports keys")
        content = csv_of_keys(FIELDS, 1_000)
        sold_here = {tuple(row) for row in list(csv.reader(io.StringIO(content.decode())))[1:]}
        card = self.product("Game card", content, 1_000)
        short = self.product("Card held for one minute", csv_of_keys(FIELDS, 5), 5, hold_minutes=1)
        later = self.product(
            "Card delivered after one minute", csv_of_keys(FIELDS, 5), 5,
            delivery={"mode": "delayed", "delay_minutes": 1},
        )  # fmt: skip

        self.chapter("A shop starts two orders that need a minute: one nobody pays, one delivered later")
        unpaid = self.order(short, 1, "unpaid")
        self.stock(short, "its key is held", available=4, held=1)
        delayed = self.order(later, 1, "delayed")
        self.pay(delayed)
        delayed = self.wait_for(delayed, ("delivering", "paid"))
        self.check(delayed["lines"][0]["status"] == "scheduled", "the delayed order waits for its minute")
        status, refused = self.shop.try_call("POST", f"/v1/orders/{delayed['order_id']}/reveal", {})
        self.check(status == 409, f"its keys cannot be seen before: {refused['error']['code']}")

        self.chapter("First sale: order, pay, delivered, revealed")
        first = self.order(card, 2, "first")
        self.stock(card, "two keys are held", available=998, held=2)
        again = self.shop.post("/v1/orders", first["request"], idempotency_key=first["idempotency_key"])
        self.check(again["order_id"] == first["order_id"], "sending the same order again is the same order")
        self.stock(card, "and holds no further key", available=998, held=2)
        self.pay(first)
        first = self.wait_for(first, ("delivered",))
        self.stock(card, "two keys are sold", available=998, sold=2)
        keys = self.shop.post(f"/v1/orders/{first['order_id']}/reveal")["keys"]
        seen = {tuple(key["fields"][name] for name in FIELDS) for key in keys}
        self.check(len(seen) == 2 and seen <= sold_here, "the two revealed keys are two of the imported ones")
        again = self.shop.post(f"/v1/orders/{first['order_id']}/reveal")["keys"]
        self.check(again == keys, "revealing again shows the same keys")
        status, refused = self.shop.try_call("POST", f"/v1/orders/{first['order_id']}/refunds", {})
        self.check(status == 409, f"revealed keys are not refunded to a shop: {refused['error']['code']}")
        entries = self.operator.get(f"/v1/orders/{first['order_id']}/history")["entries"]
        self.check(sum(one["what"] == "reveal" for one in entries) == 2, "both reveals are in the order's history")

        self.chapter("Second sale: paid, delivered, refunded unrevealed")
        second = self.order(card, 1, "second")
        self.pay(second)
        second = self.wait_for(second, ("delivered",))
        self.stock(card, "a third key is sold", available=997, sold=3)
        refund = self.shop.post(f"/v1/orders/{second['order_id']}/refunds", {"reason": "changed my mind"})
        self.check(refund["amount_minor"] == 3000, "the whole price is given back")
        second = self.wait_for(second, ("refunded",))
        self.stock(card, "its key is back in stock", available=998, sold=2)
        status, _ = self.shop.try_call("POST", f"/v1/orders/{second['order_id']}/reveal", {})
        self.check(status == 409, "a refunded order shows no keys")

        self.chapter("The order nobody paid expires; the delayed one comes on its minute")
        unpaid = self.wait_for(unpaid, ("expired",), seconds=150)
        self.stock(short, "its key is back in stock", available=5)
        due = instant(delayed["lines"][0]["deliver_at"])
        delayed = self.wait_for(delayed, ("delivered",), seconds=150)
        late = instant(delayed["lines"][0]["delivered_at"]) - due
        self.check(0 <= late <= 60, f"delivered {late:.0f} s after its minute, never before")
        keys = self.shop.post(f"/v1/orders/{delayed['order_id']}/reveal")["keys"]
        self.check(len(keys) == 1, "and revealed")
        self.stock(later, "one sold", available=4, sold=1)
        print(f"\nThe story is true. {self.number} checks in {time.monotonic() - self.began:.0f} s.")

    def product(self, name: str, content: bytes, count: int, **settings: Any) -> dict:
        product = self.operator.post("/v1/products", {
            "name": f"{name} (demo {self.run})", "price_minor": 3000, "currency": "CNY",
            "key_fields": [{"name": field} for field in FIELDS], **settings,
        })  # fmt: skip
        product_id = product["product_id"]
        self.stock({**product, "count": 0}, "starts empty", available=0)
        done = import_keys(self.operator, product_id, content, "keys.csv")
        self.check(
            (done["status"], done["imported"], done["refused"]) == ("completed", count, 0),
            f"{name}: {count:,} keys imported from a CSV file",
        )
        self.operator.patch(f"/v1/products/{product_id}", {"status": "on_sale"})
        product = {**product, "count": count}
        self.stock(product, f"{name}: all of them in stock", available=count)
        return product

    def order(self, product: dict, quantity: int, label: str) -> dict:
        request = {
            "merchant_order_no": f"demo-{self.run}-{label}",
            "lines": [{"product_id": product["product_id"], "quantity": quantity}],
            "buyer": {"buyer_id": "buyer-1"},
            "payment": {"provider": "sandbox"},
            "expected_total_minor": 3000 * quantity,
        }
        key = f"demo-{self.run}-{label}"
        made = self.shop.post("/v1/orders", request, idempotency_key=key)
        self.check(
            made["status"] == "pending_payment" and bool(made["payment"]["pay_url"]),
            f"{label}: order {made['order_id']} over {quantity}, {made['total_minor']} {made['currency']} to pay",
        )
        return {**made, "request": request, "idempotency_key": key}

    def pay(self, order: dict) -> None:
        Api(self.shop.base_url).post(f"/sandbox/payments/{order['payment']['payment_id']}", {"outcome": "paid"})
        print("      paid on the sandbox")

    def wait_for(self, order: dict, states: tuple[str, ...], *, seconds: float = 30) -> dict:
        seen = wait_until(
            lambda: self.shop.get(f"/v1/orders/{order['order_id']}"),
            lambda one: one["status"] in states,
            seconds=seconds,
            what=f"order {order['order_id']} to be {' or '.join(states)}",
        )
        self.check(True, f"order {order['order_id']} is {seen['status']}")
        return seen

    def stock(self, product: dict, text: str, **expected: int) -> None:
        """All figures exactly; they may need a moment, because held keys are counted behind the orders."""
        wanted = {state: expected.get(state, 0) for state in STATES} | {"imported": product["count"]}
        seen = wait_until(
            lambda: self.operator.get(f"/v1/products/{product['product_id']}/stock"),
            lambda one: {state: one[state] for state in STATES} == wanted,
            seconds=90,
            what=f"stock {wanted}",
        )
        figures = ", ".join(f"{state} {seen[state]}" for state in STATES if seen[state])
        self.check(True, f"{text}: {figures or 'nothing'}")

    def chapter(self, title: str) -> None:
        print(f"\n{title}", flush=True)

    def check(self, is_true: bool, text: str) -> None:
        """Raises: Failed unless it is true."""
        if not is_true:
            raise Failed(f"expected: {text}")
        self.number += 1
        print(f"  {self.number:3} {text}", flush=True)


def instant(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def main() -> int:
    parser = argparse.ArgumentParser(description="Tell the whole story against a running server.")
    parser.add_argument("--credentials", type=Path, default=Path(".local/credentials.json"))
    try:
        found = json.loads(parser.parse_args().credentials.read_text())
    except FileNotFoundError:
        print("there is no running shop: say 'make run' in another terminal first", file=sys.stderr)
        return 1
    try:
        Story(Api(found["base_url"], found["operator_key"]), Api(found["base_url"], found["shop_key"])).tell()
    except Failed as failed:
        print(f"\nWRONG: {failed}", file=sys.stderr)
        return 1
    except urllib.error.URLError as error:
        print(f"\n{found['base_url']} does not answer ({error.reason}): is 'make run' running?", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
