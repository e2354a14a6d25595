"""What the product does, one act at a time, in a form that can be interrupted anywhere and delivered again.

A flow is prepared without faults, then acted. Acting again, as a queue, a provider or a buyer would, must change
nothing more: the order ends in the flow's end, whatever happened on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from chalicelib.aws.due import list_due
from chalicelib.core.ids import new_take_id, order_id_for, payment_id_for
from chalicelib.fulfilment.deliver import deliver_by_hand, deliver_due
from chalicelib.inventory import store as inventory
from chalicelib.inventory.errors import OutOfStock
from chalicelib.inventory.figures import recount_held
from chalicelib.inventory.sweep_takes import sweep_takes
from chalicelib.orders import store as orders
from chalicelib.orders.model import Order
from chalicelib.orders.release_unpaid import cancel_order, release_all_due, release_due
from chalicelib.orders.rules import status_of
from chalicelib.payments import sandbox_store
from chalicelib.payments.model import Notice
from chalicelib.payments.receive_notice import match_notice, receive_notice
from chalicelib.refunds.finish_refund import finish_refunds
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from tests import shop
from tests.faults.audit import Shown
from tests.faults.hooks import new_process


@dataclass
class World:
    """The clock, and what buyers were shown. A product's keys suffice for every try: a crashed one's return later."""

    clock: Any
    shown: Shown = field(default_factory=Shown)
    products: dict[str, str] = field(default_factory=dict)  # those with plenty of keys, used again by the same flow

    @property
    def now(self) -> int:
        return self.clock.at


@dataclass(frozen=True)
class Subject:
    """What one run of a flow is about."""

    order_id: str
    facts: dict[str, Any]

    def order(self) -> Order:
        return orders.get_order(self.order_id)


@dataclass(frozen=True)
class Flow:
    prepare: Callable[[World], Subject]
    act: Callable[[World, Subject], Any]
    ends: str | None  # the order's status after the act; None when there is no order

    def start(self, world: World) -> Subject:
        """Everything before the act; then another process takes over."""
        subject = self.prepare(world)
        new_process()
        return subject

    def check_end(self, subject: Subject) -> None:
        order = orders.find_order(subject.order_id)
        status = status_of(order) if order else None
        assert status == self.ends, f"{subject.order_id} ended as {status}, not as {self.ends}"


def _product(world: World, keys: int | None = None, *, lots: int = 1, is_sealed: bool = False, **members: Any) -> str:
    """A product of just so many keys in each lot; without a number one with plenty, shared by the runs of a flow."""
    name = f"{is_sealed}{members}"
    if keys is None and lots == 1 and name in world.products:
        return world.products[name]
    product_id = shop.make_product(world.now, **members)
    for number in range(lots):
        shop.add_keys(
            product_id, keys or 100, world.now, sealed=is_sealed, expires_at=world.now + (30 + number) * 86_400
        )
    if keys is None and lots == 1:
        world.products[name] = product_id
    return product_id


def _placed(world: World, lines: dict[str, int]) -> Subject:
    return Subject(shop.place(lines, world.now).order_id, {"lines": lines})


def _paid(world: World, lines: dict[str, int]) -> Subject:
    subject = _placed(world, lines)
    shop.pay(subject.order(), world.now)
    return subject


def _notice(subject: Subject) -> Notice:
    return shop.paid_notice(subject.order(), provider_txn=subject.facts["txn"])


def _to_be_told(world: World, subject: Subject) -> Subject:
    """The provider has the money and has not told us yet."""
    return replace(subject, facts={**subject.facts, "txn": shop.capture(subject.order(), world.now)})


# -- checkout -------------------------------------------------------------------------------------------------------


def _wish(world: World, lines: dict[str, int]) -> Subject:
    wanted = shop.wish(lines)
    return Subject(order_id_for(shop.SHOP, wanted.merchant_order_no), {"wanted": wanted})


def _place(world: World, subject: Subject) -> None:
    from chalicelib.checkout.place_order import place_order

    place_order(subject.facts["wanted"], shop_id=shop.SHOP, by="key_test", now=world.now)


def _three_lines(world: World) -> Subject:
    """Two lines from one shelf each, and one between them that is gathered from several lots."""
    return _wish(world, {_product(world): 2, _product(world, 2, lots=5): 5, _product(world, price_minor=30): 1})


def _place_sold_out(world: World, subject: Subject) -> None:
    with suppress(OutOfStock):
        _place(world, subject)


# -- money ----------------------------------------------------------------------------------------------------------


def _told(world: World, subject: Subject) -> None:
    receive_notice(_notice(subject), world.now)


def _told_first(world: World) -> Subject:
    subject = _wish(world, {_product(world): 2})
    capture = sandbox_store.capture(payment_id_for(subject.order_id), 1980, "CNY", world.now)
    return replace(subject, facts={**subject.facts, "txn": capture.txn})


def _told_then_placed(world: World, subject: Subject) -> None:
    payment_id = payment_id_for(subject.order_id)
    receive_notice(
        Notice("sandbox", f"evt_{payment_id}", "paid", payment_id, subject.facts["txn"], 1980, "CNY"), world.now
    )
    _place(world, subject)
    for row in list_due("notice", world.now):
        match_notice(row["pk"], row["sk"], world.now)


def _cancelled_then_paid(world: World, lines: dict[str, int]) -> Subject:
    subject = _placed(world, lines)
    cancel_order(subject.order(), by="key_test", now=world.now)
    return _to_be_told(world, subject)


def _told_late(world: World, subject: Subject) -> None:
    receive_notice(_notice(subject), world.now)
    deliver_due(subject.order_id, world.now)


def _sold_meanwhile(world: World) -> Subject:
    product_id = _product(world, 1)
    subject = _cancelled_then_paid(world, {product_id: 1})
    shop.pay(shop.place({product_id: 1}, world.now), world.now)
    return subject


def _told_late_in_vain(world: World, subject: Subject) -> None:
    _told_late(world, subject)
    finish_refunds(subject.order_id, world.now + 60)


# -- goods ----------------------------------------------------------------------------------------------------------


def _delayed(world: World) -> Subject:
    return _paid(world, {_product(world, delivery={"mode": "delayed", "delay_minutes": 30}): 2})


def _by_hand(world: World) -> Subject:
    return _paid(world, {_product(world, delivery={"mode": "manual"}): 2, _product(world): 1})


def _revealed(world: World) -> Subject:
    subject = _paid(world, {_product(world, is_sealed=True): 2})
    world.shown.reveal(subject.order_id, world.now)
    return subject


# -- money back -----------------------------------------------------------------------------------------------------


def _refund(world: World, subject: Subject, *, line_ids: list[int] | None = None, is_operator: bool = False) -> None:
    asked = request_refund(
        subject.order(), AskRefund(line_ids=line_ids), is_operator=is_operator, by="key_test", now=world.now,
        request_id="r1",
    )  # fmt: skip
    finish_refunds(asked.order_id, world.now)


# -- unpaid ---------------------------------------------------------------------------------------------------------


def _expire_three(world: World) -> Subject:
    product_id = _product(world)
    others = [shop.place({product_id: 1}, world.now).order_id for _ in range(2)]
    subject = _placed(world, {product_id: 2})
    return replace(subject, facts={"others": others})


def _expire_in_time(world: World) -> Subject:
    """The timer has been here before: its first walk ever looks further back, which is another number of calls."""
    if not world.products:
        release_all_due(world.now + 900)
    return _expire_three(world)


def _abandoned(world: World) -> Subject:
    """Two takes without an order, and one that its order owns."""
    product_id = _product(world, 6)
    subject = _placed(world, {product_id: 1})
    for number in range(2):
        order_id = order_id_for(shop.SHOP, f"abandoned{subject.order_id}{number}")
        inventory.take(product_id, 1, order_id=order_id, take_id=new_take_id(world.now), now=world.now)
    return subject


FLOWS: dict[str, Flow] = {
    "checkout": Flow(lambda w: _wish(w, {_product(w): 2}), _place, "pending_payment"),
    "checkout of three lines": Flow(_three_lines, _place, "pending_payment"),
    "checkout, second line sold out": Flow(
        lambda w: _wish(w, {_product(w): 2, _product(w, 1): 2}), _place_sold_out, None
    ),
    "notice": Flow(lambda w: _to_be_told(w, _placed(w, {_product(w): 2})), _told, "delivered"),
    "notice before its order": Flow(_told_first, _told_then_placed, "delivered"),
    "notice after cancelling": Flow(
        lambda w: _cancelled_then_paid(w, {_product(w): 2, _product(w, 1, lots=4): 2}), _told_late, "delivered"
    ),
    "notice after the last key was sold": Flow(_sold_meanwhile, _told_late_in_vain, "refunded"),
    "delayed delivery": Flow(_delayed, lambda w, s: deliver_due(s.order_id, w.now + 1_800), "delivered"),
    "delivery by hand": Flow(
        _by_hand, lambda w, s: deliver_by_hand(s.order_id, by="key_op", now=w.now), "delivered"
    ),
    "reveal": Flow(
        lambda w: _paid(w, {_product(w, is_sealed=True): 2}),
        lambda w, s: w.shown.reveal(s.order_id, w.now),
        "delivered",
    ),
    "refund": Flow(lambda w: _paid(w, {_product(w): 2}), _refund, "refunded"),
    "refund of one line": Flow(
        lambda w: _paid(w, {_product(w): 2, _product(w, price_minor=30): 1}),
        lambda w, s: _refund(w, s, line_ids=[2]),
        "partially_refunded",
    ),
    "refund of revealed keys": Flow(_revealed, lambda w, s: _refund(w, s, is_operator=True), "refunded"),
    "expiry": Flow(
        _expire_three, lambda w, s: release_due([s.order_id, *s.facts["others"]], w.now + 900), "expired"
    ),
    "expiry by the timer": Flow(_expire_in_time, lambda w, s: release_all_due(w.now + 900), "expired"),
    "cancelling": Flow(
        lambda w: _placed(w, {_product(w): 2, _product(w, price_minor=30): 1}),
        lambda w, s: cancel_order(s.order(), by="key_test", now=w.now),
        "cancelled",
    ),
    "sweeping": Flow(_abandoned, lambda w, s: sweep_takes(w.now + 31), "pending_payment"),
    "counting what is held": Flow(
        lambda w: _placed(w, {_product(w): 2}), lambda w, s: recount_held(w.now), "pending_payment"
    ),
}  # fmt: skip

# Flows that share a stage in a test. Those of the last three act on everything that is due, so they stand alone.
GROUPS: dict[str, tuple[str, ...]] = {
    "checkout": tuple(name for name in FLOWS if name.startswith("checkout")),
    "notices": tuple(name for name in FLOWS if name.startswith("notice")),
    "goods": ("delayed delivery", "delivery by hand", "reveal"),
    "refunds": tuple(name for name in FLOWS if name.startswith("refund")),
    "closing": ("expiry", "cancelling"),
    "the expiry timer": ("expiry by the timer",),
    "the sweeper": ("sweeping",),
    "the held figure": ("counting what is held",),
}
