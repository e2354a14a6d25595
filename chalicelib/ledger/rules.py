"""Which entries follow from what happened. Pure: facts in, sets out; the chart and worked examples are decision 0012.

All sets of an order follow from its row alone, and a set, once it follows, follows for ever in the same words: rows
only gain facts. So whoever comes later (the timer) derives what whoever came first (the stream) has written.
"""

from __future__ import annotations

from collections.abc import Iterable

from chalicelib.ledger.model import DayClosing, Entry, EntrySet, Gap, Movement
from chalicelib.orders.model import Dispute, Line, Order, Refund
from chalicelib.orders.rules import refund_id_of

BUYER_MONEY = "buyer_money"  # liability: paid, goods not handed out
SALES = "sales"  # revenue: handed out
REFUNDS = "refunds"  # revenue given back
GOODS = "goods"  # asset: keys in stock, at cost
COST_OF_GOODS = "cost_of_goods"  # expense
SUPPLIERS = "suppliers"  # liability: what imports cost us
DISPUTED = "disputed"  # asset: money held back while a dispute is open
DISPUTE_LOSSES = "dispute_losses"  # expense: lost beyond what was left of the order's money
SUSPENSE = "suspense"  # liability: wrong sums under review, money that came twice
ADJUSTMENTS = "adjustments"  # what operators put onto balances, or took off, by hand

WAIT_SECONDS = 3_600  # halves of one event that lie in two books may be this far apart


def clearing(provider: str, account_id: str | None = None) -> str:
    """Asset: money a provider holds for us.

    Example:
        >>> clearing("stripe"), clearing("alipay", "pac_1")
        ('clearing:stripe', 'clearing:alipay:pac_1')
    """
    return f"clearing:{provider}" + (f":{account_id}" if account_id else "")


def fees(provider: str, account_id: str | None = None) -> str:
    """Expense: what a provider kept for its service."""
    return f"fees:{provider}" + (f":{account_id}" if account_id else "")


def shop_balance(shop_id: str) -> str:
    """Liability: what a shop has paid in and not spent."""
    return f"shop_balance:{shop_id}"


def entry_sets(order: Order) -> list[EntrySet]:
    """All sets that follow from an order as it stands, oldest first."""
    found = [
        *_paid(order),
        *_delivered(order),
        *_extra(order),
        *_given_back(order),
        *_goods_back(order),
        *_disputed(order),
    ]
    return sorted((one for one in found if one.entries), key=lambda one: one.at)


def _paid(order: Order) -> list[EntrySet]:
    if order.paid_at is None:
        return []
    money, currency = _money_account(order, order.paid_attempt), _paid_currency(order)
    moved = [(money, order.paid_minor, currency), (_holding(order), -order.paid_minor, currency)]
    return [_set(order, f"paid:{order.order_id}", order.paid_at, moved, order.provider_txn)]


def _delivered(order: Order) -> list[EntrySet]:
    """Each line that was handed out turns its share of the money into a sale, and its keys into cost."""
    if order.paid_at is None:
        return []
    share, currency = shares(order), _paid_currency(order)
    return [
        _set(
            order,
            f"delivered:{order.order_id}:{line.line_id}",
            line.delivered_at,
            [
                (_holding(order), share[line.line_id], currency),
                (SALES, -share[line.line_id], currency),
                (COST_OF_GOODS, line.cost_minor or 0, order.currency),
                (GOODS, -(line.cost_minor or 0), order.currency),
            ],
        )
        for line in order.lines
        if line.delivered_at is not None
    ]


def _extra(order: Order) -> list[EntrySet]:
    """Money that came once more than was owed: ours to hold, not ours to keep."""
    first: dict[str, Refund] = {}
    for refund in order.refunds:
        if _is_extra(order, refund):
            first.setdefault(refund.provider_txn or "", refund)
    found = []
    for txn, refund in first.items():
        provider, currency = _provider(order, refund.attempt), _refund_currency(order, refund)
        money = _money_account(order, refund.attempt or order.paid_attempt)
        moved = [(money, refund.amount_minor, currency), (SUSPENSE, -refund.amount_minor, currency)]
        found.append(_set(order, f"extra:{provider}:{txn}", refund.asked_at, moved, txn))
    return found


def _given_back(order: Order) -> list[EntrySet]:
    """Refunds the provider has carried out, and those of them it took back again. What a lost dispute took is part of
    the dispute's own set.
    """
    found = []
    for refund in order.refunds:
        if not _is_done(refund) or _is_of_dispute(refund):
            continue
        refund_id, currency = refund_id_of(order, refund), _refund_currency(order, refund)
        money = _money_account(order, refund.attempt or order.paid_attempt)
        source = (
            [(SUSPENSE, refund.amount_minor, currency)] if _is_extra(order, refund) else _given_up(order, refund)
        )  # fmt: skip
        moved = [*source, (money, -refund.amount_minor, currency)]
        found.append(_set(order, f"refunded:{refund_id}", refund.finished_at or refund.asked_at, moved))
        if refund.state == "reversed":
            at = refund.reversed_at or refund.finished_at or refund.asked_at
            mirrored = [(account, -amount, currency) for account, amount, currency in moved]
            found.append(_set(order, f"refund_reversed:{refund_id}", at, mirrored))
    return found


def _given_up(order: Order, refund: Refund) -> list[tuple[str, int, str]]:
    """Where the money of a refund was: lines not handed out give up what was held for them, all else was a sale.

    The whole share of such a line leaves, whatever was given back for it: nothing stays held for goods that have ended.
    """
    share, currency = shares(order), _refund_currency(order, refund)
    held = sum(share[line.line_id] for line in _lines_of(order, refund) if not _was_delivered(line, refund))
    return [(_holding(order), held, currency), (REFUNDS, refund.amount_minor - held, currency)]


def _goods_back(order: Order) -> list[EntrySet]:
    """Keys handed out and never seen return to stock with the first refund of their line; seen ones do not."""
    found, returned = [], set()
    for refund in order.refunds:
        if not _is_done(refund):
            continue
        for line in _lines_of(order, refund):
            unseen = line.revealed_at is None or line.revealed_at > (refund.finished_at or 0)
            if line.line_id in returned or not _was_delivered(line, refund) or not unseen or not line.cost_minor:
                continue
            returned.add(line.line_id)
            moved = [(GOODS, line.cost_minor, order.currency), (COST_OF_GOODS, -line.cost_minor, order.currency)]
            found.append(_set(order, f"goods_back:{order.order_id}:{line.line_id}", refund.finished_at or 0, moved))
    return found


def _disputed(order: Order) -> list[EntrySet]:
    found = []
    for dispute in order.disputes:
        money, currency = _money_account(order, order.paid_attempt), _paid_currency(order)
        name = f"{order.order_id}:{dispute.dispute_id}"
        moved = [(DISPUTED, dispute.amount_minor, currency), (money, -dispute.amount_minor, currency)]
        found.append(_set(order, f"dispute_opened:{name}", dispute.opened_at, moved))
        closed_at = dispute.closed_at or dispute.opened_at
        if dispute.state == "won":
            mirrored = [(account, -amount, currency) for account, amount, currency in moved]
            found.append(_set(order, f"dispute_won:{name}", closed_at, mirrored))
        if dispute.state == "lost":
            found.append(_set(order, f"dispute_lost:{name}", closed_at, _lost(order, dispute)))
    return found


def _lost(order: Order, dispute: Dispute) -> list[tuple[str, int, str]]:
    currency = _paid_currency(order)
    wanted = f"dispute:{dispute.dispute_id}"
    refund = next((one for one in order.refunds if one.request_id == wanted), None)
    taken = refund.amount_minor if refund else 0
    return [
        *(_given_up(order, refund) if refund else []),
        (DISPUTE_LOSSES, dispute.amount_minor - taken, currency),
        (DISPUTED, -dispute.amount_minor, currency),
    ]


def shares(order: Order) -> dict[int, int]:
    """What was paid, split over the lines by their totals; the parts add up to what was paid, to the last minor unit.

    The right sum splits into the lines' own totals.
    """
    total = sum(line.total_minor for line in order.lines)
    found, seen, given = {}, 0, 0
    for line in order.lines:
        seen += line.total_minor
        upto = order.paid_minor * seen // total if total else order.paid_minor
        found[line.line_id] = upto - given
        given = upto
    return found


def _holding(order: Order) -> str:
    """Where an order's money waits for the goods. A wrong sum is not the buyer's payment until a person has said so."""
    is_right = order.paid_minor == order.total_minor and order.paid_currency == order.currency
    return BUYER_MONEY if is_right else SUSPENSE


def _provider(order: Order, attempt: int) -> str:
    tried = order.attempt(attempt or order.paid_attempt)
    return tried.provider if tried else order.provider


def _money_account(order: Order, attempt: int) -> str:
    tried = order.attempt(attempt)
    if tried is None:
        return clearing(order.provider, order.account_id)
    return shop_balance(order.shop_id) if tried.provider == "balance" else clearing(tried.provider, tried.account_id)


def _paid_currency(order: Order) -> str:
    return order.paid_currency or order.currency


def _refund_currency(order: Order, refund: Refund) -> str:
    return refund.currency or _paid_currency(order)


def _is_extra(order: Order, refund: Refund) -> bool:
    return refund.provider_txn is not None and refund.provider_txn != order.provider_txn


def _is_done(refund: Refund) -> bool:
    return refund.state in ("succeeded", "reversed")


def _is_of_dispute(refund: Refund) -> bool:
    return (refund.request_id or "").startswith("dispute:")


def _lines_of(order: Order, refund: Refund) -> list[Line]:
    return [line for line in order.lines if line.line_id in refund.lines]


def _was_delivered(line: Line, refund: Refund) -> bool:
    return line.delivered_at is not None and line.delivered_at <= (refund.finished_at or 0)


def _set(
    order: Order, event_id: str, at: int, moved: Iterable[tuple[str, int, str]], provider_txn: str | None = None
) -> EntrySet:
    return EntrySet(event_id, at, to_entries(moved), order.order_id, provider_txn)


def to_entries(moved: Iterable[tuple[str, int, str]]) -> tuple[Entry, ...]:
    """Entries of a set: one per account and currency, none of nothing."""
    sums: dict[tuple[str, str], int] = {}
    for account, amount_minor, currency in moved:
        sums[account, currency] = sums.get((account, currency), 0) + amount_minor
    return tuple(Entry(account, amount, currency) for (account, currency), amount in sums.items() if amount)


def top_up_set(
    shop_id: str, provider: str, account_id: str | None, txn: str, amount_minor: int, currency: str, at: int, *,
    is_taken: bool,
) -> EntrySet:  # fmt: skip
    """Money a shop paid in. `is_taken` False: in a currency that was not asked for; it waits for a person."""
    to = shop_balance(shop_id) if is_taken else SUSPENSE
    moved = [(clearing(provider, account_id), amount_minor, currency), (to, -amount_minor, currency)]
    return EntrySet(top_up_event(provider, txn), at, to_entries(moved), provider_txn=txn)


def top_up_event(provider: str, txn: str) -> str:
    return f"topup:{provider}:{txn}"


def adjustment_set(shop_id: str, adjustment_id: str, amount_minor: int, currency: str, at: int) -> EntrySet:
    """What an operator put onto a shop's balance by hand (negative: took off)."""
    moved = [(ADJUSTMENTS, amount_minor, currency), (shop_balance(shop_id), -amount_minor, currency)]
    return EntrySet(f"adjustment:{adjustment_id}", at, to_entries(moved))


def fee_set(
    provider: str, account_id: str | None, reference: str, fee_minor: int, currency: str, at: int
) -> EntrySet:  # fmt: skip
    """What a provider kept, as its statement says; `reference` names the movement of the statement."""
    moved = [(fees(provider, account_id), fee_minor, currency), (clearing(provider, account_id), -fee_minor, currency)]
    return EntrySet(f"{fees(provider, account_id)}:{reference}", at, to_entries(moved))


def goods_set(import_id: str, cost_minor: int, currency: str, at: int) -> EntrySet:
    """Keys taken into stock at what they cost."""
    moved = [(GOODS, cost_minor, currency), (SUPPLIERS, -cost_minor, currency)]
    return EntrySet(f"imported:{import_id}", at, to_entries(moved))


def sums_by_currency(entries: Iterable[Entry]) -> dict[str, int]:
    """What entries come to in each currency: nothing but zeros when they balance."""
    sums: dict[str, int] = {}
    for entry in entries:
        sums[entry.currency] = sums.get(entry.currency, 0) + entry.amount_minor
    return sums


def is_balanced(entry_set: EntrySet) -> bool:
    return not any(sums_by_currency(entry_set.entries).values())


def close_day(
    day: str, before: DayClosing | None, sets: list[EntrySet], moves: dict[tuple[str, str, str], tuple[int, int]],
    ends_at: int,
) -> DayClosing:  # fmt: skip
    """What a day came to, carried on from the day before, and everything that does not fit.

    `moves` are the movements on balances that day: {(event, shop, currency): (amount, instant)}.
    """
    opening = {(one.account, one.currency): one.closing_minor for one in before.movements} if before else {}
    moved: dict[tuple[str, str], int] = {}
    for entry_set in sets:
        for entry in entry_set.entries:
            key = (entry.account, entry.currency)
            moved[key] = moved.get(key, 0) + entry.amount_minor
    differences = [f"set_not_zero {one.event_id}" for one in sets if not is_balanced(one)]
    every = [entry for one in sets for entry in one.entries]
    differences += [f"day_not_zero {currency} {left}" for currency, left in sums_by_currency(every).items() if left]
    carried: dict[str, int] = {}
    for (_, currency), amount in opening.items():
        carried[currency] = carried.get(currency, 0) + amount
    differences += [f"carried_not_zero {currency} {left}" for currency, left in carried.items() if left]
    gaps = _gaps(sets, moves)
    waiting, unmatched = _match(before.waiting if before else (), gaps, ends_at)
    differences += [f"balance_movement {one.event_id} {one.currency} {one.amount_minor}" for one in unmatched]
    movements = tuple(
        Movement(account, currency, opening.get((account, currency), 0), moved.get((account, currency), 0))
        for account, currency in sorted(opening.keys() | moved.keys())
        if opening.get((account, currency)) or (account, currency) in moved
    )
    return DayClosing(day, len(sets), movements, tuple(differences), waiting)


def _gaps(
    sets: list[EntrySet], moves: dict[tuple[str, str, str], tuple[int, int]]
) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Balance minus ledger, per event: (what differs, when)."""
    prefix = shop_balance("")
    gaps = dict(moves)
    for one in sets:
        for account, amount, currency in one.entries:
            if account.startswith(prefix):
                key = (one.event_id, account.removeprefix(prefix), currency)
                known, at = gaps.get(key, (0, one.at))
                gaps[key] = (known + amount, at)  # a credit of the ledger is negative: more on the balance
    return {key: gap for key, gap in gaps.items() if gap[0]}


def _match(
    earlier: tuple[Gap, ...], gaps: dict[tuple[str, str, str], tuple[int, int]], ends_at: int
) -> tuple[tuple[Gap, ...], list[Gap]]:
    """Gaps that may close tomorrow, and those that will not. A refund onto a balance is two writes, perhaps on two
    sides of midnight.
    """
    open_gaps = dict(gaps)
    for gap in earlier:
        key = (gap.event_id, gap.shop_id, gap.currency)
        amount = gap.amount_minor + open_gaps.get(key, (0, 0))[0]
        open_gaps[key] = (amount, 0)  # older than a day: it had its time
    waiting, unmatched = [], []
    for (event_id, shop_id, currency), (amount, at) in sorted(open_gaps.items()):
        if amount:
            may_wait = at >= ends_at - WAIT_SECONDS
            (waiting if may_wait else unmatched).append(Gap(event_id, shop_id, currency, amount))
    return tuple(waiting), unmatched


def closing_of(closing: DayClosing, account: str, currency: str) -> int:
    """An account at the end of a day."""
    return sum(
        one.closing_minor for one in closing.movements if (one.account, one.currency) == (account, currency)
    )  # fmt: skip
