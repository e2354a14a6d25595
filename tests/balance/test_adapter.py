"""The balance as a payment provider."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.accounts import store as accounts
from chalicelib.aws.transact import transact
from chalicelib.balance import store
from chalicelib.balance.adjust import adjust
from chalicelib.payments.adapters import balance
from chalicelib.payments.errors import BadNotice, BadStatement, ProviderRefused
from chalicelib.payments.model import Account, Payment, Started
from tests.faults.hooks import at_call, faults

pytestmark = pytest.mark.usefixtures("stack")
AT = 1_772_323_200
ORDER = "ord_0123456789abcdef"
PAYMENT = Payment(
    "pay_0123456789abcdef", ORDER, 100, "CNY", "Card", AT + 900, "https://pay.example",
    Account("balance", shop_id="demo"), "balance",
)  # fmt: skip


@pytest.fixture
def spent(stack):
    accounts.put_shop("demo", "Demo", AT)
    adjust("demo", "CNY", 500, "cash", adjustment_id="adj_1", by="key", now=AT)
    transact(store.spend_writes("demo", "CNY", 100, ORDER, AT + 60))


def balance_of():
    return store.find_balance("demo", "CNY").balance_minor


def test_it_opens_nothing_and_hears_of_nothing():
    assert balance.start(PAYMENT, AT) == Started()
    with pytest.raises(BadNotice):
        balance.read_notice(PAYMENT.account, {}, b"{}", AT)
    with pytest.raises(BadStatement):
        balance.parse_statement(PAYMENT.account, b"", "2026-03-01")


def test_it_finds_what_was_spent(spent):
    found = balance.find(PAYMENT)
    assert (found.state, found.amount_minor, found.currency) == ("paid", 100, "CNY")
    assert found.provider_txn == f"spend:{ORDER}"
    assert balance.close(PAYMENT) == "paid"


def test_what_was_not_spent_is_unpaid_and_closed():
    assert balance.find(PAYMENT).state == "unpaid"
    assert balance.close(PAYMENT) == "closed"


def test_a_refund_gives_back_once_and_is_found(spent):
    assert balance.find_refund(PAYMENT, "rfd_1") is None
    for _ in range(2):
        assert balance.refund(PAYMENT, "rfd_1", 60, AT + 90).state == "succeeded"
        assert balance_of() == 460
    assert balance.find_refund(PAYMENT, "rfd_1") == balance.refund(PAYMENT, "rfd_1", 60, AT + 99)
    assert balance.refund(PAYMENT, "rfd_1", 59, AT + 90).state == "unknown"


def test_a_refund_of_more_than_is_left_or_of_nothing_fails(spent):
    assert balance.refund(PAYMENT, "rfd_1", 101, AT).state == "failed"
    assert balance.refund(PAYMENT, "rfd_2", 0, AT).state == "failed"
    assert balance.refund(replace(PAYMENT, order_id="ord_2222222222222222"), "rfd_3", 5, AT).state == "failed"
    assert balance_of() == 400


def test_a_refund_whose_answer_was_lost_is_unknown_and_then_found_done(spent):
    with faults(at_call(1, "lost_gone")):
        assert balance.refund(PAYMENT, "rfd_1", 60, AT).state == "unknown"
    assert balance.find_refund(PAYMENT, "rfd_1").state == "succeeded"
    assert balance.refund(PAYMENT, "rfd_1", 60, AT).state == "succeeded"
    assert balance_of() == 460


def test_without_the_table_nothing_is_concluded(spent):
    def broken(call):
        return "broken"

    with faults(broken):
        assert balance.find(PAYMENT).state == "unknown"
        assert balance.close(PAYMENT) == "unknown"
        assert balance.refund(PAYMENT, "rfd_1", 60, AT).state == "unknown"
        assert balance.find_refund(PAYMENT, "rfd_1").state == "unknown"
    assert balance_of() == 400


def test_an_account_without_a_shop_can_do_nothing(spent):
    nobody = replace(PAYMENT, account=Account("balance"))
    for refused in (lambda: balance.start(nobody, AT), lambda: balance.statement(nobody.account, "2026-03-01")):
        with pytest.raises(ProviderRefused):
            refused()
    assert balance.find(nobody).state == balance.close(nobody) == "unknown"
    assert balance.refund(nobody, "rfd_1", 5, AT).state == balance.find_refund(nobody, "rfd_1").state == "unknown"


def test_another_shops_account_does_not_see_the_spending(spent):
    other = replace(PAYMENT, account=Account("balance", shop_id="other"))
    assert balance.find(other).state == "unpaid"
    assert balance.refund(other, "rfd_1", 5, AT).state == "failed"


def test_its_statement_has_the_spendings_and_refunds_of_the_day(spent):
    balance.refund(PAYMENT, "rfd_1", 60, AT + 90)
    balance.refund(PAYMENT, "rfd_2", 1, AT + 86_400)
    lines = balance.statement(PAYMENT.account, "2026-03-01")
    told = [(one.kind, one.our_no, one.amount_minor, one.provider_txn) for one in lines]
    assert told == [
        ("other", "cash", -500, "adjustment:adj_1"),
        ("payment", "pay_0123456789abcdef", 100, f"spend:{ORDER}"),
        ("refund", "rfd_1", -60, f"spend:{ORDER}"),
    ]
    assert lines[2].refund_txn == "refund:rfd_1"
    assert [one.our_no for one in balance.statement(PAYMENT.account, "2026-03-02")] == ["rfd_2"]
