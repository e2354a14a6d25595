"""The ledger's two calls, for operators only."""

from __future__ import annotations

import pytest

from chalicelib.ledger import prove_ledger as proof
from chalicelib.ledger.post_ledger import post_sets
from chalicelib.ledger.rules import entry_sets
from chalicelib.orders import store as orders
from tests.api import Api
from tests.ledger.books import AT, ORDER, new_order, paid

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def api(clock, monkeypatch):
    monkeypatch.setattr(proof, "FIRST_LOOK_BACK_DAYS", 2)
    order = paid(new_order())
    orders.put_order(order, "t")
    post_sets(entry_sets(order), AT)
    return Api(AT)


def test_a_trial_balance_is_there_after_the_day(api, clock):
    call = "/v1/ledger/trial-balance?day=2026-03-01"
    assert api.operator.get(call).code == "ledger.day_not_proved"
    proof.prove_ledger(clock.advance(86_400 + 3_600))
    found = api.operator.get(call).body
    assert (found["day"], found["is_balanced"], found["sets"]) == ("2026-03-01", True, 3)
    assert sum(one["closing_minor"] for one in found["accounts"]) == 0
    assert {"account": "sales", "currency": "CNY", "opening_minor": 0, "moved_minor": -100, "closing_minor": -100} in (
        found["accounts"]
    )


def test_entries_are_found_by_day_in_pages_and_by_order(api):
    by_order = api.operator.get(f"/v1/ledger/entries?order_id={ORDER}").body
    assert [one["event_id"] for one in by_order["sets"]] == [
        f"delivered:{ORDER}:1", f"delivered:{ORDER}:2", f"paid:{ORDER}"
    ]  # fmt: skip
    assert by_order["sets"][2]["entries"] == [
        {"account": "clearing:sandbox", "amount_minor": 100, "currency": "CNY"},
        {"account": "buyer_money", "amount_minor": -100, "currency": "CNY"},
    ]
    first = api.operator.get("/v1/ledger/entries?day=2026-03-01&limit=2").body
    second = api.operator.get(f"/v1/ledger/entries?day=2026-03-01&limit=2&cursor={first['next_cursor']}").body
    together = [one["event_id"] for one in first["sets"] + second["sets"]]
    assert sorted(together) == [one["event_id"] for one in by_order["sets"]]
    assert second["next_cursor"] is None
    other = f"/v1/ledger/entries?day=2026-03-02&cursor={first['next_cursor']}"
    assert api.operator.get(other).code == "request.bad_cursor"


def test_who_asks_wrongly_or_is_nobody_learns_nothing(api):
    assert api.shop.get(f"/v1/ledger/entries?order_id={ORDER}").code == "auth.not_allowed"
    assert api.shop.get("/v1/ledger/trial-balance?day=2026-03-01").code == "auth.not_allowed"
    assert api.operator.get("/v1/ledger/entries").code == "request.invalid"
    assert api.operator.get(f"/v1/ledger/entries?day=2026-03-01&order_id={ORDER}").code == "request.invalid"
    assert api.operator.get("/v1/ledger/trial-balance?day=2026-02-30").code == "request.invalid"
    assert api.operator.get("/v1/ledger/entries?order_id=ord_0000000000000000").code == "orders.not_found"
