"""Crashes, lost answers, outages and doubled messages: no line is imported twice, none is lost, no key is shown."""

from __future__ import annotations

import base64
import io
import logging
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib.aws import clients, files
from chalicelib.aws.secrets import forget_secrets
from chalicelib.aws.transact import transact
from chalicelib.edge import observe
from chalicelib.imports import store
from chalicelib.imports.import_chunk import import_chunk
from chalicelib.imports.plan_import import plan_import
from chalicelib.imports.start_import import start_import
from chalicelib.inventory import store as inventory
from chalicelib.keys import store as keys
from chalicelib.keys.errors import SealingUnavailable
from tests.imports import uploads
from tests.shop import make_product

SERVICES = ("dynamodb", "s3", "sqs", "kms", "secretsmanager")


class Crash(BaseException):
    """The process is gone: nothing may catch this."""


@contextmanager
def hooked(moment: str, act: Callable) -> Iterator[None]:
    """Call `act` before or after every AWS call; presigned addresses are none."""
    emitters = [getattr(clients, service)().meta.events for service in SERVICES]
    for emitter in emitters:
        emitter.register(moment, act)
    try:
        yield
    finally:
        for emitter in emitters:
            emitter.unregister(moment, act)


@contextmanager
def crash_at(moment: str, place: int) -> Iterator[list[str]]:
    """Crash before or after the AWS call with this number, counted from 0; yields the calls seen."""
    seen: list[str] = []

    def note(model, **_):
        seen.append(model.name)
        if len(seen) == place + 1:
            raise Crash(model.name)

    with hooked(moment, note), suppress(Crash):
        yield seen


def one_import(now: int, number: int) -> tuple[str, str]:
    """A product of its own, and a started import of two keys, a repetition and a bad line."""
    forget_secrets()
    product_id = make_product(now)
    body = "".join(f"{line}\n" for line in (f"A{number}", f"B{number}", f"Ａ{number}", "", "x" * 600))
    import_id = uploads.upload(product_id, body.encode(), now, format="txt")
    start_import(import_id, now)
    return product_id, import_id


def check(product_id: str, import_id: str, number: int, now: int) -> None:
    """Exactly the two keys are on sale, each once, and the import says so."""
    row = store.get_import(import_id)
    assert (row["status"], row["imported"], row["refused"]) == ("completed", 2, 2)
    assert row["reasons"] == {"duplicate_in_file": 1, "too_long": 1}
    assert store.shown_refusals(row) == [(3, "duplicate_in_file"), (5, "too_long")]
    opened = [key["code"] for key in uploads.open_all_on_sale(product_id, now)]
    assert sorted(opened) == [f"A{number}", f"B{number}"]
    assert inventory.read_stock(product_id, now).imported == 2
    assert files.find_upload(import_id) is None


@pytest.mark.parametrize("moment", ["before-call", "after-call"])
def test_a_crash_at_any_call_loses_no_line_and_imports_none_twice(stack, clock, monkeypatch, moment):
    monkeypatch.setattr(keys, "WRITERS", 1)
    crashed = []
    for place in count():
        product_id, import_id = one_import(clock.at, place)
        with crash_at(moment, place) as seen:
            uploads.work(import_id, clock.at)
        is_over = len(seen) <= place
        if not is_over:
            crashed.append(seen[-1])
        for _ in range(2):
            uploads.work(import_id, clock.at)
        check(product_id, import_id, place, clock.at)
        if is_over:
            break
    # Every kind of call was crashed at: the plan's, the chunk's and the end's.
    assert set(crashed) == {
        "GetItem", "GetObject", "Query", "PutItem", "TransactWriteItems", "UpdateItem", "SendMessageBatch",
        "GenerateDataKey", "GetSecretValue", "PutObject", "DeleteObject",
    }  # fmt: skip
    assert len(crashed) > 20


def test_a_lost_answer_of_the_last_write_counts_nothing_twice(stack, clock):
    product_id, import_id = one_import(clock.at, 0)
    plan_import(import_id, clock.at)
    lost = []

    def lose_once(model, **_):
        if model.name == "TransactWriteItems" and not lost:
            lost.append(1)
            raise ReadTimeoutError(endpoint_url="x")

    with hooked("after-call", lose_once), pytest.raises(ReadTimeoutError):
        import_chunk(import_id, 0, clock.at)
    assert lost
    import_chunk(import_id, 0, clock.at)
    check(product_id, import_id, 0, clock.at)


def test_throttling_and_conflicts_in_a_third_of_the_writes_change_nothing(stack, clock):
    dice = random.Random(7)
    product_id, import_id = one_import(clock.at, 0)

    def refuse_some(model, **_):
        if model.name in ("PutItem", "UpdateItem", "TransactWriteItems") and dice.random() < 0.33:
            code = dice.choice(["ThrottlingException", "TransactionConflictException", "InternalServerError"])
            raise ClientError({"Error": {"Code": code, "Message": ""}}, model.name)

    with hooked("before-call", refuse_some):
        for _ in range(3):
            with suppress(Exception):
                uploads.work(import_id, clock.at)
    uploads.work(import_id, clock.at)
    check(product_id, import_id, 0, clock.at)


def test_many_workers_on_the_same_chunk_at_once_import_it_once(stack, clock):
    product_id = make_product(clock.at)
    body = b"".join(b"A%d\n" % (number % 60) for number in range(90))
    import_id = uploads.upload(product_id, body, clock.at, format="txt")
    start_import(import_id, clock.at)
    plan_import(import_id, clock.at)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: import_chunk(import_id, 0, clock.at), range(4)))
    row = store.get_import(import_id)
    assert (row["status"], row["imported"], row["refused"], row["chunks_done"]) == ("completed", 60, 30, 1)
    opened = [key["code"] for key in uploads.open_all_on_sale(product_id, clock.at)]
    assert sorted(opened) == sorted(f"A{number}" for number in range(60))


def test_two_imports_with_the_same_keys_at_once_bring_each_key_once(stack, clock):
    product_id = make_product(clock.at)
    body = b"".join(b"A%d\n" % number for number in range(60))
    ids = [uploads.upload(product_id, body, clock.at, format="txt") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda import_id: uploads.run(import_id, clock.at), ids))
    assert [row["status"] for row in rows] == ["completed", "completed"]
    assert sum(row["imported"] for row in rows) == sum(row["refused"] for row in rows) == 60
    opened = [key["code"] for key in uploads.open_all_on_sale(product_id, clock.at)]
    assert sorted(opened) == sorted(f"A{number}" for number in range(60))


def test_without_kms_nothing_is_claimed_or_stored_and_the_message_comes_again(stack, clock):
    product_id, import_id = one_import(clock.at, 0)
    plan_import(import_id, clock.at)

    def refuse(model, **_):
        raise ClientError({"Error": {"Code": "KMSInternalException", "Message": ""}}, model.name)

    clients.kms().meta.events.register("before-call", refuse)
    with pytest.raises(SealingUnavailable):
        import_chunk(import_id, 0, clock.at)
    assert uploads.count_rows("F#") + uploads.count_rows("K#") == 0
    row = store.get_import(import_id)
    assert (row["status"], row["chunks_done"]) == ("running", 0)
    clients.kms().meta.events.unregister("before-call", refuse)
    uploads.carry_messages()
    check(product_id, import_id, 0, clock.at)


def test_a_marker_and_its_keys_and_counters_stand_or_fall_together(stack, clock):
    product_id, import_id = one_import(clock.at, 0)
    plan_import(import_id, clock.at)
    writes = store.chunk_done_writes(import_id, 0, imported=3, refusals=[(3, "empty")], shown=20, now=clock.at)
    transact(writes)
    before = store.get_import(import_id)
    with pytest.raises(store.ChunkDone):
        transact(writes)
    store.fail(import_id, "file_changed", clock.at)
    with pytest.raises(store.NotRunning):
        transact(store.chunk_done_writes(import_id, 1, imported=3, refusals=[], shown=20, now=clock.at))
    after = store.get_import(import_id)
    assert (after["imported"], after["chunks_done"]) == (before["imported"], before["chunks_done"]) == (3, 1)
    assert store.list_done_chunks(import_id) == {0}
    assert inventory.read_stock(product_id, clock.at).imported == 0


def test_a_card_key_is_nowhere_in_clear_after_an_import_also_a_failing_one(stack, clock, capfd):
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    loggers = [logging.getLogger(), logging.getLogger(observe.log.name)]
    for logger in loggers:
        logger.addHandler(handler)
    product_id = make_product(clock.at, key_fields=[{"name": "code", "pattern": "[A-Z]{6}[0-9]{6}"}])
    body = b'code\nCANARY123456\nCANARY123456\nCANARY99\n"CANARY777777\nCANARY\x00888888\nCANARY654321,CANARY\n'
    import_id = uploads.upload(product_id, body, clock.at)
    start_import(import_id, clock.at)
    uploads.messages("import-started")
    plan_import(import_id, clock.at)

    def fail(model, **_):
        raise ClientError({"Error": {"Code": "ValidationException", "Message": "CANARY"}}, model.name)

    with hooked("after-call.dynamodb.PutItem", fail):
        sent = uploads.messages("import-chunk")
        assert all(uploads.workers.on_import_chunk(event, None)["batchItemFailures"] for event in sent)
    uploads.work(import_id, clock.at)
    for logger in loggers:
        logger.removeHandler(handler)
    assert store.get_import(import_id)["imported"] == 1
    printed = capfd.readouterr()
    seen = (log.getvalue() + printed.out + printed.err + str(sent)).encode() + uploads.everything_stored()
    assert b"message failed" in seen
    assert b"import_id" in seen
    for form in (b"CANARY", base64.b64encode(b"CANARY")[:7], b"CANARY".hex().encode()):
        assert form not in seen
