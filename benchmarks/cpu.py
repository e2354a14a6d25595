"""CPU of this process per request of the app, beside bare client calls doing the same DynamoDB operations.

The backend is another process and is not counted. Both sides run in turn, in one process and one run, so that the ratio
holds on any machine: what it says is how much the product adds to what any program pays for the same table operations
(signing, serialising, HTTP). The app's side includes Chalice's stand-in for API Gateway.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.report import Row, Table
from benchmarks.shop import Shop, remembering
from chalicelib.aws import clients
from chalicelib.aws.rows import to_row
from chalicelib.core.settings import table_name

ROUNDS = 8
REQUESTS = 25
RATIO_BUDGET = 2.0


class _Recorder:
    """The DynamoDB requests of one call of the app, to be sent again bare."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict]] = []

    def __enter__(self) -> _Recorder:
        clients.dynamodb().meta.events.register("provide-client-params.dynamodb.*", self._note)
        return self

    def __exit__(self, *_: object) -> None:
        clients.dynamodb().meta.events.unregister("provide-client-params.dynamodb.*", self._note)

    def _note(self, params: dict, model: Any, **_: Any) -> None:
        self.requests.append((model.name, params))


def _bare(recorded: list[tuple[str, dict]]) -> Callable[[int], None]:
    """The same operations with the same payloads: a put under a new key each time, an update of a row of its own."""
    client = clients.dynamodb()
    spare = to_row({"pk": "BENCH", "sk": "row"})
    client.put_item(TableName=table_name(), Item=spare)
    methods = {"PutItem": client.put_item, "GetItem": client.get_item, "UpdateItem": client.update_item}

    def send(number: int) -> None:
        for place, (name, params) in enumerate(recorded):
            methods[name](**_anew(name, params, spare, number, place))

    return send


def _anew(name: str, params: dict, spare: dict, number: int, place: int) -> dict:
    """A recorded request as one that can be sent again."""
    if name == "PutItem":
        return {**params, "Item": {**params["Item"], "pk": {"S": f"BENCH#{number}#{place}"}}}
    if name == "UpdateItem":
        return {
            "TableName": params["TableName"], "Key": spare, "UpdateExpression": "SET n = :n, runs = :runs",
            "ConditionExpression": "attribute_exists(pk)", "ReturnValues": "ALL_NEW",
            "ExpressionAttributeValues": to_row({":n": number, ":runs": [[number, 1]]}),
        }  # fmt: skip
    return params


def _cpu_ms(call: Callable[[int], Any], first: int) -> float:
    started = time.process_time()
    for number in range(first, first + REQUESTS):
        call(number)
    return (time.process_time() - started) / REQUESTS * 1000


def _beside(name: str, of_app: Callable[[int], Any]) -> Row:
    of_app(0)
    with _Recorder() as recorded:
        of_app(0)
    bare = _bare(recorded.requests)
    app_ms, bare_ms = [], []
    for turn in range(ROUNDS):
        app_ms.append(_cpu_ms(of_app, turn * REQUESTS))
        bare_ms.append(_cpu_ms(bare, time.time_ns()))
    ratio = median(one / other for one, other in zip(app_ms, bare_ms, strict=True))
    operations = ", ".join(operation for operation, _ in recorded.requests)
    return Row(
        [name, operations, f"{min(app_ms):.1f}", f"{min(bare_ms):.1f}", f"{ratio:.2f}", f"{RATIO_BUDGET:g}"],
        ratio <= RATIO_BUDGET,
    )


def run(backend_url: str) -> list[Table]:
    shop = Shop()
    with remembering():
        product_id = shop.product(10_000)
        order = shop.place({product_id: 1})
        rows = [
            _beside("place an order", lambda _: shop.place({product_id: 1})),
            _beside("read an order", lambda _: shop.call("GET", f"/v1/orders/{order['order_id']}")),
        ]
    heads = ["request", "DynamoDB operations", "app, CPU ms", "bare, CPU ms", "ratio", "budget"]
    return [Table("CPU per request", heads, rows)]
