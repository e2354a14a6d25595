"""Each worker starts as Lambda starts it: its own module in a fresh process, without `app.py`."""

import ast
import subprocess
import sys

import pytest

from tests.guards.source import ROOT, modules, tree_of

WORKERS = sorted(name for name in modules() if name.endswith(".workers"))
_START = """
import importlib, sys
module = importlib.import_module(sys.argv[1])
assert "app" not in sys.modules, "a worker must not need the app"
for name in sys.argv[2:]:
    assert callable(getattr(module, name)), name
print("started")
"""


def handlers(name):
    """The functions of a worker module that Lambda calls: those decorated by its blueprint."""
    return [
        node.name
        for node in tree_of(name).body
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(one).startswith("bp.") for one in node.decorator_list)
    ]


@pytest.mark.parametrize("name", WORKERS)
def test_it_starts_alone_and_its_handlers_are_there(name):
    wanted = handlers(name)
    assert wanted, "a worker module without handlers"
    done = subprocess.run(
        [sys.executable, "-c", _START, f"chalicelib.{name}", *wanted],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "started", done.stderr


@pytest.mark.parametrize("name", WORKERS)
def test_it_never_leans_on_the_app(name):
    """`bp.log` and `bp.current_app` exist only once an app has registered the blueprint: not in a Lambda."""
    used = {node.attr for node in ast.walk(tree_of(name)) if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name) and node.value.id == "bp"}  # fmt: skip
    assert used & {"log", "current_app", "current_request", "lambda_context"} == set()


def test_handler_names_are_unique_and_say_what_they_react_to():
    names = [handler for name in WORKERS for handler in handlers(name)]
    assert sorted(names) == sorted(set(names))
    assert [
        one
        for one in names
        if not one.startswith(("on_", "every_minute_", "every_hour_", "every_day_")) and one != "reveal_keys"
    ] == []
