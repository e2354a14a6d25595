"""Top-ups: money that arrives is credited once per transaction, whoever tells of it, and in whatever order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from chalicelib.accounts import store as accounts
from chalicelib.balance import ask_top_ups, receive_top_up, store, top_up_store, workers
from chalicelib.balance.ask_top_ups import ask_top_up
from chalicelib.balance.model import TopUp
from chalicelib.balance.rules import is_top_up_id, next_ask_at, payment_of_top_up
from chalicelib.core.errors import Busy
from chalicelib.core.ids import new_id
from chalicelib.ledger import store as ledger
from chalicelib.payments import sandbox_store as books
from chalicelib.payments.adapters import sandbox
from chalicelib.payments.model import Account, Found, Notice, ProviderFacts
from tests.faults.hooks import Crash, at_call, count_calls, faults
from tests.ledger.books import AT
from tests.ledger.test_post_ledger import TIMER

pytestmark = pytest.mark.usefixtures("stack")
SHOP = "demo"
DAY = 86_400


@pytest.fixture(autouse=True)
def shop(stack):
    accounts.put_shop(SHOP, "Demo", AT)


def opened(amount_minor: int = 500, **members) -> TopUp:
    top_up = TopUp(new_id("top", AT), SHOP, amount_minor, "CNY", "sandbox", AT, **members)
    return top_up_store.put_top_up(top_up, AT + 60)


def paid_notice(top_up: TopUp, **members) -> Notice:
    facts = {
        "provider": "sandbox", "event_id": "e1", "kind": "paid", "payment_id": top_up.top_up_id, "provider_txn": "t1",
        "amount_minor": top_up.amount_minor, "currency": "CNY",
    }  # fmt: skip
    return Notice(**{**facts, **members})


def balance(currency: str = "CNY") -> int:
    found = store.find_balance(SHOP, currency)
    return found.balance_minor if found else 0


def patiently(act):
    while True:
        try:
            return act()
        except Busy:
            continue


def sets():
    return {one.event_id: [tuple(entry) for entry in one.entries] for one in ledger.list_day("20260301")}


def test_money_becomes_balance_entry_and_ledger_together():
    top_up = opened()
    receive_top_up.receive_top_up(paid_notice(top_up), AT + 5)
    after = top_up_store.find_top_up(top_up.top_up_id)
    assert (after.state, after.paid_minor, after.paid_at) == ("paid", 500, AT + 5)
    (entry,) = store.list_entries(SHOP, "CNY", None, 9)[0]
    assert (entry.entry_id, entry.kind, entry.amount_minor) == ("topup:sandbox:t1", "top_up", 500)
    assert sets() == {
        "topup:sandbox:t1": [("clearing:sandbox", 500, "CNY"), (f"shop_balance:{SHOP}", -500, "CNY")]
    }  # fmt: skip
    assert balance() == 500


def test_one_transaction_told_by_fifty_notices_at_once_is_credited_once():
    top_up = opened()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(
            lambda number: patiently(
                lambda: receive_top_up.receive_top_up(paid_notice(top_up, event_id=f"e{number % 5}"), AT + number)
            ),
            range(50),
        ))  # fmt: skip
    assert balance() == 500
    assert top_up_store.find_top_up(top_up.top_up_id).paid_minor == 500


def test_each_transaction_counts_at_what_really_arrived():
    top_up = opened()
    receive_top_up.receive_top_up(paid_notice(top_up, amount_minor=499), AT)
    receive_top_up.receive_top_up(paid_notice(top_up, event_id="e2", provider_txn="t2", amount_minor=7), AT + DAY * 9)
    assert balance() == top_up_store.find_top_up(top_up.top_up_id).paid_minor == 506


def test_the_same_number_at_two_providers_is_two_payments():
    one, other = opened(), opened(provider_txn := 5)
    assert provider_txn == other.amount_minor
    receive_top_up.receive_top_up(paid_notice(one), AT)
    elsewhere = TopUp(new_id("top", AT + 1), SHOP, 70, "CNY", "stripe", AT)
    top_up_store.put_top_up(elsewhere, AT)
    receive_top_up.receive_top_up(paid_notice(elsewhere, provider="stripe"), AT)
    assert balance() == 570


def test_money_in_another_currency_waits_for_a_person_and_moves_no_balance():
    top_up = opened()
    for _ in range(2):
        receive_top_up.receive_top_up(paid_notice(top_up, currency="USD"), AT)
    after = top_up_store.find_top_up(top_up.top_up_id)
    assert (after.review, after.state, after.paid_minor) == ("other_currency", "open", 0)
    assert (balance(), balance("USD")) == (0, 0)
    assert sets() == {"topup:sandbox:t1": [("clearing:sandbox", 500, "USD"), ("suspense", -500, "USD")]}
    receive_top_up.receive_top_up(paid_notice(top_up, provider_txn="t2", event_id="e2"), AT)
    after = top_up_store.find_top_up(top_up.top_up_id)
    assert (balance(), after.review, after.state) == (500, "other_currency", "paid")


@pytest.mark.parametrize(
    "members",
    [
        {"provider": "stripe"}, {"account_id": "pac_0000000000000000000"}, {"kind": "failed"}, {"kind": "other"},
        {"amount_minor": 0}, {"amount_minor": None}, {"payment_id": "top_0000000000000000000"},
    ],
)  # fmt: skip
def test_what_is_not_money_for_this_top_up_moves_nothing(members):
    top_up = opened()
    receive_top_up.receive_top_up(paid_notice(top_up, **members), AT)
    assert balance() == 0
    assert top_up_store.find_top_up(top_up.top_up_id) == top_up


@pytest.mark.parametrize("kind", ["refunded", "dispute_opened", "dispute_lost"])
def test_money_that_went_back_calls_a_person(kind):
    top_up = opened()
    receive_top_up.receive_top_up(paid_notice(top_up), AT)
    receive_top_up.receive_top_up(paid_notice(top_up, kind=kind, event_id="e2"), AT + 9)
    after = top_up_store.find_top_up(top_up.top_up_id)
    assert (after.review, after.paid_minor, balance()) == ("money_went_back", 500, 500)


# -- asking -------------------------------------------------------------------------------------------------------


def tick(clock, seconds: int) -> None:
    clock.advance(seconds)
    workers.every_minute_ask_top_ups(TIMER, None)


def test_a_lost_notice_is_made_good_by_the_timer(clock):
    top_up = opened()
    tick(clock, 30)
    assert balance() == 0
    books.capture(top_up.top_up_id, 500, "CNY", clock.at)
    tick(clock, 30)
    tick(clock, 30)
    assert balance() == 500
    assert top_up_store.find_top_up(top_up.top_up_id).state == "paid"


def test_a_notice_and_the_timer_credit_once_in_either_order(clock):
    for number, is_first in enumerate((True, False), start=1):
        top_up = opened()
        txn = books.capture(top_up.top_up_id, 500, "CNY", clock.at).txn
        told = [
            lambda top_up=top_up, txn=txn: receive_top_up.receive_top_up(paid_notice(top_up, provider_txn=txn), AT),
            lambda top_up=top_up: ask_top_up(top_up.top_up_id, AT + 60),
        ]
        for act in told if is_first else reversed(told):
            act()
        assert balance() == 500 * number


def test_an_unpaid_top_up_is_asked_about_ever_more_seldom_and_ends_after_a_day(clock):
    top_up = opened()
    asked = []
    for _ in range(60):
        at = int(next(row["due_at"] for row in list_topups(clock.at + 3 * DAY))[:12])
        asked.append(at - AT)
        clock.at = at
        if ask_top_up(top_up.top_up_id, at) == "closed":
            break
    assert asked[:3] == [60, 1_860, 3_660]
    assert asked[-1] == DAY
    assert top_up_store.find_top_up(top_up.top_up_id).state == "closed"
    assert list(list_topups(clock.at + 9 * DAY)) == []
    receive_top_up.receive_top_up(paid_notice(top_up), clock.at)
    assert balance() == 500, "money that comes after the end is money"


def list_topups(until):
    from chalicelib.aws.due import list_due

    return list_due("topup", until)


class Provider:
    """A provider that ends payments when told to, and answers what it is set to."""

    FACTS = ProviderFacts("Test", {"page": sandbox.FACTS.methods["page"]})

    def __init__(self, found: Found, closed: str):
        self.found, self.closed = found, closed

    def find(self, payment):
        return self.found

    def close(self, payment):
        return self.closed


def test_a_provider_that_does_not_know_is_asked_for_three_days(clock, monkeypatch):
    provider = Provider(Found("unknown"), "unknown")
    for module in (ask_top_ups, receive_top_up):
        monkeypatch.setattr(module, "adapter_named", lambda name: provider)
        monkeypatch.setattr(module, "account_with", lambda name, account_id: Account(name))
    top_up = opened()
    assert ask_top_up(top_up.top_up_id, AT + DAY) == "waiting"
    assert ask_top_up(top_up.top_up_id, AT + 2 * DAY) == "waiting"
    provider.closed = "paid"
    assert ask_top_up(top_up.top_up_id, AT + 2 * DAY) == "waiting"
    provider.found = Found("paid", 500, "CNY", "t9")
    assert ask_top_up(top_up.top_up_id, AT + 2 * DAY) == "taken"
    assert ask_top_up(top_up.top_up_id, AT + 2 * DAY) == "ended"
    other = opened()
    provider.found, provider.closed = Found("unpaid"), "closed"
    assert ask_top_up(other.top_up_id, AT + DAY - 1) == "waiting"
    assert ask_top_up(other.top_up_id, AT + DAY) == "closed"
    third = opened()
    provider.closed = "unknown"
    assert ask_top_up(third.top_up_id, AT + 3 * DAY) == "closed"


def test_an_approved_payment_is_brought_in_by_asking(monkeypatch):
    provider = Provider(Found("paid", 500, "CNY", "t9"), "closed")
    monkeypatch.setattr(receive_top_up, "adapter_named", lambda name: provider)
    monkeypatch.setattr(receive_top_up, "account_with", lambda name, account_id: Account(name))
    top_up = opened()
    receive_top_up.receive_top_up(paid_notice(top_up, kind="approved", provider_txn=None), AT)
    assert balance() == 500


def test_a_found_payment_in_another_currency_is_asked_about_no_more(clock):
    top_up = opened()
    books.capture(top_up.top_up_id, 500, "USD", AT)
    assert ask_top_up(top_up.top_up_id, AT + 60) == "closed"
    assert (top_up_store.find_top_up(top_up.top_up_id).review, balance()) == ("other_currency", 0)


@pytest.mark.parametrize("fault", ["crash_before", "crash_after", "lost_gone", "lost_busy", "conflict"])
def test_a_fault_at_any_call_is_made_good_by_the_next_notice(fault):
    top_up = opened()
    calls = count_calls(lambda: receive_top_up.receive_top_up(paid_notice(top_up), AT))
    expected = 500
    for call in calls:
        top_up = opened()
        notice = paid_notice(top_up, provider_txn=f"t_{top_up.top_up_id}")
        with faults(at_call(call.number, fault)), suppress(Crash, Exception):
            receive_top_up.receive_top_up(notice, AT)
        receive_top_up.receive_top_up(notice, AT + 60)
        expected += 500
        assert balance() == expected


# -- rules --------------------------------------------------------------------------------------------------------


def test_only_ids_of_top_ups_are_taken_for_them():
    assert is_top_up_id(new_id("top", AT))
    assert not any(map(is_top_up_id, (None, "", "top_", "pay_0123456789abcdef", "top_0123456789abcdefgh!")))


def test_the_schedule_follows_the_provider_and_never_passes_the_end():
    facts = ProviderFacts("x", {}, ask_after_seconds=(60, 600))
    top_up = TopUp("top_x", SHOP, 5, "CNY", "x", AT)
    assert [next_ask_at(top_up, facts, AT + age) - AT for age in (0, 60, 600, DAY - 5, DAY + 5)] == [
        60, 600, 2_400, DAY, DAY + 5 + 1_800
    ]  # fmt: skip


def test_a_provider_learns_the_top_ups_id_sum_and_end_and_where_to_tell():
    top_up = TopUp("top_x", SHOP, 5, "CNY", "alipay", AT, account_id="pac_1", return_url="https://shop.example")
    payment = payment_of_top_up(top_up, Account("alipay"), "page", "https://pay.example")
    assert (payment.payment_id, payment.total_minor, payment.expires_at) == ("top_x", 5, AT + DAY)
    assert payment.notify_url == "https://pay.example/v1/notices/alipay/pac_1"
    assert (payment.method, payment.return_url) == ("page", "https://shop.example")
