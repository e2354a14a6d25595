"""The budgets of a sale in DynamoDB requests and write units: counted, never timed, so every machine agrees."""

from __future__ import annotations

import pytest

from benchmarks import providers, steps
from benchmarks.meter import Meter
from benchmarks.shop import Shop, remembering
from benchmarks.sizes import index_units, row_bytes, write_units


@pytest.fixture
def shop(stack, monkeypatch):
    monkeypatch.setenv("BASE_URL", "https://api.shop.example.com")
    with remembering():
        yield Shop()


def over(costs):
    return [
        f"{cost.name}: {cost.requests:g} requests, {cost.write_units:g} write units, allowed {cost.budget}"
        for cost in costs
        if not cost.is_kept
    ]


def test_every_step_of_a_sale_is_within_its_budget(shop):
    product_id, sealed_id = shop.product(1_000), shop.product(64, sealed=True)
    costs = [*steps.sale(shop, product_id, sealed_id), *steps.closings(shop, product_id, batches=(10,))]
    assert {cost.name for cost in costs} >= {"checkout, 1 line of 20", "notice -> delivered", "refund"}
    assert over(costs) == []


def test_a_process_that_remembers_nothing_is_within_the_budget_too(shop):
    product_id = shop.product(1_000)
    assert over([*steps.idle(shop, product_id), *steps.stock(shop, product_id)]) == []


def test_large_and_mixed_orders_are_within_their_budget(shop):
    trio = [shop.product(100) for _ in range(3)]
    assert over([*steps.three_lines(shop, trio), *steps.wholesale(shop, shop.product(20_000))]) == []


def test_a_refusal_for_want_of_stock_is_cheap(shop):
    assert over(steps.sold_out(shop, answers=30)) == []


def test_an_import_is_within_its_budget_per_key(shop):
    assert over(cost for cost in steps.imported(shop, 64) if "KMS" not in cost.name) == []


def test_checkouts_and_notices_of_every_provider_are_within_their_budget(shop):
    with providers.other_side(shop) as side:
        costs = [*providers.sales(side), *providers.later_words(side), *providers.balance_and_ledger(side)]
    assert {cost.name for cost in costs} >= {f"{name}: checkout" for name in (*providers.PROVIDERS, "sandbox")}
    assert [cost.name for cost in costs if cost.budget == steps.Budget()] == []
    assert over(costs) == []


def test_the_meter_counts_what_the_rules_say(shop):
    product_id = shop.product(10)
    shop.place({product_id: 1})
    with Meter() as meter:
        order = shop.place({product_id: 1})
    assert dict(meter.operations) == {"UpdateItem": 1, "PutItem": 1}
    shelf, row = meter.writes
    assert (shelf.key[:2], shelf.units, shelf.index_units) == ("L#", 1, 0)
    assert (row.key, row.units, row.index_units) == (f"O#{order['order_id']}", 1, 1)
    assert 500 < row.size < 1024, "an order looks like a real one and fits into one unit"


def test_a_refused_write_and_a_transaction_are_charged(shop):
    product_id = shop.product(10)
    order = shop.place({product_id: 1})
    notice = shop.notice(order)
    shop.send_notice(notice)
    with Meter() as repeated:
        shop.send_notice(notice)
    assert [(one.is_refused, one.units) for one in repeated.writes] == [(True, 1)]
    with Meter() as refund:
        shop.refund(order)
    assert [one.units for one in refund.writes if one.operation == "TransactWriteItems"] == [2, 2]


def test_sizes_and_units_follow_the_documented_rules():
    small, large = {"pk": {"S": "a"}}, {"pk": {"S": "a"}, "text": {"S": "月" * 400}}
    assert (row_bytes(small), row_bytes(large)) == (3, 1207)
    assert (write_units({}, small), write_units(large, small), write_units({}, {})) == (1, 2, 1)
    due = {"due_pk": {"S": "DUE#x"}, "due_at": {"S": "1"}}
    moved = {**due, "due_at": {"S": "2"}}
    assert [index_units(*pair) for pair in (({}, due), (due, due), (due, moved), (due, {}))] == [1, 0, 2, 1]
