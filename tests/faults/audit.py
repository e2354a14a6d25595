"""The auditor: reads the whole table and judges it by its own arithmetic, never by the product's.

`quiesce` lets the faults stop and time pass until nothing is left to do; `check_invariants` then holds the rows against
the invariants I1 to I10. Scanning the table is for tests only; the product never does it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row
from chalicelib.core.settings import table_name
from chalicelib.fulfilment.reveal import reveal_order
from chalicelib.inventory import store as inventory
from tests.faults.bank import Bank
from tests.faults.hooks import new_process

Key = tuple[str, int]  # lot, number

_TICK = {
    "version": "0", "account": "000000000000", "region": "us-east-1", "detail": {}, "detail-type": "Scheduled Event",
    "source": "aws.events", "time": "2026-03-01T00:00:00Z", "id": "tick", "resources": [],
}  # fmt: skip

# Written from the drawing in the documentation, not from the code: what may follow what in the history of an order.
LEGAL = {
    None: {"pending_payment"},
    # Still pending: offered by another way to pay.
    "pending_payment": {
        "pending_payment", "paid", "delivered", "partially_delivered", "cancelled", "expired", "needs_review",
    },
    # A dispute, or money that the provider gave back by hand, may come to any paid order: review, or refunded at once.
    "paid": {"paid", "partially_delivered", "delivered", "refunding", "refunded", "needs_review"},
    "delivering": {"paid", "partially_delivered", "delivered", "refunding", "refunded", "needs_review"},
    "partially_delivered": {"partially_delivered", "delivered", "refunding", "refunded", "needs_review"},
    "delivered": {"delivered", "refunding", "refunded", "needs_review"},
    "cancelled": {"delivering", "needs_review"},
    "expired": {"delivering", "needs_review"},
    "refunding": {
        "refunding", "refunded", "partially_refunded", "needs_review", "paid", "delivering", "delivered",
        "partially_delivered",
    },
    "refunded": {"refunding", "refunded", "needs_review"},
    "partially_refunded": {"refunding", "partially_refunded", "refunded", "needs_review"},
    "needs_review": {
        "refunding", "paid", "delivered", "partially_delivered", "refunded", "partially_refunded", "needs_review",
    },
}  # fmt: skip
SETTLED = {
    "paid", "delivered", "partially_delivered", "cancelled", "expired", "refunded", "partially_refunded",
    "needs_review",
}  # fmt: skip


@dataclass
class Shown:
    """What buyers were shown, as they saw it: key -> the order it was shown to."""

    keys: dict[Key, str] = field(default_factory=dict)
    reveals: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def reveal(self, order_id: str, now: int) -> list[dict]:
        """Show an order's keys and remember them; a key shown to another order before is a sale of one key twice."""
        keys = reveal_order(order_id, by="key_test", source_ip="10.0.0.1", user_agent="test", now=now)
        self.reveals[order_id] += 1
        for one in keys:
            lot_id, _, number = one["key_id"].rpartition(".")
            earlier = self.keys.setdefault((lot_id, int(number)), order_id)
            assert earlier == order_id, f"I1 {one['key_id']} was shown to {earlier} and to {order_id}"
        return keys


def all_rows() -> list[dict[str, Any]]:
    pages = dynamodb().get_paginator("scan").paginate(TableName=table_name(), ConsistentRead=True)
    return [from_row(row) for page in pages for row in page["Items"]]


def run_timers() -> None:
    """Every timer once, as the schedule starts them. No queue, no stream: they have to suffice alone."""
    from chalicelib.fulfilment.workers import every_minute_deliver_due
    from chalicelib.inventory.workers import every_minute_recount_held, every_minute_sweep_takes
    from chalicelib.orders.workers import every_minute_release_unpaid
    from chalicelib.payments.workers import every_minute_match_notices
    from chalicelib.refunds.workers import every_minute_finish_refunds

    for timer in (
        every_minute_sweep_takes, every_minute_match_notices, every_minute_release_unpaid, every_minute_deliver_due,
        every_minute_finish_refunds, every_minute_recount_held,
    ):  # fmt: skip
        timer(_TICK, None)


def quiesce(clock: Any, *, seconds: tuple[int, ...] = (61, 3_700, 61)) -> int:
    """The faults have stopped; time passes and the timers run. Answers the instant of the last run."""
    new_process()
    for step in seconds:
        clock.advance(step)
        run_timers()
    return clock.at


def check_invariants(now: int, *, shown: Shown | None = None, bank: Bank | None = None, is_quiet: bool = True) -> None:
    """Hold the whole table against I1, I2, I3, I4, I6, I8, I9 and, when quiet, I10.

    Raises: AssertionError that begins with the invariant and names what breaks it.
    """
    rows = all_rows()
    orders = [row for row in rows if row["sk"] == "O" and row["st"] != "fenced"]
    shelves = [row for row in rows if row["pk"].startswith("L#")]
    where = _places(shelves, orders)
    quarantined = _check_keys(shelves, where)
    for order in orders:
        _check_goods(order)
        captured = _captures(order, rows, bank)
        _check_money(order, captured)
        _check_history(order)
        if is_quiet:
            _check_settled(order, now)
            assert not captured or "paid" in order, f"I2 {order['pk']} ({order['st']}): money came and nobody noticed"
    if shown is not None:
        _check_shown(shown, where, quarantined, rows)
    if bank is not None:
        assert not bank.wrongs, f"I3 {bank.wrongs}"
    if is_quiet:
        _check_nothing_due(rows, now)
        _check_figures(rows, shelves, orders, now)


def _numbers(lot_id: str, start: int, count: int) -> list[Key]:
    return [(lot_id, number) for number in range(start, start + count)]


def _lot(shelf: dict) -> str:
    return shelf["pk"].removeprefix("L#").partition("#")[0]


def _places(shelves: list[dict], orders: list[dict]) -> dict[Key, list[str]]:
    """Every place where each key is."""
    where: dict[Key, list[str]] = defaultdict(list)
    takes = {order["pk"].removeprefix("O#ord_"): set(order["takes"]) for order in orders}
    for shelf in shelves:
        for start, count in shelf["runs"]:
            for key in _numbers(_lot(shelf), start, count):
                where[key].append("free")
        for entry, taken in shelf["j"].items():
            order, quantity, take_id = entry.rsplit(".", 2)
            if take_id in takes.get(order, ()):
                continue  # its order has them; the entry is only waiting to be tidied up
            for start, count in [(taken, int(quantity))] if isinstance(taken, int) else taken:
                for key in _numbers(_lot(shelf), start, count):
                    where[key].append(f"taken for {order}")
    for order in orders:
        for line in order["lines"]:
            for lot_id, start, count in line["x"]:
                for key in _numbers(lot_id, start, count):
                    where[key].append(f"line {line['i']} of {order['pk'].removeprefix('O#')}")
    return where


def _check_keys(shelves: list[dict], where: dict[Key, list[str]]) -> set[Key]:
    """Each number of each lot exactly once. Answers those that are nowhere because they are quarantined."""
    for key, places in where.items():
        assert len(places) == 1, f"I1 key {key} is in {len(places)} places: {places}"
    imported, spoiled = defaultdict(int), defaultdict(int)
    for shelf in shelves:
        imported[_lot(shelf)] += shelf["im"]
        spoiled[_lot(shelf)] += shelf["q"]
        free = sum(count for _, count in shelf["runs"])
        assert shelf["av"] == free, f"I4 {shelf['pk']} says {shelf['av']} free keys, its runs hold {free}"
    nowhere: set[Key] = set()
    for lot_id, count in imported.items():
        missing = {(lot_id, number) for number in range(count)} - where.keys()
        assert len(missing) == spoiled[lot_id], (
            f"I4 {lot_id}: {len(missing)} keys are nowhere, {spoiled[lot_id]} are quarantined: {sorted(missing)[:5]}"
        )
        nowhere |= missing
    strange = {key for key in where if key[1] >= imported[key[0]]}
    assert not strange, f"I4 keys that were never imported: {sorted(strange)[:5]}"
    return nowhere


def _refunded(order: dict, line: dict) -> bool:
    return any(one["i"] == line.get("rf") and one["s"] == "succeeded" for one in order.get("refs", ()))


def _was_reversed(order: dict, line: dict) -> bool:
    """Its goods ended with a refund that the provider took back later: a person looks after it, or it is given anew."""
    return any(one["s"] == "reversed" and line["i"] in one["l"] for one in order.get("refs", ()))


def _check_goods(order: dict) -> None:
    """I2: paid means exactly the keys bought, or the money back; never both."""
    name, is_paid = order["pk"], "paid" in order
    for line in order["lines"]:
        keys = sum(count for _, _, count in line["x"])
        what = f"line {line['i']} of {name} ({order['st']})"
        assert keys in (0, line["q"]), f"I2 {what} holds {keys} keys of {line['q']}"
        if not is_paid:
            assert "dd" not in line, f"I2 {what} was delivered unpaid"
            assert (keys == 0) == ("cl" in order), f"I2 {what} is unpaid and holds {keys} keys"
        elif _refunded(order, line):
            assert keys == 0, f"I2 {what} is refunded and keeps its keys"
        elif "dd" in line and not _was_reversed(order, line):
            assert keys == line["q"], f"I2 {what} was delivered without keys"
        if "dd" in line and order.get("rev") == "wrong_amount":
            raise AssertionError(f"I2 {what} was delivered although the sum was wrong")
        if "da" in line and "dd" in line:
            by_hand = any(note == "by_hand" for _, _, _, note in order["h"])
            assert by_hand or line["dd"] >= line["da"], f"I2 {what} was delivered early"


def _captures(order: dict, rows: list[dict], bank: Bank | None) -> dict[str, tuple[int, dict[str, int]]]:
    """The provider's own books about an order: txn -> (captured, {refund id: amount})."""
    payment_id = order["pk"].replace("O#ord_", "pay_")
    if bank is not None:
        return {
            txn: (one.amount_minor, {ref: minor for ref, (of, minor) in bank.refunds.items() if of == txn})
            for txn, one in bank.captures.items()
            if one.payment_id == payment_id
        }
    return {
        row["txn"]: (row["captured_minor"], row["refunds"])
        for row in rows
        if row["pk"] == f"SBX#{payment_id}" and "captured_minor" in row
    }


def _check_money(order: dict, captured: dict[str, tuple[int, dict[str, int]]]) -> None:
    """I3: what went back never exceeds what came, per capture; and our books are the provider's."""
    name = order["pk"].removeprefix("O#")
    for txn, (minor, refunds) in captured.items():
        assert sum(refunds.values()) <= minor, f"I3 {name}: more went back than {txn} brought"
    theirs = {refund_id: minor for _, refunds in captured.values() for refund_id, minor in refunds.items()}
    ours = {f"rfd_{name.removeprefix('ord_')}_{one['i']}": one for one in order.get("refs", ())}
    for refund_id, minor in theirs.items():
        assert refund_id in ours, f"I3 {name}: {refund_id} was paid and is not ours"
        assert ours[refund_id].get("a", 0) == minor, f"I3 {name}: {refund_id} was paid with another amount"
        assert ours[refund_id]["s"] != "failed", f"I3 {name}: {refund_id} was paid and is said to have failed"
    for refund_id, one in ours.items():
        is_ours = one["r"] not in ("dispute_lost", "refunded_by_hand") if "r" in one else True
        if one["s"] == "succeeded" and one.get("a", 0) and is_ours:
            assert refund_id in theirs, f"I2 {name}: {refund_id} succeeded and was never paid"
    # The money that stays is the price of the goods that stay.
    if order["st"] in ("delivered", "paid", "partially_delivered", "refunded", "partially_refunded"):
        own = captured.get(order.get("txn", ""), (0, {}))
        stays = own[0] - sum(own[1].values())
        price = sum(line["q"] * line["u"] for line in order["lines"] if not _refunded(order, line))
        accepted = any(status == "needs_review" for _, status, _, _ in order["h"])
        assert stays == price or accepted, f"I2 {name} ({order['st']}): {stays} kept for goods worth {price}"


def _check_history(order: dict) -> None:
    """I9: legal moves only, and the present status is the last one written down."""
    before = None
    for _, status, _, note in order["h"]:
        assert status in LEGAL[before], f"I9 {order['pk']} went from {before} to {status} ({note})"
        before = status
    assert order["st"] == before, f"I9 {order['pk']} is {order['st']}, its history ends with {before}"
    assert order["v"] >= len(order["h"]), f"I9 {order['pk']} was written without counting its version"


def _check_settled(order: dict, now: int) -> None:
    """I10: nothing stays on its way."""
    name = order["pk"]
    is_open = order["st"] == "pending_payment" and now < order["exp"]
    assert is_open or order["st"] in SETTLED, f"I10 {name} is still {order['st']}"
    assert not any(one["s"] == "pending" for one in order.get("refs", ())), f"I10 {name} has a refund on its way"
    if "paid" not in order or order["st"] == "needs_review":
        return
    for line in order["lines"]:
        if "dd" in line or "rf" in line:
            continue
        waits = line["m"] == "manual" or (line["m"] == "delayed" and line.get("da", 0) > now)
        assert waits and line["x"], f"I10 line {line['i']} of {name} was paid and waits for nothing"


def _check_shown(shown: Shown, where: dict[Key, list[str]], quarantined: set[Key], rows: list[dict]) -> None:
    for key, order_id in shown.keys.items():
        at = where.get(key, ["quarantine"])[0]
        assert at == "quarantine" or at.endswith(f" of {order_id}"), f"I6 {key} was shown to {order_id} and is {at}"
    unseen = quarantined - shown.keys.keys()
    assert not unseen, f"I4 keys nobody saw are quarantined: {sorted(unseen)[:5]}"
    for order_id, times in shown.reveals.items():
        audits = [row for row in rows if row["pk"] == f"O#{order_id}" and row["sk"].startswith("AUDIT#")]
        assert len(audits) >= times, f"I8 {order_id} was revealed {times} times, {len(audits)} records"


def _check_nothing_due(rows: list[dict], now: int) -> None:
    for row in rows:
        if row["pk"].startswith("L#"):
            assert not row["j"], f"I10 {row['pk']} has takes that nobody settled: {sorted(row['j'])[:3]}"
        if "due_pk" in row and row["due_pk"].split("#")[1] != "held":
            assert int(row["due_at"].partition("#")[0]) > now, f"I10 {row['pk']} is due and nobody came"


def _check_figures(rows: list[dict], shelves: list[dict], orders: list[dict], now: int) -> None:
    """I4: the figures shown to operators are those counted here, and add up to the import."""
    for pool in rows:
        if not (pool["pk"].startswith("POOL#") and pool["sk"] == "META"):
            continue
        product_id = pool["pk"].removeprefix("POOL#")
        lots = {lot[0] for lot in pool["lots"]}
        mine = [shelf for shelf in shelves if _lot(shelf) in lots]
        lines = [(order, line) for order in orders for line in order["lines"] if line["p"] == product_id and line["x"]]
        counted = {
            "imported": sum(shelf["im"] for shelf in mine),
            "available": sum(count for shelf in mine if shelf["xp"] > now for _, count in shelf["runs"]),
            "expired": sum(count for shelf in mine if shelf["xp"] <= now for _, count in shelf["runs"]),
            "held": sum(line["q"] for order, line in lines if order["st"] == "pending_payment"),
            "sold": sum(line["q"] for order, line in lines if order["st"] != "pending_payment"),
            "disabled": 0,
            "quarantined": sum(shelf["q"] for shelf in mine),
        }
        new_process()
        stock = inventory.read_stock(product_id, now)
        told = {name: getattr(stock, name) for name in counted}
        assert told == counted, f"I4 {product_id}: the figures say {told}, counted are {counted}"
        parts = sum(counted.values()) - counted["imported"]
        assert parts == counted["imported"] == stock.total, f"I4 {product_id}: {counted} does not add up"
