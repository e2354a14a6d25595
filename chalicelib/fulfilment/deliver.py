"""Hand out what is paid: lines that are due by now, lines an operator delivers by hand, and orders paid after their
hold had ended.

Called by the delivery queue (fast path), the minute timer (suffices alone) and the operator's route. Delivery is one
conditional write of the order; the keys were its own since checkout. Only an order paid late has to find keys first,
and gets its money back by itself when there are none.
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib.core.ids import new_take_id
from chalicelib.fulfilment.errors import NothingToDeliver
from chalicelib.inventory import store as inventory
from chalicelib.inventory.errors import OutOfStock
from chalicelib.inventory.model import Take
from chalicelib.orders import store as orders
from chalicelib.orders.errors import Disputed, OrderChanged
from chalicelib.orders.model import Order
from chalicelib.orders.rules import deliver, has_open_dispute, lines_due, lines_without_keys, next_due, with_keys
from chalicelib.refunds.rules import refund_everything

_TRIES = 6


def deliver_due(order_id: str, now: int) -> int | None:
    """Deliver every line that is due; early never.

    Returns: the instant of the next delivery this order waits for, None when there is none.
    Raises:  orders.changed_meanwhile when the order kept changing; the message comes again.
    """
    for _ in range(_TRIES):
        order = orders.find_order(order_id)
        if order is None:
            return None
        try:
            order = _deliver_once(order, now)
        except OrderChanged:
            continue
        due = next_due(order)
        return due[1] if due and due[0] == "deliver" and due[1] > now else None
    raise OrderChanged()


def deliver_by_hand(order_id: str, *, by: str, now: int) -> Order:
    """An operator delivers: manual lines of a paid order, or all lines of an order under review that is accepted after
    all. One under review whose lines are all delivered or refunded is only taken out of review.

    Raises: orders.not_found, fulfilment.nothing_to_deliver, orders.disputed, inventory.out_of_stock,
            orders.changed_meanwhile
    """
    for _ in range(_TRIES):
        order = orders.get_order(order_id)
        if has_open_dispute(order):
            raise Disputed()
        waiting = {
            line.line_id
            for line in order.lines
            if line.delivered_at is None and line.refund_no == 0 and (line.mode == "manual" or order.review)
        }
        if any(line.delivered_at is not None and line.refund_no == 0 and not line.extents for line in order.lines):
            raise NothingToDeliver()  # its keys went back with a refund that came to nothing: only the money is left
        if order.paid_at is None or not (waiting or order.review):
            if order.paid_at is not None and any(line.mode == "manual" and line.delivered_at for line in order.lines):
                return order  # delivered before: a repeat is a success
            raise NothingToDeliver()
        try:
            return _hand_out(order, waiting, now, by, "by_hand")
        except OrderChanged:
            continue
    raise OrderChanged()


def _deliver_once(order: Order, now: int) -> Order:
    due = {line.line_id for line in lines_due(order, now)}
    if order.paid_at is None or order.review:
        return order
    if lines_without_keys(order):
        try:
            return _hand_out(order, due, now, "timer", "")
        except OutOfStock:
            return orders.save(order, refund_everything(order, now, by="timer", reason="late_and_sold_out"))
    if not due:
        return order
    return orders.save(order, deliver(order, due, now, "timer"))


def _hand_out(order: Order, line_ids: set[int], now: int, by: str, note: str) -> Order:
    """Deliver these lines; lines that lost their keys get new ones first, all of them or none."""
    without = lines_without_keys(order)
    if not without:
        return orders.save(order, deliver(order, line_ids, now, by, note))
    take_id = new_take_id(now)
    takes: list[Take] = []
    keys_wanted = [(line.product_id, line.quantity) for line in without]
    try:
        inventory.take_for(keys_wanted, order_id=order.order_id, take_id=take_id, now=now, taken=takes)
        extents = {line.product_id: tuple(take.extents) for line, take in zip(without, takes, strict=True)}
        owning = with_keys(order, take_id, extents)
        handed = deliver(replace(owning, version=order.version), line_ids, now, by, note)
        saved = orders.save(order, handed)
    except OutOfStock:
        _give_back(takes)
        raise
    except OrderChanged:
        # Perhaps our write did happen, its answer was lost, and the order has gone on since: then the keys are the
        # order's and must not return to stock. Only the fence tells for sure.
        if not orders.fence_take(order.order_id, take_id, now):
            _give_back(takes)
        raise
    for take in takes:
        inventory.confirm(take)
    return saved


def _give_back(takes: list[Take]) -> None:
    for take in takes:
        inventory.give_back(take)
