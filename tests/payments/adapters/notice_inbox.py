"""A notice address for tests: reads what comes in with an adapter, answers as ours would, keeps what was said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from urllib.parse import parse_qsl, urlsplit

from chalicelib.payments.errors import BadNotice
from chalicelib.payments.model import Account, Notice


class NoticeInbox:
    """`clock` says at which instant a notice is received; while `is_deaf`, everything is answered 503."""

    def __init__(self, adapter: ModuleType, account: Account, clock: Callable[[], int] = lambda: int(time.time())):
        self.notices: list[Notice] = []
        self.refused = 0
        self.is_deaf = False
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                headers |= {f"x-query-{name}": value for name, value in parse_qsl(urlsplit(self.path).query)}
                reply = adapter.FACTS.taken
                status = 503 if inbox.is_deaf else reply.status
                if not inbox.is_deaf:
                    try:
                        inbox.notices.append(adapter.read_notice(account, headers, body, clock()))
                    except BadNotice:
                        inbox.refused += 1
                        status = 400
                content = reply.body.encode() if status == reply.status else b"{}"
                self.send_response(status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/notices/x/pac_1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def wait_for(self, *kinds: str, seconds: float = 5) -> list[Notice]:
        """The notices of these kinds so far, once each has come as often as it is named."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            said = [one.kind for one in self.notices]
            if all(said.count(kind) >= kinds.count(kind) for kind in kinds):
                return [one for one in list(self.notices) if one.kind in kinds]
            time.sleep(0.01)
        raise AssertionError(f"waited for {kinds}, heard {[one.kind for one in self.notices]}, refused {self.refused}")
