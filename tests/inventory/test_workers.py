"""The timers, as the scheduler calls them: with nothing but an event, and twice."""

from __future__ import annotations

import pytest

from chalicelib.inventory import store, workers
from chalicelib.inventory.rules import GRACE_SECONDS
from tests.inventory.conftest import PRODUCT, place, stock, take

pytestmark = pytest.mark.usefixtures("stack")
_EVENT = {
    "version": "0", "account": "", "region": "us-east-1", "detail": {}, "detail-type": "Scheduled Event",
    "source": "aws.events", "time": "2026-03-01T00:00:00Z", "id": "1", "resources": [],
}  # fmt: skip


def test_the_timer_returns_abandoned_keys(clock):
    stock(300)
    take(5, now=clock.at)
    clock.advance(GRACE_SECONDS)
    for _ in range(2):
        workers.every_minute_sweep_takes(_EVENT, None)
        assert store.read_stock(PRODUCT, clock.at).available == 300


def test_the_timer_counts_held_keys_without_any_stream(clock):
    stock(300)
    place(take(5, now=clock.at), expires_at=clock.at + 900)
    for _ in range(2):
        workers.every_minute_recount_held(_EVENT, None)
        figures = store.read_stock(PRODUCT, clock.at)
        assert (figures.available, figures.held, figures.sold) == (295, 5, 0)
