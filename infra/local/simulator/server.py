"""The simulator's HTTP server: providers under their prefixes, the wallet for buyers, the controls for tests.

    python -m infra.local.simulator.server --port 8100 --dir .local/simulator [--speed 1]

    /<provider>/…                  the provider's own API (see the package's docstring)
    GET  /                         the wallet: open payments      GET, POST /pay/<provider>/<our_no>
    GET  /_control/records         everything in the books        ?provider=…&our_no=… limits it
    GET  /_control/accounts        what to fill in at POST /v1/payment-accounts, for every provider
    POST /_control/pay             {"provider", "our_no", "outcome"?}
    POST /_control/refund          {"provider", "our_no", "amount_minor"}           by hand, at the provider
    POST /_control/dispute         {"provider", "our_no", "state"}                  opened, won, lost
    POST /_control/fault           {"provider", "what", "times"?, "path"?, "seconds"?}     down, slow, drop
    POST /_control/endpoint        {"provider", "url"}      where the account's messages go, as set in a console
    POST /_control/clock           {"ahead_seconds"}        the provider's clock jumps: what waits comes due

Only for this machine: it listens on 127.0.0.1 and its controls ask nobody who they are.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from infra.local.simulator import Request, Response, json_response, load_provider, provider_names, wallet
from infra.local.simulator.notices import Postman
from infra.local.simulator.outcomes import MEANINGS
from infra.local.simulator.world import Down, Impossible, Record, World

MAX_BODY_BYTES = 1024 * 1024
START_SECONDS = 20
DROPPED = Response(status=0)  # the connection ends without an answer


class Simulator:
    """The server in threads of this process. Stopping keeps the books; starting again on the same `directory` goes on.

    with Simulator(tmp_path, speed=100) as simulator: simulator.url, simulator.world
    """

    def __init__(self, directory: Path, port: int = 0, speed: float = 1.0):
        self.world = World(directory, speed=speed)
        world = self.world

        class Bound(_Handler):
            pass

        Bound.world = world
        self._server = _Server(("127.0.0.1", port), Bound)
        self.url = world.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._postman = Postman(world)

    def start(self) -> Simulator:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="simulator", daemon=True).start()
        self._postman.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._postman.stop()

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def control(self, what: str, /, **body: Any) -> Any:
        """A control call in this process: `control("pay", provider="stripe", our_no="pay_1")`."""
        answer = _control(self.world, "POST", what, {}, body)
        if answer.status >= 400:
            raise RuntimeError(answer.body.decode())
        return json.loads(answer.body)


class SimulatorProcess:
    """The server as a process of its own. Raises: RuntimeError when it does not come up."""

    def __init__(self, directory: Path, port: int, speed: float = 1.0, log: Path | None = None):
        self.url = f"http://127.0.0.1:{port}"
        output = log.open("ab") if log else subprocess.DEVNULL
        command = [sys.executable, "-m", "infra.local.simulator.server", "--port", str(port), "--dir", str(directory)]
        self.process = subprocess.Popen(
            [*command, "--speed", str(speed)],
            cwd=Path(__file__).resolve().parents[3],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches whoever started us, who then stops us
        )
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"the provider simulator did not start (port {port} taken?); see {log or 'its log'}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_control/health", timeout=2) as answer:
                return json.load(answer) == {"pid": self.process.pid}
        except (OSError, ValueError):
            return False


def start_process(directory: Path, port: int, speed: float = 1.0, log: Path | None = None) -> SimulatorProcess:
    return SimulatorProcess(directory, port, speed, log)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "simulator"
    sys_version = ""
    timeout = 65
    world: World

    def _answer(self) -> None:
        try:
            length = int(self.headers.get("content-length") or 0)
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY_BYTES:
            self.close_connection = True
            return self._send(Response(413))
        body = self.rfile.read(length)
        try:
            response = answer(self.world, self.command, self.path, dict(self.headers.items()), body)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            response = Response(500, b"the simulator made a mistake; see its log", {"Content-Type": "text/plain"})
        return self._send(response)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer

    def _send(self, response: Response) -> None:
        if response.status == 0:
            self.close_connection = True
            return
        try:
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            if self.close_connection:
                self.send_header("Connection", "close")
            if response.status != 204:
                self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            if self.command != "HEAD" and response.status != 204:
                self.wfile.write(response.body)
        except OSError:
            self.close_connection = True  # whoever asked has given up waiting

    def log_message(self, *_: object) -> None:
        pass


def answer(world: World, method: str, target: str, headers: dict[str, str], body: bytes) -> Response:
    """What the server says to one request; status 0 means: end the connection without a word."""
    parts = urlsplit(target)
    first, _, rest = parts.path.lstrip("/").partition("/")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if first == "_control":
        return _control(world, method, rest, query, _json_or_empty(body))
    if first in ("", "pay"):
        return wallet.answer(world, method, [unquote(one) for one in rest.split("/")] if rest else [], body)
    module = load_provider(first)
    if module is None:
        return json_response({"error": f"no provider {first}"}, 404)
    lowered = {name.lower(): value for name, value in headers.items()}
    path = "/" + rest
    request = Request(method, path, path + (f"?{parts.query}" if parts.query else ""), query, lowered, body)
    return _provider_answer(world, first, request)


def _provider_answer(world: World, provider: str, request: Request) -> Response:
    fault = world.take_fault(provider, request.path)
    down = Response(503, b"service unavailable", {"Content-Type": "text/plain"})
    if fault is not None and fault["what"] == "down":
        return down
    world.take_lost_answer()
    try:
        response = world.module(provider).handle(request, world)
    except Down:
        return down
    if world.take_lost_answer() or (fault is not None and fault["what"] == "drop"):
        return DROPPED
    if fault is not None:
        time.sleep(fault["seconds"])
    return response


def _json_or_empty(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _control(world: World, method: str, what: str, query: dict[str, str], body: dict[str, Any]) -> Response:
    if method == "GET":
        return _control_read(world, what, query)
    try:
        if what == "fault":
            if body["what"] not in ("down", "slow", "drop"):
                return json_response({"error": "what is down, slow or drop"}, 400)
            known = {name: body[name] for name in ("times", "path", "seconds") if name in body}
            world.add_fault(body["provider"], body["what"], **known)
        elif what == "endpoint":
            world.set_endpoint(body["provider"], body["url"])
        elif what == "clock":
            world.move_clock(int(body["ahead_seconds"]))
        elif what in ("pay", "refund", "dispute"):
            record = world.find(body["provider"], body["our_no"])
            if record is None:
                return json_response({"error": "no such payment"}, 404)
            return _act(world, record, what, body)
        else:
            return json_response({"error": "no such control"}, 404)
    except KeyError as error:
        return json_response({"error": f"missing {error.args[0]}"}, 400)
    return json_response({"done": True})


def _act(world: World, record: Record, what: str, body: dict[str, Any]) -> Response:
    try:
        if what == "pay":
            outcome = body.get("outcome")
            if outcome is not None and outcome not in MEANINGS:
                return json_response({"error": f"outcomes: {', '.join(MEANINGS)}"}, 400)
            wallet.pay(world, record, outcome)
        elif what == "refund":
            world.refund(record, None, int(body["amount_minor"]))
        else:
            if body["state"] not in ("opened", "won", "lost"):
                return json_response({"error": "state is opened, won or lost"}, 400)
            world.dispute(record, body["state"])
    except Impossible as error:
        return json_response({"error": error.reason}, 409)
    return json_response(_shown(world, record))


def _control_read(world: World, what: str, query: dict[str, str]) -> Response:
    if what == "health":
        import os

        return json_response({"pid": os.getpid()})
    if what == "accounts":
        return json_response({name: world.module(name).demo_account(world) for name in provider_names()})
    if what != "records":
        return json_response({"error": "no such control"}, 404)
    found = [
        _shown(world, one) for one in world.each(query.get("provider")) if query.get("our_no") in (None, one.our_no)
    ]
    return json_response({"records": found})


def _shown(world: World, record: Record) -> dict[str, Any]:
    events = world.events(record.provider, record.our_no)
    return {**asdict(record), "pay_url": world.pay_url(record), "notices": [asdict(one) for one in events]}


def main() -> int:
    parser = argparse.ArgumentParser(description="Payment providers to try things out with.")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--dir", type=Path, default=Path(".local/simulator"))
    parser.add_argument("--speed", type=float, default=1.0, help="divides every pause: 60 makes an hour a minute")
    options = parser.parse_args()
    stopping = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopping.set())
    with Simulator(options.dir, options.port, options.speed) as simulator:
        print(f"providers {', '.join(provider_names())} on {simulator.url}", flush=True)
        stopping.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
