"""Random histories of a small shop: buyers, providers, operators and timers in any order, with faults at any call.

Hypothesis draws the histories from a fixed seed, so every run plays the same ones; HISTORY_SEED and HISTORIES choose
others and more. A history that breaks an invariant is printed as the steps that lead there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from types import SimpleNamespace
from typing import ClassVar

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from chalicelib.checkout.place_order import place_order
from chalicelib.core.errors import Refused
from chalicelib.core.ids import order_id_for, payment_id_for
from chalicelib.fulfilment.deliver import deliver_by_hand, deliver_due
from chalicelib.inventory import memory
from chalicelib.orders import store as orders
from chalicelib.orders.release_unpaid import cancel_order, release_due
from chalicelib.payments.model import Notice
from chalicelib.payments.receive_notice import receive_notice
from chalicelib.refunds.finish_refund import finish_refunds
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from infra.local import stack as templates
from tests import shop
from tests.conftest import Clock, forget_everything
from tests.faults.audit import Shown, check_invariants, quiesce, run_timers
from tests.faults.bank import open_bank
from tests.faults.hooks import LOST, NOT_NOW, Crash, at_call, faults, new_process

SEED = int(os.environ.get("HISTORY_SEED", "20260301"))
HISTORIES = int(os.environ.get("HISTORIES", "7"))
START = 1_772_323_200

which = st.sampled_from([0, 0, 1, 1, 2, 3, 4])
# Most acts go well; the others fail at one of their first calls.
troubles = st.one_of(
    st.none(),
    st.none(),
    st.tuples(st.integers(1, 6), st.sampled_from(["crash_before", "crash_after", *NOT_NOW, *LOST])),
)


class Histories(RuleBasedStateMachine):
    """One shop with two products of few keys, one handed out at once, one after half an hour."""

    backend_url = ""
    seen: ClassVar[set[str]] = set()  # every status that any order of any history came to

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock(START)
        self.patch.setattr("chalicelib.core.clock.now", lambda: self.clock.at)
        stage = f"h{os.getpid() % 10_000}x{id(self) % 10**9}"
        templates.deploy_data_and_queues(self.backend_url, stage)
        self.patch.setenv("STAGE", stage)
        forget_everything()
        memory.dice.seed(SEED)
        self.bank = open_bank(self.patch)
        self.shown = Shown()
        self.wishes: list[SimpleNamespace] = []
        self.notices: list[Notice] = []
        self.refund_no = self.steps = 0
        self.products = [
            shop.make_product(START, keys_in_stock=5, hold_minutes=2),
            shop.make_product(START, keys_in_stock=3, delivery={"mode": "delayed", "delay_minutes": 30}),
        ]
        shop.add_keys(self.products[0], 4, START, expires_at=START + 30 * 86_400)

    def _order_id(self, number: int) -> str:
        return self.wishes[number % len(self.wishes)].order_id if self.wishes else "ord_" + "0" * 16

    def _order(self, number: int):
        return orders.get_order(self._order_id(number))

    def _try(self, act, trouble) -> None:
        """Do something; what goes wrong is told to nobody, as when a function ends and its caller has gone."""
        plan = at_call(*trouble) if trouble else lambda call: None
        with faults(plan):
            try:
                act()
            except Crash:
                new_process()
            except (Refused, ClientError, BotoCoreError):
                pass

    @initialize()
    def open_for_business(self):
        for first, second in ((2, 0), (1, 1), (2, 1), (1, 0), (1, 0)):
            self.place(first, second, None)
        for number in (0, 1):
            self.pay(number, "right", True, None)
        self.pay(2, "less", False, None)
        self.cancel(3, None)

    @rule(first=st.integers(0, 4), second=st.integers(0, 2), trouble=troubles)
    def place(self, first, second, trouble):
        lines = {
            product: quantity for product, quantity in zip(self.products, (first, second), strict=True) if quantity
        }
        if lines and len(self.wishes) < 6:
            wanted = shop.wish(lines, number=f"N{len(self.wishes)}")
            order_id = order_id_for(shop.SHOP, wanted.merchant_order_no)
            self.wishes.append(SimpleNamespace(order_id=order_id, wanted=wanted))
            self._try(lambda: self._place(-1), trouble)

    @rule(number=which, trouble=troubles)
    def place_again(self, number, trouble):
        if self.wishes:
            self._try(lambda: self._place(number % len(self.wishes)), trouble)

    def _place(self, number: int) -> None:
        place_order(self.wishes[number].wanted, shop_id=shop.SHOP, by="key_test", now=self.clock.at)

    @rule(
        number=which,
        sum_=st.sampled_from(["right", "right", "right", "less", "dollars"]),
        told=st.booleans(),
        trouble=troubles,
    )
    def pay(self, number, sum_, told, trouble):
        order = orders.find_order(self._order_id(number))
        if order is None or len(self.notices) > 9:
            return
        amount_minor = order.total_minor - (sum_ == "less")
        one = self.bank.capture(
            payment_id_for(order.order_id), amount_minor, "USD" if sum_ == "dollars" else order.currency
        )
        self.notices.append(
            Notice("sandbox", f"evt_{one.txn}", "paid", one.payment_id, one.txn, one.amount_minor, one.currency)
        )
        if told:
            self._try(lambda: receive_notice(self.notices[-1], self.clock.at), trouble)

    @rule(number=which, trouble=troubles)
    def tell(self, number, trouble):
        if self.notices:
            notice = self.notices[number % len(self.notices)]
            self._try(lambda: receive_notice(notice, self.clock.at), trouble)

    @rule(number=which, trouble=troubles)
    def cancel(self, number, trouble):
        self._try(lambda: cancel_order(self._order(number), by="key_test", now=self.clock.at), trouble)

    @rule(number=which, trouble=troubles)
    def expire(self, number, trouble):
        self._try(lambda: release_due([self._order_id(number)], self.clock.at), trouble)

    @rule(number=which, trouble=troubles)
    def deliver(self, number, trouble):
        self._try(lambda: deliver_due(self._order_id(number), self.clock.at), trouble)

    @rule(number=which, trouble=troubles)
    def deliver_by_an_operator(self, number, trouble):
        self._try(lambda: deliver_by_hand(self._order_id(number), by="key_op", now=self.clock.at), trouble)

    @rule(number=which, trouble=troubles)
    def reveal(self, number, trouble):
        self._try(lambda: self.shown.reveal(self._order_id(number), self.clock.at), trouble)

    @rule(number=which, line=st.sampled_from([None, None, 1, 2]), is_operator=st.booleans(), trouble=troubles,
          mood=st.sampled_from(["", "", "lost", "unsure", "deaf", "failed"]))  # fmt: skip
    def refund(self, number, line, is_operator, trouble, mood):
        self.refund_no += 1
        self.bank.moods = [mood]

        def ask() -> None:
            wanted = AskRefund(line_ids=None if line is None else [line])
            asked = request_refund(
                self._order(number), wanted, is_operator=is_operator, by="key_test", now=self.clock.at,
                request_id=f"r{self.refund_no}",
            )  # fmt: skip
            finish_refunds(asked.order_id, self.clock.at)

        self._try(ask, trouble)
        self.bank.moods = []

    @rule(seconds=st.sampled_from([1, 31, 61, 130, 1_800]), trouble=troubles)
    def time_passes(self, seconds, trouble):
        self.clock.advance(seconds)
        self._try(run_timers, trouble)

    @invariant()
    def no_key_is_in_two_places(self):
        """Now and then between two acts; what only holds at rest is checked at the end."""
        self.steps += 1
        if self.steps % 4:
            return
        check_invariants(self.clock.at, shown=self.shown, bank=self.bank, is_quiet=False)

    def teardown(self):
        try:
            for notice in self.notices:  # providers go on until they are heard
                with suppress(Refused):
                    receive_notice(notice, self.clock.at)
            now = quiesce(self.clock, seconds=(61, 3_700, 3_700))
            check_invariants(now, shown=self.shown, bank=self.bank)
            for order in orders.get_orders([wish.order_id for wish in self.wishes]):
                self.seen.update(entry.status for entry in order.history)
        finally:
            self.patch.undo()
            forget_everything()


def play_histories(backend_url: str, number: int, *, phases: tuple[Phase, ...] = (Phase.generate,)) -> None:
    Histories.backend_url = backend_url
    run_state_machine_as_test(
        seed(SEED)(Histories),
        settings=settings(
            max_examples=number, stateful_step_count=30, deadline=None, database=None, phases=phases,
            suppress_health_check=list(HealthCheck), print_blob=False,
        ),
    )  # fmt: skip


def test_any_history_ends_well(backend, stack):
    print(f"HISTORY_SEED={SEED} HISTORIES={HISTORIES}")
    play_histories(backend.url, HISTORIES)
    missing = {"delivered", "expired", "cancelled", "needs_review", "refunding", "refunded"} - Histories.seen
    assert not missing, f"histories in which no order ever was {missing} prove little"
