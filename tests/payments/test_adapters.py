"""The contract of `chalicelib/payments/adapters`: whoever drops a file into that folder is held to it here."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from chalicelib.aws import secrets
from chalicelib.core.ids import payment_id_for
from chalicelib.core.plugs import load_plug, plug_names
from chalicelib.payments import adapters
from chalicelib.payments.errors import BadNotice
from chalicelib.payments.model import Payment

PARAMETERS = {
    "start": ["payment", "now"],
    "read_notice": ["headers", "raw_body", "now"],
    "find": ["payment"],
    "refund": ["payment", "refund_id", "amount_minor", "now"],
    "find_refund": ["payment", "refund_id"],
}
ANSWERS = {
    "start": "Started",
    "read_notice": "Notice",
    "find": "Found",
    "refund": "RefundResult",
    "find_refund": "RefundResult | None",
}
FORBIDDEN = (
    "chalicelib.orders",
    "chalicelib.inventory",
    "chalicelib.aws.clients",
    "chalicelib.core.clock",
    "boto3",
    "stripe",
)


@pytest.fixture(params=plug_names(adapters))
def adapter(request: pytest.FixtureRequest) -> ModuleType:
    found = load_plug(adapters, request.param)
    assert found is not None
    return found


def test_sandbox_and_stripe_are_there_and_nothing_else_can_be_named():
    assert {"sandbox", "stripe"} <= set(plug_names(adapters))
    for name in ("", "__init__", "../model", "sandbox.x", "SANDBOX", "errors"):
        assert load_plug(adapters, name) is None


def test_it_says_whether_what_it_opens_must_be_kept(adapter: ModuleType):
    assert isinstance(adapter.KEEPS_SESSION, bool)


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_has_the_five_functions_with_these_parameters(name: str, adapter: ModuleType):
    signature = inspect.signature(getattr(adapter, name))
    assert list(signature.parameters) == PARAMETERS[name]
    assert signature.return_annotation == ANSWERS[name]


def test_it_says_what_it_is(adapter: ModuleType):
    assert len((adapter.__doc__ or "").splitlines()) > 3


def test_it_reads_no_clock_writes_no_log_and_knows_no_order(adapter: ModuleType):
    """It may not even import what it must not touch: time is an argument, orders are the caller's business."""
    tree = ast.parse(Path(inspect.getsourcefile(adapter) or "").read_text())
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
    ]
    assert [name for name in imported if name in FORBIDDEN or name.startswith(FORBIDDEN[:4])] == []
    assert [name for name in imported if name in ("time", "datetime", "logging", "chalicelib.edge.observe")] == []


@pytest.mark.parametrize("headers", [{}, {"stripe-signature": "t=1,v1=00", "sandbox-signature": "t=1,v1=00"}])
@pytest.mark.parametrize("raw_body", [b"", b"{}", b"\xff", b"a" * 100_000])
def test_it_refuses_what_it_cannot_verify_and_nothing_else_happens(
    headers: dict, raw_body: bytes, adapter: ModuleType, stack: str
):
    with pytest.raises(BadNotice):
        adapter.read_notice(headers, raw_body, 1)


def test_it_knows_nothing_of_a_payment_that_never_was(adapter: ModuleType, stack: str, monkeypatch: pytest.MonkeyPatch):
    order_id = "ord_0000000000000000"
    payment = Payment(payment_id_for(order_id), order_id, 1, "CNY", "x", 1, "https://pay.example")
    monkeypatch.setattr(secrets, "_kept", {})
    assert adapter.find(payment).state in ("unpaid", "unknown")
    assert adapter.refund(payment, "rf_1", 1, 1).state in ("failed", "unknown")
    found = adapter.find_refund(payment, "rf_1")
    assert found is None or found.state == "unknown"
