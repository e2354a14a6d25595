"""What a new copy of a function loads before its first call: CPU milliseconds, in fresh interpreters, beside the floor.

The floor is what any function of this kind loads: chalice and one botocore client with its model, measured in the same
run. "Ready" is the function's module and its first DynamoDB client. Each is the least of several runs with compiled
files (as in the zip), taken in turn, so that a busy machine slows all of them alike. Real cold starts also fetch the
package and start the runtime: that cannot be measured here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.report import Row, Table
from infra.local.backend import ROOT

ROUNDS = 3
# Where we stand, with room for noise: a growing import shows. The API also loads pydantic and the models of all its
# calls, of which payments, balance and reconciliation brought half as many again.
API_RATIO, WORKER_RATIO = 2.6, 1.75
FLOOR = "import chalice; import botocore.session; botocore.session.Session().create_client('dynamodb', 'us-east-1')"
BOTO3 = "import chalice; import boto3; boto3.client('dynamodb', region_name='us-east-1')"
_CLIENT = "; from chalicelib.aws.clients import dynamodb; dynamodb()"
_KMS = "; from chalicelib.aws.clients import kms; kms()"
_CHECKOUT = "; import chalicelib.checkout.place_order, chalicelib.edge.auth, chalicelib.payments.providers"
_REVEAL = "; import chalicelib.fulfilment.reveal, cryptography.hazmat.primitives.ciphers.aead"

PACKAGE = Path(ROOT) / ".build"


def functions() -> dict[str, str]:
    """Statements that load each function's module, by the name it is shown under."""
    loads = {"api": "import app"}
    for path in sorted((ROOT / "chalicelib").glob("*/workers.py")):
        loads[f"workers of {path.parent.name}"] = f"import chalicelib.{path.parent.name}.workers"
    return loads


def ready() -> dict[str, str]:
    """Statements that bring each function as far as its first request to DynamoDB."""
    loads = {f"{name}, client": statement + _CLIENT for name, statement in functions().items()}
    loads["api, first checkout"] = "import app" + _CHECKOUT + _CLIENT
    loads["reveal_keys, first reveal"] = "import chalicelib.fulfilment.workers" + _REVEAL + _CLIENT + _KMS
    return loads


def cpu_ms(statements: dict[str, str], rounds: int = ROUNDS) -> dict[str, float]:
    """The least CPU time each takes in a fresh interpreter, without what the bare interpreter takes."""
    wanted = {"": "pass", **statements}
    least = dict.fromkeys(wanted, float("inf"))
    for _ in range(rounds + 1):  # the first round also compiles
        for name, statement in wanted.items():
            least[name] = min(least[name], _run(statement))
    bare = least.pop("")
    return {name: (seconds - bare) * 1000 for name, seconds in least.items()}


def _run(statement: str) -> float:
    timed = f"import time; {statement}\nprint(time.process_time())"
    variables = {
        **os.environ, "AWS_LAMBDA_FUNCTION_NAME": "kamiflow-bench-api", "STAGE": "bench", "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", timed], cwd=ROOT, env=variables, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def imports() -> Table:
    floors = {"floor: chalice, botocore client": FLOOR, "for comparison: chalice, boto3 client": BOTO3}
    loaded = functions()
    measured = cpu_ms({**floors, **loaded, **ready()})
    floor = measured["floor: chalice, botocore client"]
    rows = []
    for name, value in measured.items():
        ratio = value / floor
        is_judged = name not in floors and name not in loaded
        allowed = API_RATIO if name.startswith("api") else WORKER_RATIO
        cells = [name, f"{value:.0f}", f"{ratio:.2f}", f"{allowed:g}" if is_judged else "-"]
        rows.append(Row(cells, ratio <= allowed if is_judged else None))
    return Table("What a new copy loads", ["function", "CPU ms", "of the floor", "budget"], rows)


def packages() -> Table:
    """Size of what was built last, if anything was: `make package STAGE=…`."""
    rows = []
    for zipped in sorted(PACKAGE.glob("*/deployment.zip")):
        import zipfile

        with zipfile.ZipFile(zipped) as archive:
            unzipped = sum(one.file_size for one in archive.infolist())
            compiled = sum(one.filename.endswith(".pyc") for one in archive.infolist())
        rows.append(
            Row(
                [zipped.parent.name, f"{zipped.stat().st_size / 2**20:.1f}", f"{unzipped / 2**20:.1f}", str(compiled)],
                unzipped <= 250 * 2**20 and compiled > 0,
            )
        )
    heads = ["stage", "zip MiB", "unzipped MiB", "compiled files"]
    return Table("Package", heads, rows, [] if rows else ["Nothing is built: make package STAGE=prod."])


def run(backend_url: str) -> list[Table]:
    return [imports(), packages()]
