"""Guards are claimed once and for ever; pages are written once; reading survives a table that answers in part."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from chalicelib.aws.clients import dynamodb
from chalicelib.core import settings
from chalicelib.core.errors import Busy
from chalicelib.keys import store
from chalicelib.keys.errors import UnsealingFailed
from chalicelib.keys.model import Guard


def test_the_first_claim_wins_and_the_loser_is_told_who_won(stack):
    assert store.claim_fingerprints("lot_a", [(2, "f1"), (3, "f2")]) == {}
    assert store.claim_fingerprints("lot_b", [(7, "f2"), (8, "f3")]) == {7: Guard("lot_a", 3)}
    assert store.find_by_fingerprint("f2") == Guard("lot_a", 3)
    assert store.find_by_fingerprint("f3") == Guard("lot_b", 8)
    assert store.find_by_fingerprint("f9") is None


def test_repeating_a_claim_is_not_losing_it(stack):
    claims = [(2, "f1"), (3, "f2")]
    assert store.claim_fingerprints("lot_a", claims) == {}
    assert store.claim_fingerprints("lot_a", claims) == {}


def test_the_same_key_on_another_line_of_the_same_file_loses(stack):
    store.claim_fingerprints("lot_a", [(2, "f1")])
    assert store.claim_fingerprints("lot_a", [(9, "f1")]) == {9: Guard("lot_a", 2)}


def test_of_many_claims_at_once_exactly_one_wins(stack):
    def claim(line):
        return store.claim_fingerprints("lot_a", [(line, "f1")])

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(claim, range(8)))
    winner = store.find_by_fingerprint("f1").line
    assert [line for line, outcome in enumerate(outcomes) if not outcome] == [winner]


def test_a_page_is_written_once(stack):
    store.put_pages("lot_a", [(0, [b"a", b"b"])], b"first")
    store.put_pages("lot_a", [(0, [b"x", b"y"])], b"second")
    assert [(key.blob, key.wrapped_key) for key in store.read_pages([("lot_a", 0, 2)])] == [
        (b"a", b"first"),
        (b"b", b"first"),
    ]


def test_a_page_of_another_length_stops_the_chunk(stack):
    store.put_pages("lot_a", [(0, [b"a", b"b"])], b"k")
    with pytest.raises(RuntimeError):
        store.put_pages("lot_a", [(0, [b"a"])], b"k")


def fill(pages):
    store.put_pages(
        "lot_a", [(page, [b"%d" % (page * 16 + place) for place in range(16)]) for page in range(pages)], b"k"
    )


def test_keys_come_in_the_order_asked_for_across_pages_and_batches(stack):
    fill(105)
    extents = [("lot_a", 1650, 20), ("lot_a", 3, 1), ("lot_a", 10, 1600)]
    numbers = [*range(1650, 1670), 3, *range(10, 1610)]
    keys = store.read_pages(extents)
    assert [key.number for key in keys] == numbers
    assert [key.blob for key in keys] == [b"%d" % number for number in numbers]
    assert keys[0].key_id == "lot_a.1650"


def test_pages_the_table_left_out_are_asked_for_again(stack):
    fill(3)
    held_back = []

    def leave_out(parsed, **_):
        rows = parsed.get("Responses", {}).get(settings.table_name(), [])
        if not held_back and len(rows) > 1:
            held_back.append(rows.pop())
            key = {name: held_back[0][name] for name in ("pk", "sk")}
            parsed["UnprocessedKeys"] = {settings.table_name(): {"Keys": [key], "ConsistentRead": True}}

    dynamodb().meta.events.register("after-call.dynamodb.BatchGetItem", leave_out)
    assert [key.number for key in store.read_pages([("lot_a", 0, 48)])] == list(range(48))
    assert held_back


def test_a_table_that_keeps_leaving_pages_out_is_busy(stack, monkeypatch):
    fill(1)
    monkeypatch.setattr(store.time, "sleep", lambda _: None)

    def leave_all_out(parsed, **_):
        parsed["Responses"] = {}
        parsed["UnprocessedKeys"] = {settings.table_name(): {"Keys": [{"pk": {"S": "K#lot_a#0"}, "sk": {"S": "P"}}]}}

    dynamodb().meta.events.register("after-call.dynamodb.BatchGetItem", leave_all_out)
    with pytest.raises(Busy):
        store.read_pages([("lot_a", 0, 1)])


@pytest.mark.parametrize("extent", [("lot_a", 16, 1), ("lot_a", 15, 2), ("lot_b", 0, 1)])
def test_a_key_that_is_not_there_is_never_passed_over(stack, extent):
    fill(1)
    with pytest.raises(UnsealingFailed):
        store.read_pages([extent])


def test_no_failure_in_the_pool_is_lost_and_nothing_new_is_begun_after_it(stack, monkeypatch):
    monkeypatch.setattr(store, "WRITERS", 1)
    seen = []

    def stop(**_):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt

    dynamodb().meta.events.register("before-call.dynamodb.PutItem", stop)
    with pytest.raises(KeyboardInterrupt):
        store.claim_fingerprints("lot_a", [(line, f"f{line}") for line in range(50)])
    assert len(seen) < 50
