"""Show the keys of a delivered order to somebody allowed to see them.

Runs in a function of its own, the only one whose role may decrypt (decision 0008). It writes who asks, opens the sealed
keys in memory, locks the order (revealed keys are no longer returned to stock) and only then answers. If opening fails
nothing is locked; if locking fails nothing is shown.
"""

from __future__ import annotations

from chalicelib.aws.sealing import unseal
from chalicelib.fulfilment.rules import check_reveal, locked
from chalicelib.keys import store as keys
from chalicelib.keys.errors import UnsealingFailed
from chalicelib.orders import store as orders
from chalicelib.orders.errors import OrderChanged
from chalicelib.orders.model import Line

_TRIES = 6


def reveal_order(order_id: str, *, by: str, source_ip: str, user_agent: str, now: int) -> list[dict]:
    """The keys of all delivered lines: `[{"key_id", "fields": {name: plain value}}]`, in order of line and number.

    Raises: orders.not_found, fulfilment.not_delivered, fulfilment.revealed_too_often, keys.sealing_unavailable,
            keys.unsealing_failed, orders.changed_meanwhile
    """
    order = orders.get_order(order_id)
    lines = check_reveal(order, now)
    orders.add_audit(order_id, now, {"what": "reveal", "by": by, "ip": source_ip, "agent": user_agent})
    plain_keys = _open(lines)
    for _ in range(_TRIES):
        try:
            orders.save(order, locked(order, lines, now, by))
            return plain_keys
        except OrderChanged:
            order = orders.get_order(order_id)
            if [line.extents for line in check_reveal(order, now)] != [line.extents for line in lines]:
                lines = check_reveal(order, now)
                plain_keys = _open(lines)
    raise OrderChanged()


def _open(lines: list[Line]) -> list[dict]:
    plain_keys = []
    for line in lines:
        sealed = keys.read_pages(line.extents)
        if len(sealed) != line.quantity:  # a page is missing: never show fewer keys than were paid for
            raise UnsealingFailed()
        plain_keys += [{"key_id": key.key_id, "fields": dict(key.fields)} for key in unseal(line.product_id, sealed)]
    return plain_keys
