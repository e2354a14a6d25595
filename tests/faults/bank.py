"""A payment provider for tests, with honest books and an unreliable voice. It stands in for every adapter.

Money may come several times for one payment, each time under a number of its own. Every refund is asked for under our
id and paid once; another amount under the same id is a fault of ours and recorded as such.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chalicelib.payments.model import Closed, Found, Method, Payment, ProviderFacts, RefundResult, Started


@dataclass
class Capture:
    payment_id: str
    txn: str
    amount_minor: int
    currency: str


@dataclass
class Bank:
    """`moods`: what becomes of the next refund calls, e.g. "lost" (paid, the answer never comes) or "failed"."""

    # Of the contract of adapters: this provider knows a payment by our id alone.
    FACTS = ProviderFacts(
        "Bank", {"counter": Method("redirect", "a counter")}, keeps_session=False, ask_after_seconds=()
    )

    captures: dict[str, Capture] = field(default_factory=dict)  # by txn
    refunds: dict[str, tuple[str, int]] = field(default_factory=dict)  # our refund id -> (txn, amount)
    moods: list[str] = field(default_factory=list)
    is_down: bool = False
    wrongs: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # refund ids in the order of asking to pay

    def capture(self, payment_id: str, amount_minor: int, currency: str) -> Capture:
        number = 1 + sum(one.payment_id == payment_id for one in self.captures.values())
        made = Capture(payment_id, f"txn_{payment_id.removeprefix('pay_')}_{number}", amount_minor, currency)
        self.captures[made.txn] = made
        return made

    def refunded_of(self, txn: str) -> int:
        return sum(amount for of, amount in self.refunds.values() if of == txn)

    # -- the contract of an adapter ---------------------------------------------------------------------------------

    def start(self, payment: Payment, now: int) -> Started:
        return Started("http://127.0.0.1:9/pay")

    def find(self, payment: Payment) -> Found:
        if self.is_down:
            return Found("unknown")
        for one in self.captures.values():
            if one.payment_id == payment.payment_id:
                return Found("paid", one.amount_minor, one.currency, one.txn)
        return Found("unpaid")

    def close(self, payment: Payment) -> Closed:
        """Whoever holds the slip can still pay it: late money is what these tests are about."""
        return "paid" if self.find(payment).state == "paid" else "unknown"

    def refund(self, payment: Payment, refund_id: str, amount_minor: int, now: int) -> RefundResult:
        mood = self.moods.pop(0) if self.moods else ""
        if self.is_down or mood == "deaf":
            return RefundResult("unknown")
        if mood == "failed":
            return RefundResult("failed")
        self.asked.append(refund_id)
        txn = payment.provider_txn or ""
        if refund_id in self.refunds:
            if self.refunds[refund_id] != (txn, amount_minor):
                self.wrongs.append(f"{refund_id} asked for twice, differently")
        elif txn not in self.captures or self.refunded_of(txn) + amount_minor > self.captures[txn].amount_minor:
            self.wrongs.append(f"{refund_id} asks for money that is not there")
            return RefundResult("failed")
        else:
            self.refunds[refund_id] = (txn, amount_minor)
        if mood == "lost":
            raise TimeoutError
        return RefundResult("unknown") if mood == "unsure" else RefundResult("succeeded", f"bank_{refund_id}")

    def find_refund(self, payment: Payment, refund_id: str) -> RefundResult | None:
        if self.is_down:
            return RefundResult("unknown")
        return RefundResult("succeeded", f"bank_{refund_id}") if refund_id in self.refunds else None


def open_bank(patch: Any) -> Bank:
    """A bank that every provider's name leads to, until the patch is undone."""
    bank = Bank()
    patch.setattr("chalicelib.payments.providers.load_plug", lambda package, name: bank)
    return bank
