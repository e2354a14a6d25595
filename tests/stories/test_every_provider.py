"""Every provider from checkout to the reconciled day, over HTTP both ways: real server, simulated providers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stories.shopfront import Shopfront, fees_of, fetch, held_by, make_keys, open_shopfront, wait_until

# provider, method, currency, what the buyer is given
WAYS = [
    ("stripe", None, "USD", "redirect"),
    ("paypal", None, "USD", "redirect"),
    ("wechat_pay", "native", "CNY", "qr"),
    ("wechat_pay", "h5", "CNY", "redirect"),
    ("wechat_pay", "jsapi", "CNY", "client"),
    ("alipay", "page", "CNY", "redirect"),
    ("alipay", "precreate", "CNY", "qr"),
    ("alipay", "wap", "CNY", "redirect"),
    ("wechat_virtual", "virtual", "CNY", "client"),
]


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def front(backend, stack, keys, tmp_path, monkeypatch) -> Iterator[Shopfront]:
    with open_shopfront(backend, keys, tmp_path, monkeypatch) as opened:
        yield opened


@pytest.mark.parametrize(("provider", "method", "currency", "shows"), WAYS)
def test_from_checkout_to_the_reconciled_day(front, provider, method, currency, shows):
    front.open_account(provider)
    offered = [one for one in front.shop.get("/v1/payment-methods")["methods"] if one["provider"] == provider]
    assert method is None or method in [one["method"] for one in offered]
    assert {one["shows"] for one in offered if method in (None, one["method"])} == {shows}
    product_id = front.product(currency=currency)

    kept = front.order(product_id, provider, method)
    assert kept["status"] == "pending_payment"
    check_how_it_is_paid(kept["payment"], shows)
    front.pay(kept)
    assert front.look(kept)["status"] == "delivered"
    assert len(front.shop.post(f"/v1/orders/{kept['order_id']}/reveal")["keys"]) == 1
    given_back = front.order(product_id, provider, method)
    front.pay(given_back)
    assert front.refund(given_back)["status"] == "refunded"

    record = front.record(given_back)
    assert [(one.amount_minor, one.state) for one in record.refunds] == [(3000, "succeeded")]
    assert front.record(kept).refunds == []
    with front.two_days_later():
        (reconciled,) = one_result(front, provider)
        if provider == "wechat_virtual":  # has no statement to ask for
            assert (reconciled["status"], reconciled["problem"]) == ("waiting", None)
            return
        assert reconciled["status"] == "completed"
        assert {name: count for name, count in reconciled["counts"].items() if count} == {"matched": 3}
        balance = front.trial_balance()
        fees = fees_of(front.world, provider)
        assert fees > 0
        assert balance[f"fees:{provider}:{front.account_ids[provider]}", currency] == fees
        assert front.clearing(balance, provider, currency) == held_by(front.world, provider) == 3000 - fees
        assert (balance["sales", currency], balance["refunds", currency]) == (-6000, 3000)


def check_how_it_is_paid(payment: dict, shows: str) -> None:
    if shows == "client":
        assert payment["client"] and payment["pay_url"] is None and payment["qr_url"] is None
    else:
        assert payment["client"] is None
        assert fetch(payment["pay_url"])[0] == "text/html"
    if shows == "qr":
        kind, image = fetch(payment["qr_url"])
        assert (kind, image[:5]) == ("image/svg+xml", b"<?xml") and b"<svg" in image
        assert payment["qr_text"]


def one_result(front: Shopfront, provider: str) -> list[dict]:
    """The reconciliations of all days on which money moved, as if they were one day."""
    results = front.reconcile(provider)
    if len(results) > 1 and all(one["counts"] for one in results):
        counts = {name: sum(one["counts"][name] for one in results) for name in results[0]["counts"]}
        return [{**results[0], "counts": counts | {"elsewhere": 0}}]
    return results
