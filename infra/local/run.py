"""`make run`: the whole product on this machine: us, the embedded backend and the provider simulator, a process each.

    python -m infra.local.run [--port 8000] [--backend-port 4566] [--simulator-port 8100] [--dir .local]

Data lives in `<dir>/state` and `<dir>/simulator` and survives Ctrl-C, a crash and a restart; `make reset` starts
afresh. Never use it for real sales.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from infra.local import stack
from infra.local.api import Api, Failed
from infra.local.backend import ROOT, Backend
from infra.local.simulator.server import SimulatorProcess, start_process

STAGE = "local"
SHOP = "demo"  # as in seed.py, which is imported later


def main() -> int:
    options = _options()
    folder = options.dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    base_url = f"http://127.0.0.1:{options.port}"
    stopping = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopping.set())

    say("starting the embedded backend")
    backend = Backend(options.backend_port, folder / "state", log=folder / "backend.log")
    server = events = simulator = None
    try:
        backend.start()
        say("starting the provider simulator")
        simulator = start_process(folder / "simulator", options.simulator_port, log=folder / "simulator.log")
        say("creating table, key, secrets, bucket and queues from infra/*.yaml")
        stack.deploy_data_and_queues(backend.url, STAGE)
        os.environ.update({
            **backend.environment(),
            "STAGE": STAGE,
            "SANDBOX": "on",
            "REVEAL_FUNCTION": "",
            "BASE_URL": base_url,
            "BUCKET_NAME": f"kamiflow-{STAGE}-files",
        })  # fmt: skip
        # The product logs to standard output, as Lambda wants it; here that is a file, and the terminal stays readable.
        sys.stdout = (folder / "run.log").open("a", buffering=1, encoding="utf-8")

        # Imported now: the product reads its environment from here on.
        import app as product
        from infra.local.events import Events
        from infra.local.seed import ensure_credentials, seed_once
        from infra.local.server import make_server

        server = make_server(product.app, "127.0.0.1", options.port, STAGE)
        threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
        events = Events(product.app, backend.url, lambda text: print(text, file=sys.stdout))
        events.start()
        credentials = ensure_credentials(folder / "credentials.json", base_url)
        seed_once(folder / "state" / "seeded", credentials, say)
        seed_accounts(folder / "state" / "accounts-seeded", credentials, simulator.url, say)
        _tell(credentials, folder, events.names, simulator)
        while not stopping.wait(1):
            if backend.process is None or backend.process.poll() is not None:
                say(f"the embedded backend has ended by itself; see {_short(folder)}/backend.log")
                return 1
            if simulator.process.poll() is not None:
                say(f"the provider simulator has ended by itself; see {_short(folder)}/simulator.log")
                return 1
        say("stopping")
        return 0
    except Exception as error:
        if not stopping.is_set():
            say(f"could not go on: {error}")
            say(f"more in run.log, backend.log and simulator.log in {_short(folder)}")
        return 1
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
        if events is not None:
            events.stop()
        if simulator is not None:
            simulator.stop()
        backend.stop()
        say("stopped; the data is kept")


def say(text: str) -> None:
    print(f"kamiflow: {text}", file=sys.__stdout__, flush=True)


def seed_accounts(marker: Path, credentials: dict[str, str], simulator_url: str, say: Callable[[str], None]) -> None:
    """Fill in the demo shop's payment accounts with what the simulator's providers give out, and tell it where its
    messages go. At every start: an account that is there is changed only when the simulator's own has changed.

    Raises: Failed.
    """
    operator, simulator = Api(credentials["base_url"], credentials["operator_key"]), Api(simulator_url)
    found = operator.get(f"/v1/payment-accounts?shop_id={SHOP}")["accounts"]
    known = {one["provider"]: one for one in found if one["mode"] == "test"}
    filled_in = json.loads(marker.read_text()) if marker.exists() else {}
    for provider, wanted in simulator.get("/_control/accounts").items():
        digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
        account = known.get(provider)
        if account is None:
            say(f"filling in a payment account: {provider}")
            body = {"shop_id": SHOP, "provider": provider, **wanted}
            status, account = operator.try_call("POST", "/v1/payment-accounts", body)
            if status != 201:
                raise Failed(f"the account of {provider} was answered {status}: {account}")
            operator.patch(f"/v1/payment-accounts/{account['account_id']}", {"status": "on"})
        elif filled_in.get(provider) != digest:
            change = {"settings": wanted["settings"], "secrets": wanted["secrets"], "status": "on"}
            operator.patch(f"/v1/payment-accounts/{account['account_id']}", change)
        filled_in[provider] = digest
        simulator.post("/_control/endpoint", {"provider": provider, "url": account["notice_url"]})
    marker.write_text(json.dumps(filled_in) + "\n")


def _tell(credentials: dict[str, str], folder: Path, workers: list[str], simulator: SimulatorProcess) -> None:
    base_url = credentials["base_url"]
    for line in (
        "",
        f"  API              {base_url}/v1/products",
        f"  API docs         {base_url}/docs",
        f"  operator key     {credentials['operator_key']}",
        f"  shop key         {credentials['shop_key']}",
        f"  credentials      {_short(folder)}/credentials.json",
        f"  providers        {simulator.url} (simulated: open payments, and a button that pays)",
        f"  log              {_short(folder)}/run.log",
        f"  in background    {len(workers)} queue, stream and timer handlers",
        "",
        "  make demo        in another terminal: the whole story, step by step",
        "  Ctrl-C           stop; the data is kept.  make reset starts afresh",
        "",
    ):
        print(line, file=sys.__stdout__, flush=True)


def _short(folder: Path) -> str:
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the whole product on this machine.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--backend-port", type=int, default=4566)
    parser.add_argument("--simulator-port", type=int, default=8100)
    parser.add_argument("--dir", type=Path, default=ROOT / ".local", help="where state, logs and credentials are kept")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
