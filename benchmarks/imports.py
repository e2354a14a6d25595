"""Importing keys: how many a second, what a key costs, and how the work that is not waiting divides up.

`python -m benchmarks` calls `run`. Keys a second against a local engine say more about the engine than about the
product; requests, units, CPU and memory do not depend on it.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.meter import Meter
from benchmarks.report import Row, Table
from chalicelib.aws import sealing
from chalicelib.aws.clients import s3
from chalicelib.core import settings
from chalicelib.core.ids import new_id
from chalicelib.imports import store
from chalicelib.imports.import_chunk import import_chunk
from chalicelib.imports.lines import split_records
from chalicelib.imports.model import CHUNK_RECORDS, MAX_FILE_BYTES, NewImport, Votes
from chalicelib.imports.plan_import import plan_import
from chalicelib.imports.rules import cut_chunks, read_line, vote
from chalicelib.imports.start_import import create_import, start_import
from chalicelib.keys.rules import fingerprint, parse_format
from tests.shop import make_product

KEYS = 2 * CHUNK_RECORDS
WORKERS = (1, 4)
UNITS_PER_KEY = 1.5
KMS_PER_1000_KEYS = 1.0
MEMORY_MB = 8
SCANNED_MB = 16
_DUPLICATES = 128
_FIELDS = [{"name": "account", "pattern": "[A-Z0-9]{4}(-[A-Z0-9]{4}){3}"}, {"name": "password", "pattern": None}]


def csv_lines(first: int, count: int) -> Iterator[bytes]:
    for number in range(first, first + count):
        yield b"KF%02d-%04d-%04d-ABCD,pass-%016x\r\n" % (
            number // 10**8, number // 10**4 % 10**4, number % 10**4, number * 0x9E3779B97F4A7C15 % 2**64,
        )  # fmt: skip


def started(first: int, count: int, now: int) -> str:
    """An import of keys numbered from `first`, planned and ready to be worked on."""
    product_id = make_product(now, key_fields=_FIELDS)
    wanted = NewImport(product_id=product_id, filename="keys.csv", format="csv")
    import_id = new_id("imp", now)
    create_import(wanted, import_id, "benchmark", now)
    body = b"account,password\r\n" + b"".join(csv_lines(first, count))
    s3().put_object(Bucket=settings.bucket_name(), Key=f"uploads/{import_id}", Body=body)
    start_import(import_id, now)
    plan_import(import_id, now)
    return import_id


def work(import_id: str, workers: int, now: int) -> None:
    """All chunks, by so many workers at once.

    Raises: RuntimeError unless every key was imported
    """
    row = store.get_import(import_id)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda chunk: import_chunk(import_id, chunk, now), range(row["chunks"])))
    done = store.get_import(import_id)
    if (done["status"], done["imported"]) != ("completed", row["records"]):
        raise RuntimeError(f"the import is {done['status']} with {done['imported']} keys")


def throughput(now: int) -> Table:
    rows = []
    for place, workers in enumerate(WORKERS):
        import_id = started(place * KEYS, KEYS, now)
        began, cpu_began = time.perf_counter(), time.process_time()
        work(import_id, workers, now)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        cells = [f"{workers}", f"{KEYS:,}", f"{KEYS / seconds:,.0f}", f"{cpu / KEYS * 1e3:.2f}"]
        rows.append(Row(cells))
    notes = [
        "Workers here are threads of one process, beside a local engine on one machine. Deployed, each is a function."
    ]
    return Table("Import: keys a second", ["workers", "keys", "keys/s", "CPU ms a key"], rows, notes)


def costs(now: int) -> Table:
    import_id = started(len(WORKERS) * KEYS, CHUNK_RECORDS, now)
    with Meter() as meter:
        work(import_id, 1, now)
    again = started(len(WORKERS) * KEYS, _DUPLICATES, now)
    with Meter() as refused:
        import_chunk(again, 0, now)
    units = meter.write_units / CHUNK_RECORDS
    kms = meter.calls["kms GenerateDataKey"] * 1_000 / CHUNK_RECORDS
    rows = [
        Row(["write units a key", f"{units:.2f}", f"{UNITS_PER_KEY}"], units <= UNITS_PER_KEY),
        Row(["write units a refused duplicate", f"{refused.write_units / _DUPLICATES:.2f}", ""]),
        Row(["DynamoDB requests a key", f"{meter.requests / CHUNK_RECORDS:.2f}", ""]),
        Row(["KMS calls per 1,000 keys", f"{kms:.2f}", f"{KMS_PER_1000_KEYS}"], kms <= KMS_PER_1000_KEYS),
        Row(["bytes of the largest page of 16 keys", f"{meter.largest('K#'):,}", ""]),
    ]
    return Table("Import: what a key costs", ["measure", "value", "budget"], rows)


def own_work(now: int) -> Table:
    """The parts that are CPU alone, over lines in memory."""
    wanted = parse_format(_FIELDS)
    lines = b"".join(csv_lines(0, 8 * CHUNK_RECORDS))
    rows, columns, keys = [], [one["name"] for one in _FIELDS], []
    began = time.process_time()
    votes, records = Votes(), []
    for _, batch, _ in cut_chunks(split_records([lines], "csv")):
        for record in batch:
            votes = vote(votes, record)
        records += batch
    rows.append(_per_key("split into records, vote on the encoding", began, len(records)))
    began = time.process_time()
    keys = [read_line(record, "utf-8", "csv", columns, wanted) for record in records]
    rows.append(_per_key("parse, normalise, check the format", began, len(records)))
    began = time.process_time()
    for key in keys:
        fingerprint(key, b"s" * 64)
    rows.append(_per_key("fingerprint", began, len(records)))
    data_key = sealing.new_data_key("prd", "lot")
    began = time.process_time()
    for page in range(len(keys) // 16):
        sealing.seal_page("prd", "lot", page, keys[page * 16 : page * 16 + 16], data_key)
    rows.append(_per_key("seal", began, len(records)))
    return Table("Import: CPU of its own", ["part", "CPU µs a key"], rows)


def _per_key(part: str, began: float, keys: int) -> Row:
    return Row([part, f"{(time.process_time() - began) / keys * 1e6:.1f}"])


def planning(now: int) -> Table:
    """The planner's pass over a file, as a stream: speed and peak memory must not grow with the file."""
    block = b"".join(csv_lines(0, 5_000))
    blocks = -(-SCANNED_MB * 1024 * 1024 // len(block))
    began, size = time.process_time(), 0
    for chunk, _, _ in cut_chunks(split_records((block for _ in range(blocks)), "csv")):
        size += chunk.length
    speed = size / 2**20 / (time.process_time() - began)
    tracemalloc.start()
    for _ in cut_chunks(split_records((block for _ in range(blocks // 8)), "csv")):
        pass
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    rows = [
        Row(["MB a second of CPU", f"{speed:.0f}", ""]),
        Row(["seconds for the largest file", f"{MAX_FILE_BYTES / 2**20 / speed:.0f}", ""]),
        Row(["peak memory, MB", f"{peak:.1f}", f"{MEMORY_MB}"], peak <= MEMORY_MB),
    ]
    return Table("Import: planning a file", ["measure", "value", "budget"], rows)


def run(backend_url: str) -> list[Table]:
    """All tables, measured on a stage of their own at a running backend."""
    from infra.local.stack import deploy_data_and_queues

    kept = dict(os.environ)
    stage = f"imports{os.getpid()}"
    deploy_data_and_queues(backend_url, stage)
    os.environ.update({
        "AWS_ENDPOINT_URL": backend_url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "STAGE": stage,
    })  # fmt: skip
    try:
        now = int(time.time())
        return [throughput(now), costs(now), own_work(now), planning(now)]
    finally:
        os.environ.clear()
        os.environ.update(kept)


def main() -> None:
    for table in run(os.environ["AWS_ENDPOINT_URL"]):
        print(table.text())


if __name__ == "__main__":
    main()
