"""Balances in the table: no overdraft, no movement twice, and entries that add up, whoever comes at once."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from chalicelib.accounts import store as accounts
from chalicelib.aws.transact import transact
from chalicelib.balance import store
from chalicelib.balance.adjust import adjust
from chalicelib.balance.errors import AlreadySpent, InsufficientBalance, UnknownShop
from chalicelib.core.errors import Busy
from chalicelib.ledger import store as ledger
from chalicelib.orders import store as orders
from tests.faults.hooks import Crash, at_call, count_calls, faults
from tests.ledger.books import AT, new_order, paid

pytestmark = pytest.mark.usefixtures("stack")
SHOP = "demo"


@pytest.fixture(autouse=True)
def shop(stack):
    accounts.put_shop(SHOP, "Demo", AT)


def put_on(amount_minor: int, name: str = "first", currency: str = "CNY"):
    return adjust(SHOP, currency, amount_minor, "cash", adjustment_id=name, by="key_t", now=AT)


def spend(order_id: str, amount_minor: int, now: int = AT) -> None:
    transact(store.spend_writes(SHOP, "CNY", amount_minor, order_id, now))


def balance() -> int:
    found = store.find_balance(SHOP, "CNY")
    return found.balance_minor if found else 0


def entries_sum() -> int:
    return sum(one.amount_minor for one in store.list_entries_between(SHOP, "CNY", 0, AT * 2))


def order_id(number: int) -> str:
    return f"ord_{number:016d}"


def patiently(act):
    """As a caller does who is told to send the same request again."""
    while True:
        try:
            return act()
        except Busy:
            continue


# -- overdraft ----------------------------------------------------------------------------------------------------


def test_of_64_checkouts_at_once_exactly_those_succeed_that_the_balance_covers():
    """Each one writes its order and the spending together, as checkout does; a refused one leaves no order behind."""
    put_on(7 * 100 + 99)

    def check_out(number: int) -> str:
        order = paid(new_order(order_id=order_id(number), provider="balance", shop_id=SHOP))
        spending = store.spend_writes(SHOP, "CNY", 100, order.order_id, AT)
        try:
            patiently(lambda: orders.put_order_with(order, "t", spending))
        except InsufficientBalance:
            return "refused"
        return "sold"

    lowest = []
    with ThreadPoolExecutor(65) as pool:
        watch = pool.submit(lambda: lowest.extend(balance() for _ in range(60)))
        answers = list(pool.map(check_out, range(64)))
        watch.result()
    assert sorted(answers) == ["refused"] * 57 + ["sold"] * 7
    assert balance() == entries_sum() == 99
    assert min(lowest) >= 99
    sold = [number for number in range(64) if orders.find_order(order_id(number))]
    assert len(sold) == 7
    assert all(store.find_entry(SHOP, "CNY", f"spend:{order_id(number)}") for number in sold)


def test_spendings_refunds_and_adjustments_at_once_add_up_and_never_fall_below_zero():
    put_on(500)
    chance = random.Random(7)
    acts = []
    for number in range(40):
        amount = chance.randint(1, 90)
        acts.append(lambda number=number, amount=amount: spend(order_id(number), amount))
        acts.append(lambda number=number, amount=amount: store.credit_refund(
            SHOP, "CNY", order_id(number), f"rfd_{number}_1", amount, AT
        ))  # fmt: skip
        acts.append(lambda number=number: put_on(chance.choice((-60, 20)), f"adj_{number}"))
    chance.shuffle(acts)

    def run(act) -> int:
        with suppress(InsufficientBalance):
            patiently(act)
        return balance()

    with ThreadPoolExecutor(16) as pool:
        seen = list(pool.map(run, acts))
    assert min(seen) >= 0
    assert balance() == entries_sum()


def test_a_balance_that_never_was_cannot_be_spent():
    with pytest.raises(InsufficientBalance):
        spend(order_id(1), 1)
    put_on(100, currency="USD")
    with pytest.raises(InsufficientBalance):
        spend(order_id(1), 1)
    assert store.find_entry(SHOP, "CNY", f"spend:{order_id(1)}") is None


def test_the_last_minor_unit_can_be_spent_and_not_one_more():
    put_on(100)
    spend(order_id(1), 99)
    with pytest.raises(InsufficientBalance):
        spend(order_id(2), 2)
    spend(order_id(2), 1)
    assert balance() == 0


def test_an_order_is_paid_once_out_of_the_balance():
    put_on(500)
    spend(order_id(1), 100)
    with pytest.raises(AlreadySpent):
        spend(order_id(1), 100, AT + 60)
    assert balance() == entries_sum() == 400


# -- refunds ------------------------------------------------------------------------------------------------------


def test_the_same_refund_of_many_at_once_is_credited_once():
    put_on(500)
    spend(order_id(1), 100)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(
            lambda number: patiently(
                lambda: store.credit_refund(SHOP, "CNY", order_id(1), "rfd_1_1", 60, AT + number)
            ),
            range(32),
        ))  # fmt: skip
    assert set(answers) == {60}
    assert balance() == entries_sum() == 460


def test_different_refunds_of_many_at_once_never_give_back_more_than_was_spent():
    put_on(500)
    spend(order_id(1), 100)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(
            lambda number: patiently(
                lambda: store.credit_refund(SHOP, "CNY", order_id(1), f"rfd_1_{number}", 30, AT)
            ),
            range(16),
        ))  # fmt: skip
    assert sorted(answers, key=str) == [30] * 3 + [None] * 13
    assert balance() == entries_sum() == 490
    assert store.find_entry(SHOP, "CNY", f"spend:{order_id(1)}").left_minor == 10


def test_nothing_is_given_back_for_an_order_that_did_not_spend():
    put_on(500)
    assert store.credit_refund(SHOP, "CNY", order_id(1), "rfd_1_1", 60, AT) is None
    assert balance() == 500


# -- adjustments --------------------------------------------------------------------------------------------------


def test_an_adjustment_moves_balance_and_ledger_together_and_once():
    first = put_on(300)
    again = adjust(SHOP, "CNY", 300, "cash", adjustment_id="first", by="key_t", now=AT + 86_400)
    assert again == first
    assert balance() == entries_sum() == 300
    assert [one.event_id for one in ledger.list_day("20260301")] == ["adjustment:first"]
    assert ledger.list_day("20260302") == []


def test_an_adjustment_never_takes_a_balance_below_zero():
    put_on(300)
    with pytest.raises(InsufficientBalance):
        put_on(-301, "second")
    assert put_on(-300, "third").amount_minor == -300
    assert (balance(), len(ledger.list_day("20260301"))) == (0, 2)


def test_a_shop_nobody_knows_has_no_balance():
    with pytest.raises(UnknownShop):
        adjust("nobody", "CNY", 300, "cash", adjustment_id="a", by="key_t", now=AT)


# -- crashes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["crash_before", "crash_after", "lost_gone", "lost_busy", "lost_sdk", "conflict"])
def test_a_fault_at_any_call_moves_money_once_or_not_and_the_repeat_ends_it(fault):
    put_on(10_000)
    spend(order_id(1), 5_000)
    flows = {
        "adjust": lambda n: adjust(SHOP, "CNY", 10, "cash", adjustment_id=f"x{n}", by="key_t", now=AT),
        "refund": lambda n: store.credit_refund(SHOP, "CNY", order_id(1), f"rfd_1_{n}", 10, AT),
    }
    number, expected = 0, balance()
    for flow in flows.values():
        number += 1
        calls = count_calls(lambda flow=flow, number=number: flow(f"count{number}"))
        expected += 10
        for call in calls:
            number += 1
            with faults(at_call(call.number, fault)), suppress(Crash, Exception):
                flow(f"f{number}")
            patiently(lambda flow=flow, number=number: flow(f"f{number}"))
            expected += 10
    assert balance() == entries_sum() == expected


def test_a_checkout_whose_answer_was_lost_is_found_written_and_paid_once():
    put_on(500)
    order = paid(new_order(order_id=order_id(1), provider="balance", shop_id=SHOP))

    def check_out():
        return orders.put_order_with(order, "t", store.spend_writes(SHOP, "CNY", 100, order.order_id, AT))

    with faults(at_call(1, "lost_busy")):
        assert check_out() is None
    assert check_out() is None
    assert balance() == 400
    other = replace(order, takes=("u",))
    spending = store.spend_writes(SHOP, "CNY", 100, order.order_id, AT)
    assert orders.put_order_with(other, "u", spending).order_id == order.order_id
    assert balance() == entries_sum() == 400


# -- reading ------------------------------------------------------------------------------------------------------


def test_entries_come_newest_first_in_pages():
    for number in range(5):
        adjust(SHOP, "CNY", number + 1, "cash", adjustment_id=f"a{number}", by="key_t", now=AT + number)
    first, last = store.list_entries(SHOP, "CNY", None, 3)
    second, end = store.list_entries(SHOP, "CNY", last, 3)
    assert [one.amount_minor for one in first + second] == [5, 4, 3, 2, 1]
    assert end is None
    assert [one.entry_id for one in second] == ["adjustment:a1", "adjustment:a0"]
    assert [one.by for one in second] == ["key_t"] * 2


def test_a_shops_balances_are_its_own_and_one_per_currency():
    accounts.put_shop("demo2", "Other", AT)
    put_on(5)
    put_on(7, "b", "USD")
    adjust("demo2", "CNY", 9, "cash", adjustment_id="c", by="key_t", now=AT)
    assert {(one.currency, one.balance_minor) for one in store.list_balances(SHOP)} == {("CNY", 5), ("USD", 7)}
    assert [one.balance_minor for one in store.list_balances("demo2")] == [9]
