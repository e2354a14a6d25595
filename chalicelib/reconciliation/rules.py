"""Comparing our books of a day with a provider's statement of it. Pure; decision 0014 explains the choices.

Nothing here depends on the order in which lines come: both sides are sorted before they are paired.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from chalicelib.core.ids import is_id, order_id_of_payment
from chalicelib.ledger.days import DAY_SECONDS, day_after, start_of
from chalicelib.ledger.model import EntrySet
from chalicelib.ledger.rules import entry_sets
from chalicelib.orders.model import Order
from chalicelib.orders.rules import refund_id_of
from chalicelib.payments.model import StatementLine
from chalicelib.reconciliation.model import (
    EDGE_SECONDS,
    OUTCOMES,
    Action,
    Day,
    Difference,
    Fee,
    Ours,
    Outcome,
    OutcomeName,
    Suggestion,
    Total,
)

Key = tuple | None

COMPARED = ("payment", "refund", "dispute")
_MARK_BYTES = 8
_BY_HAND = "theirs:"
_LONGEST = 128
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 900, 4 * 3_600


def day_of(day: str, offset_hours: int) -> Day:
    """A provider's day "YYYY-MM-DD" as instants, where its days begin so many hours before those of UTC.

    Example:
        >>> day_of("2026-03-01", 0).start, day_of("2026-03-01", 8).end
        (1772323200, 1772380800)
    """
    start = start_of(day.replace("-", "")) - offset_hours * 3_600
    return Day(start, start + DAY_SECONDS)


def days_before(day: str, days: int) -> str:
    """The day "YYYY-MM-DD" so many days earlier.

    Example:
        >>> days_before("2026-03-01", 1)
        '2026-02-28'
    """
    found = day_after(day.replace("-", ""), -days)
    return f"{found[:4]}-{found[4:6]}-{found[6:]}"


def wait_seconds(tries: int) -> int:
    """How long to wait for a statement after so many tries: a quarter of an hour, then twice as long each time.

    Example:
        >>> [wait_seconds(tries) // 60 for tries in (1, 2, 3, 9)]
        [15, 30, 60, 240]
    """
    return min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** min(tries - 1, 10))


def order_of_line(line: StatementLine, order_by_txn: Mapping[str, str | None]) -> str | None:
    """Whose money a line is about: by our number, else by the provider's where that is known."""
    ours = line.our_no or ""
    if order_id := order_id_of_payment(ours):
        return order_id
    rest, _, number = ours.removeprefix("rfd_").partition("_")
    if ours.startswith("rfd_") and is_id("ord", "ord_" + rest) and number.isdecimal():
        return "ord_" + rest
    return order_by_txn.get(line.provider_txn)


def ours_of_set(entry_set: EntrySet, account: str) -> list[Ours]:
    """What a set of the ledger moved on a clearing account; fees are not compared."""
    event, _, name = entry_set.event_id.partition(":")
    kind: Any = {
        "paid": "payment", "extra": "payment", "refunded": "refund", "refund_reversed": "refund",
        "dispute_opened": "dispute", "dispute_won": "dispute", "dispute_lost": "dispute", "topup": "top_up",
    }.get(event)  # fmt: skip
    if kind is None:
        return []
    return [
        Ours(
            entry_set.event_id, kind, entry_set.order_id, name if kind == "refund" else None, entry_set.provider_txn,
            amount_minor, currency, entry_set.at,
        )
        for on, amount_minor, currency in entry_set.entries
        if on == account
    ]  # fmt: skip


def ours_of_order(order: Order, account: str, provider: str, account_id: str | None) -> list[Ours]:
    """Everything our books have, or should have, of an order on a clearing account, from the order itself.

    A refund that is not carried out here stands in with its state: the statement may know better.
    """
    by_id = {refund_id_of(order, one): one for one in order.refunds}
    found = []
    for one in (ours for entry_set in entry_sets(order) for ours in ours_of_set(entry_set, account)):
        refund = by_id.get(one.our_no or "")
        asked_as = (refund.request_id if refund else None) or ""
        is_by_hand = asked_as.startswith(_BY_HAND)
        found.append(one._replace(refund_txn=asked_as.removeprefix(_BY_HAND)) if is_by_hand else one)
    for refund_id, refund in by_id.items():
        tried = order.attempt(refund.attempt or order.paid_attempt)
        if refund.state not in ("pending", "failed") or tried is None:
            continue
        if (tried.provider, tried.account_id) == (provider, account_id):
            found.append(
                Ours(
                    f"refunded:{refund_id}", "refund", order.order_id, refund_id, None, -refund.amount_minor,
                    refund.currency or order.paid_currency or order.currency, refund.asked_at, state=refund.state,
                )
            )  # fmt: skip
    return found


def merged(ours: Iterable[Ours], others: Iterable[Ours]) -> list[Ours]:
    """One movement per event and currency; what the order says of it (`others`) outranks the ledger, as it says more.

    But a state is only a stand-in for what the ledger does not have.
    """
    found = {(one.event_id, one.currency): one for one in ours}
    for one in others:
        known = found.get((one.event_id, one.currency))
        if known is None or one.state == "recorded":
            found[one.event_id, one.currency] = one
    return list(found.values())


def unpaired(
    ours: Iterable[Ours], theirs: Iterable[StatementLine], order_by_txn: Mapping[str, str | None]
) -> list[StatementLine]:
    """Lines to be compared that nothing of ours pairs with yet: their orders are to be looked at."""
    _, _, left = _paired(ours, theirs, order_by_txn)
    return left


def compare(
    ours: Iterable[Ours],
    theirs: Iterable[StatementLine],
    day: Day,
    *,
    order_by_txn: Mapping[str, str | None],
    seen: frozenset[bytes] = frozenset(),
    has_day_before: bool = False,
) -> Outcome:
    """Pair both sides, and say of everything else what it is.

    order_by_txn    whose money a provider's number is, where its line does not say
    seen            marks from the statements of earlier days: what stands there is not missed here
    has_day_before  whether the day before is reconciled: then what is in neither of the two statements is missing
    """
    theirs = list(theirs)
    pairs, ours_left, theirs_left = _paired(ours, theirs, order_by_txn)
    matches, found = [], []
    for one, line in pairs:
        if one.state != "recorded":
            found.append(Difference("state_differs", one.order_id, one, line))
        elif (one.amount_minor, one.currency) != (line.amount_minor, line.currency):
            found.append(Difference("amount_differs", one.order_id, one, line))
        else:
            matches.append((one, line))
    found += [Difference("missing_here", order_of_line(line, order_by_txn), None, line) for line in theirs_left]
    elsewhere = []
    decided_from = day.start - EDGE_SECONDS if has_day_before else day.start + EDGE_SECONDS
    for one in ours_left:
        is_due = one.state == "recorded" and decided_from <= one.at < day.end - EDGE_SECONDS
        if is_due and not seen & {mark_of(text) for text in _texts_of(one)}:
            found.append(Difference("missing_there", one.order_id, one, None))
        else:
            elsewhere.append(one)
    return Outcome(
        matches=tuple(matches),
        differences=tuple(sorted(found, key=_rank)),
        elsewhere=tuple(elsewhere),
        not_compared=tuple(sorted((line for line in theirs if line.kind not in COMPARED), key=_line_order)),
        seen=tuple(sorted({mark_of(text) for text in _seen_texts(pairs, theirs_left, day)})),
    )


def mark_of(text: str) -> bytes:
    """A short name for an event, to remember many of them in one row."""
    return hashlib.sha256(text.encode()).digest()[:_MARK_BYTES]


def marks_in(packed: bytes) -> frozenset[bytes]:
    """The marks of a row."""
    return frozenset(packed[place : place + _MARK_BYTES] for place in range(0, len(packed), _MARK_BYTES))


def _seen_texts(pairs: list[tuple[Ours, StatementLine]], theirs_left: list[StatementLine], day: Day) -> Iterable[str]:
    """What other days would miss in vain: it is in this day's statement, and our books have it at another time."""
    for one, _ in pairs:
        if one.state != "recorded" or not day.start + EDGE_SECONDS <= one.at < day.end - EDGE_SECONDS:
            yield one.event_id
    for line in theirs_left:
        if line.kind == "payment":
            yield f"txn:{line.provider_txn}"
        elif line.kind == "refund":
            event = "refunded" if line.amount_minor < 0 else "refund_reversed"
            yield f"{event}:{line.our_no}" if line.our_no else f"hand:{line.refund_txn}"


def _texts_of(one: Ours) -> list[str]:
    by_number = f"txn:{one.provider_txn}" if one.kind in ("payment", "top_up") else f"hand:{one.refund_txn}"
    return [one.event_id, by_number]


# From the surest sign to the weakest: (how ours says it, how theirs says it, only with the same amount); None: not at
# all.
_Signs = list[tuple[Callable[[Ours], Key], Callable[[StatementLine, str | None], Key], bool]]
_SIGNS: _Signs = [
    (
        lambda one: (
            (one.provider_txn, one.amount_minor > 0) if one.kind in ("payment", "top_up") and one.provider_txn else None
        ),
        lambda line, _: (line.provider_txn, line.amount_minor > 0) if line.kind == "payment" else None,
        False,
    ),
    (
        lambda one: (one.our_no, one.amount_minor > 0) if one.kind == "refund" else None,
        lambda line, _: (line.our_no, line.amount_minor > 0) if line.kind == "refund" and line.our_no else None,
        False,
    ),
    (
        lambda one: (one.refund_txn, one.amount_minor > 0) if one.kind == "refund" and one.refund_txn else None,
        lambda line, _: (line.refund_txn, line.amount_minor > 0) if line.kind == "refund" else None,
        False,
    ),
    (
        lambda one: (one.order_id, one.amount_minor > 0) if one.kind == "dispute" else None,
        lambda line, order_id: (order_id, line.amount_minor > 0) if line.kind == "dispute" and order_id else None,
        False,
    ),
    (
        lambda one: (one.order_id, one.amount_minor > 0) if one.kind == "payment" and one.order_id else None,
        lambda line, order_id: (order_id, line.amount_minor > 0) if line.kind == "payment" and order_id else None,
        False,
    ),
    (
        lambda one: (one.order_id, one.amount_minor > 0) if one.kind == "refund" else None,
        lambda line, order_id: (order_id, line.amount_minor > 0) if line.kind == "refund" and order_id else None,
        True,  # an order may have several refunds, and a number of neither side says which this is
    ),
]


def _paired(
    ours: Iterable[Ours], theirs: Iterable[StatementLine], order_by_txn: Mapping[str, str | None]
) -> tuple[list[tuple[Ours, StatementLine]], list[Ours], list[StatementLine]]:
    """Pairs, and what is left of either side; fees and other lines that are not compared are left out."""
    ours_left = sorted(ours, key=_ours_order)
    theirs_left = sorted((line for line in theirs if line.kind in COMPARED), key=_line_order)
    pairs: list[tuple[Ours, StatementLine]] = []
    for key_of_ours, key_of_theirs, is_exact_only in _SIGNS:
        if not ours_left or not theirs_left:
            break
        for is_exact in (True,) if is_exact_only else (True, False):
            found, ours_left, theirs_left = _pair_by(
                ours_left,
                theirs_left,
                lambda one, key_of=key_of_ours, is_exact=is_exact: _with_amount(key_of(one), one, is_exact),
                lambda line, key_of=key_of_theirs, is_exact=is_exact: _with_amount(
                    key_of(line, order_of_line(line, order_by_txn)), line, is_exact
                ),
            )
            pairs += found
    return pairs, ours_left, theirs_left


def _with_amount(key: Key, one: Ours | StatementLine, is_exact: bool) -> Key:
    return (key, one.amount_minor, one.currency) if key and is_exact else key


def _pair_by(
    ours: list[Ours],
    theirs: list[StatementLine],
    key_of_ours: Callable[[Ours], Key],
    key_of_theirs: Callable[[StatementLine], Key],
) -> tuple[list[tuple[Ours, StatementLine]], list[Ours], list[StatementLine]]:
    waiting: dict[tuple, list[int]] = defaultdict(list)
    for place in range(len(ours) - 1, -1, -1):  # backwards, so that the first of them is the first to be taken
        if key := key_of_ours(ours[place]):
            waiting[key].append(place)
    pairs, left, taken = [], [], set()
    for line in theirs:
        key = key_of_theirs(line)
        if key and waiting.get(key):
            place = waiting[key].pop()
            taken.add(place)
            pairs.append((ours[place], line))
        else:
            left.append(line)
    return pairs, [one for place, one in enumerate(ours) if place not in taken], left


def _ours_order(one: Ours) -> tuple:
    return (one.at, one.event_id, one.currency, one.amount_minor, one.state != "recorded", one.provider_txn or "")


def _line_order(line: StatementLine) -> tuple:
    return (
        line.at, line.kind, line.provider_txn, line.refund_txn or "", line.our_no or "", line.currency,
        line.amount_minor, line.fee_minor,
    )  # fmt: skip


def _rank(one: Difference) -> tuple:
    """The order differences are numbered in: outcome by outcome, each by time."""
    at = one.theirs.at if one.theirs else one.ours.at
    return (
        OUTCOMES.index(one.outcome), at, _line_order(one.theirs) if one.theirs else (),
        _ours_order(one.ours) if one.ours else (),
    )  # fmt: skip


def counts_of(outcome: Outcome) -> dict[str, int]:
    """How many ended where; theirs are matched + missing_here + amount_differs + state_differs + not_compared."""
    counts = {"matched": len(outcome.matches)} | {name: 0 for name in OUTCOMES}
    for one in outcome.differences:
        counts[one.outcome] += 1
    return counts | {"elsewhere": len(outcome.elsewhere), "not_compared": len(outcome.not_compared)}


def first_number(counts: Mapping[str, int], outcome: OutcomeName) -> int:
    """The number of the first difference with this outcome, were there one: they are numbered outcome by outcome."""
    return 1 + sum(counts[name] for name in OUTCOMES[: OUTCOMES.index(outcome)])


def totals_of(outcome: Outcome, fees: Iterable[Fee]) -> list[Total]:
    """What it all comes to, by currency."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for one, line in outcome.matches:
        sums[one.currency][0] += one.amount_minor
        sums[line.currency][1] += line.amount_minor
    for difference in outcome.differences:
        if difference.ours and difference.ours.state == "recorded":
            sums[difference.ours.currency][0] += difference.ours.amount_minor
        if difference.theirs:
            sums[difference.theirs.currency][1] += difference.theirs.amount_minor
    for fee in fees:
        sums[fee.currency][2] += fee.fee_minor
    for line in outcome.not_compared:
        if line.kind != "fee":
            sums[line.currency][3] += line.amount_minor
    return [Total(currency, *amounts) for currency, amounts in sorted(sums.items())]


def fees_of(theirs: Iterable[StatementLine]) -> list[Fee]:
    """What the provider kept, one for each movement of the statement; negative where it gave a fee back.

    Parts that a statement tells apart only by their order are one movement: the order may change, the sum does not.
    """
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for line in theirs:
        fee_minor = line.fee_minor - (line.amount_minor if line.kind == "fee" else 0)
        parts = (line.kind, line.provider_txn, line.refund_txn or line.our_no or "", line.currency)
        sums[":".join(parts), line.currency] += fee_minor
    return [Fee(reference, amount, currency) for (reference, currency), amount in sorted(sums.items()) if amount]


def suggested(one: Difference) -> Suggestion:
    """What settles a difference, as far as a rule can tell."""
    if one.outcome == "missing_here":
        if one.order_id and one.theirs.kind == "payment" and one.theirs.amount_minor > 0:
            return "apply"
        return "record" if _may_be_recorded(one) else "review"
    if one.outcome == "state_differs":
        return "ask" if one.ours.state == "pending" else "record" if _may_be_recorded(one) else "review"
    if one.outcome == "missing_there" and _may_be_asked(one):
        return "ask"
    return "review"


def actions_of(one: Difference) -> tuple[Action, ...]:
    """The actions that settle a difference; what was looked at may always be accepted."""
    first = suggested(one)
    return ("accept",) if first == "review" else (first, "accept")


def _may_be_recorded(one: Difference) -> bool:
    """A refund of ours that failed here, or one made by hand: the order can take in that its money went back."""
    line = one.theirs
    return bool(one.order_id and line and line.kind == "refund" and line.amount_minor < 0 and line.refund_txn)


def _may_be_asked(one: Difference) -> bool:
    """Providers answer about a payment of an order, and about a refund under our id."""
    event = one.ours.event_id.partition(":")[0]
    return one.ours.order_id is not None and event in ("paid", "extra", "refunded") and one.ours.refund_txn is None


def bounded(line: StatementLine) -> StatementLine:
    """A line as it is kept: whatever a file has in its cells, a row has room for a hundred."""
    return replace(
        line, provider_txn=line.provider_txn[:_LONGEST], currency=line.currency[:_LONGEST],
        our_no=line.our_no and line.our_no[:_LONGEST], refund_txn=line.refund_txn and line.refund_txn[:_LONGEST],
    )  # fmt: skip
