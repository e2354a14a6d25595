"""Checkout decisions: lines, totals and terms."""

from __future__ import annotations

import pytest

from chalicelib.catalog.errors import NotOnSale
from chalicelib.checkout.rules import body_hash, merged_quantities, new_order, price_lines, total_of
from chalicelib.core.money import MAX_MINOR
from chalicelib.orders.errors import MixedCurrencies, TotalChanged, TotalTooLarge
from chalicelib.orders.model import Attempt
from chalicelib.orders.rules import status_of
from tests import shop

NOW = 1_772_323_200


def a_product(**members):
    return {
        "name": "x", "status": "on_sale", "price_minor": 100, "currency": "CNY", "hold_minutes": 15,
        "delivery": {"mode": "auto", "delay_minutes": None}, "refund_policy": {"window_minutes": 60}, **members,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("products", "refusal", "field"),
    [
        ({"a": a_product(), "b": a_product(status="draft")}, NotOnSale, "lines.1.product_id"),
        ({"a": a_product(status="off_sale"), "b": a_product()}, NotOnSale, "lines.0.product_id"),
        ({"a": a_product(), "b": a_product(currency="USD")}, MixedCurrencies, "lines"),
    ],
)
def test_lines_that_cannot_be_sold(products, refusal, field):
    with pytest.raises(refusal) as refused:
        price_lines({"a": 1, "b": 1}, products)
    assert refused.value.field == field


def test_totals():
    lines = price_lines({"a": 3, "b": 2}, {"a": a_product(), "b": a_product(price_minor=5)})
    assert total_of(lines, None) == total_of(lines, 310) == 310
    with pytest.raises(TotalChanged):
        total_of(lines, 309)
    with pytest.raises(TotalTooLarge):
        total_of(price_lines({"a": 2}, {"a": a_product(price_minor=MAX_MINOR)}), None)


def test_the_shortest_hold_counts_and_terms_are_copied():
    products = {"a": a_product(hold_minutes=30), "b": a_product(delivery={"mode": "delayed", "delay_minutes": 7})}
    wanted = shop.wish({"a": 1, "b": 1}, number="m")
    lines = price_lines(merged_quantities(wanted), products)
    order = new_order(
        wanted,
        lines,
        products,
        order_id="ord_x",
        shop_id="s",
        take_id="t",
        now=NOW,
        by="key",
        attempt=Attempt("sandbox"),
    )
    assert (order.expires_at, order.total_minor, order.takes, status_of(order)) == (
        NOW + 900,
        200,
        ("t",),
        "pending_payment",
    )
    assert [(line.line_id, line.mode, line.delay_minutes) for line in order.lines] == [
        (1, "auto", 0),
        (2, "delayed", 7),
    ]


def test_every_member_of_the_body_makes_another_purchase():
    first = shop.wish({"a": 1}, number="m")
    others = [shop.wish({"a": 2}, number="m"), shop.wish({"b": 1}, number="m"), shop.wish({"a": 1}, number="n"),
              shop.wish({"a": 1}, number="m", buyer={"email": "x@example.com"}),
              shop.wish({"a": 1}, number="m", provider="stripe")]  # fmt: skip
    assert body_hash(shop.wish({"a": 1}, number="m")) == body_hash(first)
    assert body_hash(first) not in {body_hash(other) for other in others}
