"""A low balance is told once per fall: by the stream, by the timer, by both, and by neither twice."""

from __future__ import annotations

import random

import pytest

from chalicelib.accounts import store as accounts
from chalicelib.aws.rows import to_row
from chalicelib.balance import event_store, store, workers
from chalicelib.balance.adjust import adjust
from chalicelib.balance.model import Balance
from chalicelib.ledger.workers import post_records
from tests.ledger.books import AT
from tests.ledger.test_post_ledger import TIMER

pytestmark = pytest.mark.usefixtures("stack")
SHOP = "demo"


class Till:
    """A balance and the change records of its row, as the stream would bring them, kept back until they are sent."""

    def __init__(self, low: int | None = 100):
        accounts.put_shop(SHOP, "Demo", AT)
        self.records: list[dict] = []
        self._before: Balance | None = None
        self._number = 0
        if low is not None:
            store.set_low_balance(SHOP, "CNY", low)
            self._note()

    def move(self, amount_minor: int) -> None:
        self._number += 1
        adjust(SHOP, "CNY", amount_minor, "cash", adjustment_id=f"a{self._number}", by="key", now=AT)
        self._note()

    def _note(self) -> None:
        after = store.find_balance(SHOP, "CNY")
        change = {"Keys": to_row({"pk": f"BALANCE#{SHOP}", "sk": "CNY"}), "SequenceNumber": str(len(self.records)),
                  "NewImage": image(after)}  # fmt: skip
        if self._before:
            change["OldImage"] = image(self._before)
        self.records.append({"eventID": "1", "dynamodb": change})
        self._before = after

    def send(self) -> None:
        batch, self.records = self.records, []
        assert post_records(batch, AT) == {"batchItemFailures": []}


def image(balance: Balance) -> dict:
    return to_row({
        "pk": f"BALANCE#{balance.shop_id}", "sk": balance.currency, "balance_minor": balance.balance_minor,
        "v": balance.version, "low_balance_minor": balance.low_balance_minor, "told_v": balance.told_version,
    })  # fmt: skip


def told() -> list[int]:
    """The balances of the events so far, oldest first."""
    return [one.data["balance_minor"] for one in event_store.list_events(SHOP, None, 99)[0]][::-1]


def tick() -> None:
    workers.every_minute_watch_balances(TIMER, None)


@pytest.fixture
def till(stack):
    made = Till()
    made.move(500)
    made.send()
    tick()
    return made


def fresh(till) -> int:
    """Events since the till stood at 500. An empty till is low from the moment a shop names an amount."""
    return len(told()) - 1


def test_a_fall_is_told_once_however_often_its_record_comes(till):
    till.move(-401)
    records = list(till.records)
    till.send()
    post_records(records, AT + 60)
    assert fresh(till) == 1
    event = event_store.list_events(SHOP, None, 1)[0][0]
    assert (event.type, event.data) == (
        "balance.low", {"shop_id": SHOP, "currency": "CNY", "balance_minor": 99, "low_balance_minor": 100}
    )  # fmt: skip


def test_the_amount_itself_is_not_low(till):
    till.move(-400)
    till.send()
    tick()
    assert fresh(till) == 0


def test_a_low_balance_that_falls_on_is_not_told_again_and_a_new_fall_is(till):
    for amount in (-401, -10, -10):
        till.move(amount)
        till.send()
    assert fresh(till) == 1
    till.move(400)
    till.move(-400)
    till.send()
    assert fresh(till) == 2


def test_a_dip_between_two_looks_is_told_by_the_stream(till):
    till.move(-450)
    till.move(450)
    till.send()
    assert fresh(till) == 1


def test_the_timer_tells_without_any_stream_once(till):
    till.move(-401)
    for _ in range(3):
        tick()
    assert fresh(till) == 1
    till.send()
    assert fresh(till) == 1, "the stream came later and saw the same fall"
    till.move(400)
    till.move(-400)
    till.records.clear()  # lost: the timer never saw it rise
    tick()
    assert fresh(till) == 1
    till.move(400)
    tick()
    till.move(-400)
    tick()
    assert fresh(till) == 2


def test_the_stream_is_not_told_to_repeat_what_the_timer_told_of_a_later_moment(till):
    till.move(-401)
    till.move(-5)
    tick()
    till.send()
    assert fresh(till) == 1


def test_a_fall_is_told_although_the_record_of_the_rise_before_it_was_lost(till):
    till.move(-401)
    till.send()
    till.move(400)
    till.records.clear()
    till.move(-400)
    till.send()
    assert fresh(till) == 2


def test_the_timer_tells_of_a_fall_after_a_rise_that_the_stream_saw(till):
    till.move(-401)
    till.move(400)
    till.send()
    till.move(-400)  # and now the stream is down
    tick()
    assert fresh(till) == 2


def test_a_shop_that_named_no_amount_is_told_nothing(stack):
    made = Till(low=None)
    made.move(5)
    made.move(-5)
    made.send()
    tick()
    assert told() == []


def test_naming_an_amount_above_the_balance_is_told_and_null_ends_it(stack):
    made = Till(low=None)
    made.move(50)
    store.set_low_balance(SHOP, "CNY", 100)
    tick()
    tick()
    assert told() == [50]
    store.set_low_balance(SHOP, "CNY", None)
    made.move(-5)
    tick()
    assert told() == [50]
    assert store.list_watched(AT) == []


@pytest.mark.parametrize("seed", range(4))
def test_falls_are_told_exactly_once_whenever_stream_and_timer_come(seed, till):
    chance, falls, was_low = random.Random(seed), 0, False
    for _ in range(25):
        current = store.find_balance(SHOP, "CNY").balance_minor
        till.move(chance.choice((150, -(current // 4), 30 - current)) if current >= 120 else chance.choice((150, 5)))
        is_low = store.find_balance(SHOP, "CNY").is_low
        falls += is_low and not was_low
        was_low = is_low
        looks = [till.send, *[tick] * chance.randint(0, 2)]  # the timer may be first
        chance.shuffle(looks)
        for look in looks:
            look()
    assert fresh(till) == falls > 1
