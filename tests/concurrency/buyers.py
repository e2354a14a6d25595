"""A crowd: many buyers at once, in several processes of several threads, each doing what a request of theirs would do.

Runs in child processes too, so it holds no fixture; what it needs of one comes through the environment and the
arguments.
"""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from chalicelib.core.errors import Refused
from chalicelib.fulfilment.deliver import deliver_due
from chalicelib.inventory.errors import OutOfStock
from chalicelib.orders import store as orders
from chalicelib.orders.model import Order
from chalicelib.orders.release_unpaid import cancel_order, release_due
from chalicelib.refunds.finish_refund import finish_refunds
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from tests import shop

T = TypeVar("T")
PROCESSES = 2
THREADS = 32
_PATIENCE = 40  # how often a buyer who is told "send the same request again" does so


@dataclass(frozen=True)
class Buyer:
    """One buyer: what is bought, under which number, and what happens to the order afterwards."""

    product_id: str
    quantity: int
    number: str
    now: int
    then: str = "nothing"


def send_crowd(buyers: list[Buyer]) -> Counter[str]:
    """All buyers, 64 at once; answers how many got which answer."""
    slices = [buyers[first::PROCESSES] for first in range(PROCESSES)]
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(_buy_all, slices), Counter())


def _buy_all(buyers: list[Buyer]) -> Counter[str]:
    with ThreadPoolExecutor(THREADS) as pool:
        return Counter(pool.map(buy, buyers))


def buy(buyer: Buyer) -> str:
    """`sold`, or the code of the refusal. Anything but a refusal is a fault and comes through."""
    try:
        order = repeat(lambda: shop.place({buyer.product_id: buyer.quantity}, buyer.now, number=buyer.number))
    except OutOfStock as refused:
        return refused.code
    AFTERWARDS[buyer.then](order, buyer.now)
    return "sold"


def repeat(send: Callable[[], T]) -> T:
    """Do what the refusal says: the same request again."""
    for _ in range(_PATIENCE):
        try:
            return send()
        except Refused as refused:
            if refused.retry != "same_request":
                raise
    raise AssertionError("told to send the same request again, and again, and again")


def _pay(order: Order, now: int) -> None:
    shop.pay(order, now)


def _pay_and_refund(order: Order, now: int) -> None:
    shop.pay(order, now)
    asked = request_refund(orders.get_order(order.order_id), AskRefund(), is_operator=False, by="key_test", now=now)
    finish_refunds(asked.order_id, now)


def _cancel_and_pay(order: Order, now: int) -> None:
    cancel_order(order, by="key_test", now=now)
    shop.pay(order, now)
    repeat(lambda: deliver_due(order.order_id, now))


AFTERWARDS: dict[str, Callable[[Order, int], object]] = {
    "nothing": lambda order, now: None,
    "pay": _pay,
    "refund": _pay_and_refund,
    "cancel": lambda order, now: cancel_order(order, by="key_test", now=now),
    "expire": lambda order, now: release_due([order.order_id], now + 900),
    "pay late": _cancel_and_pay,
}


def some_buyers(product_id: str, number: int, now: int, seed: int) -> list[Buyer]:
    """Buyers of 1 to 20 keys who then pay, do not pay, change their minds or want their money back."""
    chance = random.Random(seed)
    return [
        Buyer(product_id, chance.randint(1, 20), f"S{seed}.{one}", now, chance.choice(list(AFTERWARDS)))
        for one in range(number)
    ]
