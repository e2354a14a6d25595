"""Calls that are carried out and whose answer never comes, and tables that say 'not now': every effect happens once."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import cycle

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.core.errors import Refused
from chalicelib.core.ids import new_take_id
from chalicelib.fulfilment.deliver import deliver_due
from chalicelib.inventory import store as inventory
from chalicelib.keys.errors import SealingUnavailable
from chalicelib.orders import store as orders
from chalicelib.orders.release_unpaid import cancel_order
from chalicelib.orders.rules import status_of
from chalicelib.refunds.finish_refund import finish_refunds
from tests import shop
from tests.faults.audit import check_invariants, quiesce, run_timers
from tests.faults.bank import open_bank
from tests.faults.flows import FLOWS, GROUPS, Flow, Subject, World, _paid, _product, _refund
from tests.faults.hooks import LOST, NOT_NOW, at_random, at_write, count_calls, faults, new_process, refusal

pytestmark = pytest.mark.usefixtures("stack")
TRIES = 60


def act_until_done(flow: Flow, world: World, subject: Subject) -> None:
    """Deliver again, as a provider, queue or buyer would, until the act ends without an error of the table's."""
    for _ in range(TRIES):
        try:
            flow.act(world, subject)
            return
        except (ClientError, BotoCoreError) as error:
            failure: Exception = error
        except Refused as refused:
            assert refused.retry in ("same_request", "later"), f"a fault was told to the caller as {refused.code}"
            failure = refused
        new_process()
    raise AssertionError("the act never ended") from failure


def play_lost_answers(names: tuple[str, ...], clock) -> int:
    """Lose the answer of every write, each time about another order; the three ways of losing one take turns."""
    world, turns = World(clock), cycle(LOST)
    points: dict[str, str] = {}
    for name in names:
        flow = FLOWS[name]
        world.products.clear()
        subject = flow.start(world)
        calls = count_calls(lambda flow=flow, subject=subject: flow.act(world, subject))
        for number, call in enumerate((call for call in calls if call.is_write), start=1):
            for fault in [next(turns)] if len(calls) > 2 else LOST:
                subject = flow.start(world)
                points[subject.order_id] = f"{name}: {fault} {call}"
                with faults(at_write(number, fault)) as injected:
                    act_until_done(flow, world, subject)
                writes = sum(call.is_write for call in injected.calls)
                assert injected.struck or writes < number, "no answer was lost"
                _act_again(flow, world, subject, points[subject.order_id])
    _rest(world, clock, points)
    return len(points)


def play_storm(names: tuple[str, ...], clock, seeds: tuple[int, ...], *, probability: float = 0.3) -> int:
    """Every call fails with some probability, in every way that is not a crash; answers how often."""
    world = World(clock)
    struck = 0
    points: dict[str, str] = {}
    for name in names:
        for seed in seeds:
            subject = FLOWS[name].start(world)
            points[subject.order_id] = f"{name}, seed {seed}"
            with faults(at_random(random.Random(seed), probability, (*NOT_NOW, *LOST))) as injected:
                act_until_done(FLOWS[name], world, subject)
            new_process()
            _act_again(FLOWS[name], world, subject, points[subject.order_id])
            struck += len(injected.struck)
    _rest(world, clock, points)
    return struck


def _act_again(flow: Flow, world: World, subject: Subject, point: str) -> None:
    flow.act(world, subject)
    try:
        flow.check_end(subject)
    except AssertionError as broken:
        raise AssertionError(f"{point}: {broken}") from broken


def _rest(world: World, clock, points: dict[str, str]) -> None:
    try:
        check_invariants(quiesce(clock), shown=world.shown)
    except AssertionError as broken:
        raise AssertionError(f"{broken}\n{points}") from broken


@pytest.mark.parametrize("group", GROUPS)
def test_a_write_whose_answer_is_lost_has_its_effect_once(group, clock):
    assert play_lost_answers(GROUPS[group], clock) >= 1


def test_throttling_conflicts_and_internal_errors_are_overcome(clock):
    alone = ("expiry by the timer", "sweeping", "counting what is held")
    names = tuple(name for name in FLOWS if name not in alone)
    assert play_storm(names, clock, (1,)) >= len(names), "hardly anything failed"


def test_a_table_that_stays_busy_is_told_to_the_caller_and_nothing_is_changed(clock):
    product_id = shop.make_product(clock.at, keys_in_stock=2)
    order = shop.place({product_id: 1}, clock.at)
    for fault in ("throttled", "conflict"):
        with faults(lambda call, fault=fault: fault if call.is_write else None), pytest.raises(Refused) as refused:
            cancel_order(order, by="key_test", now=clock.at)
        assert (refused.value.code, refused.value.status, refused.value.retry) == ("service.busy", 503, "same_request")
        assert refused.value.retry_after_seconds
    assert status_of(orders.get_order(order.order_id)) == "pending_payment"
    check_invariants(clock.at, is_quiet=False)


def test_keys_of_a_late_delivery_stay_with_their_order_when_it_goes_on_before_the_repeat(clock):
    play_changed_before_repeat(clock)


def play_changed_before_repeat(clock) -> None:
    """The order's write is done, its answer lost; before it is sent again, the order goes on. The keys are its own."""
    world = World(clock)
    flow = FLOWS["notice after cancelling"]
    subject = flow.start(world)
    real_update = orders.dynamodb().update_item
    lost = []

    def update_item(**request):
        answer = real_update(**request)
        if ":take" in request["ExpressionAttributeValues"] and not lost:
            lost.append(request)
            order = orders.get_order(subject.order_id)
            orders.save(order, replace(order, reveals=(clock.at,), version=order.version + 1))
            raise ClientError({"Error": {"Code": "InternalServerError"}}, "UpdateItem")
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders.dynamodb(), "update_item", update_item)
        flow.act(world, subject)
    assert lost
    flow.check_end(subject)
    check_invariants(quiesce(clock), shown=world.shown)


def test_while_kms_is_out_nothing_is_shown_or_locked_and_later_everything_is(clock):
    world = World(clock)
    subject = _paid(world, {_product(world, is_sealed=True): 2})
    new_process()
    with faults(lambda call: "broken" if call.service == "kms" else None) as injected:
        for _ in range(2):
            with pytest.raises(SealingUnavailable):
                world.shown.reveal(subject.order_id, clock.at)
    assert len(injected.struck) == 2
    order = subject.order()
    assert (status_of(order), order.lines[0].revealed_at, order.reveals) == ("delivered", None, ())
    assert len(world.shown.reveal(subject.order_id, clock.at)) == 2
    check_invariants(quiesce(clock), shown=world.shown)


@pytest.mark.parametrize("mood", ["lost", "unsure", "deaf"])
def test_a_refund_without_an_answer_is_asked_about_and_never_paid_twice(clock, monkeypatch, mood):
    bank = open_bank(monkeypatch)
    world = World(clock)
    product_id = _product(world, 5)
    order = shop.place({product_id: 2}, clock.at)
    txn = bank.capture(f"pay_{order.order_id[4:]}", order.total_minor, "CNY").txn
    shop.receive_notice(shop.paid_notice(order, provider_txn=txn), clock.at)
    bank.moods = [mood]
    subject = Subject(order.order_id, {})
    _refund(world, subject)
    assert (status_of(subject.order()), shop.stock_of(product_id, clock.at).available) == ("refunding", 3)
    bank.is_down = True
    finish_refunds(order.order_id, clock.advance(60))
    assert status_of(subject.order()) == "refunding"
    bank.is_down = False
    now = quiesce(clock)
    assert status_of(subject.order()) == "refunded"
    assert len(bank.asked) == 1, "paid twice, or asked to"
    check_invariants(now, bank=bank)


def test_a_refund_the_provider_refuses_waits_for_a_person_and_keeps_the_goods(clock, monkeypatch):
    bank = open_bank(monkeypatch)
    world = World(clock)
    order = shop.place({_product(world): 2}, clock.at)
    txn = bank.capture(f"pay_{order.order_id[4:]}", order.total_minor, "CNY").txn
    shop.receive_notice(shop.paid_notice(order, provider_txn=txn), clock.at)
    bank.moods = ["failed"]
    subject = Subject(order.order_id, {})
    _refund(world, subject)
    assert status_of(subject.order()) == "needs_review"
    check_invariants(quiesce(clock), bank=bank)
    shop_order = subject.order()
    asked = _ask_again(shop_order, clock.at)
    assert (status_of(asked), bank.refunded_of(txn)) == ("refunded", order.total_minor)
    check_invariants(quiesce(clock), bank=bank)


def _ask_again(order, now):
    from chalicelib.refunds.model import AskRefund
    from chalicelib.refunds.request_refund import request_refund

    request_refund(order, AskRefund(), is_operator=True, by="key_op", now=now)
    return finish_refunds(order.order_id, now)


def test_timers_alone_finish_everything_when_stream_and_queues_are_down(clock):
    """Not a message is sent or handled: delayed delivery, expiry, late refund, abandoned takes all come right."""
    delayed = {"mode": "delayed", "delay_minutes": 5}
    world = World(clock)
    scarce = _product(world, 1)
    waiting = _paid(world, {_product(world, delivery=delayed): 1})
    unpaid = shop.place({_product(world, hold_minutes=3): 1}, clock.at)
    late = shop.place({scarce: 1}, clock.at)
    cancel_order(late, by="key_test", now=clock.at)
    shop.pay(shop.place({scarce: 1}, clock.at), clock.at)
    shop.pay(late, clock.at)
    inventory.take(_product(world), 1, order_id="ord_" + "0" * 16, take_id=new_take_id(clock.at), now=clock.at)
    with faults(lambda call: "broken" if call.service == "sqs" else None) as injected:
        for _ in range(6):
            clock.advance(60)
            run_timers()
        assert not [call for call in injected.calls if call.service == "sqs"]
    assert status_of(waiting.order()) == "delivered"
    assert waiting.order().lines[0].delivered_at == waiting.order().lines[0].deliver_at, "late, or early"
    assert status_of(orders.get_order(unpaid.order_id)) == "expired"
    assert status_of(orders.get_order(late.order_id)) == "refunded"
    check_invariants(clock.at, shown=world.shown)


def test_reads_that_come_back_in_parts_are_completed(clock):
    """BatchGetItem may leave rows out; nothing may be lost with them."""
    world = World(clock)
    subject = _paid(world, {_product(world, 20, is_sealed=True): 18})
    unpaid = [shop.place({_product(world): 1}, clock.at).order_id for _ in range(3)]
    left_out = []

    def leave_out(parsed, model, **_):
        (table, rows), *_ = parsed["Responses"].items()
        if len(rows) > 1 and len(left_out) < 4:
            kept, rest = rows[:1], rows[1:]
            keys = [{"pk": row["pk"], "sk": row["sk"]} for row in rest]
            parsed["Responses"][table] = kept
            parsed["UnprocessedKeys"] = {table: {"Keys": keys, "ConsistentRead": True}}
            left_out.append(len(rest))

    events = orders.dynamodb().meta.events
    events.register_last("after-call.dynamodb.BatchGetItem", leave_out)
    try:
        new_process()
        keys = world.shown.reveal(subject.order_id, clock.at)
        assert (len(keys), len(orders.get_orders(unpaid))) == (18, 3)
    finally:
        events.unregister("after-call.dynamodb.BatchGetItem", leave_out)
    assert left_out
    check_invariants(clock.at, shown=world.shown, is_quiet=False)


def test_an_answer_of_not_now_is_what_the_table_would_say():
    """The faults injected here are those that the code knows as 'not now'; another name would test nothing."""
    from chalicelib.aws.transact import is_busy
    from tests.faults.hooks import Call

    for fault in NOT_NOW:
        for operation in ("UpdateItem", "TransactWriteItems"):
            _, parsed = refusal(fault, Call(1, "dynamodb", operation, {}))
            assert is_busy(ClientError(parsed, operation)), (fault, operation)


def test_a_delivery_message_for_an_order_nobody_knows_is_harmless(clock):
    assert deliver_due("ord_" + "9" * 16, clock.at) is None
