"""Two acts on one order at the same moment, in every order of their calls: one legal end, whoever comes in between."""

from __future__ import annotations

from contextlib import suppress

import pytest

from chalicelib.core.errors import Refused
from chalicelib.core.ids import payment_id_for
from chalicelib.fulfilment.deliver import deliver_due
from chalicelib.orders import store as orders
from chalicelib.orders.release_unpaid import cancel_order, release_due
from chalicelib.orders.rules import status_of
from chalicelib.payments.receive_notice import receive_notice
from chalicelib.refunds.finish_refund import finish_refunds
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from tests import shop
from tests.faults.audit import check_invariants, quiesce
from tests.faults.bank import open_bank
from tests.faults.flows import World
from tests.faults.hooks import at_call, count_calls, faults, new_process

pytestmark = pytest.mark.usefixtures("stack")

ENDS = {"delivered", "refunded"}  # money came for every order of this test, so nothing may end unpaid


class Stage:
    """One product; an order of it, paid at the bank or not, and what can happen to that order."""

    def __init__(self, clock, bank):
        self.world, self.bank = World(clock), bank
        self.product_id = shop.make_product(clock.at)
        shop.add_keys(self.product_id, 90, clock.at)

    @property
    def now(self) -> int:
        return self.world.now

    def place(self):
        order = shop.place({self.product_id: 1}, self.now)
        one = self.bank.capture(payment_id_for(order.order_id), order.total_minor, order.currency)
        return order, shop.paid_notice(order, provider_txn=one.txn)

    def acts(self, order, notice):
        """Every act, in a form that may be refused but must never do harm."""

        def refund(by: str, is_operator: bool) -> None:
            found = orders.get_order(order.order_id)
            request_refund(found, AskRefund(), is_operator=is_operator, by=by, now=self.now)
            finish_refunds(order.order_id, self.now)

        return {
            "notice": lambda: receive_notice(notice, self.now),
            "expiry": lambda: release_due([order.order_id], self.now + 900),
            "cancel": lambda: cancel_order(orders.get_order(order.order_id), by="key_test", now=self.now),
            "deliver": lambda: deliver_due(order.order_id, self.now),
            "reveal": lambda: self.world.shown.reveal(order.order_id, self.now),
            "refund": lambda: refund("key_test", False),
            "refund by an operator": lambda: refund("key_op", True),
        }


UNPAID = [("notice", "notice"), ("notice", "expiry"), ("notice", "cancel"), ("expiry", "notice"), ("expiry", "cancel"),
          ("cancel", "notice"), ("cancel", "expiry")]  # fmt: skip
PAID = [("reveal", "refund"), ("refund", "reveal"), ("refund", "refund"), ("refund", "refund by an operator"),
        ("refund by an operator", "reveal"), ("reveal", "reveal")]  # fmt: skip
CLOSED = [("deliver", "deliver"), ("deliver", "refund"), ("refund", "deliver"), ("deliver", "notice")]


def interleave(stage: Stage, first: str, second: str, prepare) -> dict[str, str]:
    """Let `second` happen as a whole before each call of `first`; the pairs of acts by order."""
    played: dict[str, str] = {}

    def fresh():
        order, notice = stage.place()
        acts = stage.acts(order, notice)
        prepare(acts)
        new_process()
        return order, acts

    _, acts = fresh()
    calls = count_calls(acts[first])
    acts["notice"]()
    for call in calls:
        order, acts = fresh()
        played[order.order_id] = f"{second} at {call} of {first}"

        def in_between(act=acts[second]) -> None:
            with suppress(Refused):
                act()

        with faults(at_call(call.number, in_between)) as injected, suppress(Refused):
            acts[first]()
        assert injected.struck
        with suppress(Refused):
            acts["notice"]()  # the provider goes on until it is heard
    return played


def play_pairs(pairs, before, ends, clock, patch) -> int:
    """Play all pairs, let time pass, audit the table; answers how many orders were played with."""
    stage = Stage(clock, open_bank(patch))

    def prepare(acts) -> None:
        for name in before:
            acts[name]()

    played: dict[str, str] = {}
    for first, second in pairs:
        played |= interleave(stage, first, second, prepare)
    now = quiesce(clock)
    found = {order.order_id: status_of(order) for order in orders.get_orders(list(played))}
    try:
        check_invariants(now, shown=stage.world.shown, bank=stage.bank)
    except AssertionError as broken:
        raise AssertionError(f"{broken}\n{played}") from broken
    wrong = {played[order_id]: status for order_id, status in found.items() if status not in ends}
    assert not wrong
    assert len(found) == len(played)
    return len(played)


@pytest.mark.parametrize(
    ("pairs", "before", "ends"),
    [(UNPAID, (), {"delivered"}), (PAID, ("notice",), ENDS), (CLOSED, ("cancel", "notice"), ENDS)],
    ids=["unpaid", "paid", "paid late"],
)
def test_whatever_comes_in_between_an_order_has_one_legal_end(clock, monkeypatch, pairs, before, ends):
    assert play_pairs(pairs, before, ends, clock, monkeypatch) >= 2 * len(pairs)
