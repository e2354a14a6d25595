"""Faults at the one place where the product meets AWS: the event hooks of its cached clients.

    crash        the process ends before or after a call; a BaseException, so that no code under test can catch it
    lost         the call is carried out, its answer is lost: "sdk" the library sends it again by itself, "busy" the
                 table answers an internal error and our own code sends it again, "gone" the time-out reaches our code
    throttled, conflict, broken    the table says 'not now' and has done nothing
    a function   runs just before the call, without faults: another process that comes in between

Every call is counted, so each one can be made to fail in turn. Not for several threads at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import botocore.endpoint
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib.aws import clients, sealing
from chalicelib.catalog import store as catalog
from chalicelib.inventory import memory, pool_store

SERVICES = ("dynamodb", "kms", "sqs", "secretsmanager")
WRITES = ("PutItem", "UpdateItem", "TransactWriteItems", "PutSecretValue", "CreateSecret")
NOT_NOW = ("throttled", "conflict", "broken")
LOST = ("lost_sdk", "lost_busy", "lost_gone")


class Crash(BaseException):
    """The process ends here."""


@dataclass(frozen=True)
class Call:
    number: int
    service: str
    operation: str
    request: dict[str, Any]

    @property
    def is_write(self) -> bool:
        return self.operation in WRITES

    def __str__(self) -> str:
        return f"call {self.number} ({self.operation})"


Fault = str | Callable[[], Any]
Plan = Callable[[Call], Fault | None]


def no_fault(call: Call) -> None:
    return None


def at_call(number: int, fault: Fault) -> Plan:
    """This fault at the call of that number, and no other."""
    return lambda call: fault if call.number == number else None


def at_write(number: int, fault: Fault) -> Plan:
    """This fault at the write of that number; reads are not counted."""
    writes: list[Call] = []

    def plan(call: Call) -> Fault | None:
        if call.is_write:
            writes.append(call)
        return fault if call.is_write and len(writes) == number else None

    return plan


def at_random(chance: random.Random, probability: float, faults: tuple[str, ...]) -> Plan:
    """Any of these faults, at any call, with this probability."""
    return lambda call: chance.choice(faults) if chance.random() < probability else None


class Faults:
    """The hooks of one stretch of a test. `calls` holds what was asked of AWS, `struck` what went wrong."""

    def __init__(self, plan: Plan = no_fault):
        self.plan = plan
        self.calls: list[Call] = []
        self.struck: list[tuple[str, str]] = []
        self._fault: str | None = None
        self._wire_is_armed = False
        self._is_paused = False

    def _before(self, model: Any, params: dict, **_: Any) -> Any:
        if self._is_paused:
            return None
        call = Call(len(self.calls) + 1, model.service_model.service_name, model.name, params)
        self.calls.append(call)
        fault = self.plan(call)
        if callable(fault):
            self.struck.append(("in between", str(call)))
            self._is_paused = True
            try:
                fault()
            finally:
                self._is_paused = False
            return None
        self._fault = fault
        if self._fault is None:
            return None
        if self._fault in LOST and not call.is_write:
            self._fault = None  # a read whose answer is lost has done nothing
            return None
        self.struck.append((self._fault, str(call)))
        if self._fault == "crash_before":
            raise Crash(str(call))
        self._wire_is_armed = self._fault == "lost_sdk"
        return refusal(self._fault, call)

    def _on_wire(self, request: Any, **_: Any) -> None:
        if self._wire_is_armed:
            self._wire_is_armed = False
            clients.dynamodb()._endpoint.http_session.send(request)
            raise ReadTimeoutError(endpoint_url=request.url)

    def _after(self, model: Any, **_: Any) -> None:
        if self._is_paused:
            return
        fault, self._fault = self._fault, None
        if fault == "crash_after":
            raise Crash(str(self.calls[-1]))
        if fault == "lost_gone":
            raise ReadTimeoutError(endpoint_url="")
        if fault == "lost_busy":
            error = {"Error": {"Code": "InternalServerError", "Message": "lost"}, "ResponseMetadata": {}}
            raise ClientError(error, model.name)


def refusal(fault: str, call: Call) -> tuple[AWSResponse, dict] | None:
    """What the service answers when it says 'not now'; None when this fault is not such an answer."""
    if fault not in NOT_NOW:
        return None
    code, status = {
        "throttled": ("ThrottlingException", 400),
        "conflict": ("TransactionConflictException", 400),
        "broken": ("InternalServerError", 500),
    }[fault]
    parsed: dict = {"ResponseMetadata": {"HTTPStatusCode": status, "RetryAttempts": 0}}
    parsed["Error"] = {"Code": code, "Message": fault}
    if fault == "conflict":
        if not call.is_write:
            return None
        if call.operation == "TransactWriteItems":
            parsed["Error"]["Code"] = "TransactionCanceledException"
            parsed["CancellationReasons"] = [{"Code": "None"}, {"Code": "TransactionConflict"}]
    return AWSResponse("", status, {}, None), parsed


@contextmanager
def faults(plan: Plan = no_fault) -> Iterator[Faults]:
    """Everything asked of AWS inside goes through `plan`. Nobody sleeps: neither our retries nor the library's."""
    injected = Faults(plan)
    asleep = SimpleNamespace(sleep=lambda seconds: None)
    with pytest.MonkeyPatch.context() as patch:
        quick = SimpleNamespace(**{**vars(time), **vars(asleep)})
        patch.setattr(botocore.endpoint, "time", quick)
        for name in ("aws.transact", "inventory.store", "inventory.take_store", "inventory.shelf_store", "keys.store"):
            module = __import__(f"chalicelib.{name}", fromlist=["time"])
            patch.setattr(module, "time", quick)
        emitters = [(service, getattr(clients, service)().meta.events) for service in SERVICES]
        for service, events in emitters:
            events.register_first(f"before-call.{service}", injected._before)
            events.register_last(f"after-call.{service}", injected._after)
            events.register_first(f"before-send.{service}", injected._on_wire)
        try:
            yield injected
        finally:
            for service, events in emitters:
                events.unregister(f"before-call.{service}", injected._before)
                events.unregister(f"after-call.{service}", injected._after)
                events.unregister(f"before-send.{service}", injected._on_wire)


def count_calls(act: Callable[[], Any]) -> list[Call]:
    """What an act asks of AWS when nothing goes wrong."""
    with faults() as seen:
        act()
    return seen.calls


def new_process() -> None:
    """Forget what only lives in memory, as after a crash: another process goes on. Clients and secrets may stay."""
    memory.forget_hints()
    catalog._kept.clear()
    pool_store.get_return_shards.cache_clear()
    sealing.forget_data_keys()
