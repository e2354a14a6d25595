"""The daily proof: what it carries on, what it finds, and that a late set makes it start over."""

from __future__ import annotations

import boto3
import pytest

from chalicelib.accounts import store as accounts
from chalicelib.aws.rows import to_row
from chalicelib.aws.transact import transact
from chalicelib.balance import store as balances
from chalicelib.balance.adjust import adjust
from chalicelib.core.settings import table_name
from chalicelib.ledger import prove_ledger as proof
from chalicelib.ledger import store, workers
from chalicelib.ledger.days import DAY_SECONDS
from chalicelib.ledger.model import Entry, EntrySet
from chalicelib.ledger.post_ledger import post_sets
from chalicelib.ledger.prove_ledger import prove_ledger
from chalicelib.ledger.rules import entry_sets
from tests.ledger.books import AT, ORDER, new_order, paid
from tests.ledger.test_post_ledger import TIMER

pytestmark = pytest.mark.usefixtures("stack")
NIGHT = AT + DAY_SECONDS + 2 * 3_600


@pytest.fixture(autouse=True)
def short_look_back(monkeypatch):
    """A new ledger looks back for its first day; not that far in a test."""
    monkeypatch.setattr(proof, "FIRST_LOOK_BACK_DAYS", 2)


@pytest.fixture
def shop(stack):
    accounts.put_shop("demo", "Demo", AT)


def a_set(event_id, at, amount=1):
    return EntrySet(event_id, at, (Entry("a", amount, "CNY"), Entry("b", -amount, "CNY")))


def days(proved):
    return [one.day for one in proved]


def test_days_are_proved_in_turn_once_they_have_been_over_for_an_hour(clock):
    store.put_set(a_set("e1", AT, 5))
    store.put_set(a_set("e2", AT + DAY_SECONDS, 7))
    assert days(prove_ledger(AT + DAY_SECONDS + 1_800)) == ["20260228"]  # the first of March is not over for an hour
    assert days(prove_ledger(AT + DAY_SECONDS + 3_600)) == ["20260301"]
    clock.at = AT + 3 * DAY_SECONDS + 3_600
    workers.every_day_prove_ledger(TIMER, None)
    closing = store.find_day("20260303")
    assert {one.account: one.closing_minor for one in closing.movements} == {"a": 12, "b": -12}
    assert prove_ledger(clock.at) == []


def test_a_late_set_has_its_day_and_all_after_it_proved_again():
    store.put_set(a_set("e1", AT, 5))
    prove_ledger(NIGHT + DAY_SECONDS)
    assert store.read_clock().until == "20260302"
    post_sets([a_set("late", AT + 9, 3)], NIGHT + DAY_SECONDS)
    assert days(prove_ledger(NIGHT + DAY_SECONDS)) == ["20260301", "20260302"]
    assert {one.closing_minor for one in store.find_day("20260302").movements} == {8, -8}


def test_a_set_that_comes_while_its_day_is_being_proved_is_not_left_out(monkeypatch):
    store.put_set(a_set("e1", AT, 5))
    real, came = store.list_day, []

    def listed(day):
        sets = real(day)
        if not came:
            came.append(post_sets([a_set("late", AT, 3)], NIGHT))
        return sets

    monkeypatch.setattr(proof.store, "list_day", listed)
    prove_ledger(NIGHT)
    assert {one.closing_minor for one in store.find_day("20260301").movements} == {8, -8}


def test_balances_that_agree_with_the_ledger_raise_nothing(shop):
    adjust("demo", "CNY", 500, "cash", adjustment_id="adj_1", by="key", now=AT)
    transact(balances.spend_writes("demo", "CNY", 100, ORDER, AT + 60))
    post_sets(entry_sets(paid(new_order(provider="balance"), AT + 60, txn=f"spend:{ORDER}")), AT + 60)
    adjust("demo", "CNY", 11, "cash", adjustment_id="adj_2", by="key", now=AT + DAY_SECONDS + 9)  # of the next day
    (closing,) = prove_ledger(NIGHT)
    assert closing.differences == ()
    assert ("shop_balance:demo", -400) in {(one.account, one.closing_minor) for one in closing.movements}


def test_a_spending_without_its_set_is_named_and_raises_an_alarm(shop, monkeypatch):
    counted = []
    monkeypatch.setattr(proof, "count", lambda name, value: counted.append((name, value)))
    adjust("demo", "CNY", 500, "cash", adjustment_id="adj_1", by="key", now=AT)
    transact(balances.spend_writes("demo", "CNY", 100, ORDER, AT + 60))
    (closing,) = prove_ledger(NIGHT)
    assert closing.differences == (
        f"balance_movement paid:{ORDER} CNY -100", "balance demo CNY is 400, the ledger says 500"
    )  # fmt: skip
    assert counted == [("LedgerDoesNotBalance", 2)]


def test_a_balance_changed_past_its_entries_is_found(shop):
    adjust("demo", "CNY", 500, "cash", adjustment_id="adj_1", by="key", now=AT)
    boto3.client("dynamodb").update_item(
        TableName=table_name(), Key=to_row({"pk": "BALANCE#demo", "sk": "CNY"}),
        UpdateExpression="SET balance_minor = balance_minor + :one", ExpressionAttributeValues=to_row({":one": 1}),
    )  # fmt: skip
    (closing,) = prove_ledger(NIGHT)
    assert closing.differences == ("balance demo CNY is 501, the ledger says 500",)


def test_a_set_somebody_changed_in_the_table_is_found():
    store.put_set(a_set("e1", AT, 5))
    row = store._to_set_row(a_set("e1", AT, 5))
    boto3.client("dynamodb").put_item(
        TableName=table_name(), Item=to_row({**row, "entries": [["a", 5, "CNY"], ["b", -4, "CNY"]]})
    )
    (closing,) = prove_ledger(NIGHT)
    assert set(closing.differences) == {"set_not_zero e1", "day_not_zero CNY 1"}


def test_a_refund_whose_halves_lie_on_two_sides_of_midnight_raises_nothing(shop):
    late = AT + DAY_SECONDS - 5
    adjust("demo", "CNY", 500, "cash", adjustment_id="adj_1", by="key", now=AT)
    transact(balances.spend_writes("demo", "CNY", 100, ORDER, AT + 60))
    order = paid(new_order(provider="balance"), AT + 60, txn=f"spend:{ORDER}")
    post_sets(entry_sets(order), AT + 60)
    balances.credit_refund("demo", "CNY", ORDER, f"rfd_{ORDER.removeprefix('ord_')}_1", 100, late)
    (first,) = prove_ledger(NIGHT)
    assert (first.differences, len(first.waiting)) == ((), 1)
    from chalicelib.payments.model import RefundResult
    from chalicelib.refunds.rules import ask_refund, settle_refund

    asked = ask_refund(order, None, is_operator=True, now=late, by="key", reason="")
    after = settle_refund(asked, 1, RefundResult("succeeded"), late + 20)
    post_sets([one for one in entry_sets(after) if one not in entry_sets(order)], late + 20)
    (second,) = prove_ledger(NIGHT + DAY_SECONDS)
    assert (second.differences, second.waiting) == ((), ())
