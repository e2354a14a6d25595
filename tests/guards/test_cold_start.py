"""What a function loads before its first call. Each is imported in a fresh process, as a new Lambda copy does."""

import subprocess
import sys

import pytest

from tests.guards.source import ROOT, modules

_LOADED = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sorted(sys.modules))"
NEVER = {"boto3", "cryptography", "jinja2", "requests", "moto", "pytest", "email_validator", "aws_xray_sdk"}
WORKERS = sorted(f"chalicelib.{name}" for name in modules() if name.endswith(".workers"))


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
            "chalicelib.payments.receive_notice", "chalicelib.payments.adapters.stripe",
            "chalicelib.fulfilment.reveal"}  # fmt: skip
    assert all(name.removeprefix("chalicelib.") in modules() for name in lazy)
    assert loaded & lazy == set()


@pytest.mark.parametrize("function", WORKERS)
def test_a_worker_never_loads_the_http_edge(function):
    assert loaded_by(function) & {"app", "chalicelib.edge.http", "chalicelib.edge.auth"} == set()
