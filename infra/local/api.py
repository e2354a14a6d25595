"""A caller of the HTTP contract in a few lines of the standard library. Used by the seed and the demo, nothing else."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from typing import Any


class Failed(Exception):
    """The other side answered with something else than what was expected."""


class Api:
    """Calls with one API key. Every create carries an Idempotency-Key, so a repeated call is the same call."""

    def __init__(self, base_url: str, key: str | None = None):
        self.base_url = base_url
        self.key = key

    def get(self, path: str) -> dict:
        return self.call("GET", path)

    def post(self, path: str, body: dict | None = None, *, idempotency_key: str | None = None) -> dict:
        return self.call("POST", path, body if body is not None else {}, idempotency_key=idempotency_key)

    def patch(self, path: str, body: dict) -> dict:
        return self.call("PATCH", path, body)

    def call(self, method: str, path: str, body: dict | None = None, *, idempotency_key: str | None = None) -> dict:
        """Raises: Failed with the error body unless the answer is a 2xx."""
        status, answer = self.try_call(method, path, body, idempotency_key=idempotency_key)
        if not 200 <= status < 300:
            raise Failed(f"{method} {path} answered {status}: {json.dumps(answer, ensure_ascii=False)}")
        return answer

    def try_call(
        self, method: str, path: str, body: dict | None = None, *, idempotency_key: str | None = None
    ) -> tuple[int, Any]:
        """Status and parsed body, whatever they are."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        if method == "POST":
            headers["Idempotency-Key"] = idempotency_key or str(uuid.uuid4())
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base_url}{path}", data=content, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            content = error.read()
            try:
                return error.code, json.loads(content)
            except ValueError:
                return error.code, content.decode(errors="replace")[:500]


def import_keys(
    operator: Api, product_id: str, content: bytes, filename: str, *, idempotency_key: str | None = None
) -> dict:
    """Upload a file of keys and wait until all of it is imported; the finished import as the API tells it."""
    order = {"product_id": product_id, "filename": filename, "format": filename.rpartition(".")[2]}
    made = operator.post("/v1/imports", order, idempotency_key=idempotency_key)
    upload = made["upload"]
    request = urllib.request.Request(
        upload["url"], data=content, headers=upload.get("headers") or {}, method=upload["method"]
    )
    with urllib.request.urlopen(request, timeout=120):
        pass
    operator.post(f"/v1/imports/{made['import_id']}/start")
    return wait_until(
        lambda: operator.get(f"/v1/imports/{made['import_id']}"),
        lambda one: one["status"] in ("completed", "failed", "cancelled"),
        seconds=120,
        what=f"import {made['import_id']} to end",
    )


def wait_until(look: Any, is_there: Any, *, seconds: float, what: str) -> Any:
    """Look again and again until it is there.

    Raises: Failed when the time is over, with what was seen last.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if is_there(seen):
            return seen
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds:.0f} s for {what}; last seen: {json.dumps(seen, ensure_ascii=False)[:800]}")
        time.sleep(0.3)
