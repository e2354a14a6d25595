"""What adapters keep in memory (tokens, certificates) is kept by address, and a test's server may get the port of
another test's: every test begins with nothing remembered.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.core.plugs import load_plug, plug_names
from chalicelib.payments import adapters


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    for name in plug_names(adapters):
        for member, kept in vars(load_plug(adapters, name)).items():
            if member.startswith("_") and not member.startswith("__") and member.islower() and isinstance(kept, dict):
                kept.clear()
    yield
