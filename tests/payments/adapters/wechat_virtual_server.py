"""A small WeChat for tests: access tokens and the order calls of virtual payment, with a network's faults."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

APP_ID, APP_SECRET, APP_KEY = "wx8888888888888888", "appsecret-0123456789", "app_key_123"


@dataclass
class Seen:
    path: str
    query: dict[str, str]
    body: bytes


@dataclass
class WeChatServer:
    """`faults`: part of the path -> drop, error, cut, slow or a status; once each, after the work is done."""

    orders: dict[str, dict] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    errors: dict[str, dict] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    token: str = "TOKEN_0"
    tokens_given: int = 0
    token_seconds: Any = 7200
    absent: dict = field(default_factory=lambda: {"errcode": 268490002, "errmsg": "order not exist rid: 1"})

    def __post_init__(self) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                owner.handle(self)

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

    def count(self, path: str) -> int:
        return sum(one.path == path for one in self.seen)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        parts = urlsplit(handler.path)
        seen = Seen(parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}, body)
        self.seen.append(seen)
        with self.lock:
            status, content = 200, json.dumps(self._carry_out(seen)).encode()
        fault = next((one for one in self.faults if one in seen.path), None)
        kind = self.faults.pop(fault) if fault else ""
        if kind == "drop":
            return
        if kind == "slow":
            time.sleep(0.8)
        if kind == "cut":
            content = content[: len(content) // 2]
        if kind == "error" or kind.isdigit():
            status, content = int(kind) if kind.isdigit() else 500, b'{"errcode":0}'
        try:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)
        except OSError:
            pass  # the caller has given up waiting

    def _carry_out(self, seen: Seen) -> dict:
        wanted = json.loads(seen.body)
        if seen.path == "/cgi-bin/stable_token":
            if (wanted["appid"], wanted["secret"]) != (APP_ID, APP_SECRET):
                return {"errcode": 40125, "errmsg": "invalid appsecret"}
            self.tokens_given += 1
            return {"access_token": self.token, "expires_in": self.token_seconds}
        if seen.query.get("access_token") != self.token:
            return {"errcode": 40001, "errmsg": "invalid credential"}
        message = f"{seen.path}&{seen.body.decode()}".encode()
        if seen.query.get("pay_sig") != hmac.new(APP_KEY.encode(), message, hashlib.sha256).hexdigest():
            return {"errcode": 268490003, "errmsg": "sig error"}
        if seen.path in self.errors:
            return self.errors[seen.path]
        order = self.orders.get(wanted["order_id"])
        if order is None or order["openid"] != wanted["openid"] or order["env"] != wanted["env"]:
            return self.absent
        if seen.path == "/xpay/query_order":
            return {"errcode": 0, "errmsg": "ok", "order": order["shown"]}
        return self._refund(order["shown"], wanted)

    def pay(self, order_id: str, openid: str, fee: int, env: int = 1) -> dict:
        shown = {
            "order_id": order_id, "status": 2, "order_fee": fee, "paid_fee": fee, "left_fee": fee, "order_type": 0,
            "wx_order_id": f"wx{order_id[4:]}", "wxpay_order_id": "4200002026061512345678901", "env_type": env + 1,
            "create_time": 1_781_499_900, "update_time": 1_781_499_990, "biz_type": 0,
        }  # fmt: skip
        self.orders[order_id] = {"openid": openid, "env": env, "shown": shown}
        return shown

    def _refund(self, shown: dict, wanted: dict) -> dict:
        number = wanted["refund_order_id"]
        if number in self.orders:
            return {"errcode": 268490004, "errmsg": "repeated"}
        if wanted["left_fee"] != shown["left_fee"]:
            return {"errcode": 268490016, "errmsg": "left_fee mismatch"}
        if not 0 < wanted["refund_fee"] <= shown["left_fee"]:
            return {"errcode": 268490002, "errmsg": "refund_fee"}
        shown["left_fee"] -= wanted["refund_fee"]
        made = {"order_id": number, "status": 3, "order_type": 1, "refund_fee": wanted["refund_fee"],
                "wx_order_id": f"wxr{number}"}  # fmt: skip
        self.orders[number] = {"openid": wanted["openid"], "env": wanted["env"], "shown": made}
        return {"errcode": 0, "refund_order_id": number, "refund_wx_order_id": made["wx_order_id"],
                "pay_order_id": wanted["order_id"], "pay_wx_order_id": shown["wx_order_id"]}  # fmt: skip
