"""A small PayPal for tests: the calls we use, with a network's faults. It keeps books, and repeats by request id."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

CLIENT_ID, CLIENT_SECRET = "AXclient", "EKsecret-0123456789"


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class PayPalServer:
    """`faults`: (method, part of the path) -> drop, error, cut, slow or a status; once each, after the work is done."""

    orders: dict[str, dict] = field(default_factory=dict)
    transactions: list[dict] = field(default_factory=list)
    last_refreshed: str = "2026-06-17T00:00:00Z"
    answers: dict[tuple[str, str], tuple[int, dict]] = field(default_factory=dict)
    faults: dict[tuple[str, str], str] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    capture_status: str = "COMPLETED"
    refund_status: str = "COMPLETED"
    token_seconds: int = 32400
    tokens: list[str] = field(default_factory=list)
    page_size: int = 500

    def __post_init__(self) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.handle(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def count(self, method: str, part: str) -> int:
        return sum(one.method == method and part in one.path for one in self.seen)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        seen = Seen(handler.command, handler.path, headers, body)
        self.seen.append(seen)
        with self.lock:
            status, answer = self._carry_out(seen)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        fault = next((one for one in self.faults if one[0] == seen.method and one[1] in seen.path), None)
        kind = self.faults.pop(fault) if fault else ""
        if kind == "drop":
            return
        if kind == "slow":
            time.sleep(0.8)
        if kind == "cut":
            content = content[: len(content) // 2]
        if kind == "error" or kind.isdigit():
            status, content = int(kind) if kind.isdigit() else 500, b'{"name":"INTERNAL_SERVER_ERROR"}'
        try:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)
        except OSError:
            pass  # the caller has given up waiting

    def _carry_out(self, seen: Seen) -> tuple[int, dict | bytes]:
        parts = urlsplit(seen.path)
        if parts.path in self.files:
            return 200, self.files[parts.path]
        if parts.path == "/v1/oauth2/token":
            return self._token(seen)
        if seen.headers.get("authorization") not in {f"Bearer {one}" for one in self.tokens}:
            return 401, {"error": "invalid_token"}
        for part, (status, issue) in self.refusals.items():
            if part in parts.path and seen.method == "POST":
                return status, {"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": issue}]}
        if seen.method == "GET" and parts.path == "/v1/reporting/transactions":
            return self._search(parse_qs(parts.query))
        if seen.method == "GET":
            order = self.orders.get(parts.path.removeprefix("/v2/checkout/orders/"))
            return (200, order) if order else (404, {"name": "RESOURCE_NOT_FOUND", "details": []})
        repeat = (parts.path, seen.headers.get("paypal-request-id", ""))
        if not repeat[1]:
            return 400, {"name": "INVALID_REQUEST", "details": [{"issue": "MISSING_REQUEST_ID"}]}
        if repeat not in self.answers:
            answer = self._post(parts.path, json.loads(seen.body))
            if answer[0] >= 300:
                return answer
            self.answers[repeat] = answer
        return self.answers[repeat]

    def _token(self, seen: Seen) -> tuple[int, dict]:
        pair = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if seen.headers.get("authorization") != f"Basic {pair}" or seen.body != b"grant_type=client_credentials":
            return 401, {"error": "invalid_client"}
        self.tokens.append(f"A21AA{len(self.tokens)}")
        return 200, {"access_token": self.tokens[-1], "token_type": "Bearer", "expires_in": self.token_seconds}

    def _post(self, path: str, wanted: dict) -> tuple[int, dict]:
        if path == "/v2/checkout/orders":
            return self._create(wanted)
        parts = path.split("/")
        if path.endswith("/capture"):
            return self._capture(parts[4])
        if path.endswith("/refund"):
            return self._refund(parts[4], wanted)
        return 404, {"name": "RESOURCE_NOT_FOUND"}

    def _create(self, wanted: dict) -> tuple[int, dict]:
        number = f"5O19{len(self.orders):04d}TN364715T"
        self.orders[number] = {
            "id": number, "intent": wanted["intent"], "status": "PAYER_ACTION_REQUIRED",
            "purchase_units": [{"reference_id": "default", **wanted["purchase_units"][0]}],
            "links": [
                {"href": f"{self.url}/v2/checkout/orders/{number}", "rel": "self", "method": "GET"},
                {"href": f"https://www.sandbox.paypal.com/checkoutnow?token={number}", "rel": "payer-action"},
            ],
        }  # fmt: skip
        return 201, self.orders[number]

    def approve(self, number: str) -> None:
        self.orders[number]["status"] = "APPROVED"

    def _capture(self, number: str) -> tuple[int, dict]:
        order = self.orders[number]
        if order["status"] == "COMPLETED":
            return 422, {"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "ORDER_ALREADY_CAPTURED"}]}
        if order["status"] != "APPROVED":
            return 422, {"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "ORDER_NOT_APPROVED"}]}
        unit = order["purchase_units"][0]
        captured = {"id": f"3C{number[2:]}", "status": self.capture_status, "amount": unit["amount"],
                    "custom_id": unit["custom_id"], "invoice_id": unit["invoice_id"]}  # fmt: skip
        unit["payments"] = {"captures": [captured]}
        order["status"] = "COMPLETED"
        return 201, order

    def _refund(self, capture_id: str, wanted: dict) -> tuple[int, dict]:
        for order in self.orders.values():
            payments = order["purchase_units"][0].get("payments") or {}
            for capture in payments.get("captures", []):
                if capture["id"] == capture_id:
                    made = payments.setdefault("refunds", [])
                    gone = sum(Decimal(one["amount"]["value"]) for one in made)
                    if gone + Decimal(wanted["amount"]["value"]) > Decimal(capture["amount"]["value"]):
                        return 422, {"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "REFUND_AMOUNT_EXCEEDED"}]}
                    refund = {"id": f"1Y{len(made)}", "status": self.refund_status, **wanted}
                    made.append(refund)
                    return 201, refund
        return 404, {"name": "RESOURCE_NOT_FOUND", "details": [{"issue": "INVALID_RESOURCE_ID"}]}

    def _search(self, query: dict) -> tuple[int, dict]:
        number = int(query["page"][0])
        page = self.transactions[(number - 1) * self.page_size : number * self.page_size]
        return 200, {
            "transaction_details": [{"transaction_info": one} for one in page],
            "last_refreshed_datetime": self.last_refreshed,
            "page": number,
            "total_items": len(self.transactions),
            "total_pages": max(1, -(-len(self.transactions) // self.page_size)),
        }
