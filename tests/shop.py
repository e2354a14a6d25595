"""A shop in a few words, for tests: put keys in stock, place, pay, look. Everything goes through the real functions."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any

from chalicelib.aws.sealing import new_data_key, seal_page
from chalicelib.aws.transact import transact
from chalicelib.catalog import store as catalog
from chalicelib.catalog.model import NewProduct
from chalicelib.catalog.publish_product import create_product
from chalicelib.checkout.model import PlaceOrder
from chalicelib.checkout.place_order import place_order
from chalicelib.core.ids import new_id, payment_id_for
from chalicelib.inventory import memory
from chalicelib.inventory import store as inventory
from chalicelib.inventory.model import Lot
from chalicelib.inventory.rules import shelves_for
from chalicelib.keys import store as keys
from chalicelib.orders.model import Order
from chalicelib.payments import account_store
from chalicelib.payments.model import Notice
from chalicelib.payments.receive_notice import receive_notice

SHOP = "shop_demo"
BASE_URL = "http://127.0.0.1:9"
_numbers = count(1)


def make_product(now: int, *, keys_in_stock: int = 0, expires_at: int | None = None, **members: Any) -> str:
    """A product on sale, with that many sealed keys in stock; returns its id."""
    wanted = NewProduct.model_validate({"name": "月卡 Month card", "price_minor": 990, "currency": "CNY", **members})
    product = create_product(wanted, new_id("prd", now), now)
    catalog.save_product(product, {**product, "status": "on_sale", "v": 2})
    if keys_in_stock:
        add_keys(product["product_id"], keys_in_stock, now, expires_at=expires_at)
    return product["product_id"]


def add_keys(product_id: str, quantity: int, now: int, *, expires_at: int | None = None, sealed: bool = True) -> str:
    """Put keys `KEY-<lot>-<number>` in stock as one lot; returns the lot id."""
    lot_id = new_id("lot", now)
    shards, return_shards = shelves_for(quantity)
    lot = Lot(lot_id, product_id, shards, return_shards, expires_at)
    inventory.open_lot(lot, now)
    if sealed:
        data_key = new_data_key(product_id, lot_id)
        plain = [{"code": plain_key(lot_id, number)} for number in range(quantity)]
        pages = [
            (page, seal_page(product_id, lot_id, page, plain[page * 16 : page * 16 + 16], data_key))
            for page in range((quantity + 15) // 16)
        ]
        keys.put_pages(lot_id, pages, data_key.wrapped)
    for start in range(0, quantity, 1000):
        transact(inventory.add_keys_writes(lot, start, min(1000, quantity - start)))
    return lot_id


def plain_key(lot_id: str, number: int) -> str:
    return f"KEY-{lot_id}-{number:07d}"


def wish(lines: dict[str, int], *, number: str | None = None, provider: str = "sandbox", **members: Any) -> PlaceOrder:
    """The body of a purchase: {product_id: quantity}."""
    return PlaceOrder.model_validate({
        "merchant_order_no": number or f"M{next(_numbers)}",
        "lines": [{"product_id": product_id, "quantity": quantity} for product_id, quantity in lines.items()],
        "payment": {"provider": provider},
        **members,
    })  # fmt: skip


def open_account(provider: str, *, settings: dict | None = None, secrets: dict | None = None, now: int = 0) -> str:
    """A payment account of the demo shop, switched on, as the operator's calls would leave it; returns its id."""
    account_id = account_store.account_id_for(SHOP, provider, "test")
    account_store.put_secrets(account_id, secrets or {}, [])
    account_store.put_account({
        "account_id": account_id, "shop_id": SHOP, "provider": provider, "mode": "test", "status": "on",
        "settings": settings or {}, "secret_names": sorted(secrets or {}), "v": 1, "created_at": now,
        "updated_at": now, "changes": [],
    })  # fmt: skip
    return account_id


def place(lines: dict[str, int], now: int, **members: Any) -> Order:
    return place_order(wish(lines, **members), shop_id=SHOP, by="key_test", now=now)[0]


def paid_notice(order: Order, *, event_id: str | None = None, **members: Any) -> Notice:
    """What the sandbox says when the order was paid, unless members say otherwise."""
    payment_id = payment_id_for(order.order_id)
    facts = {
        "provider": "sandbox", "event_id": event_id or f"evt_{payment_id}", "kind": "paid", "payment_id": payment_id,
        "provider_txn": f"txn_{payment_id}", "amount_minor": order.total_minor, "currency": order.currency,
    }  # fmt: skip
    return Notice(**{**facts, **members})


def pay(order: Order, now: int, **members: Any) -> None:
    """The provider has the money in its books and tells us."""
    receive_notice(paid_notice(order, provider_txn=capture(order, now), **members), now)


def capture(order: Order, now: int) -> str:
    """The buyer paid at the sandbox and nobody has been told; returns the sandbox's number of the money."""
    from chalicelib.payments import sandbox_store

    return sandbox_store.capture(payment_id_for(order.order_id), order.total_minor, order.currency, now).txn


def stock_of(product_id: str, now: int) -> SimpleNamespace:
    memory.forget_hints()
    stock = inventory.read_stock(product_id, now)
    return SimpleNamespace(
        **{name: getattr(stock, name)
           for name in ("imported", "available", "held", "sold", "expired", "disabled", "quarantined")}
    )  # fmt: skip
