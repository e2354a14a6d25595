"""Showing keys: only what was handed out, not too often, and the first time counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.fulfilment.errors import NotDelivered, RevealedTooOften
from chalicelib.fulfilment.rules import MAX_REVEALS, WINDOW_SECONDS, check_reveal, locked
from chalicelib.orders.model import Line, Order

NOW = 1_772_323_200
LINE = Line(1, "prd_1", "x", 1, 100, "auto", 0, 60, extents=(("lot", 1, 1),), delivered_at=NOW)
ORDER = Order("ord_" + "0" * 16, "s", "m", NOW, NOW, 100, "CNY", "sandbox", (LINE,), {}, "h", ("t",), paid_at=NOW)


@pytest.mark.parametrize(
    "order",
    [
        replace(ORDER, lines=(replace(LINE, delivered_at=None),)),
        replace(ORDER, lines=(replace(LINE, refund_no=1),)),
        replace(ORDER, review="wrong_amount"),
    ],
    ids=["not handed out", "refund begun", "under review"],
)
def test_keys_that_are_nobodys_to_see(order):
    with pytest.raises(NotDelivered):
        check_reveal(order, NOW)


def test_only_handed_out_lines_are_shown():
    other = replace(LINE, line_id=2, delivered_at=None)
    assert check_reveal(replace(ORDER, lines=(LINE, other)), NOW) == [LINE]


def test_the_throttle_counts_reveals_of_the_last_ten_minutes():
    often = replace(ORDER, reveals=(NOW,) * MAX_REVEALS)
    with pytest.raises(RevealedTooOften):
        check_reveal(often, NOW + WINDOW_SECONDS - 1)
    assert check_reveal(often, NOW + WINDOW_SECONDS) == [LINE]
    assert locked(often, [LINE], NOW + WINDOW_SECONDS, "key").reveals == (NOW + WINDOW_SECONDS,)


def test_the_first_reveal_is_remembered_and_the_next_ones_only_counted():
    first = locked(ORDER, [LINE], NOW, "key")
    again = locked(first, list(first.lines), NOW + 5, "key")
    assert (first.lines[0].revealed_at, again.lines[0].revealed_at) == (NOW, NOW)
    assert (len(first.history), len(again.history), again.version) == (1, 1, 3)
    assert again.reveals == (NOW, NOW + 5)
