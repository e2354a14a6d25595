"""The buyer's order token: an order's id and a 130-bit code that only this deployment can compute.

It opens one order's page and calls, nothing else. It is derived, not stored: the database holds nothing that opens an
order.
"""

from __future__ import annotations

import hashlib
import hmac

from chalicelib.aws.secrets import derived_key
from chalicelib.core.ids import is_id, to_base32

_CODE_LENGTH = 26


def order_token(order_id: str) -> str:
    """The token of an order, 42 characters."""
    digest = hmac.digest(derived_key("order-token"), order_id.encode(), hashlib.sha256)
    return order_id.removeprefix("ord_") + to_base32(int.from_bytes(digest, "big"), _CODE_LENGTH)


def order_id_of_token(token: str) -> str | None:
    """The order a token opens, or None. Compared in constant time; every wrong token looks the same."""
    order_id = "ord_" + token[:-_CODE_LENGTH]
    if not is_id("ord", order_id) or not token.isascii():
        return None
    return order_id if hmac.compare_digest(token, order_token(order_id)) else None
