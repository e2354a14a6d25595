"""The very package that goes to AWS, deployed with role policies enforced, sells a key.

API Gateway -> function `api` -> DynamoDB -> stream and queues -> workers -> KMS. What this proves beyond the other
tests: the zip holds all that runs, every function starts by its own module, and no role is too narrow for its work.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time

import pytest

from infra.build import BUILD, ROOT
from infra.local.api import Api, import_keys, wait_until
from infra.local.backend import Backend
from infra.local.packaged import deploy_package
from infra.local.seed import csv_of_keys
from infra.local.stack import client, deploy_data_and_queues

STAGE = "test"
FACTS = ("delivery-due", "order-expiry", "refund-due", "import-started", "import-chunk", "sandbox-notice-due",
         "order-changed", "order-changed-count-held")  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Operator and shop at the deployed API, and the backend they run on."""
    machine = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")
    subprocess.run(
        [sys.executable, "-m", "infra.build", "--stage", STAGE, "--architecture", machine], cwd=ROOT, check=True
    )
    running = Backend(auth=True, log=tmp_path_factory.mktemp("backend") / "log").start()
    try:
        deploy_data_and_queues(running.url, STAGE)
        address = deploy_package(running.url, STAGE, BUILD / STAGE)
        operator, seller = (issue(running, scope) for scope in ("operator", "shop"))
        yield Api(address, operator), Api(address, seller), running
    finally:
        running.stop()


def issue(running: Backend, scope: str) -> str:
    """An API key, issued as an operator does it: from a machine with rights on the table."""
    code = (
        "import time; from chalicelib.accounts.api_keys import issue_api_key; "
        f"print(issue_api_key({scope!r}, int(time.time()), shop_id={'s1' if scope == 'shop' else None!r}))"
    )
    environment = {**running.environment(), "STAGE": STAGE, "PATH": ""}
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return made.stdout.strip()


def stock_of(operator: Api, product_id: str) -> dict:
    stock = operator.get(f"/v1/products/{product_id}/stock")
    return {name: stock[name] for name in ("imported", "available", "held", "sold")}


def test_the_package_sells_delivers_reveals_and_refunds_a_key(shop):
    operator, seller, running = shop
    product = operator.post("/v1/products", {
        "name": "Card", "price_minor": 500, "currency": "CNY", "key_fields": [{"name": "code"}], "hold_minutes": 1,
    })["product_id"]  # fmt: skip
    content = csv_of_keys(["code"], 20)
    done = import_keys(operator, product, content, "keys.csv")
    assert (done["status"], done["imported"]) == ("completed", 20)
    operator.patch(f"/v1/products/{product}", {"status": "on_sale"})

    def place(number: str) -> dict:
        lines = [{"product_id": product, "quantity": 1}]
        return seller.post(
            "/v1/orders", {"merchant_order_no": number, "lines": lines, "payment": {"provider": "sandbox"}}
        )

    def wait_for(order: dict, status: str, seconds: float = 30) -> None:
        wait_until(lambda: seller.get(f"/v1/orders/{order['order_id']}"), lambda one: one["status"] == status,
                   seconds=seconds, what=status)  # fmt: skip

    unpaid, revealed, refunded = place("1"), place("2"), place("3")
    for order in (revealed, refunded):
        Api(seller.base_url).post(f"/sandbox/payments/{order['payment']['payment_id']}", {"outcome": "paid"})
        wait_for(order, "delivered")
    keys = seller.post(f"/v1/orders/{revealed['order_id']}/reveal")["keys"]
    assert [key["fields"]["code"] in content.decode() for key in keys] == [True]
    seller.post(f"/v1/orders/{refunded['order_id']}/refunds")
    wait_for(refunded, "refunded")
    held = {"imported": 20, "available": 18, "held": 1, "sold": 1}
    wait_until(lambda: stock_of(operator, product), lambda seen: seen == held, seconds=30, what=str(held))
    wait_for(unpaid, "expired", seconds=100)
    freed = {"imported": 20, "available": 19, "held": 0, "sold": 1}
    wait_until(lambda: stock_of(operator, product), lambda seen: seen == freed, seconds=30, what=str(freed))

    time.sleep(1)
    sqs = client("sqs", running.url)
    for fact in FACTS:
        url = sqs.get_queue_url(QueueName=f"kamiflow-{STAGE}-{fact}-dead")["QueueUrl"]
        dead = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        assert dead["Attributes"]["ApproximateNumberOfMessages"] == "0", fact
