"""What a provider's notice costs, from the signed message at its address to the delivered order.

The other side is the provider simulator, which knows nothing of the product and signs as the provider would: the shop
opens each payment there through the real adapter, the buyer pays, and the message made of it is sent in by hand.

    counts      DynamoDB requests and units: checkout and notice of each provider; disputes and refunds; an order paid
                out of the shop's balance; what the ledger writes of an order
    signatures  CPU of reading one notice, beside the bare check of its signature and beside one bare RSA check
    imports     CPU of a new copy of `api` up to its first notice read, in fresh interpreters, beside the floor
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, urlencode, urlsplit

from benchmarks import cold_start, steps
from benchmarks.meter import Meter
from benchmarks.report import Row, Table
from benchmarks.shop import Shop, remembering
from benchmarks.steps import Budget, Cost, cost_of
from chalicelib.accounts.store import put_shop
from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import to_row
from chalicelib.aws.secrets import forget_secrets
from chalicelib.balance.adjust import adjust
from chalicelib.core.ids import payment_id_for
from chalicelib.core.settings import table_name
from chalicelib.inventory.sweep_takes import sweep_takes
from chalicelib.ledger.workers import post_records
from chalicelib.orders import store as orders
from chalicelib.orders import workers as orders_workers
from chalicelib.payments import account_store
from chalicelib.payments.model import Account, Notice
from chalicelib.payments.providers import account_with, adapter_named
from infra.local.simulator import NoticeRequest, load_provider
from infra.local.simulator.server import Simulator, answer

PROVIDERS = ("stripe", "wechat_pay", "alipay", "paypal", "wechat_virtual")
NOBODY = "http://127.0.0.1:9"  # where the other side's own sending of messages ends: they are sent in by hand

# A notice may cost what `steps` allows; PayPal's also takes the money: its session is read, the capture recorded.
APPROVAL = Budget(6, 5)
DISPUTE = Budget(5, 5)
DISPUTE_LOST = Budget(6, 9)
REFUND_BY_HAND = Budget(5, 8)
REFUND_OF_OURS = Budget(3, 2)
BALANCE_CHECKOUT = Budget(3, 16)
LEDGER = Budget(3, 3)

ROUNDS = 15
READS = 40
CHECKS = {"stripe": "HMAC", "sandbox": "HMAC", "wechat_virtual": "SHA-1, AES"}  # all others: RSA
RSA_CHECKS = 9.0  # no notice may take the time of so many bare RSA checks
IMPORT_ROUNDS = 6
NOTICE_RATIO = 2.6  # of a new copy up to its first notice read, of the floor


class OtherSide:
    """The providers, with an account of the shop at each."""

    def __init__(self, shop: Shop, simulator: Simulator):
        self.shop, self.world = shop, simulator.world
        self.product_id = shop.product(1_000)
        self.dollar_product_id = shop.product(1_000, currency="USD")  # PayPal takes no yuan
        self.shop_id = orders.get_order(shop.place({self.product_id: 1})["order_id"]).shop_id
        self.accounts = {name: self._open_account(name) for name in PROVIDERS}
        self.person = self._ask_wechat("GET", "/sns/jscode2session", query=self._login())

    def place(self, provider: str) -> dict:
        """An order to be paid there, opened by the real adapter; and by the buyer's client, where that does it."""
        wish = self.shop.wish({self.dollar_product_id if provider == "paypal" else self.product_id: 1})
        wish["payment"]["provider"] = provider
        if provider == "alipay":  # of its page the provider learns from the buyer's browser only
            wish["payment"]["method"] = "precreate"
        if provider == "wechat_virtual":
            wish["payment"] |= {"payer_id": self.person["openid"], "payer_session": self.person["session_key"]}
        order = self.shop.call("POST", "/v1/orders", wish, expected=201)
        if provider == "wechat_virtual":
            opened = {"openid": self.person["openid"], **order["payment"]["client"]}
            self._ask_wechat("POST", "/client/requestVirtualPayment", opened)
        return order

    def act(self, provider: str, order: dict, what: str, **body: Any) -> None:
        """What the buyer or somebody at the provider does: pay, refund, dispute."""
        told = {"provider": provider, "our_no": payment_id_for(order["order_id"]), **body}
        done = answer(self.world, "POST", f"/_control/{what}", {}, json.dumps(told).encode())
        if done.status != 200:
            raise RuntimeError(f"{what} at {provider} answered {done.status}: {done.body!r}")

    def messages(self, provider: str, order: dict, kind: str) -> list[tuple[str, NoticeRequest]]:
        """The provider's messages about what happened, freshly signed, by the provider's own names of them."""
        number = payment_id_for(order["order_id"])
        record, made = self.world.find(provider, number), load_provider(provider).notice
        events = [one for one in self.world.events(provider, number) if one.kind == kind]
        if not events:
            raise RuntimeError(f"{provider} has nothing to say of {kind}")
        return [(one.name, made(self.world, record, one)) for one in events]

    def send(self, provider: str, message: NoticeRequest) -> None:
        address = urlsplit(message.url or f"{NOBODY}/v1/notices/{provider}/{self.accounts[provider]}")
        path = f"{address.path}?{address.query}" if address.query else address.path
        answered = self.shop.client.http.request("POST", path, headers=message.headers, body=message.body)
        if not load_provider(provider).taken(answered.status_code, answered.body):
            raise RuntimeError(f"{path} answered {answered.status_code}: {answered.body!r}")

    def sell(self, provider: str) -> dict:
        """An order that is paid and delivered."""
        order = self.place(provider)
        self.act(provider, order, "pay")
        for _, message in self.messages(provider, order, "approved" if provider == "paypal" else "paid"):
            self.send(provider, message)
        must_be_delivered(self.shop, order)
        return order

    def _open_account(self, provider: str) -> str:
        demo = load_provider(provider).demo_account(self.world)
        account_id = account_store.account_id_for(self.shop_id, provider, demo["mode"])
        account_store.put_secrets(account_id, demo["secrets"], [])
        account_store.put_account({
            "account_id": account_id, "shop_id": self.shop_id, "provider": provider, "mode": demo["mode"],
            "status": "on", "settings": demo["settings"], "secret_names": sorted(demo["secrets"]), "v": 1,
            "created_at": self.shop.now, "updated_at": self.shop.now, "changes": [],
        })  # fmt: skip
        self.world.set_endpoint(provider, f"{NOBODY}/v1/notices/{provider}/{account_id}")
        return account_id

    def _login(self) -> str:
        account = account_with("wechat_virtual", self.accounts["wechat_virtual"])
        return urlencode({
            "appid": account.settings["appid"], "secret": account.secrets["appsecret"], "js_code": "buyer",
            "grant_type": "authorization_code",
        })  # fmt: skip

    def _ask_wechat(self, method: str, path: str, body: dict | None = None, query: str = "") -> dict:
        told = answer(self.world, method, f"/wechat_virtual{path}?{query}", {}, json.dumps(body or {}).encode())
        said = json.loads(told.body)
        if said.get("errcode"):
            raise RuntimeError(f"{path}: {said}")
        return said


@contextmanager
def other_side(shop: Shop) -> Iterator[OtherSide]:
    """The providers for a while. Accounts are remembered for an hour: see `remembering`."""
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch.dict(os.environ, BASE_URL=NOBODY),
        mock.patch.object(account_store, "KEEP_SECONDS", 3_600),
        Simulator(Path(directory)) as simulator,
    ):
        yield OtherSide(shop, simulator)


def must_be_delivered(shop: Shop, order: dict) -> None:
    status = shop.call("GET", f"/v1/orders/{order['order_id']}")["status"]
    if status != "delivered":
        raise RuntimeError(f"the order is {status}")


# requests and units


def sales(side: OtherSide) -> Iterator[Cost]:
    """Checkout and payment at each provider; first at the sandbox, whose notices have one address for the stage."""
    shop = side.shop
    shop.pay(shop.place({side.product_id: 1}))
    with Meter() as meter:
        order = shop.place({side.product_id: 1})
    yield cost_of("sandbox: checkout", meter, steps.CHECKOUT)
    notice = shop.notice(order)
    with Meter() as meter:
        shop.send_notice(notice)
    yield cost_of("sandbox: notice -> delivered", meter, steps.NOTICE)
    for provider in PROVIDERS:
        side.sell(provider)
        with Meter() as meter:
            order = side.place(provider)
        yield cost_of(f"{provider}: checkout", meter, steps.CHECKOUT)
        side.act(provider, order, "pay")
        if provider == "paypal":
            yield from _of_each(
                side, provider, order, "approved", APPROVAL, "{provider}: {name} -> captured, delivered"
            )
            must_be_delivered(shop, order)
            yield from _of_each(side, provider, order, "paid", steps.NOTICE, "{provider}: {name} after that")
        else:
            yield from _of_each(side, provider, order, "paid", steps.NOTICE, "{provider}: notice -> delivered")
            must_be_delivered(shop, order)
    order = side.place("stripe")
    side.act("stripe", order, "pay")
    account_store.forget_accounts()
    forget_secrets()
    name = "{provider}: notice -> delivered, new process"
    yield from _of_each(side, "stripe", order, "paid", steps.NOTICE, name)


def _of_each(
    side: OtherSide, provider: str, order: dict, kind: str, budget: Budget, name: str
) -> Iterator[Cost]:  # fmt: skip
    for said, message in side.messages(provider, order, kind):
        with Meter() as meter:
            side.send(provider, message)
        queued = meter.calls["sqs SendMessage"] + meter.calls["sqs SendMessageBatch"]
        note = f"{queued} message sent on" if queued else ""
        yield cost_of(name.format(provider=provider, name=said), meter, budget, note=note)


def later_words(side: OtherSide, provider: str = "stripe") -> Iterator[Cost]:
    """Disputes and refunds: every message that the provider sends of them."""
    order = side.sell(provider)
    for kind, state in (("dispute_opened", "opened"), ("dispute_won", "won")):
        side.act(provider, order, "dispute", state=state)
        yield from _of_each(side, provider, order, kind, DISPUTE, f"{{provider}}: {kind}, {{name}}")
    order = side.sell(provider)
    side.act(provider, order, "dispute", state="opened")
    for _, message in side.messages(provider, order, "dispute_opened"):
        side.send(provider, message)
    side.act(provider, order, "dispute", state="lost")
    sweep_takes(side.shop.now + 3_600)
    yield from _of_each(side, provider, order, "dispute_lost", DISPUTE_LOST, "{provider}: dispute_lost, {name}")
    order = side.sell(provider)
    side.shop.refund(order)
    yield from _of_each(side, provider, order, "refunded", REFUND_OF_OURS, "{provider}: refund of ours, {name}")
    order = side.sell(provider)
    sweep_takes(side.shop.now + 3_600)
    side.act(provider, order, "refund", amount_minor=order["total_minor"])
    yield from _of_each(side, provider, order, "refunded", REFUND_BY_HAND, "{provider}: refund by hand, {name}")


def balance_and_ledger(side: OtherSide) -> Iterator[Cost]:
    """An order paid out of the shop's balance, and what the change stream's reader writes of an order's life."""
    shop = side.shop
    put_shop(side.shop_id, "Bench", shop.now)
    adjust(side.shop_id, "CNY", 100_000, "bank", adjustment_id="a1", by="bench", now=shop.now)
    wish = [shop.wish({side.product_id: 1}) for _ in range(2)]
    for one in wish:
        one["payment"]["provider"] = "balance"
    shop.call("POST", "/v1/orders", wish[0], expected=201)
    with Meter() as meter:
        order = shop.call("POST", "/v1/orders", wish[1], expected=201)
    must_be_delivered(shop, order)
    yield cost_of("balance: checkout -> delivered", meter, BALANCE_CHECKOUT)
    order = side.place("alipay")
    placed = _image(order)
    side.act("alipay", order, "pay")
    for _, message in side.messages("alipay", order, "paid"):
        side.send("alipay", message)
    life = [_record("1", None, placed), _record("2", placed, _image(order))]
    with Meter() as meter:
        orders_workers.forward_changes(life, shop.now)
        failed = post_records(life, shop.now)["batchItemFailures"]
    if failed:
        raise RuntimeError("the ledger did not take the order")
    yield cost_of("ledger: an order of one line, from checkout to delivery", meter, LEDGER)


def _image(order: dict) -> dict:
    key = to_row({"pk": f"O#{order['order_id']}", "sk": "O"})
    return dynamodb().get_item(TableName=table_name(), Key=key, ConsistentRead=True)["Item"]


def _record(number: str, old: dict | None, new: dict) -> dict:
    change = {"Keys": {"pk": new["pk"], "sk": new["sk"]}, "SequenceNumber": number, "NewImage": new}
    return {"eventID": number, "dynamodb": change | ({"OldImage": old} if old else {})}


# signatures and imports


@dataclass(frozen=True)
class Told:
    """One genuine notice, as its adapter gets it."""

    provider: str
    account: Account
    headers: dict[str, str]
    body: bytes
    now: int

    def reader(self) -> Callable[[], Notice]:
        """Reads it, by an adapter that is found already. Raises: RuntimeError when it is not understood"""
        read_notice = adapter_named(self.provider).read_notice

        def read() -> Notice:
            return read_notice(self.account, self.headers, self.body, self.now)

        if read().kind not in ("paid", "approved"):
            raise RuntimeError(f"{self.provider}'s notice was not understood")
        return read


def told_by_all(side: OtherSide) -> list[Told]:
    """A notice of each provider about an order that was paid."""
    told = []
    for provider in PROVIDERS:
        order = side.place(provider)
        side.act(provider, order, "pay")
        _, message = side.messages(provider, order, "approved" if provider == "paypal" else "paid")[0]
        query = {f"x-query-{name}": value for name, value in parse_qsl(urlsplit(message.url or "").query)}
        headers = {name.lower(): value for name, value in message.headers.items()} | query
        account = account_with(provider, side.accounts[provider])
        told.append(Told(provider, account, headers, message.body, int(time.time())))
    headers, body = side.shop.notice(side.shop.place({side.product_id: 1}))
    headers = {name.lower(): value for name, value in headers.items()}
    told.append(Told("sandbox", account_with("sandbox", None), headers, body, int(time.time())))
    return told


def bare_checks(body: bytes) -> dict[str, Callable[[], Any]]:
    """The least that each kind of signature takes, with keys that are ready: nothing is parsed or looked up."""
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.hashes import SHA256

    private = rsa.generate_private_key(65537, 2048)
    signature, public = private.sign(body, padding.PKCS1v15(), SHA256()), private.public_key()
    key, sealed = os.urandom(32), os.urandom(len(body) // 16 * 16)

    def open_sealed() -> None:
        opening = Cipher(algorithms.AES(key), modes.CBC(key[:16])).decryptor()
        opening.update(sealed) + opening.finalize()
        hashlib.sha1(sealed).digest()

    return {
        "RSA": lambda: public.verify(signature, body, padding.PKCS1v15(), SHA256()),
        "HMAC": lambda: hmac.new(key, body, hashlib.sha256).hexdigest(),
        "SHA-1, AES": open_sealed,
    }


def signatures(told: list[Told]) -> Table:
    """CPU of reading a notice whose account and keys this process has read before."""
    rows = []
    for one in told:
        bare = bare_checks(one.body)
        kind = CHECKS.get(one.provider, "RSA")
        takes: dict[str, list[float]] = {"read": [], kind: [], "RSA": []}
        calls = {"read": one.reader(), **bare}
        for _ in range(ROUNDS):
            for name, times in takes.items():
                times.append(_cpu_us(calls[name]))
        rsa_us = median(takes["RSA"])
        of_own, of_rsa = (
            median(read / check for read, check in zip(takes["read"], takes[name], strict=True))
            for name in (kind, "RSA")
        )  # fmt: skip
        rows.append(
            Row(
                [
                    one.provider, str(len(one.body)), f"{median(takes['read']):.0f}", kind,
                    f"{median(takes[kind]):.1f}", f"{of_own:.1f}", f"{of_rsa:.1f}", f"{RSA_CHECKS:g}",
                ],
                of_rsa <= RSA_CHECKS,
            )
        )  # fmt: skip
    found = median(_cpu_us(lambda: adapter_named("stripe")) for _ in range(ROUNDS))
    rows.append(Row(["finding an adapter, once", "-", f"{found:.0f}", "-", "-", "-", f"{found / rsa_us:.1f}", "-"]))
    heads = ["provider", "bytes", "read_notice, CPU us", "bare check", "CPU us", "ratio", "of one RSA check", "budget"]
    return Table("CPU of reading a notice", heads, rows)


def _cpu_us(call: Callable[[], Any]) -> float:
    call()
    started = time.process_time()
    for _ in range(READS):
        call()
    return (time.process_time() - started) / READS * 1e6


def imports(told: list[Told]) -> Table:
    """A new copy of `api` up to its first notice read: its client, the use-case, the one adapter, its cryptography."""
    with tempfile.TemporaryDirectory() as directory:
        loads = {"floor: chalice, botocore client": cold_start.FLOOR, "api, client": cold_start.ready()["api, client"]}
        for one in told:
            path = Path(directory) / f"{one.provider}.json"
            path.write_text(json.dumps({**asdict(one), "body": one.body.decode()}))
            loads[f"api, first notice of {one.provider}"] = cold_start.ready()["api, client"] + _FIRST.format(
                path=str(path)
            )
        measured = cold_start.cpu_ms(loads, rounds=IMPORT_ROUNDS)
    floor = measured["floor: chalice, botocore client"]
    rows = [
        Row(
            [name, f"{value:.0f}", f"{value / floor:.2f}", f"{NOTICE_RATIO:g}" if "notice" in name else "-"],
            value <= NOTICE_RATIO * floor if "notice" in name else None,
        )
        for name, value in measured.items()
    ]  # fmt: skip
    return Table("What a new copy loads for its first notice", ["function", "CPU ms", "of the floor", "budget"], rows)


_FIRST = """
import json, pathlib, chalicelib.balance.rules, chalicelib.payments.receive_notice
from chalicelib.payments.model import Account
from chalicelib.payments.providers import adapter_named
told = json.loads(pathlib.Path({path!r}).read_text())
account = Account(**told["account"])
assert adapter_named(told["provider"]).read_notice(account, told["headers"], told["body"].encode(), told["now"])
"""


def run(backend_url: str) -> list[Table]:
    shop = Shop()
    with remembering():
        with other_side(shop) as side:
            costs = [*sales(side), *later_words(side), *balance_and_ledger(side)]
            told = told_by_all(side)
            for one in told:
                one.reader()
            loaded = imports(told)
        read = signatures(told)  # nobody else in this process is at work any more
    return [steps.table("What providers' messages cost", costs), read, loaded]
