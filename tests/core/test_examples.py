"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import chalicelib

MODULES = [
    found.name
    for found in pkgutil.walk_packages(chalicelib.__path__, "chalicelib.")
    if not found.ispkg and not found.name.endswith((".routes", "_routes", ".workers"))
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name):
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.failed == 0


def test_there_are_examples_to_run():
    assert sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES) >= 15
