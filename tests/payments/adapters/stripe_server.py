"""A small Stripe for tests, over real HTTP: sessions, refunds, balance transactions, idempotency keys as documented,
and faults on demand.

What it keeps to: a key's first outcome (also a 500) is stored once the request was carried out, and replayed; the same
key with other parameters is an error; failed validation and a request still under way are not stored. Refunds never
exceed the payment.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, parse_qsl, urlsplit

SECRET_KEY = "sk_test_0000000000000000000000"
INTENT = "pi_3Vg0001TestIntent"


@dataclass
class Seen:
    """One request, as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class StripeServer:
    """`fault` befalls the next POST, or every request when `is_fault_lasting`:

    drop_before   the connection ends, nothing was done   drop_after   it was done, the connection ends
    error_before  503, nothing done, nothing stored       error_after  it was done, 500 is stored under the key
    slow          it was done, the answer comes too late  html         it was done, a proxy answers in HTML
    "429" …       that status, nothing done, nothing stored
    """

    now: int
    seen: list[Seen] = field(default_factory=list)
    sessions: dict[str, dict] = field(default_factory=dict)
    refunds: list[dict] = field(default_factory=list)
    captured: dict[str, int] = field(default_factory=lambda: {INTENT: 4999})
    refund_status: str = "succeeded"
    movements: list[dict] = field(default_factory=list)
    is_live: bool = False
    fault: str | None = None
    is_fault_lasting: bool = False
    slow_seconds: float = 1.5
    stored: dict[str, tuple[tuple, int, bytes]] = field(default_factory=dict)
    under_way: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        stripe = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stripe.handle(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.seen.append(Seen(handler.command, handler.path, headers, body))
        fault = self._take_fault(handler.command)
        if fault == "drop_before":
            return
        if fault is not None and fault.isdigit():
            return self._send(handler, int(fault), _error("rate_limit_error", "not now"))
        if fault == "error_before":
            return self._send(handler, 503, _error("api_error", "overloaded"))
        status, answer = self._carry_out(handler.command, handler.path, headers, body, is_broken=fault == "error_after")
        if fault == "drop_after":
            return
        if fault == "slow":
            time.sleep(self.slow_seconds)
        if fault == "html":
            return self._send(handler, 502, b"<html>Bad Gateway</html>")
        self._send(handler, status, answer)

    def _take_fault(self, method: str) -> str | None:
        if self.is_fault_lasting:
            return self.fault
        if method == "GET":
            return None
        fault, self.fault = self.fault, None
        return fault

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        try:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:
            pass  # the caller has given up waiting

    def _carry_out(self, method: str, path: str, headers: dict, body: bytes, is_broken: bool) -> tuple[int, bytes]:
        if headers.get("authorization") != f"Bearer {SECRET_KEY}":
            return 401, _error("invalid_request_error", "Invalid API Key provided")
        if method == "GET":
            return self._get(path)
        key, request = headers.get("idempotency-key"), (path, tuple(parse_qsl(body.decode(), keep_blank_values=True)))
        with self.lock:
            if key in self.under_way:
                return 409, _error("idempotency_error", "another request with this key is under way")
            if key in self.stored:
                first, status, answer = self.stored[key]
                if first != request:
                    return 400, _error("idempotency_error", "this key was used with other parameters")
                return status, answer
            status, answer = self._post(path, dict(request[1]))
            if is_broken:
                status, answer = 500, _error("api_error", "something went wrong")
            if key is not None and status in (200, 500):
                self.stored[key] = (request, status, answer)
            return status, answer

    def _post(self, path: str, form: dict[str, str]) -> tuple[int, bytes]:
        if path == "/v1/checkout/sessions":
            return self._create_session(form)
        if path == "/v1/refunds":
            return self._create_refund(form)
        if found := re.fullmatch(r"/v1/checkout/sessions/(\w+)/expire", path):
            return self._expire(found[1])
        return 404, _error("invalid_request_error", "unrecognized request URL")

    def _create_session(self, form: dict[str, str]) -> tuple[int, bytes]:
        expires_at = int(form.get("expires_at", self.now + 86_400))
        if not self.now + 1_800 <= expires_at <= self.now + 86_400:
            return 400, _error("invalid_request_error", "expires_at must be 30 minutes to 24 hours ahead")
        for name in ("mode", "success_url", "line_items[0][quantity]", "line_items[0][price_data][currency]"):
            if name not in form:
                return 400, _error("invalid_request_error", f"missing {name}")
        session_id = f"cs_test_{len(self.sessions) + 1}"
        session = {
            "id": session_id, "object": "checkout.session", "mode": "payment", "status": "open",
            "payment_status": "unpaid", "payment_intent": None, "url": f"https://checkout.stripe.com/c/pay/{session_id}",
            "client_reference_id": form["client_reference_id"], "expires_at": expires_at,
            "amount_total": int(form["line_items[0][price_data][unit_amount]"]),
            "currency": form["line_items[0][price_data][currency]"], "livemode": self.is_live,
        }  # fmt: skip
        self.sessions[session_id] = session
        return 200, json.dumps(session).encode()

    def _expire(self, session_id: str) -> tuple[int, bytes]:
        session = self.sessions.get(session_id)
        if session is None:
            return 404, _error("invalid_request_error", "no such checkout.session")
        if session["status"] != "open":
            return 400, _error("invalid_request_error", "only open sessions can be expired")
        session |= {"status": "expired", "url": None}
        return 200, json.dumps(session).encode()

    def _create_refund(self, form: dict[str, str]) -> tuple[int, bytes]:
        intent, amount = form["payment_intent"], int(form["amount"])
        if intent not in self.captured:
            return 404, _error("invalid_request_error", "no such payment_intent")
        given = sum(one["amount"] for one in self.refunds if one["payment_intent"] == intent)
        if amount < 1 or given + amount > self.captured[intent]:
            return 400, _error("invalid_request_error", "charge_already_refunded or amount too large")
        metadata = {m[1]: value for name, value in form.items() if (m := re.fullmatch(r"metadata\[(\w+)\]", name))}
        made = {
            "id": f"re_{len(self.refunds) + 1}", "object": "refund", "amount": amount, "currency": "cny",
            "payment_intent": intent, "metadata": metadata, "status": self.refund_status,
        }  # fmt: skip
        self.refunds.append(made)
        return 200, json.dumps(made).encode()

    def _get(self, path: str) -> tuple[int, bytes]:
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/v1/refunds":
            return _page(
                [one for one in reversed(self.refunds) if one["payment_intent"] == query["payment_intent"]], query
            )
        if parts.path == "/v1/balance_transactions":
            if query.get("expand[0]") != "data.source":
                return 400, _error("invalid_request_error", "the tests want the source unfolded")
            since, until = int(query["created[gte]"]), int(query["created[lt]"])
            return _page([one for one in reversed(self.movements) if since <= one["created"] < until], query)
        session = self.sessions.get(parts.path.removeprefix("/v1/checkout/sessions/"))
        if session is None:
            return 404, _error("invalid_request_error", "no such checkout.session")
        return 200, json.dumps(session).encode()


def _page(newest_first: list[dict], query: dict[str, str]) -> tuple[int, bytes]:
    if "starting_after" in query:
        position = [one["id"] for one in newest_first].index(query["starting_after"])
        newest_first = newest_first[position + 1 :]
    limit = int(query.get("limit", 10))
    page = {"object": "list", "data": newest_first[:limit], "has_more": len(newest_first) > limit}
    return 200, json.dumps(page).encode()


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"error": {"type": kind, "message": message}}).encode()
