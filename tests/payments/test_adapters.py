"""The contract of `chalicelib/payments/adapters`: whoever drops a file into that folder is held to it here."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

from chalicelib.aws import secrets
from chalicelib.core import settings
from chalicelib.core.errors import Refused
from chalicelib.core.ids import payment_id_for
from chalicelib.core.money import MINOR_DIGITS
from chalicelib.core.plugs import load_plug, plug_names
from chalicelib.edge import web
from chalicelib.payments import adapters, model
from chalicelib.payments.errors import BadNotice, BadStatement, NoStatement, ProviderRefused, ProviderUnavailable
from chalicelib.payments.model import Account, AccountField, Payment, ProviderFacts

PARAMETERS = {
    "start": {"payment": "Payment", "now": "int"},
    "read_notice": {"account": "Account", "headers": "Any", "raw_body": "bytes", "now": "int"},
    "find": {"payment": "Payment"},
    "close": {"payment": "Payment"},
    "refund": {"payment": "Payment", "refund_id": "str", "amount_minor": "int", "now": "int"},
    "find_refund": {"payment": "Payment", "refund_id": "str"},
    "statement": {"account": "Account", "day": "str"},
    "parse_statement": {"account": "Account", "raw": "bytes", "day": "str"},
}
ANSWERS = {
    "start": "Started",
    "read_notice": "Notice | None",
    "find": "Found",
    "close": "Closed",
    "refund": "RefundResult",
    "find_refund": "RefundResult | None",
    "statement": "list[StatementLine]",
    "parse_statement": "list[StatementLine]",
}
# Sandbox and balance keep books of their own in our table; everybody else may speak HTTP, compute, and nothing more.
WITH_OWN_BOOKS = {"sandbox", "balance"}
ALLOWED = ("chalicelib.edge.web", "chalicelib.core.", "chalicelib.payments.")
CLOCKS = ("now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter", "localtime", "gmtime")
NAMES = plug_names(adapters)
FOREIGN = [name for name in NAMES if name not in WITH_OWN_BOOKS]
HEADERS = {
    "stripe-signature": "t=1,v1=00",
    "sandbox-signature": "t=1,v1=00",
    "wechatpay-timestamp": "1",
    "wechatpay-nonce": "n",
    "wechatpay-signature": "AAAA",
    "wechatpay-serial": "PUB_KEY_ID_0",
    "paypal-transmission-id": "1",
    "paypal-transmission-time": "2026-06-15T00:00:00Z",
    "paypal-transmission-sig": "AAAA",
    "paypal-cert-url": "https://api.paypal.com/v1/notifications/certs/CERT-1",
    "paypal-auth-algo": "SHA256withRSA",
}
BODIES = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"\xff",
    b"a" * 100_000,
    b"[" * 100_000,
    b"a=1&sign=AAAA&sign_type=RSA2",
    b"<xml/>",
]


@pytest.fixture(params=NAMES)
def adapter(request: pytest.FixtureRequest) -> ModuleType:
    found = load_plug(adapters, request.param)
    assert found is not None
    return found


@pytest.fixture(params=FOREIGN)
def foreign(request: pytest.FixtureRequest) -> ModuleType:
    found = load_plug(adapters, request.param)
    assert found is not None
    return found


def name_of(adapter: ModuleType) -> str:
    return adapter.__name__.rpartition(".")[2]


def facts_of(adapter: ModuleType) -> ProviderFacts:
    return adapter.FACTS


def payment_of(adapter: ModuleType, method: str, account: Account | None = None) -> Payment:
    """A payment that everything is known of and that was never made."""
    order_id = "ord_0000000000000000"
    return Payment(
        payment_id=payment_id_for(order_id), order_id=order_id, total_minor=100,
        currency=min(facts_of(adapter).currencies or {"CNY"}), title="x", expires_at=2_000_000_000,
        base_url="https://pay.example", account=account or Account(name_of(adapter)), method=method,
        notify_url="https://pay.example/v1/notices/x", return_url="https://pay.example/o/x", provider_ref="ref_1",
        provider_txn="txn_1", paid_minor=100, payer_id="payer_1", payer_session="session_1", client_ip="192.0.2.1",
    )  # fmt: skip


def methods_of(names: list[str]) -> list[tuple[str, str]]:
    return [(name, method) for name in names for method in facts_of(load_plug(adapters, name)).methods]


class _Silence:
    """An address that takes requests and counts them; it answers all of them with 500 and nothing readable."""

    def __init__(self) -> None:
        self.seen = 0
        silence = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                silence.seen += 1
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(500)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def silence() -> Iterator[_Silence]:
    one = _Silence()
    yield one
    one.server.shutdown()
    one.server.server_close()


# what stands in the file


def test_sandbox_and_stripe_are_there_and_nothing_else_can_be_named():
    assert {"sandbox", "stripe"} <= set(NAMES)
    for name in ("", "__init__", "../model", "sandbox.x", "SANDBOX", "errors"):
        assert load_plug(adapters, name) is None


def test_it_says_what_it_is(adapter: ModuleType):
    assert len((adapter.__doc__ or "").splitlines()) > 3


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_has_the_eight_functions_as_written_in_the_contract(name: str, adapter: ModuleType):
    signature = inspect.signature(getattr(adapter, name))
    assert {one: given.annotation for one, given in signature.parameters.items()} == PARAMETERS[name]
    assert list(signature.parameters) == list(PARAMETERS[name])
    assert signature.return_annotation == ANSWERS[name]
    assert all(given.default is inspect.Parameter.empty for given in signature.parameters.values())


def test_the_contract_in_words_names_the_same_functions():
    said = re.findall(r"^    (\w+)\(([^)]*)\) -> (.+)$", adapters.__doc__ or "", re.MULTILINE)
    assert {name: answer for name, _, answer in said} == ANSWERS
    assert {name: given.split(", ") for name, given, _ in said} == {name: [*one] for name, one in PARAMETERS.items()}


def test_its_facts_are_complete(adapter: ModuleType):
    facts = facts_of(adapter)
    assert isinstance(facts, ProviderFacts)
    assert facts.title.strip()
    assert facts.methods
    for name, method in facts.methods.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]{1,30}", name), name
        assert method.shows in typing.get_args(model.Shows)
        assert method.meaning.strip()
        assert set(method.needs) <= {"payer_id", "payer_session", "client_ip"}
    assert facts.currencies is None or (facts.currencies and facts.currencies <= set(MINOR_DIGITS))
    assert list(facts.ask_after_seconds) == sorted(set(facts.ask_after_seconds))
    assert all(5 <= age <= 86_400 for age in facts.ask_after_seconds)
    assert -12 <= facts.day_offset_hours <= 14
    assert 200 <= facts.taken.status < 300
    facts.taken.body.encode("ascii")


def test_its_account_fields_say_where_they_are_found(adapter: ModuleType):
    fields = facts_of(adapter).fields
    assert len({field.name for field in fields}) == len(fields)
    for field in fields:
        assert re.fullmatch(r"[a-z][a-z0-9_]{1,40}", field.name), field.name
        assert field.where.strip(), field.name
        assert field.form in typing.get_args(typing.get_type_hints(AccountField)["form"])
        assert field.form != "pem_private_key" or field.is_secret, field.name
        assert not re.search("secret|private|password", field.name) or field.is_secret, field.name


def test_it_can_be_sent_to_a_stand_in_and_has_a_secret(foreign: ModuleType):
    fields = {field.name: field for field in facts_of(foreign).fields}
    api_base = fields["api_base"]
    assert (api_base.is_secret, api_base.is_needed, api_base.form) == (False, False, "url")
    assert any(field.is_secret and field.is_needed for field in fields.values())


def imports_of(tree: ast.AST) -> set[str]:
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tree_of(adapter: ModuleType) -> ast.Module:
    return ast.parse(Path(inspect.getsourcefile(adapter) or "").read_text())


def test_it_imports_nothing_that_writes_decides_or_tells_the_time(foreign: ModuleType):
    ours = [name for name in imports_of(tree_of(foreign)) if name.startswith(("chalicelib", "infra", "tests"))]
    strays = [name for name in ours if not name.startswith(ALLOWED) and name != "chalicelib.edge.web"] + [
        name for name in ours if re.search(r"_store|\.store\b|core\.clock|core\.settings|routes|workers", name)
    ]
    assert strays == []


def test_it_imports_no_library_of_a_provider_and_no_cloud(adapter: ModuleType):
    imported = imports_of(tree_of(adapter))
    for name in ("boto3", "stripe", "alipay", "wechatpayv3", "paypalrestsdk", "requests", "time", "random", "logging"):
        assert [one for one in imported if one == name or one.startswith(f"{name}.")] == []
    assert "chalicelib.orders" not in {".".join(one.split(".")[:2]) for one in imported}
    assert "chalicelib.aws.clients" not in {".".join(one.split(".")[:3]) for one in imported}


def test_what_only_some_calls_need_is_imported_inside_them(adapter: ModuleType):
    top = [node for node in tree_of(adapter).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    heavy = ("cryptography", "pydantic", "chalice.", "urllib3", "xml.", "zipfile", "csv")
    assert [one for one in imports_of(ast.Module(top, [])) if one.startswith(heavy)] == []


def test_it_reads_no_clock_but_the_one_that_stamps_requests(adapter: ModuleType):
    calls = [node.func for node in ast.walk(tree_of(adapter)) if isinstance(node, ast.Call)]
    assert [one.attr for one in calls if isinstance(one, ast.Attribute) and one.attr in CLOCKS] == []


# what it does with an account that nobody has filled in


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:12]))
@pytest.mark.parametrize("headers", [{}, HEADERS], ids=["bare", "all"])
def test_it_refuses_what_it_cannot_verify(headers: dict, body: bytes, adapter: ModuleType, stack: str):
    for mode in ("test", "live"):
        with pytest.raises(BadNotice):
            adapter.read_notice(Account(name_of(adapter), mode), headers, body, 1)


@pytest.mark.parametrize(("name", "method"), methods_of(FOREIGN))
@pytest.mark.parametrize("mode", ["test", "live"])
def test_without_secrets_nothing_is_sent_and_nothing_concluded(mode: str, name: str, method: str, silence: _Silence):
    foreign = load_plug(adapters, name)
    payment = payment_of(foreign, method, Account(name, mode, settings={"api_base": silence.url}))
    with pytest.raises(ProviderRefused):
        foreign.start(payment, 1_781_500_000)
    assert foreign.find(payment).state == "unknown"
    assert foreign.close(payment) == "unknown"
    assert foreign.refund(payment, "rfd_1", 1, 1_781_500_000).state in ("failed", "unknown")
    found = foreign.find_refund(payment, "rfd_1")
    assert found is None or found.state == "unknown"
    with pytest.raises((ProviderRefused, NoStatement)):
        foreign.statement(payment.account, "2026-06-15")
    assert silence.seen == 0


@pytest.mark.parametrize(("name", "method"), methods_of(sorted(set(NAMES) & WITH_OWN_BOOKS)))
def test_books_of_our_own_know_nothing_of_a_payment_that_never_was(
    name: str, method: str, stack: str, monkeypatch: pytest.MonkeyPatch
):
    own = load_plug(adapters, name)
    monkeypatch.setattr(secrets, "_kept", {})
    payment = replace(payment_of(own, method), provider_txn="txn_1")
    assert own.find(payment).state in ("unpaid", "unknown")
    assert own.close(payment) in ("closed", "unknown")
    assert own.refund(payment, "rfd_1", 1, 1).state in ("failed", "unknown")
    found = own.find_refund(payment, "rfd_1")
    assert found is None or found.state == "unknown"


def test_a_payment_that_was_never_opened_is_not_known_to_be_paid(foreign: ModuleType):
    for method in facts_of(foreign).methods:
        payment = replace(payment_of(foreign, method), provider_ref=None, provider_txn=None, paid_minor=None)
        assert foreign.find(payment).state in ("unpaid", "unknown")
        assert foreign.close(payment) in ("closed", "unknown")
        assert foreign.refund(payment, "rfd_1", 1, 1).state in ("failed", "unknown")


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"PK\x03\x04", b"a,b\r\n1,2\r\n", b"<html></html>", b"\0" * 1000])
def test_a_file_that_is_no_statement_is_refused(raw: bytes, adapter: ModuleType):
    with pytest.raises(BadStatement):
        adapter.parse_statement(Account(name_of(adapter)), raw, "2026-06-15")


@pytest.mark.parametrize("error", [BadNotice, BadStatement, NoStatement, ProviderRefused, ProviderUnavailable])
def test_the_contract_in_words_names_every_refusal(error: type[Refused]):
    assert error.code in (adapters.__doc__ or "")


def test_no_account_prints_its_secrets(adapter: ModuleType):
    account = Account(name_of(adapter), secrets={"x": "canary"}, earlier=({"x": "canary"},))
    assert "canary" not in repr(payment_of(adapter, "x", account)) + str(account)


def test_the_sandbox_takes_nothing_where_real_money_is_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settings, "has_sandbox", lambda: False)
    sandbox = load_plug(adapters, "sandbox")
    with pytest.raises(Refused):
        sandbox.start(payment_of(sandbox, "page"), 1)
    with pytest.raises(BadNotice):
        sandbox.read_notice(Account("sandbox"), {}, b"{}", 1)


def test_a_stand_in_near_by_is_allowed_only_where_somebody_filled_it_in():
    with pytest.raises(web.NotSent):
        web.send("GET", "http://127.0.0.1:9/", headers={})
