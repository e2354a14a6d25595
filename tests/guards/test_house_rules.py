"""Rules of the house that can be read off the text: nothing scans, deletes or prints; stores say what they touch."""

import ast
import re

import pytest

from tests.guards.source import ROOT, is_store, modules, tree_of

FORBIDDEN_FILE_NAMES = {"util", "utils", "helper", "helpers", "common", "base", "manager", "service", "handler", "misc"}
STATED = re.compile(r"Access:|Only if:|Access as|Refused:")
STORES = sorted(name for name in modules() if is_store(name))


def calls_of(name):
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Call)
    }


def public_functions(name):
    return [node for node in tree_of(name).body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


@pytest.mark.parametrize("name", sorted(modules()))
def test_the_table_is_never_scanned_and_no_row_is_ever_deleted(name):
    assert calls_of(name) & {"scan", "delete_item", "execute_statement", "batch_execute_statement"} == set()
    text = modules()[name].read_text("utf-8")
    assert not re.search(r"""["'](Delete|DeleteRequest)["']\s*:""", text)


def test_no_role_may_scan_or_delete_rows_either():
    policies = "".join(path.read_text("utf-8") for path in [*ROOT.glob("infra/*.yaml"), *ROOT.glob(".chalice/*.json")])
    assert "dynamodb:" in policies
    assert re.findall(r"dynamodb:(?:Scan|DeleteItem|PartiQL\w+|\*)", policies) == []


@pytest.mark.parametrize("name", sorted(modules()))
def test_nothing_prints(name):
    assert "print" not in calls_of(name)


@pytest.mark.parametrize("name", sorted(modules()))
def test_no_file_is_named_for_nothing_and_each_says_what_it_is(name):
    assert name.rpartition(".")[2] not in FORBIDDEN_FILE_NAMES
    assert ast.get_docstring(tree_of(name)), "a module says what it is and what it never does"


@pytest.mark.parametrize("name", STORES)
def test_every_function_of_a_store_states_its_table_access(name):
    silent = [
        one.name
        for one in public_functions(name)
        if _touches_table(one) and not STATED.search(ast.get_docstring(one) or "")
    ]
    assert silent == []


def _touches_table(function):
    return any(
        isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) in ("dynamodb", "transact", "Write")
        for node in ast.walk(function)
    )


@pytest.mark.parametrize(
    "package", sorted((ROOT / "chalicelib").glob("*/__init__.py")), ids=lambda path: path.parent.name
)
def test_package_files_stay_empty(package):
    """A worker's cold start imports them."""
    assert package.read_text().strip() == ""
