"""Who may import whom, as ARCHITECTURE.md draws it.

core <- model, errors <- rules <- store | adapters <- use-cases <- routes, workers <- app

A file tells its role by its name; a file of another name is thinking (like rules) when it imports nothing that does
input or output, else a use-case.
"""

import pytest

from tests.guards.source import foreign_imports, imports_in, is_store, modules, own_imports, tree_of

CORE, WORDS, RULES, STORE, USE_CASE, DOOR = range(6)
PURE_FOREIGN = {
    "__future__", "base64", "binascii", "collections", "cryptography", "csv", "dataclasses", "datetime", "decimal",
    "functools", "gzip", "hashlib", "hmac", "io", "itertools",
    "json", "math", "pydantic", "random", "re", "string", "threading", "time", "types", "typing",
    "unicodedata", "urllib", "warnings", "zipfile", "zlib", "zoneinfo",
}  # fmt: skip
OUTWARD = ("aws.", "edge.")
# The parts of the edge that are tools rather than the entrance: outgoing HTTP, the log, cursors.
EDGE_TOOLS = {"edge.web", "edge.observe", "edge.cursor", "edge.errors"}

EXCEPTIONS = {
    ("catalog.model", "keys.rules"): "a product's key format is refused where it is written down",
    (
        "payments.adapters.sandbox",
        "payments.sandbox_store",
    ): "the sandbox is a provider that keeps its own books with us",
    ("payments.adapters.balance", "balance.store"): "the balance is a provider whose books are ours",
    ("fulfilment.ask_reveal", "fulfilment.workers"): "stands for the Lambda call where there is no Lambda",
}


def role_of(name, seen=()):
    domain, _, file = name.partition(".")
    if domain == "core":
        return CORE
    if domain in ("aws", "edge"):
        raise AssertionError("aws and edge are beside the line, not on it")
    if file in ("model", "errors"):
        return WORDS
    if file == "rules" or file.startswith("kinds."):
        return RULES
    if is_store(name) or file.startswith("adapters.") or file == "providers":
        return STORE
    if file in ("routes", "workers") or file.endswith("_routes"):
        return DOOR
    return RULES if is_pure(name, seen) else USE_CASE


def is_pure(name, seen=()):
    if name in seen:
        return True
    ours = own_imports(name)
    return (
        not any(one.startswith(OUTWARD) for one in ours)
        and foreign_imports(name) <= PURE_FOREIGN
        and all(role_of(one, (*seen, name)) <= RULES for one in ours)
    )


def on_the_line():
    return [name for name in modules() if not name.startswith(("aws.", "edge."))]


def arrows():
    return [
        (name, other)
        for name in on_the_line()
        for other in sorted(own_imports(name))
        if (name, other) not in EXCEPTIONS
    ]


def test_every_import_between_files_of_a_domain_goes_left_or_stays_level():
    wrong = [
        f"{name} imports {other}"
        for name, other in arrows()
        if not other.startswith(OUTWARD) and role_of(other) > role_of(name)
    ]
    assert wrong == []


def test_no_file_imports_in_a_circle():
    def reach(name, path):
        if name in path:
            return [*path[path.index(name) :], name]
        for other in sorted(own_imports(name, at_top=True)):
            if circle := reach_once(other, [*path, name]):
                return circle
        return None

    done = set()

    def reach_once(name, path):
        if name in done:
            return None
        found = reach(name, path)
        if found is None:
            done.add(name)
        return found

    assert [circle for name in modules() if (circle := reach_once(name, []))] == []


def test_core_knows_nothing_of_the_rest():
    assert {name: own_imports(name) for name in modules() if name.startswith("core.")} == {
        name: {one for one in own_imports(name) if one.startswith("core.")}
        for name in modules()
        if name.startswith("core.")
    }


def test_errors_know_only_core():
    wrong = {
        (name, other)
        for name in modules()
        if name.endswith("errors")
        for other in own_imports(name)
        if not other.startswith("core.")
    }
    assert wrong == set()


def test_a_use_case_never_imports_another_domains_use_case():
    wrong = [
        f"{name} imports {other}"
        for name, other in arrows()
        if not other.startswith(OUTWARD)
        and role_of(name) == role_of(other) == USE_CASE
        and name.partition(".")[0] != other.partition(".")[0]
    ]
    assert wrong == []


def test_stores_and_adapters_never_import_each_other():
    """`providers` is where they meet: it finds the adapter and the account to use it with."""

    def is_adapter(name):
        return ".adapters." in name

    wrong = [
        f"{name} imports {other}"
        for name, other in arrows()
        if (is_store(name) and (is_adapter(other) or other.endswith(".providers")))
        or (is_adapter(name) and is_store(other))
    ]
    assert wrong == []


def test_only_stores_use_cases_and_doors_reach_aws():
    wrong = [
        f"{name} imports {other}" for name, other in arrows() if other.startswith("aws.") and role_of(name) < STORE
    ]
    assert wrong == []


def test_the_entrance_is_for_doors_alone():
    """Use-cases may log, page and call out; what an HTTP call or a message looks like is not their business."""
    wrong = [
        f"{name} imports {other}"
        for name, other in arrows()
        if other.startswith("edge.") and role_of(name) < DOOR and not (other in EDGE_TOOLS and role_of(name) >= STORE)
    ]
    assert wrong == []


@pytest.mark.parametrize("side", ["aws", "edge"])
def test_what_stands_beside_the_line_imports_only_words_stores_and_itself(side):
    wrong = [
        f"{name} imports {other}"
        for name in modules()
        if name.startswith(f"{side}.")
        for other in own_imports(name)
        if not other.startswith(OUTWARD) and role_of(other) > (WORDS if side == "aws" else STORE)
    ]
    assert wrong == []


def test_aws_knows_of_the_edge_only_the_log():
    assert {other for name in modules() if name.startswith("aws.") for other in own_imports(name)
            if other.startswith("edge.")} <= {"edge.observe"}  # fmt: skip


def test_rules_touch_neither_network_nor_clock_nor_environment():
    forbidden = {"boto3", "botocore", "chalice", "os", "time", "datetime", "secrets", "socket", "urllib3", "logging"}
    wrong = {}
    for name in modules():
        if name.endswith(".rules"):
            ours = {
                one for one in own_imports(name) if one.startswith(OUTWARD) or one in ("core.clock", "core.settings")
            }
            wrong[name] = ours | (foreign_imports(name) & forbidden)
    assert len(wrong) >= 5
    assert {name: found for name, found in wrong.items() if found} == {}


def test_only_aws_makes_clients():
    sessions = {"boto3", "botocore.session"}
    makers = {name for name in modules() if any(one.startswith(tuple(sessions)) for one in imports_in(tree_of(name)))}
    assert makers == {"aws.clients"}


@pytest.mark.parametrize("arrow", sorted(EXCEPTIONS))
def test_each_exception_is_still_needed(arrow):
    name, other = arrow
    assert other in own_imports(name)
