"""A demo shop, made once: an operator key, a shop key, three products on sale with keys in stock.

Products and keys come in through the HTTP API like anybody's; only the two API keys are issued directly, as `make
api-key` does.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from chalicelib.accounts.api_keys import issue_api_key
from infra.local.api import Api, Failed, import_keys

SHOP = "demo"
KEYS_EACH = 200
PRODUCTS = (
    {"name": "Star Voyage 月卡", "price_minor": 3000, "currency": "CNY", "key_fields": [{"name": "code"}]},
    {
        "name": "Cloud Music gift card",
        "price_minor": 999,
        "currency": "USD",
        "key_fields": [{"name": "card_number"}, {"name": "password"}],
    },
    {
        "name": "Office licence, sent 5 minutes after payment",
        "price_minor": 19900,
        "currency": "CNY",
        "key_fields": [{"name": "code"}],
        "delivery": {"mode": "delayed", "delay_minutes": 5},
    },
)


def ensure_credentials(path: Path, base_url: str) -> dict[str, str]:
    """The keys in `.local/credentials.json`, issued when there are none; the address is brought up to date."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        found = {}
    if not found.get("operator_key") or not found.get("shop_key"):
        now = int(time.time())
        found["operator_key"] = issue_api_key("operator", now, label="make run")
        found["shop_key"] = issue_api_key("shop", now, shop_id=SHOP, label="make run")
    found["base_url"] = base_url
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(found, indent=2) + "\n")
    return found


def seed_once(marker: Path, credentials: dict[str, str], say: Callable[[str], None]) -> None:
    """Create the demo products and their keys unless an earlier run did; an interrupted run is taken up again."""
    if marker.exists():
        return
    operator = Api(credentials["base_url"], credentials["operator_key"])
    for number, product in enumerate(PRODUCTS, 1):
        say(f"seeding {number}/{len(PRODUCTS)}: {product['name']}")
        made = operator.post("/v1/products", product, idempotency_key=f"seed-product-{number}")
        fields = [field["name"] for field in product["key_fields"]]
        done = import_keys(operator, made["product_id"], csv_of_keys(fields, KEYS_EACH), "seed.csv")
        if done["status"] != "completed":
            raise Failed(f"the seed import ended as {done['status']}")
        operator.patch(f"/v1/products/{made['product_id']}", {"status": "on_sale"})
    marker.write_text("done\n")


def csv_of_keys(fields: list[str], count: int) -> bytes:
    """A file of random keys, as a supplier would send it."""
    lines = [",".join(fields)]
    lines += [",".join(f"{secrets.token_hex(8).upper()}" for _ in fields) for _ in range(count)]
    return "\n".join(lines).encode() + b"\n"
