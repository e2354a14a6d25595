"""The very package that goes to AWS, deployed with role policies enforced, sells a key.

API Gateway -> function `api` -> DynamoDB -> stream and queues -> workers -> KMS. What this proves beyond the other
tests: the zip holds all that runs, every function starts by its own module, and no role is too narrow for its work.
Nobody sits out an hour glass here: the unpaid order's minute is taken from its row (`make demo` waits for real).
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import app
from infra.build import BUILD, ROOT, function_name, functions_of
from infra.lint import lint
from infra.local.api import Api, import_keys, wait_until
from infra.local.backend import Backend
from infra.local.packaged import deploy_package
from infra.local.seed import csv_of_keys
from infra.local.simulator.server import Simulator
from infra.local.stack import client, deploy_data_and_queues

STAGE = "test"
FACTS = ("delivery-due", "order-expiry", "refund-due", "import-started", "import-chunk", "payment-close",
         "reconciliation-due", "sandbox-notice-due",
         "order-changed", "order-changed-count-held")  # fmt: skip


@pytest.fixture(scope="module")
def package() -> Path:
    """The folder of a fresh build, for the architecture of this machine."""
    machine = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")
    subprocess.run(
        [sys.executable, "-m", "infra.build", "--stage", STAGE, "--architecture", machine], cwd=ROOT, check=True
    )
    return BUILD / STAGE


@pytest.fixture(scope="module")
def shop(package: Path, tmp_path_factory) -> Iterator[tuple[Api, Api, Backend]]:
    """Operator and shop at the deployed API, and the backend they run on."""
    running = Backend(auth=True, log=tmp_path_factory.mktemp("backend") / "log").start()
    try:
        deploy_data_and_queues(running.url, STAGE)
        address = deploy_package(running.url, STAGE, package)
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


def queue(running: Backend, fact: str) -> dict[str, str]:
    return {"QueueUrl": client("sqs", running.url).get_queue_url(QueueName=f"kamiflow-{STAGE}-{fact}")["QueueUrl"]}


def messages_in(running: Backend, fact: str, state: str = "") -> int:
    name = f"ApproximateNumberOfMessages{state}"
    found = client("sqs", running.url).get_queue_attributes(**queue(running, fact), AttributeNames=[name])
    return int(found["Attributes"][name])


def end_the_hold(running: Backend, order: dict) -> None:
    """As if the minute were over: the row says so, and the message that waits for it in the queue comes now."""
    client("dynamodb", running.url).update_item(
        TableName=f"kamiflow-{STAGE}",
        Key={"pk": {"S": f"O#{order['order_id']}"}, "sk": {"S": "O"}},
        UpdateExpression="SET exp = :past",
        ConditionExpression="exp > :past",
        ExpressionAttributeValues={":past": {"N": str(int(time.time()) - 1)}},
    )
    body = json.dumps({"order_id": order["order_id"]})
    client("sqs", running.url).send_message(**queue(running, "order-expiry"), MessageBody=body)


def run_timer(running: Backend, name: str) -> str | None:
    """Start a timer's function as its rule does; what went wrong."""
    event = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "account": "", "time": "",
             "region": "", "resources": [], "id": "1", "version": "0"}  # fmt: skip
    answer = client("lambda", running.url).invoke(
        FunctionName=f"kamiflow-{STAGE}-{function_name(name)}", Payload=json.dumps(event).encode()
    )
    return f"{name}: {answer['Payload'].read().decode()}" if "FunctionError" in answer else None


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
    wait_until(lambda: messages_in(running, "order-expiry", "Delayed"), lambda seen: seen == 3, seconds=30,
               what="a message for the end of every hold")  # fmt: skip
    for order in (revealed, refunded):
        Api(seller.base_url).post(f"/sandbox/payments/{order['payment']['payment_id']}", {"outcome": "paid"})
        wait_for(order, "delivered")
    keys = seller.post(f"/v1/orders/{revealed['order_id']}/reveal")["keys"]
    assert [key["fields"]["code"] in content.decode() for key in keys] == [True]
    seller.post(f"/v1/orders/{refunded['order_id']}/refunds")
    wait_for(refunded, "refunded")
    held = {"imported": 20, "available": 18, "held": 1, "sold": 1}
    wait_until(lambda: stock_of(operator, product), lambda seen: seen == held, seconds=30, what=str(held))
    end_the_hold(running, unpaid)
    wait_for(unpaid, "expired")
    freed = {"imported": 20, "available": 19, "held": 0, "sold": 1}
    wait_until(lambda: stock_of(operator, product), lambda seen: seen == freed, seconds=30, what=str(freed))

    for fact in FACTS:
        assert messages_in(running, f"{fact}-dead") == 0, fact


def test_a_providers_account_takes_money_gives_it_back_and_is_reconciled_with_the_rights_each_function_has(
    shop, tmp_path
):  # fmt: skip
    operator, seller, running = shop
    product = operator.post("/v1/products", {"name": "Card", "price_minor": 777, "currency": "USD"})["product_id"]
    import_keys(operator, product, csv_of_keys(["code"], 3), "keys.csv")
    operator.patch(f"/v1/products/{product}", {"status": "on_sale"})
    with Simulator(tmp_path, speed=50) as stripe:
        demo = Api(stripe.url).get("/_control/accounts")["stripe"]
        wanted = {
            "shop_id": "s1",
            "provider": "stripe",
            **{name: demo[name] for name in ("mode", "settings", "secrets")},
        }
        account_id = operator.post("/v1/payment-accounts", wanted)["account_id"]
        account = operator.patch(f"/v1/payment-accounts/{account_id}", {"status": "on"})
        notice_url = seller.base_url + account["notice_url"][account["notice_url"].index("/v1/") :]
        stripe.control("endpoint", provider="stripe", url=notice_url)

        def place(number: str) -> dict:
            lines, payment = [{"product_id": product, "quantity": 1}], {"provider": "stripe"}
            return seller.post("/v1/orders", {"merchant_order_no": number, "lines": lines, "payment": payment})

        def wait_for(order: dict, status: str) -> None:
            wait_until(lambda: seller.get(f"/v1/orders/{order['order_id']}"), lambda one: one["status"] == status,
                       seconds=40, what=status)  # fmt: skip

        paid, cancelled = place("S1"), place("S2")
        stripe.control("pay", provider="stripe", our_no=paid["payment"]["payment_id"])
        wait_for(paid, "delivered")
        seller.post(f"/v1/orders/{paid['order_id']}/refunds")
        wait_for(paid, "refunded")
        seller.post(f"/v1/orders/{cancelled['order_id']}/cancel")

        def state_of(number: str) -> str:
            return next(
                one["state"] for one in Api(stripe.url).get("/_control/records")["records"] if one["our_no"] == number
            )

        wait_until(lambda: state_of(cancelled["payment"]["payment_id"]), lambda seen: seen != "open", seconds=40,
                   what="the session of a cancelled order is closed at the provider")  # fmt: skip
        entries = f"/v1/ledger/entries?order_id={paid['order_id']}"
        wait_until(lambda: operator.get(entries)["sets"], lambda sets: len(sets) >= 3, seconds=40,
                   what="the ledger has the payment, the sale and the refund")  # fmt: skip
        day = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d")
        wanted = {"provider": "stripe", "account_id": account_id, "day": day, "source": "api"}
        made = operator.post("/v1/reconciliations", wanted)["reconciliation_id"]
        wait_until(lambda: operator.get(f"/v1/reconciliations/{made}"), lambda one: one["status"] == "completed",
                   seconds=60, what="yesterday, on which nothing moved, is reconciled")  # fmt: skip
    for fact in FACTS:
        assert messages_in(running, f"{fact}-dead") == 0, fact


def test_every_timer_of_the_package_runs_with_the_rights_it_has(shop):
    *_, running = shop
    timers = [name for name, _ in functions_of(app.app) if name.startswith("every_")]
    assert len(timers) == 12
    with ThreadPoolExecutor(2) as two:
        assert [wrong for wrong in two.map(lambda name: run_timer(running, name), timers) if wrong] == []


def test_the_template_is_clean_as_it_is_built_and_as_aws_expands_it(package):
    assert lint(package) == ""
