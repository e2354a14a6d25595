"""Three fixtures to learn.

    backend   one embedded backend (ministack) for the whole session, and the environment that points at it
    stack     a stage of its own for one test, from the deployed templates: table, queues, key, secrets, bucket; 0.1 s
    clock     the present instant, held still and moved by hand

Tests of rules need none of them. Tests with threads or processes use `stack`: it is right under concurrency.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import sys
import types
from collections.abc import Iterator

import pytest

from infra.local import stack as templates
from infra.local.backend import Backend

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def backend() -> Iterator[Backend]:
    """The backend's process; ends with the session."""
    running = Backend().start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**running.environment(), "STAGE": "test", "SANDBOX": "on", "REVEAL_FUNCTION": ""}.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture
def stack(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a fresh stage, already in the environment; what was remembered of another one is forgotten."""
    stage = f"t{os.getpid() % 10_000}x{next(_numbers)}"
    templates.deploy_data_and_queues(backend.url, stage)
    monkeypatch.setenv("STAGE", stage)
    forget_everything()
    yield stage
    forget_everything()


class Clock:
    """What `core.clock.now()` answers. `clock.at = …` sets it, `clock.advance(60)` moves it."""

    def __init__(self, at: int):
        self.at = at

    def advance(self, seconds: int) -> int:
        self.at += seconds
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands at 2026-03-01T00:00:00Z until it is moved."""
    held = Clock(1_772_323_200)
    monkeypatch.setattr("chalicelib.core.clock.now", lambda: held.at)
    return held


def forget_everything() -> None:
    """Empty what the product keeps in memory: `functools.cache`s, `forget_…()` functions, remembered callers."""
    for name, module in list(sys.modules.items()):
        if not name.startswith("chalicelib.") or not isinstance(module, types.ModuleType):
            continue
        for member in list(vars(module).values()):
            if getattr(member, "__module__", None) != name:
                continue
            if isinstance(member, functools._lru_cache_wrapper):
                member.cache_clear()
            elif inspect.isfunction(member) and member.__name__.startswith("forget_") and not _takes_arguments(member):
                member()
    if "chalicelib.edge.auth" in sys.modules:
        sys.modules["chalicelib.edge.auth"]._seen.clear()


def _takes_arguments(function: types.FunctionType) -> bool:
    return bool(inspect.signature(function).parameters)
