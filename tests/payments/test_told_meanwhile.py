"""What providers tell while our own answer is still on its way, and where we say that they can tell us."""

from __future__ import annotations

import pytest

from chalicelib.orders import store as orders
from chalicelib.orders.rules import refund_id_of, status_of
from chalicelib.payments import providers
from chalicelib.payments.adapters import sandbox
from chalicelib.payments.model import Account, RefundResult
from chalicelib.payments.receive_notice import receive_notice
from chalicelib.refunds import workers
from chalicelib.refunds.finish_refund import finish_refunds
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from tests import shop
from tests.imports.uploads import messages

pytestmark = pytest.mark.usefixtures("stack")


def test_a_refund_taken_back_before_its_success_was_written_down_calls_a_person(clock, monkeypatch):
    order = shop.place({shop.make_product(clock.at, keys_in_stock=1): 1}, clock.at)
    shop.pay(order, clock.at)
    asked = request_refund(
        orders.get_order(order.order_id), AskRefund(), is_operator=False, by="key_test", now=clock.at
    )  # fmt: skip
    told = shop.paid_notice(
        order, event_id="e2", kind="refund_failed", refund_id=refund_id_of(asked, asked.refund(1)),
        provider_txn=orders.get_order(order.order_id).provider_txn,
    )  # fmt: skip
    receive_notice(told, clock.at)
    assert status_of(finish_refunds(order.order_id, clock.at)) == "refunded"

    monkeypatch.setattr(sandbox, "find_refund", lambda payment, refund_id: RefundResult("failed"))
    for event in messages("refund-due"):
        assert workers.on_refund_due(event, None) == {"batchItemFailures": []}

    after = orders.get_order(order.order_id)
    assert (status_of(after), after.review, after.refund(1).state) == ("needs_review", "refund_reversed", "reversed")


@pytest.mark.parametrize(
    ("base_url", "address"),
    [("", ""), ("https://pay.example", "https://pay.example/v1/notices/sandbox")],
)
def test_a_worker_names_a_whole_address_for_notices_or_none(clock, monkeypatch, base_url, address):
    monkeypatch.setenv("BASE_URL", base_url)
    order = shop.place({shop.make_product(clock.at, keys_in_stock=1): 1}, clock.at)
    assert providers.payment_of(order, Account("sandbox"), "").notify_url == address
    asked_for = providers.payment_of(order, Account("sandbox"), "https://host.example")
    assert asked_for.notify_url == "https://host.example/v1/notices/sandbox"
