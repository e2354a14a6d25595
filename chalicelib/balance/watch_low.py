"""Tell a shop, once per fall, that its balance is lower than the amount it named.

The change stream sees each fall and each rise in their order. The minute timer looks at the balances themselves: it
suffices alone when the stream is down, and tells of a fall that still lasts. The two share a mark on the balance,
written with the event in one transaction, so neither repeats the other.
"""

from __future__ import annotations

from chalicelib.aws.transact import transact
from chalicelib.balance import event_store, store
from chalicelib.balance.model import Balance
from chalicelib.balance.rules import low_event


def watch_change(before: Balance | None, after: Balance, now: int) -> bool:
    """One change of a balance; whether its shop was told something."""
    was_low = before is not None and before.is_low
    if after.is_low and not was_low:
        return _tell(after, now, is_fall=True)
    if was_low and not after.is_low:
        store.forget_told(after.shop_id, after.currency, after.version)
    return False


def watch_all(now: int) -> int:
    """Look at every balance whose shop wants to be told; answers how many were."""
    told = 0
    for shop_id, currency in store.list_watched(now):
        balance = store.find_balance(shop_id, currency)
        if balance is None:
            continue
        if balance.is_low and balance.told_version is None:
            told += _tell(balance, now, is_fall=False)
        elif not balance.is_low and balance.told_version is not None:
            store.forget_told(shop_id, currency, balance.version)
    return told


def _tell(balance: Balance, now: int, *, is_fall: bool) -> bool:
    event = low_event(
        balance.shop_id, balance.currency, balance.version, balance.balance_minor, balance.low_balance_minor or 0, now
    )  # fmt: skip
    try:
        transact([
            store.told_write(balance, is_fall=is_fall),
            event_store.event_write(balance.shop_id, event, store.EntryExists()),
        ])  # fmt: skip
    except store.EntryExists:
        return False
    return True
