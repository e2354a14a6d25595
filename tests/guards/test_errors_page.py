"""docs/errors.md lists exactly the refusals there are: code, status and retry as the classes say."""

import importlib
import re

import pytest

from chalicelib.core.errors import Refused
from tests.guards.source import ROOT, modules

ROW = re.compile(r"^\| `([a-z_]+\.[a-z_]+)` \| (\d{3}) \| (\w+) \|(.+)\|$", re.M)


@pytest.fixture(scope="module")
def refusals():
    for name in modules():
        if name.endswith("errors"):
            importlib.import_module(f"chalicelib.{name}")
    found, queue = {("Refused", "core"): Refused}, [Refused]
    while queue:
        for one in queue.pop().__subclasses__():
            if one.__module__.startswith("chalicelib."):
                found[one.__name__, one.__module__] = one
                queue.append(one)
    return list(found.values())


@pytest.fixture(scope="module")
def page():
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    return {code: (int(status), retry, rest) for code, status, retry, rest in ROW.findall(text)}


def test_the_page_and_the_classes_name_the_same_codes(refusals, page):
    assert sorted(page) == sorted({one.code for one in refusals})


def test_status_and_retry_are_those_of_the_classes(refusals, page):
    assert {code: row[:2] for code, row in page.items()} == {one.code: (one.status, one.retry) for one in refusals}


def test_each_row_says_what_it_means_what_to_do_and_what_support_checks(page):
    assert page
    for code, (_, _, rest) in page.items():
        cells = [cell.strip() for cell in rest.split(" | ")]
        assert len(cells) == 3 and all(len(cell) > 8 for cell in cells), code


def test_a_code_belongs_to_one_class_and_begins_with_its_domain(refusals):
    codes = [one.code for one in refusals]
    assert sorted(codes) == sorted(set(codes))
    domains = {"core": {"request", "service"}, "edge": {"request", "auth", "service"}}
    for one in refusals:
        domain = one.__module__.split(".")[1]
        assert one.code.partition(".")[0] in domains.get(domain, {domain}), one.code


def test_refusals_are_declared_only_in_files_of_errors(refusals):
    assert {one.__module__ for one in refusals if not one.__module__.endswith("errors")} == set()


def test_a_status_and_its_retry_make_sense_together(refusals):
    for one in refusals:
        assert 400 <= one.status <= 599, one.code
        assert one.retry in ("never", "same_request", "later"), one.code
        assert one.sentence.endswith("."), one.code
