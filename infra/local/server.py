"""HTTP on one address of this machine, answered as API Gateway and the function `api` would.

Chalice's own stand-in for API Gateway makes the Lambda event and routes it; what API Gateway answers by itself comes
from `infra/gateway.py`. Used by `make run` and by tests of pages in a browser. It decides nothing about the business.
"""

from __future__ import annotations

import base64
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from chalice.config import Config
from chalice.local import CustomLocalChalice, LocalChalice, LocalGateway, LocalGatewayException

from chalicelib.core.errors import NotFound, Refused
from chalicelib.edge.errors import BodyTooLarge
from infra import gateway

MAX_BODY_BYTES = 10 * 1024 * 1024  # API Gateway's own limit


def make_server(app: Any, host: str, port: int, stage: str) -> ThreadingHTTPServer:
    """A server ready for `serve_forever()`; one thread a connection.

    Raises: OSError when the address is taken.
    """
    # Chalice keeps the request of the moment on the app object: per thread here, because a function handles one at a
    # time.
    CustomLocalChalice.__bases__ = (LocalChalice, type(app)) if type(app) is not CustomLocalChalice else (LocalChalice,)
    if type(app) is not CustomLocalChalice:
        app.__class__ = CustomLocalChalice
    config = Config.create(chalice_app=app, chalice_stage=stage, project_dir=".")

    class Bound(_Handler):
        local_gateway = LocalGateway(app, config)
        routes = app.routes

    return _Server((host, port), Bound)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "kamiflow"
    sys_version = ""
    timeout = 65
    local_gateway: LocalGateway
    routes: dict

    def _answer(self) -> None:
        request_id = str(uuid.uuid4())
        try:
            length = int(self.headers.get("content-length") or 0)
        except ValueError:
            return self._refuse(Refused, request_id)
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            return self._refuse(BodyTooLarge, request_id)
        body = self.rfile.read(length) if length > 0 else b""
        try:
            event = self.local_gateway.event_converter.create_lambda_event(
                method=self.command, path=self.path, headers=dict(self.headers), body=body
            )
        except ValueError:
            return self._refuse(NotFound, request_id)
        if self.command not in self.routes[event["requestContext"]["resourcePath"]]:
            return self._refuse(NotFound, request_id)
        event["requestContext"].update({"requestId": request_id, "stage": "local"})
        event["requestContext"]["identity"]["sourceIp"] = self.client_address[0]
        try:
            context = self.local_gateway._generate_lambda_context()
            answer = self.local_gateway._app_object(event, context)
        except LocalGatewayException:
            return self._refuse(NotFound, request_id)
        content = answer.get("body") or ""
        content = base64.b64decode(content) if answer.get("isBase64Encoded") else content.encode()
        headers = [(name, value) for name, value in answer["headers"].items()]
        headers += [(name, value) for name, values in answer.get("multiValueHeaders", {}).items() for value in values]
        return self._send(answer["statusCode"], headers, content)

    def _refuse(self, refused: type[Refused], request_id: str) -> None:
        body = gateway.error_body(refused, request_id).encode()
        headers = {"Content-Type": "application/json", "X-Amzn-RequestId": request_id, **gateway.HEADERS}
        self._send(refused.status, list(headers.items()), body)

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def __getattr__(self, name: str) -> Any:
        """Any method reaches the gateway, TRACE and invented ones too: what it does not know it refuses as ever."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        """Silent: each call is logged once, by the product itself."""
