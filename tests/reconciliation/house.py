"""A provider for tests that keeps books and writes statements of them. It stands in for every adapter.

Its statement may lack lines, or say them wrongly, as a test wishes; its books answer when asked, unless it is down.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from chalicelib.core.ids import order_id_of_payment, payment_id_for
from chalicelib.ledger.post_ledger import post_sets
from chalicelib.ledger.rules import entry_sets
from chalicelib.orders import store as orders
from chalicelib.orders.model import Order
from chalicelib.payments.errors import BadStatement, NoStatement
from chalicelib.payments.model import (
    Account,
    Closed,
    Found,
    Method,
    Payment,
    ProviderFacts,
    RefundResult,
    StatementLine,
)
from chalicelib.payments.receive_notice import receive_notice
from chalicelib.reconciliation import store, workers
from chalicelib.reconciliation.create_reconciliation import create_reconciliation
from tests import shop
from tests.imports.uploads import messages

DAY = "2026-03-01"
NOON = 1_772_323_200 + 43_200
NEXT_MORNING = 1_772_323_200 + 86_400 + 6 * 3_600


@dataclass
class House:
    """`statements`: its lines by day; None while it has none. `moods`: what asking for a statement raises, in turn."""

    FACTS = ProviderFacts("House", {"counter": Method("redirect", "")}, keeps_session=False, ask_after_seconds=())

    captures: dict[str, tuple[str, int, str]] = field(default_factory=dict)  # payment id -> (txn, amount, currency)
    refunds: dict[str, str] = field(default_factory=dict)  # refund id -> state
    statements: dict[str, list[StatementLine]] = field(default_factory=dict)
    moods: list[Exception] = field(default_factory=list)
    is_down: bool = False
    asked: int = 0

    def find(self, payment: Payment) -> Found:
        if self.is_down:
            return Found("unknown")
        if payment.payment_id not in self.captures:
            return Found("unpaid")
        txn, amount, currency = self.captures[payment.payment_id]
        return Found("paid", amount, currency, txn)

    def close(self, payment: Payment) -> Closed:
        return "unknown"

    def refund(self, payment: Payment, refund_id: str, amount_minor: int, now: int) -> RefundResult:
        self.refunds.setdefault(refund_id, "succeeded")
        return self.find_refund(payment, refund_id)

    def find_refund(self, payment: Payment, refund_id: str) -> RefundResult | None:
        if self.is_down:
            return RefundResult("unknown")
        state = self.refunds.get(refund_id)
        return RefundResult(state, f"re_{refund_id}") if state else None

    def statement(self, account: Account, day: str) -> list[StatementLine]:
        self.asked += 1
        if self.moods:
            raise self.moods.pop(0)
        if day not in self.statements:
            raise NoStatement()
        return self.statements[day]

    def parse_statement(self, account: Account, raw: bytes, day: str) -> list[StatementLine]:
        try:
            return [StatementLine(**one) for one in json.loads(raw)]
        except (ValueError, TypeError):
            raise BadStatement() from None

    # -- what happens at its counter ---------------------------------------------------------------------------------

    def takes(self, order: Order, at: int = NOON, *, tells: bool = True, fee_minor: int = 0) -> StatementLine:
        """The buyer pays. Unless it `tells`, we do not hear of it."""
        payment_id, txn = payment_id_for(order.order_id), f"txn_{order.order_id}"
        self.captures[payment_id] = (txn, order.total_minor, order.currency)
        if tells:
            receive_notice(shop.paid_notice(order, provider_txn=txn), at)
            post(order.order_id, at)
        return StatementLine("payment", txn, payment_id, order.total_minor, order.currency, at - 2, fee_minor)


def open_house(patch: Any) -> House:
    """A house that every provider's name leads to, until the patch is undone."""
    house = House()
    patch.setattr("chalicelib.payments.providers.load_plug", lambda package, name: house)
    return house


def post(order_id: str, at: int) -> None:
    """What the change stream brings into the ledger."""
    post_sets(entry_sets(orders.get_order(order_id)), at)


def as_file(lines: list[StatementLine]) -> bytes:
    return json.dumps([asdict(one) for one in lines]).encode()


def many_lines(number: int, fee_minor: int = 1) -> list[StatementLine]:
    """Payments of orders that our books have never heard of."""
    line = StatementLine("payment", "", None, 990, "CNY", NOON, fee_minor)
    return [
        replace(line, provider_txn=f"txn_{place}", our_no=payment_id_for(f"ord_{place:016d}"))
        for place in range(number)
    ]


def create(now: int = NEXT_MORNING, *, day: str = DAY, reconciliation_id: str = "rec_0000000000000000001") -> dict:
    return create_reconciliation(
        reconciliation_id, provider="sandbox", account_id=None, day=day, source="api", by="key_op", now=now
    )


def carry_messages() -> list[str]:
    """Hand messages to the worker until none is left; answers the ids of messages that failed."""
    failed = []
    while events := messages("reconciliation-due"):
        for event in events:
            answer = workers.on_reconciliation_due(event, None)
            failed += [one["itemIdentifier"] for one in answer["batchItemFailures"]]
    return failed


def reconciled(clock: Any, now: int = NEXT_MORNING, **members: Any) -> dict:
    """A reconciliation from its creation to its end; its row."""
    clock.at = now
    reconciliation_id = create(now, **members)["reconciliation_id"]
    assert carry_messages() == []
    return store.get_reconciliation(reconciliation_id)


def differences_of(row: dict) -> list:
    return [one for _, one in store.list_differences(row, 1, 100)]


def order_of(line: StatementLine) -> Order:
    return orders.get_order(order_id_of_payment(line.our_no or "") or "")
