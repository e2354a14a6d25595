"""Change a shop's balance by hand: money that came or went outside of any provider. Operators only."""

from __future__ import annotations

from chalicelib.accounts.store import list_shop_ids
from chalicelib.aws.transact import transact
from chalicelib.balance import store
from chalicelib.balance.errors import UnknownShop
from chalicelib.balance.model import BalanceEntry
from chalicelib.balance.rules import adjustment_entry_id
from chalicelib.ledger import store as ledger
from chalicelib.ledger.rules import adjustment_set


def adjust(
    shop_id: str, currency: str, amount_minor: int, reference: str, *, adjustment_id: str, by: str, now: int
) -> BalanceEntry:
    """The entry of this adjustment. A repeat under the same id answers the entry that stands.

    Raises: balance.unknown_shop, balance.insufficient (never below zero)
    """
    if shop_id not in list_shop_ids():
        raise UnknownShop(field="shop_id")
    entry_id = adjustment_entry_id(adjustment_id)
    entry = BalanceEntry(entry_id, "adjustment", amount_minor, currency, now, reference=reference, by=by)
    booked = adjustment_set(shop_id, adjustment_id, amount_minor, currency, now)
    try:
        transact([*store.entry_writes(shop_id, entry), ledger.put_write(booked, store.EntryExists())])
    except store.EntryExists:
        return store.find_entry(shop_id, currency, entry_id) or entry
    return entry
