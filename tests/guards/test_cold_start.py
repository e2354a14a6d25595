"""What a function loads before its first call. Each is imported in a fresh process, as a new Lambda copy does."""

import subprocess
import sys
from functools import cache

import pytest

from tests.guards.source import ROOT, modules, own_imports

_LOADED = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sorted(sys.modules))"
_NOTICE_PATH = """
import os, sys
os.environ["SANDBOX"] = "on"
import app, chalicelib.payments.receive_notice
from chalicelib.payments.errors import BadNotice
from chalicelib.payments.model import Account
from chalicelib.payments.providers import adapter_named
adapter = adapter_named(sys.argv[1])
print(*sorted(sys.modules))
try:
    if sys.argv[1] != "sandbox":  # its key is derived from a stored secret
        adapter.read_notice(Account(sys.argv[1]), {}, b"{}", 0)
except BadNotice:
    pass
print(*sorted(sys.modules))
"""
NEVER = {"boto3", "cryptography", "jinja2", "requests", "moto", "pytest", "email_validator", "aws_xray_sdk"}
PROVIDERS = sorted(name.rpartition(".")[2] for name in modules() if name.startswith("payments.adapters."))
WORKERS = sorted(f"chalicelib.{name}" for name in modules() if name.endswith(".workers"))


@cache
def loaded_by(module):
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, module], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("function", ["app", *WORKERS])
def test_nothing_heavy_is_loaded_that_only_some_calls_need(function):
    assert loaded_by(function) & NEVER == set()


def test_the_api_loads_no_use_case_and_no_words_until_a_call_needs_them():
    loaded = loaded_by("app")
    lazy = {"chalicelib.checkout.place_order", "chalicelib.edge.openapi", "chalicelib.pages.words",
            "chalicelib.payments.receive_notice", "chalicelib.fulfilment.reveal"}  # fmt: skip
    assert all(name.removeprefix("chalicelib.") in modules() for name in lazy)
    assert loaded & lazy == set()


@pytest.mark.parametrize("function", ["app", *WORKERS])
def test_no_provider_is_loaded_before_it_is_used(function):
    assert foreign_to(loaded_by(function), provider=None) == set()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_notice_path_loads_the_code_of_the_provider_that_is_used_and_of_no_other(provider):
    done = subprocess.run(
        [sys.executable, "-c", _NOTICE_PATH, provider], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    found, read = [set(line.split()) for line in done.stdout.splitlines()]
    assert f"chalicelib.payments.adapters.{provider}" in found, "it is loaded when it is used"
    assert found & NEVER == set(), "and its cryptography only when there is something to check"
    assert foreign_to(read, provider) == set()


def foreign_to(loaded, provider):
    """Of the modules loaded, those that only other providers use: their adapters, and what only those import. The
    sandbox has routes of its own, so it and what it imports belong to everybody."""
    imported = {name: own_imports(name) for name in modules()}
    adapters = {f"payments.adapters.{name}" for name in PROVIDERS}
    everybody = set().union(*(imported[name] for name in imported.keys() - adapters))
    for name in adapters:
        if name in everybody or name == f"payments.adapters.{provider}":
            everybody |= {name, *imported[name]}
    foreign = adapters.union(*(imported[name] for name in adapters)) - everybody
    assert len(foreign) >= len(PROVIDERS) - 2, "there is something to be found"
    return {name.removeprefix("chalicelib.") for name in loaded} & foreign


@pytest.mark.parametrize("function", WORKERS)
def test_a_worker_never_loads_the_http_edge(function):
    assert loaded_by(function) & {"app", "chalicelib.edge.http", "chalicelib.edge.auth"} == set()
