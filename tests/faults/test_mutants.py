"""The harness can fail: faults of ours, put in on purpose, and the scenario that catches each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.aws.transact import transact
from chalicelib.fulfilment import deliver as delivery
from chalicelib.inventory import sweep_takes
from chalicelib.orders import release_unpaid
from chalicelib.orders import store as orders
from chalicelib.orders.rules import deliver
from chalicelib.payments import receive_notice as notices
from chalicelib.payments import store as payments
from chalicelib.refunds import finish_refund
from tests import shop
from tests.concurrency.test_interleavings import UNPAID, play_pairs
from tests.faults import flows
from tests.faults.audit import check_invariants, quiesce
from tests.faults.flows import World, _product, _wish
from tests.faults.hooks import faults
from tests.faults.test_crash_points import play_crash_points

pytestmark = pytest.mark.usefixtures("stack")


# -- what is broken ------------------------------------------------------------------------------------------------


def versions_are_not_compared(patch: Any) -> None:
    real = orders._change

    def change(before, after):
        request = real(before, after)
        return {
            **request,
            "ConditionExpression": request["ConditionExpression"].replace("v = :seen", "v > :seen OR v <= :seen"),
        }

    patch.setattr(orders, "_change", change)


def orders_and_keys_are_written_apart(patch: Any) -> None:
    def one_by_one(writes) -> None:
        for write in writes:
            transact([write])

    patch.setattr(release_unpaid, "transact", one_by_one)


def keys_are_not_returned(patch: Any) -> None:
    patch.setattr(release_unpaid.inventory, "return_writes", lambda *given: [])


def unpaid_orders_are_delivered(patch: Any) -> None:
    def deliver_once(order, now):
        return orders.save(order, deliver(order, {line.line_id for line in order.lines}, now, "timer"))

    patch.setattr(delivery, "_deliver_once", deliver_once)


def the_sweeper_puts_up_no_fence(patch: Any) -> None:
    patch.setattr(sweep_takes, "fence_take", lambda order_id, take_id, now: False)


def late_keys_are_given_back_without_asking(patch: Any) -> None:
    patch.setattr(orders, "fence_take", lambda order_id, take_id, now: False)


def a_recorded_notice_is_taken_for_an_applied_one(patch: Any) -> None:
    real = notices.receive_notice

    def receive_once(notice, now) -> None:
        if payments.find_notice(f"NOTICE#{notice.provider}#{notice.provider_txn}", notice.event_id) is None:
            real(notice, now)

    for module in (flows, shop):
        patch.setattr(module, "receive_notice", receive_once)


def every_try_of_a_refund_has_a_new_id(patch: Any) -> None:
    real, numbers = finish_refund.refund_id_of, itertools.count()
    patch.setattr(finish_refund, "refund_id_of", lambda order, refund: f"{real(order, refund)}{next(numbers)}")


def refunded_keys_stay_with_nobody(patch: Any) -> None:
    patch.setattr(finish_refund, "_key_writes", lambda order, refund: [])


def revealed_keys_are_sold_again(patch: Any) -> None:
    real = finish_refund.extents_of
    patch.setattr(
        finish_refund, "extents_of",
        lambda order, refund, *, is_revealed: [] if is_revealed
        else real(order, refund, is_revealed=True) + real(order, refund, is_revealed=False),
    )  # fmt: skip


# -- what catches it -----------------------------------------------------------------------------------------------


def crashes(*names: str) -> Callable:
    return lambda clock, patch: play_crash_points(names, clock)


def pairs(of: list, before: tuple[str, ...], ends: set[str]) -> Callable:
    return lambda clock, patch: play_pairs(of, before, ends, clock, patch)


def early_delivery_message(clock, patch) -> None:
    order = shop.place({shop.make_product(clock.at, keys_in_stock=1): 1}, clock.at)
    delivery.deliver_due(order.order_id, clock.at)
    check_invariants(clock.at, is_quiet=False)


def slow_buyer(clock, patch) -> None:
    """A buyer stalls between keys and order until the sweeper has given the keys back and another has bought them."""
    world = World(clock)
    product_id = _product(world, 4)
    subject, stalled = _wish(world, {product_id: 2}), []

    def meanwhile() -> None:
        sweep_takes.sweep_takes(clock.at + 31)
        shop.place({product_id: 4}, clock.at)

    def plan(call):
        if call.operation == "PutItem" and not stalled:
            stalled.append(call)
            return meanwhile
        return None

    with faults(plan):
        flows._place_sold_out(world, subject)
    assert stalled
    check_invariants(quiesce(clock), shown=world.shown)


def lost_answer_then_changed(clock, patch) -> None:
    from tests.faults.test_lost_answers import play_changed_before_repeat

    play_changed_before_repeat(clock)


MUTANTS = {
    versions_are_not_compared: (pairs(UNPAID[1:3], (), {"delivered"}), "I1 key"),
    orders_and_keys_are_written_apart: (crashes("cancelling"), "I4 .* keys? are nowhere"),
    keys_are_not_returned: (crashes("cancelling"), "I4 .* keys? are nowhere"),
    unpaid_orders_are_delivered: (early_delivery_message, "I2 .* delivered unpaid"),
    the_sweeper_puts_up_no_fence: (slow_buyer, "I1 key"),
    late_keys_are_given_back_without_asking: (lost_answer_then_changed, "I1 key"),
    a_recorded_notice_is_taken_for_an_applied_one: (crashes("notice"), "ended as pending_payment, not as delivered"),
    every_try_of_a_refund_has_a_new_id: (crashes("refund"), "ended as needs_review, not as refunded"),
    refunded_keys_stay_with_nobody: (crashes("refund"), "I4 .* keys? are nowhere"),
    revealed_keys_are_sold_again: (crashes("refund of revealed keys"), "I6 .* was shown to"),
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_fault_put_in_on_purpose_is_noticed(mutant, clock, monkeypatch):
    scenario, complaint = MUTANTS[mutant]
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match=complaint):
        scenario(clock, monkeypatch)


@pytest.mark.parametrize("scenario", [early_delivery_message, slow_buyer], ids=lambda scenario: scenario.__name__)
def test_without_the_fault_nothing_is_noticed(scenario, clock, monkeypatch):
    """The scenarios that stand only here; the others are tests of their own."""
    scenario(clock, monkeypatch)
