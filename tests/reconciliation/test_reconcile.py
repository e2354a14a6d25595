"""A day from the message to its result, on the real engine: what is found, when it waits, and what a crash leaves."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from benchmarks.meter import Meter
from chalicelib.aws.queues import send
from chalicelib.ledger import store as ledger
from chalicelib.orders import store as orders
from chalicelib.payments.errors import NoStatement, ProviderRefused, ProviderUnavailable
from chalicelib.payments.model import StatementLine
from chalicelib.payments.receive_notice import receive_notice
from chalicelib.reconciliation import store, workers
from chalicelib.reconciliation.reconcile import reconcile
from chalicelib.reconciliation.resume_reconciliations import resume_reconciliations
from chalicelib.refunds.finish_refund import finish_refunds
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from tests import shop
from tests.faults.hooks import Crash, at_call, count_calls, faults
from tests.imports.uploads import messages
from tests.reconciliation.house import (
    DAY,
    NEXT_MORNING,
    NOON,
    carry_messages,
    create,
    differences_of,
    many_lines,
    open_house,
    post,
    reconciled,
)


@pytest.fixture
def house(stack, clock, monkeypatch):
    return open_house(monkeypatch)


@pytest.fixture
def place(house, clock):
    clock.at = NOON - 60
    product_id = shop.make_product(clock.at, keys_in_stock=20)
    return lambda at=NOON - 60: shop.place({product_id: 1}, at)


def give_back(order, at):
    request_refund(orders.get_order(order.order_id), AskRefund(), is_operator=True, by="key_op", now=at)
    finish_refunds(order.order_id, at)
    post(order.order_id, at)


def every_minute():
    event = {"version": "0", "id": "", "detail-type": "", "source": "", "account": "", "time": "", "region": "",
             "resources": [], "detail": {}}  # fmt: skip
    return workers.every_minute_resume_reconciliations(event, None)


def fee_sets(day="20260301"):
    return [one for one in ledger.list_day(day) if one.event_id.startswith("fees:")]


def test_a_day_on_which_both_sides_agree_has_no_difference(house, place, clock):
    lines = [house.takes(place(), fee_minor=6) for _ in range(3)]
    given_back = place()
    lines.append(house.takes(given_back, fee_minor=6))
    give_back(given_back, NOON + 90)
    refund_id = f"{given_back.order_id.replace('ord_', 'rfd_')}_1"
    lines.append(replace(lines[-1], kind="refund", our_no=refund_id, amount_minor=-990, fee_minor=0, refund_txn="re_1"))
    house.statements[DAY] = lines
    row = reconciled(clock)
    assert (row["status"], row["differences"], row["counts"]["matched"]) == ("completed", 0, 5)
    assert row["totals"] == [["CNY", 2970, 2970, 24, 0]]
    assert (
        sum(entry.amount_minor for one in fee_sets() for entry in one.entries if entry.account == "fees:sandbox") == 24
    )


def test_lost_money_unknown_refunds_and_wrong_sums_are_each_found(house, place, clock):
    lost, wrong, only_here = place(), place(), place()
    lines = [house.takes(lost, tells=False), replace(house.takes(wrong), amount_minor=991)]
    house.takes(only_here)
    by_hand = StatementLine("refund", f"txn_{wrong.order_id}", None, -5, "CNY", NOON + 9, refund_txn="re_hand")
    payout = StatementLine("other", "po_1", None, -5_000, "CNY", NOON)
    house.statements[DAY] = [*lines, by_hand, payout]
    row = reconciled(clock)
    found = {(one.outcome, one.order_id, one.theirs.kind if one.theirs else None) for one in differences_of(row)}
    assert found == {
        ("missing_here", lost.order_id, "payment"), ("missing_here", wrong.order_id, "refund"),
        ("amount_differs", wrong.order_id, "payment"), ("missing_there", only_here.order_id, None),
    }  # fmt: skip
    assert row["counts"]["not_compared"] == 1


def test_a_payment_the_ledgers_days_do_not_have_is_found_by_its_order(house, place, clock):
    order = place()
    line = house.takes(order, tells=False)
    receive_notice(shop.paid_notice(order, provider_txn=line.provider_txn), NOON + 4 * 86_400)
    house.statements[DAY] = [line]
    row = reconciled(clock, NOON + 5 * 86_400)
    assert (row["differences"], row["counts"]["matched"]) == (0, 1)


def test_the_providers_day_is_told_by_its_own_clock(house, place, clock, monkeypatch):
    """China's first of March lasts from four in the afternoon of February's last day, UTC, to four of its own."""
    monkeypatch.setattr(house, "FACTS", replace(house.FACTS, day_offset_hours=8), raising=False)
    midnight = NOON - 43_200
    before, early, late, after = (place(midnight + hour * 3_600) for hour in (-9, -7, 15, 17))
    for order, hour in ((before, -9), (early, -7), (late, 15), (after, 17)):
        house.takes(order, midnight + hour * 3_600 + 60)
    house.statements[DAY] = []
    row = reconciled(clock)
    assert [one.order_id for one in differences_of(row)] == [early.order_id, late.order_id]


def test_of_two_copies_without_a_statement_one_notes_the_try(house, clock):
    row = reconciled(clock)
    again = {"why": "no_statement", "tries": row["tries"], "next_try_at": clock.at + 5}
    assert not store.wait(row["reconciliation_id"], **again)
    assert store.get_reconciliation(row["reconciliation_id"]) == row


def test_a_refund_still_pending_here_differs_in_state_and_its_late_end_is_not_missed_on_its_own_day(
    house, place, clock
):
    order = place()
    line = house.takes(order)
    house.refunds[f"{order.order_id.replace('ord_', 'rfd_')}_1"] = "pending"
    request_refund(orders.get_order(order.order_id), AskRefund(), is_operator=True, by="key_op", now=NOON + 60)
    refund = replace(
        line, kind="refund", our_no=f"{order.order_id.replace('ord_', 'rfd_')}_1", amount_minor=-990, at=NOON + 60
    )
    house.statements |= {DAY: [line, refund], "2026-03-02": []}
    row = reconciled(clock)
    assert [one.outcome for one in differences_of(row)] == ["state_differs"]
    house.refunds[refund.our_no] = "succeeded"
    finish_refunds(order.order_id, NOON + 86_400)
    post(order.order_id, NOON + 86_400)
    row = reconciled(clock, NEXT_MORNING + 86_400, day="2026-03-02", reconciliation_id="rec_0000000000000000002")
    assert (row["differences"], row["counts"]["elsewhere"] > 0) == (0, True)


def test_a_statement_that_is_not_there_is_asked_for_again_later_and_then_given_up(house, clock):
    house.moods = [NoStatement(), ProviderUnavailable()]
    house.statements[DAY] = []
    row = reconciled(clock)
    assert (row["status"], row["why"], row["next_try_at"]) == ("waiting", "no_statement", clock.at + 900)
    assert resume_reconciliations(clock.at + 899) == 0
    assert resume_reconciliations(clock.advance(900)) == 1
    assert carry_messages() == []
    row = store.get_reconciliation(row["reconciliation_id"])
    assert (row["status"], row["why"], row["next_try_at"]) == ("waiting", "provider_unavailable", clock.at + 1_800)
    clock.advance(1_800)
    assert resume_reconciliations(clock.at) == 1
    assert carry_messages() == []
    assert store.get_reconciliation(row["reconciliation_id"])["status"] == "completed"
    assert house.asked == 3


def test_after_two_days_without_a_statement_a_person_is_told(house, clock):
    row = reconciled(clock)
    for _ in range(30):
        if row["status"] != "waiting":
            break
        clock.at = row["next_try_at"]
        assert resume_reconciliations(clock.at) == 1
        assert carry_messages() == []
        row = store.get_reconciliation(row["reconciliation_id"])
    assert (row["status"], row["problem"]) == ("failed", "no_statement")
    assert row["finished_at"] - row["created_at"] <= 2 * 86_400
    assert resume_reconciliations(clock.advance(10 * 86_400)) == 0


def test_an_early_message_does_not_bother_the_provider(house, clock):
    row = reconciled(clock)
    reconcile(row["reconciliation_id"], clock.at + 899)
    assert house.asked == 1


@pytest.mark.parametrize("error, problem", [(ProviderRefused(), "provider_refused")])
def test_a_definite_no_ends_it(house, clock, error, problem):
    house.moods = [error]
    row = reconciled(clock)
    assert (row["status"], row["problem"]) == ("failed", problem)


def test_a_reconciliation_that_breaks_every_time_is_given_up(house, clock):
    house.moods = [RuntimeError()] * 9
    clock.at = NEXT_MORNING
    row = create()
    assert len(carry_messages()) == 1
    assert resume_reconciliations(clock.advance(2 * 86_400 + 301)) == 0
    assert store.get_reconciliation(row["reconciliation_id"])["problem"] == "gave_up"


def test_a_lost_message_is_made_good_by_the_timer(house, clock):
    house.statements[DAY] = []
    clock.at = NEXT_MORNING
    row = create()
    messages("reconciliation-due")  # lost
    assert every_minute() == {"sent": 0}
    clock.advance(300)
    assert every_minute() == {"sent": 1}
    assert every_minute() == {"sent": 0}
    assert carry_messages() == []
    assert store.get_reconciliation(row["reconciliation_id"])["status"] == "completed"


def test_a_message_that_comes_again_changes_nothing(house, place, clock):
    house.statements[DAY] = [house.takes(place(), tells=False, fee_minor=6)]
    row = reconciled(clock)
    for _ in range(2):
        send("reconciliation-due", {"reconciliation_id": row["reconciliation_id"]})
        assert carry_messages() == []
    assert store.get_reconciliation(row["reconciliation_id"]) == row
    assert (house.asked, len(fee_sets())) == (1, 1)


def test_a_second_reconciliation_of_the_same_day_posts_no_fee_twice(house, place, clock):
    house.statements[DAY] = [house.takes(place(), fee_minor=6)]
    reconciled(clock)
    reconciled(clock, reconciliation_id="rec_0000000000000000002")
    assert len(fee_sets()) == 1


def test_a_crash_at_any_call_is_made_good_by_the_next_message(house, place, clock):
    lines = [house.takes(place()), house.takes(place(), tells=False), house.takes(place(), tells=False)]
    clock.at = NEXT_MORNING

    def prepared(number):
        """A reconciliation of the same facts, but for a fee of its own that is to be posted."""
        fee = StatementLine("fee", f"fee_{number}", None, -6, "CNY", NOON)
        house.statements[DAY] = [*lines, fee]
        return create(reconciliation_id=f"rec_1{number:018d}")["reconciliation_id"]

    first = prepared(0)
    calls = count_calls(lambda: reconcile(first, clock.at))
    wanted = store.get_reconciliation(first)
    assert (wanted["status"], wanted["differences"], len(calls) > 10) == ("completed", 2, True)
    told = ("status", "counts", "totals", "differences")
    tried = [one for one in calls if one.operation != "Query"]
    for call in tried:
        reconciliation_id = prepared(call.number)
        with faults(at_call(call.number, "crash_before")), pytest.raises(Crash):
            reconcile(reconciliation_id, clock.at)
        for _ in range(2):
            reconcile(reconciliation_id, clock.at)
        row = store.get_reconciliation(reconciliation_id)
        assert {name: row[name] for name in told} == {name: wanted[name] for name in told}, str(call)
        assert differences_of(row) == differences_of(wanted)
    assert len(fee_sets()) == 1 + len(tried)


def test_of_two_copies_that_see_different_facts_one_result_stands_whole(house, place, clock):
    """While one copy has compared and not yet written, the lost money comes in and another copy writes first."""
    order = place()
    house.statements[DAY] = [house.takes(order, tells=False, fee_minor=6)]
    clock.at = NEXT_MORNING
    reconciliation_id = create()["reconciliation_id"]

    def meanwhile():
        house.takes(orders.get_order(order.order_id), NOON)
        reconcile(reconciliation_id, clock.at)

    seen = []

    def at_first_page(call):
        if call.operation == "PutItem" and "REC#" in str(call.request) and not seen:
            seen.append(call)
            return meanwhile
        return None

    with faults(at_first_page):
        reconcile(reconciliation_id, clock.at)
    row = store.get_reconciliation(reconciliation_id)
    assert seen and (row["status"], row["differences"], row["counts"]["matched"]) == ("completed", 0, 1)
    assert differences_of(row) == []


def test_the_fees_of_a_large_statement_go_into_the_ledger_a_message_at_a_time(house, clock, monkeypatch):
    monkeypatch.setattr("chalicelib.reconciliation.post_fees.PAGES_A_MESSAGE", 1)
    monkeypatch.setattr(store, "PAGE_FEES", 100)
    house.statements[DAY] = many_lines(250)
    clock.at = NEXT_MORNING
    row = create()
    steps = []
    while events := messages("reconciliation-due"):
        for event in events:
            workers.on_reconciliation_due(event, None)
            seen = store.get_reconciliation(row["reconciliation_id"])
            steps.append((seen["status"], seen["fees_done"]))
    assert steps == [("posting", 1), ("posting", 2), ("completed", 3)]
    assert len(fee_sets()) == 250


def test_posted_fees_have_their_day_proved_again(house, place, clock):
    house.statements[DAY] = [house.takes(place(), fee_minor=6)]
    ledger.put_day(ledger.DayClosing("20260301", 0, ()), None)
    reconciled(clock)
    assert ledger.read_clock().until == "20260228"


def test_the_cost_of_a_line_is_flat_even_when_all_of_them_differ(house, clock):
    requests, units = {}, {}
    for number in (200, 1_200):
        house.statements[DAY] = many_lines(number, fee_minor=0)
        clock.at = NEXT_MORNING
        reconciliation_id = create(reconciliation_id=f"rec_2{number:018d}")["reconciliation_id"]
        with Meter() as meter:
            reconcile(reconciliation_id, clock.at)
        requests[number], units[number] = meter.requests, meter.write_units
        assert store.get_reconciliation(reconciliation_id)["counts"]["missing_here"] == number
    assert (requests[1_200] - requests[200]) / 1_000 == 0.02, "a hundred are written at a time, and so are orders read"
    assert 0.005 < (units[1_200] - units[200]) / 1_000 < 0.06


def test_ten_thousand_lines_need_little_memory(house, clock):
    house.statements[DAY] = many_lines(10_000, fee_minor=0)
    clock.at = NEXT_MORNING
    reconciliation_id = create()["reconciliation_id"]
    tracemalloc.start()
    reconcile(reconciliation_id, clock.at)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    row = store.get_reconciliation(reconciliation_id)
    assert (row["status"], row["differences"]) == ("completed", 10_000)
    assert differences_of(row)[0].theirs.provider_txn == "txn_0"
    assert peak < 24 * 1024 * 1024, "besides the statement itself"
