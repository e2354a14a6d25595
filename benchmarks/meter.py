"""Counts what the product asks of AWS: requests per service and operation, and DynamoDB units.

    with Meter() as meter: …          meter.requests, meter.write_units, meter.read_units, meter.calls["kms Decrypt"]

It listens to the product's own clients through botocore's events, so nothing is left out: a retry of ours is a request
like any other. Units are calculated by the documented rules (`sizes.py`) from each row before and after the write,
which the meter reads with a client of its own. What the engine reports is asked for too (`ReturnConsumedCapacity`) and
kept beside it in `meter.reported`, for comparison only. The meter is exact while nobody else writes the same rows.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.sizes import Row, index_units, query_units, read_units, row_bytes, write_units
from chalicelib.aws import clients
from infra.local.stack import client as other_client

_SINGLE = {"PutItem": "Item", "UpdateItem": "Key", "DeleteItem": "Key"}
_READS = {"GetItem", "Query", "BatchGetItem", "Scan"}
_TRANSACTION_FACTOR = 2  # a transaction prepares and commits: every entry is written twice
_OTHERS = ("sqs", "kms", "s3", "secretsmanager")


@dataclass
class Write:
    """One row written, or refused: its key, size and what it cost."""

    key: str
    operation: str
    size: int
    units: int
    index_units: int
    is_refused: bool = False


@dataclass
class Meter:
    """A measurement, running between `__enter__` and `__exit__`.

    Rows of `foreign` partitions are passed over: the sandbox provider's books stand in the same table, but a real
    provider keeps its own.
    """

    foreign: str = "SBX#"
    operations: Counter = field(default_factory=Counter)  # DynamoDB requests by operation
    calls: Counter = field(default_factory=Counter)  # requests to other services, by "service operation"
    writes: list[Write] = field(default_factory=list)
    read_units: float = 0
    reported: float = 0

    @property
    def requests(self) -> int:
        """DynamoDB requests."""
        return self.operations.total()

    @property
    def write_units(self) -> int:
        """DynamoDB write units, those of the indexes included."""
        return sum(write.units + write.index_units for write in self.writes)

    def largest(self, prefix: str) -> int:
        """The largest row written under such a partition, in bytes."""
        return max((write.size for write in self.writes if write.key.startswith(prefix)), default=0)

    def __enter__(self) -> Meter:
        self._lock = threading.Lock()
        self._hooks = []
        for service in _OTHERS:
            count = functools.partial(self._count, service)
            self._hook(getattr(clients, service)(), "request-created", count)
        dynamodb = clients.dynamodb()
        self._look_with = other_client("dynamodb", dynamodb.meta.endpoint_url)
        self._hook(dynamodb, "provide-client-params", self._before)
        self._hook(dynamodb, "after-call", self._after)
        return self

    def __exit__(self, *_: object) -> None:
        for client, event, handler in self._hooks:
            client.meta.events.unregister(event, handler)

    def _hook(self, client: Any, event: str, handler: Any) -> None:
        name = f"{event}.{client.meta.service_model.service_id.hyphenize()}.*"
        client.meta.events.register(name, handler)
        self._hooks.append((client, name, handler))

    def _count(self, service: str, operation_name: str, **_: Any) -> None:
        with self._lock:
            self.calls[f"{service} {operation_name}"] += 1

    def _before(self, params: dict, model: Any, context: dict, **_: Any) -> dict | None:
        operation = model.name
        if operation not in _READS and operation not in _SINGLE and operation != "TransactWriteItems":
            return None
        if any(key[0].startswith(self.foreign) for key in _keys_touched(operation, params)):
            return None
        with self._lock:
            self.operations[operation] += 1
        context["meter"] = params, {key: self._look(params, key) for key in _keys_of(operation, params)}
        return {**params, "ReturnConsumedCapacity": "INDEXES"}

    def _after(self, parsed: dict, model: Any, context: dict, **_: Any) -> None:
        if "meter" not in context:
            return
        operation = model.name
        params, before = context["meter"]
        with self._lock:
            if operation in _READS:
                self.read_units += _units_read(operation, params, parsed)
            factor = _TRANSACTION_FACTOR if operation == "TransactWriteItems" else 1
            is_refused = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 200) >= 300
            for key, old in before.items():
                new = old if is_refused else self._look(params, key)
                self.writes.append(
                    Write(
                        key[0], operation, max(row_bytes(old), row_bytes(new)), factor * write_units(old, new),
                        index_units(old, new), is_refused,
                    )
                )  # fmt: skip
            reported = parsed.get("ConsumedCapacity") or []
            if before:
                every = reported if isinstance(reported, list) else [reported]
                self.reported += sum(one.get("CapacityUnits", 0) for one in every)

    def _look(self, params: dict, key: tuple[str, str]) -> Row:
        found = self._look_with.get_item(
            TableName=_table_of(params), Key={"pk": {"S": key[0]}, "sk": {"S": key[1]}}, ConsistentRead=True
        )
        return found.get("Item", {})


def _table_of(params: dict) -> str:
    return params.get("TableName") or next(iter(params["TransactItems"][0].values()))["TableName"]


def _keys_of(operation: str, params: dict) -> list[tuple[str, str]]:
    """The keys of the rows a request writes; a condition check is charged like a write."""
    if operation in _SINGLE:
        rows = [params[_SINGLE[operation]]]
    elif operation == "TransactWriteItems":
        rows = [(one.get("Item") or one["Key"]) for entry in params["TransactItems"] for one in entry.values()]
    else:
        rows = []
    return [(row["pk"]["S"], row["sk"]["S"]) for row in rows]


def _keys_touched(operation: str, params: dict) -> list[tuple[str, str]]:
    if operation == "GetItem":
        return [(params["Key"]["pk"]["S"], params["Key"]["sk"]["S"])]
    return _keys_of(operation, params)


def _units_read(operation: str, params: dict, parsed: dict) -> float:
    if operation == "GetItem":
        return read_units(parsed.get("Item"), is_strong=params.get("ConsistentRead", False))
    if operation == "BatchGetItem":
        units = 0.0
        for table, wanted in params["RequestItems"].items():
            rows = parsed.get("Responses", {}).get(table, [])
            is_strong = wanted.get("ConsistentRead", False)
            absent = len(wanted["Keys"]) - len(rows)
            units += sum(read_units(row, is_strong=is_strong) for row in rows)
            units += absent * read_units(None, is_strong=is_strong)
        return units
    return query_units(parsed.get("Items", []), is_strong=params.get("ConsistentRead", False))
