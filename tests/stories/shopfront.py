"""A whole shop for stories: the real server on a fresh stage, and across the street the simulated providers.

Everything goes over HTTP, both ways: the shop's calls, ours to the providers, their notices to us. Queues, the change
stream and timers run when a story says so (`work`, `minute`), by the very handlers that Lambda starts, and time passes
only inside `later`: the providers sign by the real clock.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from chalicelib.accounts import store as accounts
from chalicelib.accounts.api_keys import issue_api_key
from chalicelib.core import clock as product_clock
from chalicelib.core import settings
from chalicelib.payments.adapters import paypal, wechat_virtual
from infra.local import events
from infra.local.api import Api
from infra.local.backend import Backend
from infra.local.simulator.server import Simulator
from infra.local.simulator.world import Record, World
from infra.local.stack import client, deploy_data_and_queues
from tests import shop
from tests.conftest import forget_everything

PROVIDERS = ("alipay", "paypal", "stripe", "wechat_pay", "wechat_virtual")
OFFSET_HOURS = {"alipay": 8, "wechat_pay": 8}  # written from the providers' documents, not from our facts
DAY_SECONDS = 86_400
PATIENCE_SECONDS = 20
QUEUES = {
    "order-expiry": "chalicelib.orders.workers.on_order_expiry",
    "delivery-due": "chalicelib.fulfilment.workers.on_delivery_due",
    "refund-due": "chalicelib.refunds.workers.on_refund_due",
    "payment-close": "chalicelib.payments.workers.on_payment_close",
    "reconciliation-due": "chalicelib.reconciliation.workers.on_reconciliation_due",
}
_numbers = itertools.count(1)


class _Source:
    name = "story"


class Shopfront:
    """`operator` and `shop` call the API; `providers` is the simulator."""

    def __init__(self, url: str, providers: Simulator, backend: Backend, time_ahead: dict[str, int]):
        self.url, self.providers, self.world = url, providers, providers.world
        self._backend, self._time_ahead = backend, time_ahead
        self._queues: dict[str, str] = {}
        self._stream_position: str | None = None
        now = product_clock.now()
        accounts.put_shop(shop.SHOP, "Demo", now)
        self.operator = Api(url, issue_api_key("operator", now))
        self.shop = Api(url, issue_api_key("shop", now, shop_id=shop.SHOP))
        self.account_ids: dict[str, str] = {}

    def open_account(self, provider: str) -> str:
        """An operator fills in what the provider gave out, enters our notice address there, and switches it on."""
        wanted = self.world.module(provider).demo_account(self.world)
        body = {"shop_id": shop.SHOP, "provider": provider, **wanted}
        account = self.operator.post("/v1/payment-accounts", body)
        assert account["status"] == "off"
        self.providers.control("endpoint", provider=provider, url=account["notice_url"])
        self.operator.patch(f"/v1/payment-accounts/{account['account_id']}", {"status": "on"})
        self.account_ids[provider] = account["account_id"]
        return account["account_id"]

    # buying

    def product(self, price_minor: int = 3000, currency: str = "CNY", keys_in_stock: int = 3) -> str:
        return shop.make_product(
            product_clock.now(), keys_in_stock=keys_in_stock, price_minor=price_minor, currency=currency
        )  # fmt: skip

    def wish(self, product_id: str, provider: str, method: str | None = None) -> dict[str, Any]:
        """The body of an order, with what the way to pay needs of its buyer."""
        payment: dict[str, Any] = {"provider": provider} | ({"method": method} if method else {})
        if method == "jsapi":
            payment["payer_id"] = "oUpF8uMuAJO"
        if provider == "wechat_virtual":
            person = self.logged_in()
            payment |= {"payer_id": person["openid"], "payer_session": person["session_key"]}
        return {
            "merchant_order_no": f"S-{next(_numbers)}",
            "lines": [{"product_id": product_id, "quantity": 1}],
            "buyer": {"ip": "203.0.113.9"},
            "payment": payment,
        }

    def order(self, product_id: str, provider: str, method: str | None = None) -> dict[str, Any]:
        return self.shop.post("/v1/orders", self.wish(product_id, provider, method))

    def logged_in(self) -> dict[str, str]:
        """What a mini-program's server learns of the person in front of it."""
        account = self.world.module("wechat_virtual").demo_account(self.world)
        log_in = f"appid={account['settings']['appid']}&secret={account['secrets']['appsecret']}"
        base = f"{self.providers.url}/wechat_virtual"
        _, person = Api(base).try_call(
            "GET", f"/sns/jscode2session?{log_in}&js_code=b&grant_type=authorization_code"
        )  # fmt: skip
        return person

    def open_in_client(self, order: dict[str, Any]) -> None:
        """What the buyer's mini-program does with the parameters of the order's answer."""
        body = {"openid": self.logged_in()["openid"], **order["payment"]["client"]}
        answer = Api(f"{self.providers.url}/wechat_virtual").post("/client/requestVirtualPayment", body)
        assert answer["errcode"] == 0, answer

    def pay(self, order: dict[str, Any], outcome: str | None = None) -> Record:
        """The buyer pays at the provider; returns once all that the provider says of it has been taken."""
        provider, our_no = order["payment"]["provider"], order["payment"]["payment_id"]
        if provider == "wechat_virtual" and self.world.find(provider, our_no) is None:
            self.open_in_client(order)
        if order["payment"].get("pay_url") and self.world.find(provider, our_no) is None:
            fetch(order["payment"]["pay_url"])  # Alipay's page opens the payment
        wanted = {"outcome": outcome} if outcome else {}
        self.providers.control("pay", provider=provider, our_no=our_no, **wanted)
        self.wait_for_notices(provider, our_no)
        return self.record(order)

    def record(self, order: dict[str, Any]) -> Record:
        found = self.world.find(order["payment"]["provider"], order["payment"]["payment_id"])
        assert found is not None
        return found

    def wait_for_notices(self, provider: str, our_no: str) -> None:
        """Until none is on its way. Each is to have been taken."""
        wait_until(lambda: all(one.state != "waiting" for one in self.world.events(provider, our_no)), "all notices")
        left = [one for one in self.world.events(provider, our_no) if one.state != "taken"]
        assert not left, left

    def history(self, order: dict[str, Any]) -> list[str]:
        return [one["what"] for one in self.operator.get(f"/v1/orders/{order['order_id']}/history")["entries"]]

    def look(self, order: dict[str, Any]) -> dict[str, Any]:
        return self.shop.get(f"/v1/orders/{order['order_id']}")

    def refund(self, order: dict[str, Any], by: Api | None = None) -> dict[str, Any]:
        """The shop gives all of it back; returns the order once the provider has said what there is to say."""
        (by or self.shop).post(f"/v1/orders/{order['order_id']}/refunds")
        provider, our_no = order["payment"]["provider"], order["payment"]["payment_id"]
        if provider in PROVIDERS:
            wait_until(
                lambda: all(one.state != "pending" for one in self.record(order).refunds), "the provider's refund"
            )  # fmt: skip
            self.wait_for_notices(provider, our_no)
        self.work()
        return self.look(order)

    # time and workers

    @contextmanager
    def later(self, seconds: int) -> Iterator[int]:
        """Our clock so much later; the providers' stays."""
        self._time_ahead["seconds"] += seconds
        try:
            yield product_clock.now()
        finally:
            self._time_ahead["seconds"] -= seconds

    def work(self) -> None:
        """The change stream, and what it and others put into queues, until nothing is left to do now."""
        while self._read_stream() | self._empty_queues():
            pass

    def tick(self, timer: str) -> None:
        """One timer, and what follows: `tick("refunds.workers.every_minute_finish_refunds")`."""
        _run(f"chalicelib.{timer}", events.timer_event(timer, product_clock.now()))
        self.work()

    def deliver_message(self, fact: str, message: dict[str, Any]) -> None:
        """Hand one message to its worker, as a queue would whose delay has run out."""
        client("sqs", self._backend.url).send_message(QueueUrl=self._queue(fact), MessageBody=json.dumps(message))
        self.work()

    def _queue(self, fact: str) -> str:
        if fact not in self._queues:
            found = client("sqs", self._backend.url).get_queue_url(QueueName=settings.queue_name(fact))
            self._queues[fact] = found["QueueUrl"]
        return self._queues[fact]

    def _empty_queues(self) -> bool:
        sqs, did = client("sqs", self._backend.url), False
        for fact, handler in QUEUES.items():
            address = self._queue(fact)
            while found := sqs.receive_message(QueueUrl=address, MaxNumberOfMessages=10).get("Messages", []):
                did = True
                for one in found:
                    sqs.delete_message(QueueUrl=address, ReceiptHandle=one["ReceiptHandle"])
                    answer = _run(handler, {"Records": [events.queue_record(one, settings.queue_name(fact))]})
                    assert not events.failed_ids(answer), (fact, one["Body"])
        return did

    @cached_property
    def _stream(self) -> tuple[str, str]:
        table = client("dynamodb", self._backend.url).describe_table(TableName=settings.table_name())["Table"]
        found = client("dynamodbstreams", self._backend.url).describe_stream(StreamArn=table["LatestStreamArn"])
        return table["LatestStreamArn"], found["StreamDescription"]["Shards"][0]["ShardId"]

    def _read_stream(self) -> bool:
        streams, did = client("dynamodbstreams", self._backend.url), False
        arn, shard = self._stream
        place: dict[str, str] = {"ShardIteratorType": "TRIM_HORIZON"}
        if self._stream_position:
            place = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": self._stream_position}
        iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, **place)["ShardIterator"]
        while records := streams.get_records(ShardIterator=iterator, Limit=100)["Records"]:
            did = True
            self._stream_position = records[-1]["dynamodb"]["SequenceNumber"]
            batch = {"Records": [events.stream_record(one, arn) for one in records]}
            answer = _run("chalicelib.orders.workers.on_order_changed", batch)
            assert not events.failed_ids(answer)
            place = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": self._stream_position}
            iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, **place)["ShardIterator"]
        return did

    # the books

    @contextmanager
    def two_days_later(self) -> Iterator[None]:
        """The day is over, for us and for the providers, and every statement of it is made."""
        self.work()
        with self.later(2 * DAY_SECONDS):
            self.providers.control("clock", ahead_seconds=2 * DAY_SECONDS)
            forget_tokens()  # another morning, another copy of the function
            yield
            self.providers.control("clock", ahead_seconds=-2 * DAY_SECONDS)
            forget_tokens()

    def days_of(self, provider: str) -> list[str]:
        """The provider's days on which money moved: one, or two around its midnight."""
        offset = OFFSET_HOURS.get(provider, 0) * 3_600
        moved = [one.at for one in self.world.movements(provider, 0, 10**11)]
        return sorted({datetime.fromtimestamp(at + offset, UTC).strftime("%Y-%m-%d") for at in moved})

    def reconcile(self, provider: str) -> list[dict[str, Any]]:
        """Each day reconciled with the provider's own statement, as an operator would; the results."""
        return [self.reconcile_day(provider, day) for day in self.days_of(provider)]

    def reconcile_day(self, provider: str, day: str) -> dict[str, Any]:
        body = {"provider": provider, "account_id": self.account_ids[provider], "day": day, "source": "api"}
        made = self.operator.post("/v1/reconciliations", body)
        self.work()
        return self.operator.get(f"/v1/reconciliations/{made['reconciliation_id']}")

    def differences(self, reconciled: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"reconciliation_id": one["reconciliation_id"], **difference}
            for one in reconciled
            for difference in self.operator.get(f"/v1/reconciliations/{one['reconciliation_id']}/differences")[
                "differences"
            ]
        ]

    def settle(self, difference: dict[str, Any], action: str) -> dict[str, Any]:
        path = f"/v1/reconciliations/{difference['reconciliation_id']}/differences/{difference['number']}/settle"
        settled = self.operator.post(path, {"action": action, "note": "story"})
        self.work()
        return settled

    def trial_balance(self) -> dict[tuple[str, str], int]:
        """What every account comes to once the ledger has proved its days; to be called later than they ended."""
        at = product_clock.now()
        _run("chalicelib.ledger.workers.every_day_prove_ledger", events.timer_event("prove", at))
        proved = datetime.fromtimestamp(at - 3_600 - DAY_SECONDS, UTC).strftime("%Y-%m-%d")
        balance = self.operator.get(f"/v1/ledger/trial-balance?day={proved}")
        assert (balance["is_balanced"], balance["differences"]) == (True, [])
        found = {(one["account"], one["currency"]): one["closing_minor"] for one in balance["accounts"]}
        for currency in {currency for _, currency in found}:
            assert sum(minor for (_, of), minor in found.items() if of == currency) == 0
        return found

    def clearing(self, balance: dict[tuple[str, str], int], provider: str, currency: str) -> int:
        """What the provider holds for us, by our ledger."""
        return balance.get((f"clearing:{provider}:{self.account_ids[provider]}", currency), 0)


def fees_of(world: World, provider: str) -> int:
    """What a provider kept in all, counted from its books by its published terms."""
    kept = 0
    for record in world.each(provider):
        kept += record.fee_minor
        if provider == "stripe":
            kept += 1_500 * len(record.disputes)
        if provider == "wechat_pay" and record.paid_minor:  # gives its fee back with the money, in proportion
            for refund in record.refunds:
                if refund.state == "succeeded" or refund.reversed_at:
                    kept -= round(record.fee_minor * refund.amount_minor / record.paid_minor)
    return kept


def held_by(world: World, provider: str) -> int:
    """What a provider holds for the shop, by its own books."""
    return sum(one.amount_minor for one in world.movements(provider, 0, 10**11)) - fees_of(world, provider)


def fetch(address: str) -> tuple[str, bytes]:
    """Content type and body of a page, redirects followed as a browser does."""
    with urllib.request.urlopen(address, timeout=PATIENCE_SECONDS) as answer:
        return answer.headers.get_content_type(), answer.read()


def wait_until(is_so: Any, what: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.01)


def forget_tokens() -> None:
    paypal._tokens.clear()
    wechat_virtual._tokens.clear()


@contextmanager
def open_stage(backend: Backend, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh stage as the fixture `stack` makes it, for as long as the stories of a module."""
    stage = f"s{os.getpid() % 10_000}x{next(_numbers)}"
    deploy_data_and_queues(backend.url, stage)
    patch.setenv("STAGE", stage)
    forget_everything()
    yield stage
    forget_everything()


@contextmanager
def open_shopfront(backend: Backend, keys: Path, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Shopfront]:
    """To be used on a fresh stage. `keys`: the providers' keys, made once."""
    import app
    from infra.local.server import make_server

    shutil.copytree(keys, folder / "keys")
    forget_tokens()
    time_ahead = {"seconds": 0}
    patch.setattr(product_clock, "now", lambda: int(time.time()) + time_ahead["seconds"])
    with ExitStack() as closing:
        server = make_server(app.app, "127.0.0.1", 0, "test")
        closing.callback(server.server_close)
        url = f"http://127.0.0.1:{server.server_address[1]}"
        patch.setenv("BASE_URL", url)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        closing.callback(server.shutdown)
        providers = closing.enter_context(Simulator(folder, speed=1000))
        yield Shopfront(url, providers, backend, time_ahead)


def make_keys(folder: Path) -> Path:
    """The simulated providers' keys and certificates: slow to make, good for every story."""
    world = World(folder)
    for provider in PROVIDERS:
        world.module(provider).demo_account(world)
    world.keys("wechat_pay_platform")
    world.keys("paypal-signer")
    return folder / "keys"


def _run(handler: str, event: dict[str, Any]) -> Any:
    return events.load_handler(handler)(event, events.context(_Source))
