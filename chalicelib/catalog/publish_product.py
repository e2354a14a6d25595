"""Create and change products. Called by the operator's routes; never touches stock."""

from __future__ import annotations

from typing import Any

from chalicelib.catalog import store
from chalicelib.catalog.errors import IllegalStatus
from chalicelib.catalog.model import NewProduct, ProductChange
from chalicelib.catalog.rules import changed_product, may_become


def create_product(wanted: NewProduct, product_id: str, now: int) -> dict[str, Any]:
    """A new draft under the given id; a repeat answers the product that the first created."""
    product = {
        **wanted.model_dump(), "product_id": product_id, "status": "draft", "created_at": now, "updated_at": now, "v":
        1,
    }  # fmt: skip
    return product if store.put_product(product) else store.get_product(product_id)


def change_product(product_id: str, change: ProductChange, now: int) -> dict[str, Any]:
    """Apply the members that were sent.

    Raises: catalog.product_not_found, catalog.illegal_status, catalog.product_changed
    """
    product = store.get_product(product_id)
    # None at the top means 'left out'; inside a member (delivery without a delay) it is part of what was sent.
    changes = {name: value for name, value in change.model_dump().items() if value is not None}
    if not may_become(product["status"], changes.get("status", product["status"])):
        raise IllegalStatus(field="status")
    changed = changed_product(product, changes, now)
    store.save_product(product, changed)
    return changed
