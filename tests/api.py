"""The product's HTTP calls in process, for tests: `Api().shop.post("/v1/orders", {...})`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from chalice.test import Client

from chalicelib.accounts.api_keys import issue_api_key
from tests import shop


@dataclass
class Answer:
    status: int
    body: Any
    headers: dict[str, str]

    @property
    def code(self) -> str | None:
        """The code of a refusal."""
        return self.body["error"]["code"] if isinstance(self.body, dict) and "error" in self.body else None


@dataclass
class As:
    """One caller; `key` None is nobody."""

    client: Client
    key: str | None = None
    seen: list[Answer] = field(default_factory=list)

    def call(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str) -> Answer:
        sent = {"Host": "api.test", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.key:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        if body is not None or raw is not None:
            sent.setdefault("Content-Type", "application/json")
        payload = raw if raw is not None else (json.dumps(body).encode() if body is not None else b"")
        got = self.client.http.request(method, path, headers=sent, body=payload)
        is_json = got.headers.get("Content-Type", "").startswith("application/json")
        answer = Answer(got.status_code, json.loads(got.body) if is_json and got.body else got.body, dict(got.headers))
        self.seen.append(answer)
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("POST", path, {} if body is None else body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Answer:
        return self.call("PATCH", path, body, **headers)


class Api:
    """An operator, two shops, and nobody, on one fresh stage."""

    def __init__(self, now: int):
        import app

        client = Client(app.app)
        client.__enter__()
        self.operator = As(client, issue_api_key("operator", now))
        self.shop = As(client, issue_api_key("shop", now, shop_id=shop.SHOP))
        self.other_shop = As(client, issue_api_key("shop", now, shop_id="shop_other"))
        self.nobody = As(client)


def order_body(product_id: str, quantity: Any = 1, *, number: str = "A-1", **members: Any) -> dict:
    return {
        "merchant_order_no": number,
        "lines": [{"product_id": product_id, "quantity": quantity}],
        "payment": {"provider": "sandbox"},
        **members,
    }
