"""`make bench`: everything that is measured, beside its budget. Ends with 1 if a budget is broken.

Starts a backend of its own.

    python -m benchmarks                    all parts: some minutes on two cores
    python -m benchmarks steps cold_start   some of them

Parts: steps (requests and write units), providers (notices: counts, signatures, loading), reservation (conflicts,
beside the naive design), imports, cpu, cold_start.
Counts are the same everywhere; times are of this machine and are judged only as ratios within one run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time

from benchmarks.report import Table
from infra.local.backend import Backend
from infra.local.stack import deploy_data_and_queues

PARTS = ("steps", "providers", "reservation", "imports", "cpu", "cold_start")
STAGE = "bench"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=", ".join(PARTS))
    parser.add_argument("--port", type=int, help="of the backend; a free one otherwise")
    options = parser.parse_args()
    backend = Backend(options.port).start()
    os.environ.pop("AWS_PROFILE", None)
    os.environ.update({
        **backend.environment(), "STAGE": STAGE, "SANDBOX": "on", "REVEAL_FUNCTION": "",
        "BASE_URL": "https://api.shop.example.com",
    })  # fmt: skip
    try:
        deploy_data_and_queues(backend.url, STAGE)
        broken = [name for part in options.parts or PARTS for name in _run(part)]
    finally:
        backend.stop()
    print(f"{len(broken)} budgets are broken: {'; '.join(broken)}" if broken else "Every budget is kept.")
    return 1 if broken else 0


def _run(part: str) -> list[str]:
    """Run one part and print its tables; the names of what is over its budget."""
    started = time.monotonic()
    module = importlib.import_module(f"benchmarks.{part}")
    tables: list[Table] = module.run(os.environ["AWS_ENDPOINT_URL"])
    for table in tables:
        print(table.text(), flush=True)
    print(f"({part}: {time.monotonic() - started:.0f} s)\n", flush=True)
    return [f"{part}: {name}" for table in tables for name in table.broken]


if __name__ == "__main__":
    sys.exit(main())
