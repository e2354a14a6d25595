"""Money that moves after the sale without our asking: disputes, refunds by hand, refunds that come back, and orders
paid by two ways at once. Whatever comes, however often and in whichever order, ends in one state with the money
accounted for.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from chalicelib.checkout.model import WantedPayment
from chalicelib.checkout.offer_payment import offer_payment
from chalicelib.core.ids import payment_id_for
from chalicelib.fulfilment.deliver import deliver_by_hand, deliver_due
from chalicelib.fulfilment.errors import NotDelivered
from chalicelib.fulfilment.reveal import reveal_order
from chalicelib.orders import store as orders
from chalicelib.orders.answers import line_status
from chalicelib.orders.errors import Disputed, NotPayable
from chalicelib.orders.release_unpaid import cancel_order, release_due
from chalicelib.orders.rules import refund_id_of, status_of
from chalicelib.payments import dispute_store, store
from chalicelib.payments.ask_payments import ask_payments
from chalicelib.payments.model import DisputeFacts, Notice, RefundResult
from chalicelib.payments.receive_notice import match_notice, receive_notice
from chalicelib.refunds.finish_refund import finish_refunds, recheck_refund
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from chalicelib.refunds.rules import left_minor
from tests import shop
from tests.faults.audit import check_invariants, quiesce
from tests.faults.bank import open_bank

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def bank(monkeypatch):
    return open_bank(monkeypatch)


def sold(bank, clock, *, keys=3, quantity=2, **members):
    """A product with keys, an order of it paid at the bank; (product id, order)."""
    product_id = shop.make_product(clock.at, keys_in_stock=keys, **members)
    order = shop.place({product_id: quantity}, clock.at)
    receive_notice(paid(bank, order), clock.at)
    return product_id, orders.get_order(order.order_id)


def paid(bank, order, number=1):
    payment_id, tried = payment_id_for(order.order_id, number), order.attempt(number)
    one = bank.capture(payment_id, order.total_minor, order.currency)
    return Notice(
        tried.provider, f"evt_{one.txn}", "paid", payment_id, one.txn, one.amount_minor, one.currency,
        account_id=tried.account_id,
    )  # fmt: skip


def word(order, kind, *, event_id=None, amount_minor=None, dispute=None, **members):
    """What the provider says later about the money of an order, naming it only by its own number."""
    minor = order.total_minor if amount_minor is None else amount_minor
    facts = DisputeFacts(dispute, "fraudulent", order.created_at + 86_400) if dispute else None
    return Notice(
        order.provider, event_id or f"evt_{kind}_{dispute}_{minor}", kind, None, order.provider_txn, minor,
        order.currency, dispute=facts, **members,
    )  # fmt: skip


def now_is(order):
    return orders.get_order(order.order_id)


def reveal(order, clock):
    return reveal_order(order.order_id, by="buyer", source_ip="", user_agent="", now=clock.at)


def test_a_dispute_freezes_the_order_at_once_and_winning_it_thaws_it(clock, bank):
    _, order = sold(bank, clock, delivery={"mode": "manual"})
    receive_notice(word(order, "dispute_opened", dispute="dp_1"), clock.at)
    assert status_of(now_is(order)) == "needs_review"
    with pytest.raises(Disputed):
        deliver_by_hand(order.order_id, by="op", now=clock.at)
    with pytest.raises(Disputed):
        request_refund(now_is(order), AskRefund(), is_operator=True, by="op", now=clock.at)
    assert deliver_due(order.order_id, clock.at) is None
    receive_notice(word(order, "dispute_won", dispute="dp_1"), clock.advance(60))
    assert status_of(now_is(order)) == "paid"
    deliver_by_hand(order.order_id, by="op", now=clock.at)
    assert len(reveal(order, clock)) == 2
    (label,), _ = dispute_store.list_labels(None, 10)
    assert (label["state"], label["order_id"], label["was_revealed"]) == ("won", order.order_id, False)


def test_keys_of_a_disputed_order_are_shown_to_nobody_and_seen_ones_are_marked(clock, bank):
    _, order = sold(bank, clock)
    receive_notice(word(order, "dispute_opened", dispute="dp_1"), clock.at)
    assert line_status(now_is(order), now_is(order).lines[0]) == "delivered"
    seen = replace(now_is(order), lines=(replace(order.lines[0], revealed_at=clock.at),))
    assert line_status(seen, seen.lines[0]) == "disputed"
    with pytest.raises(NotDelivered):
        reveal(order, clock)


@pytest.mark.parametrize("is_revealed", [False, True])
def test_a_lost_dispute_takes_the_goods_back_where_nobody_saw_them(clock, bank, is_revealed):
    product_id, order = sold(bank, clock)
    if is_revealed:
        reveal(order, clock)
    for _ in range(2):
        for kind in ("dispute_opened", "dispute_lost"):
            receive_notice(word(now_is(order), kind, dispute="dp_1"), clock.advance(5))
    after = now_is(order)
    assert (status_of(after), left_minor(after), len(after.refunds)) == ("refunded", 0, 1)
    stock = shop.stock_of(product_id, clock.at)
    assert (stock.available, stock.quarantined) == ((1, 2) if is_revealed else (3, 0))
    (label,), _ = dispute_store.list_labels(None, 10)
    assert (label["state"], label["was_revealed"]) == ("lost", is_revealed)
    check_invariants(quiesce(clock), bank=bank)
    assert bank.refunds == {}, "the money had gone: nothing is paid back a second time"


def test_words_about_a_dispute_in_every_order_end_in_its_decision(clock, bank):
    for kinds in itertools.permutations(("dispute_opened", "dispute_lost", "dispute_opened")):
        _, order = sold(bank, clock)
        for number, kind in enumerate(kinds):
            receive_notice(word(order, kind, dispute="dp_1", event_id=f"{order.order_id}{number}"), clock.advance(1))
        assert status_of(now_is(order)) == "refunded"
        assert [one.state for one in now_is(order).disputes] == ["lost"]


def test_a_dispute_about_a_part_of_the_money_calls_a_person_when_it_is_lost(clock, bank):
    _, order = sold(bank, clock)
    for kind in ("dispute_opened", "dispute_lost"):
        receive_notice(word(order, kind, dispute="dp_1", amount_minor=100), clock.at)
    after = now_is(order)
    assert (status_of(after), left_minor(after)) == ("needs_review", order.total_minor - 100)
    assert all(line.extents for line in after.lines)


def test_a_dispute_of_unknown_money_is_kept_until_a_day_has_passed(clock, bank):
    notice = Notice("sandbox", "evt_1", "dispute_opened", None, "txn_foreign", 5, "CNY", dispute=DisputeFacts("dp_9"))
    receive_notice(notice, clock.at)
    pk, sk = "NOTICE#sandbox#txn_foreign", "evt_1"
    assert store.find_notice(pk, sk)[0].dispute == DisputeFacts("dp_9")
    assert match_notice(pk, sk, clock.advance(86_399)) == "waiting"
    assert match_notice(pk, sk, clock.advance(1)) == "abandoned"


def test_a_refund_made_by_hand_at_the_provider_ends_the_order_once(clock, bank):
    product_id, order = sold(bank, clock)
    for event in ("evt_a", "evt_b", "evt_a"):
        receive_notice(word(order, "refunded", event_id=event, provider_refund_id="re_1"), clock.at)
    after = now_is(order)
    assert (status_of(after), [one.reason for one in after.refunds]) == ("refunded", ["refunded_by_hand"])
    assert shop.stock_of(product_id, clock.at).available == 3
    assert bank.refunds == {}


def test_a_part_refunded_by_hand_is_never_paid_back_again(clock, bank):
    _, order = sold(bank, clock)
    receive_notice(word(order, "refunded", amount_minor=700, provider_refund_id="re_1"), clock.at)
    assert status_of(now_is(order)) == "needs_review"
    request_refund(now_is(order), AskRefund(), is_operator=True, by="op", now=clock.at)
    finish_refunds(order.order_id, clock.at)
    assert status_of(now_is(order)) == "refunded"
    assert bank.refunded_of(order.provider_txn) == order.total_minor - 700


def test_where_only_the_sum_of_refunds_is_told_each_counts_once(clock, bank):
    _, order = sold(bank, clock)
    for total, theirs in ((300, "re_1"), (500, "re_2"), (300, "re_1"), (500, "re_2")):
        told = replace(word(order, "refunded", event_id=theirs, provider_refund_id=theirs), amount_minor=None)
        receive_notice(replace(told, refunded_total_minor=total), clock.at)
    assert [one.amount_minor for one in now_is(order).refunds] == [300, 200]


def test_a_refund_the_provider_takes_back_calls_a_person_and_may_be_made_anew(clock, bank, monkeypatch):
    _, order = sold(bank, clock)
    asked = request_refund(order, AskRefund(), is_operator=False, by="shop", now=clock.at)
    done = finish_refunds(order.order_id, clock.at)
    assert status_of(done) == "refunded"
    refund_id = refund_id_of(asked, done.refund(1))
    receive_notice(replace(word(order, "refund_failed"), refund_id=refund_id, payment_id=None), clock.advance(60))

    recheck_refund(order.order_id, 1, clock.at)
    assert status_of(now_is(order)) == "refunded", "the provider's books still say that it was paid"
    bank.refunds.clear()
    with monkeypatch.context() as patch:
        patch.setattr(bank, "find_refund", lambda payment, refund_id: RefundResult("failed"))
        for _ in range(2):
            recheck_refund(order.order_id, 1, clock.at)
    assert (status_of(now_is(order)), now_is(order).refund(1).state) == ("needs_review", "reversed")
    request_refund(now_is(order), AskRefund(), is_operator=True, by="op", now=clock.at)
    finish_refunds(order.order_id, clock.at)
    assert [one.state for one in now_is(order).refunds] == ["reversed", "succeeded"]


def test_an_order_paid_by_two_ways_gives_the_second_money_back_to_where_it_came_from(clock, bank):
    product_id = shop.make_product(clock.at, keys_in_stock=3)
    order = shop.place({product_id: 1}, clock.at)
    shop.open_account("stripe")
    wanted = WantedPayment(provider="stripe")
    for _ in range(2):  # asked for twice, offered once
        order = offer_payment(order, wanted, by="shop", now=clock.at)
    assert [one.provider for one in order.attempts] == ["stripe"]
    second, first = paid(bank, order, 2), paid(bank, order, 1)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda notice: receive_notice(notice, clock.at), [second, first] * 8))
    for _ in range(2):
        finish_refunds(order.order_id, clock.advance(61))
    after = now_is(order)
    assert status_of(after) == "delivered"
    assert len(after.refunds) == 1 and after.refunds[0].state == "succeeded"
    assert {after.provider_txn, after.refunds[0].provider_txn} == {first.provider_txn, second.provider_txn}
    assert bank.refunded_of(after.refunds[0].provider_txn) == order.total_minor
    assert bank.refunded_of(after.provider_txn) == 0
    with pytest.raises(NotPayable):
        offer_payment(after, WantedPayment(provider="stripe"), by="shop", now=clock.at)


def test_a_notice_of_a_provider_the_order_was_never_offered_at_is_not_taken_for_payment(clock, bank):
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    order = shop.place({product_id: 1}, clock.at)
    notice = paid(bank, order)
    for foreign in (replace(notice, provider="stripe"), replace(notice, account_id="pac_1")):
        receive_notice(foreign, clock.at)
        assert status_of(now_is(order)) == "pending_payment"
    second = replace(notice, payment_id=payment_id_for(order.order_id, 2))
    receive_notice(second, clock.at)
    assert status_of(now_is(order)) == "pending_payment"


def test_expiry_cancel_payment_refund_and_dispute_in_all_orders_of_arrival_keep_money_and_keys_in_step(clock, bank):
    acts = ("pay", "expire", "cancel", "refund", "dispute")
    for sequence in list(itertools.permutations(acts))[::2]:  # every second one: each pair of acts in both orders
        product_id = shop.make_product(clock.at, keys_in_stock=1, hold_minutes=1)
        order = shop.place({product_id: 1}, clock.at)
        notice = paid(bank, order) if sequence.index("pay") == 0 else None
        for act in sequence:
            clock.advance(30)
            try:
                if act == "pay":
                    notice = notice or paid(bank, order)
                    receive_notice(notice, clock.at)
                    deliver_due(order.order_id, clock.at)
                elif act == "expire":
                    release_due([order.order_id], max(clock.at, order.expires_at + 1))
                elif act == "cancel":
                    cancel_order(now_is(order), by="shop", now=clock.at)
                elif act == "refund":
                    request_refund(now_is(order), AskRefund(), is_operator=True, by="op", now=clock.at)
                    finish_refunds(order.order_id, clock.at)
                elif act == "dispute" and now_is(order).provider_txn:
                    receive_notice(word(now_is(order), "dispute_opened", dispute="dp"), clock.at)
                    receive_notice(word(now_is(order), "dispute_lost", dispute="dp"), clock.at)
            except Exception as refused:
                assert hasattr(refused, "code"), f"{sequence}: {act} ended as {refused!r}"
        after = now_is(order)
        holds = sum(count for line in after.lines for _, _, count in line.extents)
        assert shop.stock_of(product_id, clock.at).available == 1 - holds, sequence
        assert left_minor(after) >= 0
        if holds and after.paid_at is not None:
            assert left_minor(after) > 0 or after.review, sequence


def test_money_that_was_never_told_is_found_by_asking(clock, bank):
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    order = shop.place({product_id: 1}, clock.at)
    paid(bank, order)
    bank.is_down = True
    assert not ask_payments(order.order_id, clock.at)
    bank.is_down = False
    for _ in range(2):
        assert ask_payments(order.order_id, clock.at)
    assert status_of(now_is(order)) == "delivered"
    assert len(now_is(order).history) == 2


def test_a_dispute_told_before_its_payment_waits_for_it_and_sends_no_money_back(clock, bank):
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    order = shop.place({product_id: 1}, clock.at)
    notice = paid(bank, order)
    early = replace(
        word(order, "dispute_opened", dispute="dp_1"), payment_id=notice.payment_id, provider_txn=notice.provider_txn
    )
    for _ in range(2):
        receive_notice(early, clock.at)
    assert status_of(now_is(order)) == "pending_payment"
    assert match_notice("NOTICE#sandbox#" + notice.provider_txn, early.event_id, clock.at) == "waiting"
    receive_notice(notice, clock.at)
    assert status_of(now_is(order)) == "delivered"
    assert match_notice("NOTICE#sandbox#" + notice.provider_txn, early.event_id, clock.advance(60)) == "applied"
    assert status_of(now_is(order)) == "needs_review"
    receive_notice(replace(early, kind="dispute_won", event_id="won"), clock.at)
    assert status_of(now_is(order)) == "delivered"
    assert now_is(order).refunds == ()


def test_a_refund_by_hand_told_while_ours_is_on_its_way_counts_when_ours_has_ended(clock, bank):
    _, order = sold(bank, clock, quantity=2)
    bank.moods.append("unsure")
    request_refund(order, AskRefund(), is_operator=True, by="op", now=clock.at)
    bank.is_down = True
    finish_refunds(order.order_id, clock.at)
    by_hand = word(order, "refunded", event_id="evt_h", amount_minor=300, provider_refund_id="re_h")
    receive_notice(by_hand, clock.at)
    assert len(now_is(order).refunds) == 1
    bank.is_down = False
    bank.moods[:] = ["failed"]
    finish_refunds(order.order_id, clock.advance(61))
    assert match_notice(f"NOTICE#sandbox#{order.provider_txn}", "evt_h", clock.at) == "applied"
    assert [one.state for one in now_is(order).refunds] == ["failed", "succeeded"]
    assert left_minor(now_is(order)) == order.total_minor - 300


def test_the_tenth_way_to_pay_may_be_asked_for_again_and_an_eleventh_not(clock, bank):
    order = shop.place({shop.make_product(clock.at, keys_in_stock=1): 1}, clock.at)
    shop.open_account("stripe")
    for number in range(9):
        order = offer_payment(order, WantedPayment(provider=("stripe", "sandbox")[number % 2]), by="s", now=clock.at)
    assert offer_payment(order, WantedPayment(provider="stripe"), by="s", now=clock.at) is order
    with pytest.raises(NotPayable):
        offer_payment(order, WantedPayment(provider="sandbox"), by="s", now=clock.at)
