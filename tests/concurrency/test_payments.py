"""Money pulled at from all sides at once, on the real engine: notices, expiry, cancelling, refunds, balances, accounts.

Every test ends with the books: orders, keys, balances, ledger and disputes have to agree to the last minor unit.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.balance import store as balances
from chalicelib.balance.adjust import adjust
from chalicelib.balance.errors import InsufficientBalance
from chalicelib.checkout.model import WantedPayment
from chalicelib.checkout.offer_payment import offer_payment
from chalicelib.core.errors import Refused
from chalicelib.core.ids import payment_id_for
from chalicelib.fulfilment.deliver import deliver_due
from chalicelib.ledger.post_ledger import post_change
from chalicelib.orders import store as orders
from chalicelib.orders.release_unpaid import cancel_order, release_due
from chalicelib.orders.rules import status_of
from chalicelib.payments import account_store
from chalicelib.payments.answers import AccountChange, NewAccount
from chalicelib.payments.close_payments import close_payments
from chalicelib.payments.errors import AccountChanged, AccountExists
from chalicelib.payments.manage_accounts import change_account, create_account
from chalicelib.payments.model import DisputeFacts
from chalicelib.payments.receive_notice import receive_notice
from chalicelib.refunds.finish_refund import finish_refunds
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from chalicelib.refunds.rules import left_minor
from tests import shop
from tests.concurrency.buyers import repeat
from tests.faults.audit import all_rows, quiesce
from tests.faults.hooks import at_call, count_calls, faults
from tests.faults.test_payment_crash_points import (
    SECRETS,
    _account,
    _new_shop,
    _paid,
    another_process,
    check_books,
    house,  # noqa: F401 the fixture
    stored_secrets,
    word,
)

pytestmark = pytest.mark.usefixtures("stack")


def at_once(acts: list[Callable[[], Any]], *, shake: random.Random | None = None) -> list[Any]:
    """Run all acts in threads that start together, a little apart where shaken; answers or refusals in their order."""
    gate = threading.Barrier(len(acts))
    pauses = [shake.uniform(0, 0.03) if shake else 0 for _ in acts]

    def run(act: Callable[[], Any], pause: float) -> Any:
        gate.wait()
        time.sleep(pause)
        try:
            return act()
        except Refused as refused:
            return refused

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts, pauses))


def now_is(order: Any) -> Any:
    return orders.get_order(order.order_id)


# -- disputes ---------------------------------------------------------------------------------------------------------


def test_one_word_of_a_dispute_said_fifty_times_at_once_is_one_dispute_and_its_loss_one_loss(house):  # noqa: F811
    subject = _paid(house)
    order = subject.order()
    opened = word(order, "dispute_opened", dispute="dp_1")
    at_once([lambda: receive_notice(opened, house.now)] * 50)
    after = now_is(order)
    assert (status_of(after), len(after.disputes)) == ("needs_review", 1)
    assert [one.note for one in after.history].count("dispute_opened") == 1

    house.till.taken[order.provider_txn] = order.total_minor
    lost = word(order, "dispute_lost", dispute="dp_1")
    house.clock.advance(5)
    at_once([lambda notice=notice: receive_notice(notice, house.now) for notice in (lost, opened) * 25])
    after = now_is(order)
    assert (status_of(after), [one.reason for one in after.refunds]) == ("refunded", ["dispute_lost"])
    check_books(quiesce(house.clock), house.till)


@pytest.mark.parametrize("seed", range(3))
def test_every_word_of_two_disputes_at_once_is_decided_once_and_the_rows_say_what_the_order_says(house, seed):  # noqa: F811
    chance = random.Random(seed)
    placed = [_paid(house).order() for _ in range(4)]
    acts = []
    for order in placed:
        for name, end in (("dp_1", "won"), ("dp_2", chance.choice(["won", "lost"]))):
            dispute = f"{name}_{order.order_id}"
            for number in range(3):
                said = word(order, "dispute_opened", dispute=dispute, event_id=f"{dispute}{number}")
                said = replace(said, dispute=DisputeFacts(dispute, "fraudulent", house.now + number))
                acts.append(lambda said=said: receive_notice(said, house.now))
            ended = word(order, f"dispute_{end}", dispute=dispute, event_id=f"{dispute}end")
            acts += [lambda ended=ended: receive_notice(ended, house.now)] * 2
            if end == "lost":
                house.till.taken[order.provider_txn] = order.total_minor
    chance.shuffle(acts)
    assert not [one for one in at_once(acts, shake=chance) if isinstance(one, Refused)]
    for order in placed:
        end = "lost" if order.provider_txn in house.till.taken else "won"
        assert sorted(one.state for one in now_is(order).disputes) == sorted(["won", end])
    check_books(quiesce(house.clock), house.till)


# -- one order --------------------------------------------------------------------------------------------------------


def test_notice_expiry_cancelling_and_refund_of_one_order_at_once_leave_money_keys_and_books_in_step(house):  # noqa: F811
    """Offered by two ways and paid by one, the other or both, before or after anybody is told."""
    product_id = shop.make_product(house.now)
    shop.add_keys(product_id, 40, house.now, sealed=False)
    played = []
    end = house.now + 900
    for seed in range(6):
        chance = random.Random(seed)
        order = shop.place({product_id: 2}, house.now)
        order = offer_payment(order, WantedPayment(provider="stripe"), by="key_shop", now=house.now)
        ways = chance.choice([(1,), (2,), (1, 2)])
        paid_early = chance.random() < 0.5
        notices = [_captured(house, order, number) for number in ways] if paid_early else []
        tell = [lambda notice=notice: receive_notice(notice, end) for notice in notices] or [
            lambda number=number, order=order: receive_notice(_captured(house, order, number), end) for number in ways
        ]
        acts = [
            *tell,
            lambda order=order: release_due([order.order_id], end),
            lambda order=order: cancel_order(order, by="key_shop", now=end),
            lambda order=order: deliver_due(order.order_id, end),
            lambda order=order: _refund(order, end, "shop", is_operator=False),
            lambda order=order: _refund(order, end, "op", is_operator=True),
            lambda order=order: post_change(None, now_is(order), end),
            lambda order=order: close_payments(order.order_id),
        ]
        at_once(acts, shake=chance)
        for one in house.till.captures.values():  # providers go on until they are heard
            if one.payment_id.startswith(payment_id_for(order.order_id)):
                receive_notice(_notice(order, 2 if one.payment_id.endswith("_2") else 1, one), end)
        played.append(order)
    house.clock.at = end
    check_books(quiesce(house.clock), house.till)
    for order in orders.get_orders([one.order_id for one in played]):
        assert status_of(order) in ("delivered", "refunded")
        assert left_minor(order) == (order.total_minor if status_of(order) == "delivered" else 0)
        txns = {one.txn for one in house.till.captures.values()
                if one.payment_id.startswith(payment_id_for(order.order_id))} - {order.provider_txn}  # fmt: skip
        for txn in txns:  # what came once too often went back to where it came from, whole
            assert house.till.refunded_of(txn) == order.total_minor
    assert len({tuple(one.status for one in now_is(order).history) for order in played}) > 1, "nothing raced"


def _captured(house: Any, order: Any, number: int) -> Any:  # noqa: F811
    one = house.till.capture(payment_id_for(order.order_id, number), order.total_minor, order.currency)
    return _notice(order, number, one)


def _notice(order: Any, number: int, one: Any) -> Any:
    tried = order.attempt(number)
    return shop.paid_notice(
        order, event_id=f"evt_{one.txn}", payment_id=one.payment_id, provider_txn=one.txn, provider=tried.provider,
        account_id=tried.account_id,
    )  # fmt: skip


def _refund(order: Any, now: int, by: str, *, is_operator: bool, line_ids: list[int] | None = None) -> None:
    wanted = AskRefund(line_ids=line_ids)
    request_refund(now_is(order), wanted, is_operator=is_operator, by=by, now=now, request_id=f"{by}{line_ids}")
    finish_refunds(order.order_id, now)


# -- balances ---------------------------------------------------------------------------------------------------------


def test_of_64_checkouts_at_once_a_balance_for_seven_pays_seven_and_the_others_keys_are_back(house):  # noqa: F811
    product_id = shop.make_product(house.now)
    shop.add_keys(product_id, 200, house.now, sealed=False)
    _leave_on_balance(house, 7 * 990)

    def check_out(number: int) -> str:
        try:
            order = repeat(
                lambda: shop.place({product_id: 1}, house.now, number=f"B{number}", provider="balance")
            )  # fmt: skip
        except InsufficientBalance as refused:
            return refused.code
        return status_of(order)

    answers = Counter(at_once([lambda number=number: check_out(number) for number in range(64)]))
    assert answers == {"delivered": 7, "balance.insufficient": 57}
    now = quiesce(house.clock)
    assert shop.stock_of(product_id, now).available == 200 - 7
    assert balances.find_balance(shop.SHOP, "CNY").balance_minor == 0
    assert sum(row["sk"] == "O" and row["st"] != "fenced" for row in all_rows()) == 7
    check_books(now, house.till)


def _leave_on_balance(house: Any, minor: int) -> None:  # noqa: F811
    there = balances.find_balance(shop.SHOP, "CNY").balance_minor
    adjust(shop.SHOP, "CNY", minor - there, "cash", adjustment_id="rest", by="key_op", now=house.now)


def test_two_refunds_of_one_order_at_once_give_back_what_was_paid_and_no_more(house):  # noqa: F811
    """The whole order and one of its lines, by two callers, whose settling is also done by queue and timer."""
    one, other = (shop.make_product(house.now, price_minor=price) for price in (700, 291))
    for product_id in (one, other):
        shop.add_keys(product_id, 30, house.now, sealed=False)
    before = balances.find_balance(shop.SHOP, "CNY").balance_minor
    played = []
    for seed in range(4):
        order = shop.place({one: 1, other: 1}, house.now, provider="balance")
        acts = [
            lambda order=order: _refund(order, house.now, "a", is_operator=True),
            lambda order=order: _refund(order, house.now, "b", is_operator=False),
            lambda order=order: _refund(order, house.now, "c", is_operator=True, line_ids=[1]),
            lambda order=order: _refund(order, house.now, "c", is_operator=True, line_ids=[1]),
            *[lambda order=order: finish_refunds(order.order_id, house.now)] * 3,
        ]
        at_once(acts, shake=random.Random(seed))
        played.append(order)
    now = quiesce(house.clock)
    for order in map(now_is, played):
        assert sum(refund.amount_minor for refund in order.refunds if refund.state == "succeeded") <= 991
        assert (status_of(order), left_minor(order)) == ("refunded", 0)
    assert balances.find_balance(shop.SHOP, "CNY").balance_minor == before
    check_books(now, house.till)


# -- accounts ---------------------------------------------------------------------------------------------------------

ONE = AccountChange(secrets={"secret_key": "sk_test_A"})
OTHER = AccountChange(secrets={"webhook_secret": "whsec_B"}, overlap_minutes=0)
THIRD = AccountChange(status="off")


def _agrees(account_id: str, won: list[AccountChange]) -> None:
    """What is stored is what those said who were told yes, and nothing of those who were told no."""
    row, stored = account_store.get_account_row(account_id), stored_secrets(account_id)
    wanted = dict(SECRETS)
    for change in won:
        wanted |= change.secrets or {}
    assert stored["current"] == wanted, "the secrets are not those of the changes that were taken"
    assert row["secret_names"] == sorted(SECRETS)
    assert row["status"] == ("off" if THIRD in won else "on")
    assert len(row["changes"]) == 2 + len(won)
    good = {one["secrets"]["secret_key"] for one in stored["earlier"] if "secret_key" in one["secrets"]}
    assert good == ({"sk_test_1"} if ONE in won else set())


def _change(house: Any, account_id: str, change: AccountChange) -> AccountChange:  # noqa: F811
    change_account(account_id, change, by="key_op", now=house.now)
    return change


def test_of_operators_changing_one_account_at_once_those_refused_have_changed_nothing(house):  # noqa: F811
    refused = 0
    for seed in range(6):
        account_id = _account(house).facts["account_id"]
        another_process()
        answers = at_once(
            [lambda change=change, account_id=account_id: _change(house, account_id, change)
             for change in (ONE, OTHER, THIRD)],
            shake=random.Random(seed),
        )  # fmt: skip
        assert all(isinstance(one, (AccountChange, AccountChanged)) for one in answers), answers
        won = [one for one in answers if isinstance(one, AccountChange)]
        assert won
        refused += 3 - len(won)
        _agrees(account_id, won)
    assert refused, "nothing raced"


@pytest.mark.parametrize(("first", "second"), [(ONE, OTHER), (OTHER, ONE), (ONE, THIRD), (THIRD, ONE)])
def test_a_change_that_comes_whole_in_between_another_wins_or_is_refused(house, first, second):  # noqa: F811
    account_id = _account(house).facts["account_id"]
    another_process()
    calls = count_calls(lambda: _change(house, account_id, first))
    for call in calls:
        account_id = _account(house).facts["account_id"]
        another_process()
        won = []

        def in_between(account_id=account_id, won=won) -> None:
            with suppress(AccountChanged):
                won.append(_change(house, account_id, second))

        with faults(at_call(call.number, in_between)) as injected, suppress(AccountChanged):
            won.append(_change(house, account_id, first))
        assert injected.struck
        another_process()
        assert won, f"nobody won at {call}"
        _agrees(account_id, won)


def test_of_two_who_make_the_same_account_the_one_refused_leaves_no_secret_behind(house):  # noqa: F811
    def wanted(subject: Any, key: str) -> NewAccount:
        return NewAccount(
            shop_id=subject.facts["shop_id"], provider="stripe", mode="test", secrets={"secret_key": key}
        )  # fmt: skip

    subject = _new_shop(house)
    another_process()
    calls = count_calls(lambda: create_account(wanted(subject, "sk_test_A"), by="key_a", now=house.now))
    for call in calls:
        subject = _new_shop(house)
        another_process()
        made = []

        def make(key: str, by: str, subject=subject, made=made) -> None:
            with suppress(AccountExists):
                create_account(wanted(subject, key), by=by, now=house.now)
                made.append(key)

        with faults(at_call(call.number, lambda make=make: make("sk_test_B", "key_b"))):
            make("sk_test_A", "key_a")
        account_id = subject.facts["account_id"]
        assert len(made) == 1, f"{made} at {call}"
        assert stored_secrets(account_id)["current"] == {"secret_key": made[0]}
        assert account_store.get_account_row(account_id)["secret_names"] == ["secret_key"]
