"""What each step of a sale costs in DynamoDB requests and write units, through the real HTTP calls, uncontended.

Counted is what a request asks beyond what its process remembers anyway for seconds or minutes (API key, product,
secrets, lots of the product): each step is run once before it is measured. Rows marked "new process" begin with nothing
remembered. The budgets are those the design set itself; time is not measured here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from unittest import mock

from benchmarks.meter import Meter
from benchmarks.report import Row, Table
from benchmarks.shop import Shop, remembering
from chalicelib.aws.sealing import forget_data_keys
from chalicelib.balance import workers as balance_workers
from chalicelib.fulfilment import workers as fulfilment_workers
from chalicelib.imports import workers as imports_workers
from chalicelib.imports.import_chunk import import_chunk
from chalicelib.imports.model import CHUNK_RECORDS
from chalicelib.imports.plan_import import plan_import
from chalicelib.inventory import memory
from chalicelib.inventory import workers as inventory_workers
from chalicelib.inventory.sweep_takes import sweep_takes
from chalicelib.orders import workers as orders_workers
from chalicelib.payments import workers as payments_workers
from chalicelib.payments.adapters import sandbox
from chalicelib.payments.model import Started
from chalicelib.reconciliation import workers as reconciliation_workers
from chalicelib.refunds import workers as refunds_workers


@dataclass(frozen=True)
class Budget:
    """The most a step may ask; None where nothing is demanded."""

    requests: float | None = None
    write_units: float | None = None


CHECKOUT = Budget(3, 4)
CHECKOUT_OF_THREE = Budget(6, 6)
CHECKOUT_OF_10_000 = Budget(10, 80)
NOTICE = Budget(4, 4)
REVEAL = Budget(5, 3)
EXPIRY = Budget(None, 2.5)
REFUND = Budget(5, 8)
WITH_KEY = Budget(6, 9)
SOLD_OUT = Budget(1.2, 0.2)
STOCK = Budget(3, 0)
IMPORT = Budget(None, 1.5)
KMS_PER_1000_KEYS = 1


@dataclass(frozen=True)
class Cost:
    """What one step cost, per order (or per answer, or per key)."""

    name: str
    requests: float
    write_units: float
    read_units: float
    reported: float
    row_bytes: int
    budget: Budget = Budget()
    note: str = ""

    @property
    def is_kept(self) -> bool:
        requests, write_units = self.budget.requests, self.budget.write_units
        return (requests is None or self.requests <= requests) and (
            write_units is None or self.write_units <= write_units
        )


def cost_of(name: str, meter: Meter, budget: Budget = Budget(), *, per: int = 1, note: str = "") -> Cost:
    """A finished measurement as the cost of one of `per` equal things."""
    return Cost(
        name, meter.requests / per, meter.write_units / per, meter.read_units / per, meter.reported / per,
        meter.largest("O#"), budget, note,
    )  # fmt: skip


def sale(shop: Shop, product_id: str, sealed_id: str) -> Iterator[Cost]:
    """Checkout, payment, reveal, refund of one line. `sealed_id` is a product whose keys can be opened."""
    shop.pay(shop.place({product_id: 1}))
    for quantity in (1, 20):
        shop.place({product_id: 1})
        with Meter() as meter:
            order = shop.place({product_id: quantity})
        yield cost_of(f"checkout, 1 line of {quantity}", meter, CHECKOUT)
    with Meter() as meter:
        order = shop.place({product_id: 1}, key=f"a-{order['order_id']}")
    yield cost_of("checkout, 1 line, Idempotency-Key", meter, CHECKOUT)
    notice = shop.notice(order)
    with Meter() as meter:
        shop.send_notice(notice)
    yield cost_of("notice -> delivered", meter, NOTICE)
    with Meter() as meter:
        shop.send_notice(notice)
    yield cost_of("the same notice again", meter, NOTICE)
    yield from refunds(shop, product_id, order)
    yield from reveals(shop, sealed_id)


def refunds(shop: Shop, product_id: str, order: dict) -> Iterator[Cost]:
    """Each on a return shelf that nothing came back to lately: it enters the index of what is due, a unit more."""
    for name, key, budget, note in (
        ("refund", None, REFUND, ""),
        ("refund, Idempotency-Key", f"r-{order['order_id']}", WITH_KEY, "the key is one request and one unit itself"),
    ):
        order = shop.place({product_id: 2})
        shop.pay(order)
        sweep_takes(shop.now + 3_600)
        with Meter() as meter:
            shop.refund(order, key=key)
        yield cost_of(name, meter, budget, note=note)


def reveals(shop: Shop, sealed_id: str) -> Iterator[Cost]:
    for quantity in (1, 20):
        order = shop.place({sealed_id: quantity})
        shop.pay(order)
        forget_data_keys()
        with Meter() as meter:
            keys = shop.reveal(order)
        if len(keys) != quantity:
            raise RuntimeError(f"{len(keys)} keys were shown instead of {quantity}")
        yield cost_of(
            f"reveal of {quantity}, audit included",
            meter,
            REVEAL,
            note=f"{meter.calls['kms Decrypt']} KMS call at most",
        )


def idle(shop: Shop, product_id: str) -> Iterator[Cost]:
    """Checkout by a process that remembers no stock, on a shelf nobody took from lately: the dearest it gets."""
    sweep_takes(shop.now + 3_600)
    shop.place({product_id: 1})
    sweep_takes(shop.now + 3_600)
    memory.forget_hints()
    with Meter() as meter:
        shop.place({product_id: 1})
    yield cost_of("checkout, 1 line, new process, idle shelf", meter, CHECKOUT)


def foreign_payment(shop: Shop, product_id: str) -> Iterator[Cost]:
    """Checkout, payment and refund where the provider gives a handle and a long address to be kept, as Stripe does.

    What the provider opened is a row of its own, so the order's row does not grow.
    """
    started = Started(
        f"https://checkout.stripe.com/c/pay/cs_live_{'a1' * 29}#{'fidkdWxOYHwnPyd1blpxYHZx' * 14}",
        "cs_live_" + "a1" * 29,
    )
    shop.place({product_id: 1})
    kept = replace(sandbox.FACTS, keeps_session=True)
    with mock.patch.multiple(sandbox, start=lambda payment, now: started, FACTS=kept):
        with Meter() as meter:
            order = shop.place({product_id: 1})
        yield cost_of("checkout, 1 line, hosted payment page", meter, CHECKOUT)
    notice = shop.notice(order)
    with Meter() as meter:
        shop.send_notice(notice)
    yield cost_of("notice -> delivered, hosted payment page", meter, NOTICE)
    with Meter() as meter:
        shop.refund(order)
    yield cost_of("refund, hosted payment page", meter, REFUND)


def three_lines(shop: Shop, product_ids: list[str]) -> Iterator[Cost]:
    shop.place(dict.fromkeys(product_ids, 1))
    with Meter() as meter:
        shop.place(dict.fromkeys(product_ids, 2))
    yield cost_of("checkout, 3 lines of 3 products", meter, CHECKOUT_OF_THREE)


def wholesale(shop: Shop, product_id: str) -> Iterator[Cost]:
    """10,000 keys in one order, by a process that has looked at the shelves before."""
    shop.place({product_id: 1})
    with Meter() as meter:
        order = shop.place({product_id: 10_000})
    yield cost_of("checkout of 10,000 keys", meter, CHECKOUT_OF_10_000)
    shop.call("POST", f"/v1/orders/{order['order_id']}/cancel", {})


def closings(shop: Shop, product_id: str, batches: tuple[int, ...] = (10, 25)) -> Iterator[Cost]:
    """Unpaid orders whose time is up, in the batches of the queue (10) and of the timer (25), and a cancelled one."""
    for batch in batches:
        sweep_takes(shop.now + 3_600)
        orders = [shop.place({product_id: 1}) for _ in range(batch)]
        messages = [
            {"body": f'{{"order_id": "{order["order_id"]}"}}', "messageId": order["order_id"]} for order in orders
        ]
        with Meter() as meter:
            answer = orders_workers.expire_messages(messages, shop.now + 3_600)
        if answer["batchItemFailures"]:
            raise RuntimeError("orders did not expire")
        yield cost_of(f"expiry, {batch} at once, per order", meter, EXPIRY, per=batch)
    order = shop.place({product_id: 1})
    sweep_takes(shop.now + 3_600)
    with Meter() as meter:
        shop.call("POST", f"/v1/orders/{order['order_id']}/cancel", {})
    yield cost_of("cancel", meter)


def sold_out(shop: Shop, answers: int = 100) -> Iterator[Cost]:
    """A rush on a product whose last key is gone."""
    product_id = shop.product(4)
    shop.place({product_id: 4})
    with Meter() as meter:
        for _ in range(answers):
            shop.call("POST", "/v1/orders", shop.wish({product_id: 1}), expected=409)
    yield cost_of(f"sold-out answer, {answers} in a row, each", meter, SOLD_OUT, per=answers)


def stock(shop: Shop, product_id: str) -> Iterator[Cost]:
    shop.call("GET", f"/v1/products/{product_id}/stock", scope="operator")
    memory.forget_hints()
    with Meter() as meter:
        shop.call("GET", f"/v1/products/{product_id}/stock", scope="operator")
    yield cost_of("stock figures, new process", meter, STOCK)


def imported(shop: Shop, keys: int) -> Iterator[Cost]:
    """A CSV file of accounts and passwords, from its announcement to the last chunk; per key."""
    product_id = shop.product(key_fields=[{"name": "account"}, {"name": "password"}])
    lines = [f"player{number:08d}@mail.example.com,Xk9-{number * 7919:012d}-Qz" for number in range(keys)]
    with Meter() as meter:
        import_id = shop.start_import(product_id, "\n".join(["account,password", *lines]).encode())
        plan_import(import_id, shop.now)
        for chunk in range(-(-keys // CHUNK_RECORDS)):
            import_chunk(import_id, chunk, shop.now)
    done = shop.call("GET", f"/v1/imports/{import_id}", scope="operator")
    if (done["status"], done["imported"]) != ("completed", keys):
        raise RuntimeError(f"the import is {done['status']} with {done['imported']} keys")
    calls = meter.calls["kms GenerateDataKey"] + meter.calls["kms Decrypt"]
    yield cost_of(f"import of {keys:,} keys, each", meter, IMPORT, per=keys)
    yield Cost("import: KMS calls per 1,000 keys", calls * 1_000 / keys, 0, 0, 0, 0, Budget(KMS_PER_1000_KEYS))


def quiet_minute(shop: Shop) -> Iterator[Cost]:
    """All timers of one minute in which nothing is due: what an idle shop costs."""
    timers = [
        balance_workers.every_minute_ask_top_ups,
        balance_workers.every_minute_watch_balances,
        fulfilment_workers.every_minute_deliver_due,
        imports_workers.every_minute_resume_imports,
        inventory_workers.every_minute_recount_held,
        inventory_workers.every_minute_sweep_takes,
        orders_workers.every_minute_release_unpaid,
        payments_workers.every_minute_match_notices,
        reconciliation_workers.every_minute_resume_reconciliations,
        refunds_workers.every_minute_finish_refunds,
    ]
    event = shop.client.events.generate_cw_event("aws.events", "Scheduled Event", {}, [])
    for timer in timers:
        timer(event, None)
    with Meter() as meter:
        for timer in timers:
            timer(event, None)
    yield cost_of("all timers, a minute without anything due", meter)


def table(title: str, costs: list[Cost]) -> Table:
    """Costs beside their budgets."""
    rows = [
        Row(
            [
                cost.name,
                _number(cost.requests), _number(cost.budget.requests),
                _number(cost.write_units), _number(cost.budget.write_units),
                _number(cost.read_units), _number(cost.reported), str(cost.row_bytes or "-"),
            ],
            cost.is_kept if cost.budget != Budget() else None,
            cost.note,
        )
        for cost in costs
    ]  # fmt: skip
    heads = ["step", "requests", "budget", "write units", "budget", "read units", "engine says", "order bytes"]
    return Table(title, heads, rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")


def flat(small: list[Cost], large: list[Cost]) -> Table:
    """The same steps on 1,000 and on 1,000,000 keys: nothing may grow."""
    rows = [
        Row(
            [
                one.name,
                _number(one.requests),
                _number(other.requests),
                _number(one.write_units),
                _number(other.write_units),
            ],
            other.requests <= one.requests and other.write_units <= one.write_units,
        )
        for one, other in zip(small, large, strict=True)
    ]
    heads = ["step", "requests at 1,000", "at 1,000,000", "write units at 1,000", "at 1,000,000"]
    return Table("Flat from 1,000 to 1,000,000 keys in one product", heads, rows)


def run(backend_url: str) -> list[Table]:
    """All steps, at 1,000 and at 1,000,000 keys in the product."""
    shop = Shop()
    with remembering():
        quiet = list(quiet_minute(shop))
        sealed_id = shop.product(200, sealed=True)
        costs = {keys: list(_steps_of(shop, shop.product(keys), sealed_id)) for keys in (1_000, 1_000_000)}
        trio = [shop.product(1_000) for _ in range(3)]
        others = [
            *three_lines(shop, trio), *wholesale(shop, shop.product(20_000)), *sold_out(shop),
            *foreign_payment(shop, trio[0]), *quiet,
        ]  # fmt: skip
    return [
        table("Steps of a sale (product with 1,000 keys)", [*costs[1_000], *others]),
        table("The same with 1,000,000 keys", costs[1_000_000]),
        flat(costs[1_000], costs[1_000_000]),
    ]


def _steps_of(shop: Shop, product_id: str, sealed_id: str) -> Iterator[Cost]:
    yield from sale(shop, product_id, sealed_id)
    yield from closings(shop, product_id)
    yield from idle(shop, product_id)
    yield from stock(shop, product_id)
