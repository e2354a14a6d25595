"""Taking keys: the extent allocator beside the naive design, in one run, at 1, 16 and 64 buyers; and flat from 1,000 to
1,000,000 keys. `python -m benchmarks` calls `run`; `main` prints it alone, against the backend in the environment.

A buyer takes keys and writes a small order row, the same for both designs. Units are calculated by the documented rules
from the rows that requests carry and answer; a transaction is charged twice per row.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from benchmarks import naive
from benchmarks.report import Row, Table
from benchmarks.sizes import query_units, read_units, row_bytes, write_units
from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import to_row
from chalicelib.aws.transact import transact
from chalicelib.core.ids import new_id, new_take_id, to_base32
from chalicelib.core.settings import table_name
from chalicelib.inventory import memory, rules, store
from chalicelib.inventory.errors import OutOfStock
from chalicelib.inventory.model import Lot

ROUNDS = ((1, 20), (16, 48), (64, 64))  # buyers at once, orders
SIZES = (1_000, 10_000, 100_000, 1_000_000)


class Tally:
    """Requests and units of everything the DynamoDB client sends while it listens. It adds no request of its own."""

    def __init__(self) -> None:
        self.requests: Counter = Counter()
        self.write_units = 0
        self.read_units = 0.0
        self.refusals = 0
        self.largest = 0
        self._due: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def listening(self) -> Iterator[Tally]:
        events = dynamodb().meta.events
        hooks = [("provide-client-params.dynamodb.*", self._before), ("after-call.dynamodb.*", self._after)]
        for name, handler in hooks:
            events.register(name, handler)
        try:
            yield self
        finally:
            for name, handler in hooks:
                events.unregister(name, handler)

    def _before(self, params: dict, context: dict, **_: object) -> None:
        context["tally"] = params

    def _after(self, http_response, parsed: dict, model, context: dict, **_: object) -> None:
        params, name = context["tally"], model.name
        with self._lock:
            self.requests[name] += 1
            is_refused = http_response.status_code >= 300
            self.refusals += is_refused
            if name == "PutItem":
                self._write(params["Item"], 1)
            elif name == "UpdateItem":
                self._write(parsed.get("Item") or parsed.get("Attributes") or {}, 1)
                if not is_refused:
                    self.write_units += self._index_units(params, parsed.get("Attributes") or {})
            elif name == "TransactWriteItems":
                self.write_units += 2 * len(params["TransactItems"])
            elif name == "GetItem":
                self.read_units += read_units(parsed.get("Item"), is_strong=params.get("ConsistentRead", False))
            elif name == "BatchGetItem":
                rows = [row for found in parsed.get("Responses", {}).values() for row in found]
                self.read_units += sum(read_units(row, is_strong=True) for row in rows)
            elif name == "Query":
                self.read_units += query_units(parsed.get("Items", []), is_strong=False)

    def _write(self, row: dict, factor: int) -> None:
        self.write_units += factor * write_units({}, row)
        self.largest = max(self.largest, row_bytes(row))

    def _index_units(self, params: dict, row: dict) -> int:
        """A key that leaves the index of free keys costs a write there, and so does a shelf that becomes due."""
        if "REMOVE due_pk" in params["UpdateExpression"]:
            return 1
        key = params["Key"]["pk"]["S"]
        if "due_pk" in row and key not in self._due:
            self._due.add(key)
            return 1
        return 0


def _write_order(order_id: str, keys: object) -> None:
    dynamodb().put_item(
        TableName=table_name(),
        Item=to_row({"pk": f"O#{order_id}", "sk": "O", "st": "bench", "keys": keys}),
        ConditionExpression="attribute_not_exists(pk)",
    )


def _buy_from_extents(product_id: str, number: int, quantity: int = 1) -> list[tuple]:
    order_id, now = f"ord_{to_base32(number, 16)}", int(time.time())
    taken = store.take(product_id, quantity, order_id=order_id, take_id=new_take_id(now), now=now)
    _write_order(f"{product_id}{number}", taken.extents)
    store.confirm(taken)
    return [(lot_id, start + n) for lot_id, start, count in taken.extents for n in range(count)]


def _buy_naively(product_id: str, number: int) -> list[str]:
    keys = naive.take(product_id, 1, f"{product_id}{number}")
    _write_order(f"{product_id}{number}", keys)
    return keys


def _stock(product_id: str, keys: int) -> None:
    lot = Lot(new_id("lot", int(time.time())), product_id, *rules.shelves_for(keys))
    store.open_lot(lot, int(time.time()))
    transact(store.add_keys_writes(lot, 0, keys))
    memory.forget_hints()


def _rush(buy: Callable, product_id: str, buyers: int, orders: int) -> tuple[Tally, float, list]:
    """So many orders by so many buyers at once: what it cost, how long it took, which keys were sold."""
    sold: list = []
    started = time.perf_counter()
    with Tally().listening() as tally, ThreadPoolExecutor(buyers) as pool:
        for keys in pool.map(lambda number: buy(product_id, number), range(orders)):
            sold += keys
    return tally, time.perf_counter() - started, sold


def contention() -> Table:
    """Both designs side by side. Stock is a quarter more than is sold, so nobody is refused."""
    rows = []
    for buyers, orders in ROUNDS:
        for name, fill, buy in (("naive", naive.fill, _buy_naively), ("extents", _stock, _buy_from_extents)):
            product_id = new_id("prd", buyers)
            fill(product_id, orders * 5 // 4)
            tally, seconds, sold = _rush(buy, product_id, buyers, orders)
            doubled = len(sold) - len(set(sold))
            rows.append(
                Row([
                    str(buyers), name, f"{tally.requests.total() / orders:.2f}", f"{tally.write_units / orders:.2f}",
                    f"{tally.read_units / orders:.2f}", f"{tally.refusals / orders:.2f}", f"{orders / seconds:.0f}",
                    str(doubled),
                ], is_kept=None if name == "naive" else _is_kept(tally, orders, buyers, doubled))
            )  # fmt: skip
    heads = [
        "buyers at once",
        "design",
        "requests",
        "write units",
        "read units",
        "lost races",
        "orders/s",
        "sold twice",
    ]
    return Table(
        "Taking one key and writing the order, per order", heads, rows,
        ["Budget: 3 requests, 4 write units, at 64 buyers a quarter more. All keys lie on one shelf: the worst case."],
    )  # fmt: skip


def _is_kept(tally: Tally, orders: int, buyers: int, doubled: int) -> bool:
    more = 1 if buyers < 64 else 1.25
    cheap = tally.requests.total() <= 3 * more * orders and tally.write_units <= 4 * more * orders
    return cheap and doubled == 0


def refusals() -> Table:
    """What it costs to say no."""
    product_id = new_id("prd", 1)
    _stock(product_id, 20)
    _buy_from_extents(product_id, 0, 20)
    memory.forget_hints()
    with Tally().listening() as tally:
        for number in range(50):
            try:
                _buy_from_extents(product_id, number + 1)
            except OutOfStock:
                continue
            raise AssertionError("sold a key that is not there")
    cost = tally.requests.total() / 50
    row = Row([f"{cost:.2f}", f"{tally.write_units / 50:.2f}"], is_kept=cost <= 1.2 and tally.write_units <= 0.2 * 50)
    return Table(
        "Sold out, per refusal", ["requests", "write units"], [row], ["Budget: 1.2 requests, 0.2 write units."]
    )


def flatness() -> Table:
    """The same purchases from ever larger stock."""
    rows = []
    for size in SIZES:
        product_id = new_id("prd", size)
        _stock(product_id, size)
        _buy_from_extents(product_id, 0)
        with Tally().listening() as one:
            for number in range(1, 21):
                _buy_from_extents(product_id, number)
        memory.forget_hints()
        store.read_stock(product_id, int(time.time()))
        with Tally().listening() as stock:
            store.read_stock(product_id, int(time.time()))
        cells = [f"{size:,}", f"{one.requests.total() / 20:.2f}", f"{one.write_units / 20:.2f}", f"{one.largest:,}"]
        cells += [f"{stock.requests.total()}"]
        is_kept = one.requests.total() == 40 and one.write_units <= 2.1 * 20 and stock.requests.total() <= 3
        if size >= 20_000:
            with Tally().listening() as many:
                store.take(
                    product_id, 10_000, order_id="ord_many", take_id=new_take_id(int(time.time())), now=int(time.time())
                )
            cells += [f"{many.requests.total()}", f"{many.write_units}"]
            is_kept = is_kept and many.requests.total() <= 8
        else:
            cells += ["", ""]
        rows.append(Row(cells, is_kept=is_kept))
    heads = ["keys in stock", "requests, 1 key", "write units", "largest row, bytes", "stock figures, requests"]
    heads += ["requests, take of 10,000", "write units"]
    return Table("Flat from a thousand keys to a million, order row included", heads, rows)


def run(backend_url: str) -> list[Table]:
    """All tables, measured on a stage of their own at a running backend."""
    from infra.local.stack import deploy_data_and_queues

    defaults = {
        "AWS_ENDPOINT_URL": backend_url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }  # fmt: skip
    kept = dict(os.environ)
    stage = f"takes{os.getpid()}"
    deploy_data_and_queues(backend_url, stage)
    os.environ.update(defaults | {"STAGE": stage})
    try:
        return [contention(), refusals(), flatness()]
    finally:
        os.environ.clear()
        os.environ.update(kept)
        memory.forget_hints()


def main() -> None:
    for table in run(os.environ["AWS_ENDPOINT_URL"]):
        print(table.text())


if __name__ == "__main__":
    main()
