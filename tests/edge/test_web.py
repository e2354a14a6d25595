from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chalicelib.edge import web

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Listener:
    """A raw TCP server: each connection is read up to the end of its request and handed to `answer`."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.answer: Callable[[socket.socket], None] = lambda connection: connection.sendall(OK)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            received = b""
            while b"\r\n\r\n" not in received:
                piece = connection.recv(65536)
                if not piece:
                    return
                received += piece
            self.requests.append(received)
            with contextlib.suppress(OSError):
                self.answer(connection)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr(web, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(web, "READ_SECONDS", 0.3)
    one = Listener()
    yield one
    one.socket.close()


def send(url: str, **more: object) -> web.Answer:
    return web.send("GET", url, headers={}, **{"is_configured": True, **more})


def test_every_status_is_an_answer_and_none_is_followed_or_repeated(listener: Listener):
    for status in (200, 302, 404, 429, 503):
        listener.requests.clear()
        head = (
            f"HTTP/1.1 {status} X\r\nLocation: {listener.url}/elsewhere\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n"
        )
        listener.answer = lambda connection, head=head: connection.sendall(head.encode() + b"[]")
        answer = send(listener.url)
        assert (answer.status, answer.body) == (status, b"[]")
        assert len(listener.requests) == 1


def test_each_request_uses_a_connection_of_its_own(listener: Listener):
    def keep_open(connection: socket.socket) -> None:
        connection.sendall(OK)
        connection.recv(1)  # a second request on this connection would be swallowed here

    listener.answer = keep_open
    assert [send(listener.url).status for _ in range(2)] == [200, 200]
    assert len(listener.requests) == 2


def test_a_refused_connection_was_certainly_not_sent():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(web.NotSent):
        send(f"http://127.0.0.1:{port}/")


def test_a_name_that_does_not_exist_was_certainly_not_sent():
    with pytest.raises(web.NotSent):
        send("https://api.provider.invalid/")


def test_a_request_that_is_never_answered_has_an_unknown_outcome(listener: Listener):
    listener.answer = lambda connection: time.sleep(2)
    with pytest.raises(web.OutcomeUnknown):
        send(listener.url)
    assert len(listener.requests) == 1


def test_a_connection_closed_without_an_answer_has_an_unknown_outcome(listener: Listener):
    listener.answer = lambda connection: None
    with pytest.raises(web.OutcomeUnknown):
        send(listener.url)
    assert len(listener.requests) == 1


def test_half_an_answer_is_no_answer(listener: Listener):
    listener.answer = lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")
    with pytest.raises(web.OutcomeUnknown):
        send(listener.url)


def test_an_answer_without_end_is_cut_off_by_size(listener: Listener, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web, "MAX_ANSWER_BYTES", 100_000)
    monkeypatch.setattr(web, "READ_SECONDS", 3)
    flooded: list[int] = []

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(1_000):
            connection.sendall(b"x" * 65536)
            flooded.append(65536)

    listener.answer = flood
    started = time.monotonic()
    with pytest.raises(web.OutcomeUnknown, match="too long"):
        send(listener.url)
    assert sum(flooded) < 20_000_000 and time.monotonic() - started < 2


def test_an_answer_that_drips_is_cut_off_by_time(listener: Listener):
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.1)

    listener.answer = drip
    started = time.monotonic()
    with pytest.raises(web.OutcomeUnknown):
        send(listener.url)
    assert time.monotonic() - started < 3


def test_a_server_without_a_trusted_certificate_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web, "CONNECT_SECONDS", 2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    received: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = plain.accept()
            received.append(context.wrap_socket(connection, server_side=True).recv(1000))

    with socket.create_server(("127.0.0.1", 0)) as plain:
        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(web.NotSent):
            send(f"https://localhost:{plain.getsockname()[1]}/")
        serving.join(5)
    assert received in ([], [b""])


def self_signed(folder: Path) -> Path:
    """A certificate for localhost that only its own key vouches for."""
    key, at = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), at, at + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = folder / "localhost.pem"
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    return path


@pytest.mark.parametrize(
    "url",
    [
        "http://api.stripe.com/", "https://localhost/", "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/",
        "https://0x7f.1/", "https://2130706433/", "https://user@api.stripe.com/", "file:///etc/passwd", "ftp://a.example/",
        "https://intranet/", "//api.stripe.com/", "",
    ],
)  # fmt: skip
def test_an_address_nobody_configured_is_refused_before_a_socket_is_opened(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a connection was tried"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    with pytest.raises(web.NotSent):
        web.send("GET", url, headers={})


def test_a_configured_address_of_the_world_still_needs_tls():
    with pytest.raises(web.NotSent):
        send("http://api.stripe.com/")


def test_an_exception_names_neither_address_nor_header(listener: Listener):
    listener.answer = lambda connection: None
    with pytest.raises(web.OutcomeUnknown) as failed:
        headers = {"Authorization": "Bearer sk_secret"}
        web.send("GET", f"{listener.url}/secret-path", headers=headers, is_configured=True)
    assert "secret" not in repr(failed.value) and failed.value.__cause__ is None


def test_a_body_that_is_not_json_is_an_unknown_outcome():
    for body in (b"<html>", b"", b"\xff", b"[" * 100_000):
        with pytest.raises(web.OutcomeUnknown):
            web.Answer(200, body).json()
