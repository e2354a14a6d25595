"""Checkout decisions; pure: which lines, at which total, under which terms."""

from __future__ import annotations

import hashlib
from typing import Any

from chalicelib.catalog.errors import NotOnSale
from chalicelib.checkout.model import PlaceOrder
from chalicelib.core.money import MAX_MINOR
from chalicelib.orders.errors import MixedCurrencies, TotalChanged, TotalTooLarge
from chalicelib.orders.model import Attempt, Happening, Line, Order


def merged_quantities(wanted: PlaceOrder) -> dict[str, int]:
    """Quantity per product, in the order first named: the same product twice is one line.

    Example:
        >>> from chalicelib.checkout.model import WantedLine, WantedPayment
        >>> twice = [WantedLine(product_id="a", quantity=1), WantedLine(product_id="a", quantity=2)]
        >>> merged_quantities(PlaceOrder(merchant_order_no="1", lines=twice, payment=WantedPayment(provider="x")))
        {'a': 3}
    """
    quantities: dict[str, int] = {}
    for line in wanted.lines:
        quantities[line.product_id] = quantities.get(line.product_id, 0) + line.quantity
    return quantities


def body_hash(wanted: PlaceOrder) -> str:
    """What makes two requests the same purchase: 96 bits of the validated body."""
    told = wanted.model_dump_json(exclude={"payment": {"payer_session"}})
    return hashlib.sha256(told.encode()).hexdigest()[:24]


def price_lines(quantities: dict[str, int], products: dict[str, dict[str, Any]]) -> list[Line]:
    """The lines of the order, each under its product's present terms.

    Raises: catalog.not_on_sale, orders.mixed_currencies
    """
    lines = []
    for line_id, (product_id, quantity) in enumerate(quantities.items(), start=1):
        product = products[product_id]
        if product["status"] != "on_sale":
            raise NotOnSale(field=f"lines.{line_id - 1}.product_id")
        lines.append(
            Line(
                line_id=line_id,
                product_id=product_id,
                name=product["name"],
                quantity=quantity,
                unit_price_minor=product["price_minor"],
                mode=product["delivery"]["mode"],
                delay_minutes=product["delivery"]["delay_minutes"] or 0,
                refund_window_minutes=product["refund_policy"]["window_minutes"],
            )
        )
    if len({products[line.product_id]["currency"] for line in lines}) > 1:
        raise MixedCurrencies(field="lines")
    return lines


def total_of(lines: list[Line], expected_total_minor: int | None) -> int:
    """The sum of the lines, minor units.

    Raises: orders.total_too_large, orders.total_changed
    """
    total_minor = sum(line.total_minor for line in lines)
    if total_minor > MAX_MINOR:
        raise TotalTooLarge(field="lines")
    if expected_total_minor is not None and expected_total_minor != total_minor:
        raise TotalChanged(f"The total is {total_minor} now, not the expected one.", field="expected_total_minor")
    return total_minor


def new_order(
    wanted: PlaceOrder, lines: list[Line], products: dict[str, dict[str, Any]], *, order_id: str, shop_id: str,
    take_id: str, now: int, by: str, attempt: Attempt,
) -> Order:  # fmt: skip
    """The order as it will be written; held until the shortest hold of its products ends."""
    hold_minutes = min(products[line.product_id]["hold_minutes"] for line in lines)
    return Order(
        order_id=order_id,
        shop_id=shop_id,
        merchant_order_no=wanted.merchant_order_no,
        created_at=now,
        expires_at=now + hold_minutes * 60,
        total_minor=total_of(lines, wanted.expected_total_minor),
        currency=products[lines[0].product_id]["currency"],
        provider=attempt.provider,
        method=attempt.method,
        account_id=attempt.account_id,
        payer_id=attempt.payer_id,
        lines=tuple(lines),
        buyer=wanted.buyer.model_dump(exclude_none=True),
        body_hash=body_hash(wanted),
        takes=(take_id,),
        return_url=wanted.payment.return_url,
        history=(Happening(now, "pending_payment", by),),
    )
