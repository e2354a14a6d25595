"""Issue and revoke API keys: `kf_operator_…` for operators, `kf_shop_…` for shops. Several may live at once, so keys
rotate.

Called by the operator's command line (`make api-key`) and by the local seed. The plain key is returned once and stored
nowhere.
"""

from __future__ import annotations

import hashlib
import secrets

from chalicelib.accounts import store
from chalicelib.core.ids import new_id

SCOPES = ("operator", "shop")


def issue_api_key(scope: str, now: int, *, shop_id: str | None = None, label: str = "") -> str:
    """A new key, 192 random bits. A shop key needs its shop.

    Raises: ValueError for an unknown scope, or a shop key without a shop.
    """
    if scope not in SCOPES or (scope == "shop") != (shop_id is not None):
        raise ValueError("scope is 'operator' (without a shop) or 'shop' (with one)")
    plain_key = f"kf_{scope}_{secrets.token_urlsafe(24)}"
    if shop_id:
        store.put_shop(shop_id, shop_id, now)
    store.put_api_key(_digest(plain_key), key_id=new_id("key", now), scope=scope, shop_id=shop_id, label=label, now=now)
    return plain_key


def revoke_api_key(plain_key: str) -> None:
    """Switch off a key, given the key itself."""
    store.revoke_api_key(_digest(plain_key))


def _digest(plain_key: str) -> str:
    return hashlib.sha256(plain_key.encode()).hexdigest()
