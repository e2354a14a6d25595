"""Give the keys of unpaid orders back to stock: when their time is up, or when the shop cancels.

Called by the expiry queue (fast path), the minute timer (suffices alone) and the cancel route. Before an order expires
its provider is asked, so that a lost notice does not cost a buyer the goods. Orders and return shards change in one
transaction: the keys are either the order's or in stock, never both, never neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chalicelib.aws.transact import transact
from chalicelib.core.ids import payment_id_for
from chalicelib.edge.observe import failure_facts, log
from chalicelib.inventory import store as inventory
from chalicelib.orders import store
from chalicelib.orders.errors import NotCancellable, OrderChanged
from chalicelib.orders.model import Order
from chalicelib.orders.rules import close, pay, status_of
from chalicelib.payments import store as payments
from chalicelib.payments.model import Found, Notice
from chalicelib.payments.providers import ask, ask_instants

ASK_LONGER_SECONDS = 3_600  # how long an unreachable provider keeps an order from expiring
CLOCK_SLACK_SECONDS = 300  # looked through again each time: the index may lag
FIRST_LOOK_BACK_SECONDS = 2 * 86_400
BATCH = 25
_TRIES = 4


@dataclass
class Released:
    """What became of each order asked about. `later` holds when to come back, for orders whose hold still runs, and
    `steps` how often they were asked about by then.
    """

    later: dict[str, int] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


def release_due(order_ids: list[str], now: int, steps: dict[str, int] | None = None) -> Released:
    """Expire those of these orders that are unpaid and whose hold has ended; everything else stays as it is.

    With `steps` (how often each was asked about before), orders on hold are also asked about at their instants: a lost
    notice costs a buyer a minute, not a quarter of an hour.
    """
    released = Released()
    due: list[Order] = []
    for order in store.get_orders(order_ids):
        if status_of(order) != "pending_payment":
            continue
        if now < order.expires_at:
            _look_after(order, now, released, steps)
        else:
            _sort_out(order, now, due, released)
    for start in range(0, len(due), BATCH):
        _expire_together(due[start : start + BATCH], now, released)
    return released


def release_all_due(now: int) -> Released:
    """The minute timer: walk every order whose hold ended since the last walk, and note how far all is settled."""
    clock = store.read_clock()
    since = clock["since"] if clock else now - FIRST_LOOK_BACK_SECONDS
    # Never past our own instant: a process whose clock ran ahead may have noted a later one.
    from_at = min(clock["until"], now) - CLOCK_SLACK_SECONDS if clock else since
    outcome, settled_until = Released(), now
    for rows in store.list_timeline(from_at, now):
        unpaid = [row for row in rows if row["st"] == "pending_payment"]
        page = release_due([row["pk"].removeprefix("O#") for row in unpaid], now)
        outcome.later |= page.later
        outcome.failed |= page.failed
        open_rows = [row["exp"] for row in unpaid if row["pk"].removeprefix("O#") in page.failed | page.later.keys()]
        settled_until = min([settled_until, *open_rows])
    store.move_clock(settled_until, since)
    return outcome


def cancel_order(order: Order, *, by: str, now: int) -> Order:
    """Cancel an unpaid order; cancelling a cancelled one again is a success.

    Raises: orders.not_cancellable, orders.changed_meanwhile
    """
    for _ in range(_TRIES):
        if status_of(order) == "cancelled":
            return order
        if status_of(order) != "pending_payment":
            raise NotCancellable()
        closed = close(order, "cancelled", now, by)
        try:
            _write([(order, closed)])
            return closed
        except OrderChanged:
            order = store.get_order(order.order_id)
    raise OrderChanged()


def _look_after(order: Order, now: int, released: Released, steps: dict[str, int] | None) -> None:
    """An order on hold: ask about it if an instant to do so has passed, and name the next."""
    released.later[order.order_id] = order.expires_at
    if steps is None:
        return
    instants, done = ask_instants(order), steps.get(order.order_id, 0)
    passed = sum(instant <= now for instant in instants)
    if passed > done:
        number, found = ask(order)
        if found.state == "paid":
            del released.later[order.order_id]
            _pay_found(order, number, found, now, released)
            return
    released.steps[order.order_id] = passed
    released.later[order.order_id] = min([*instants[passed:], order.expires_at])


def _sort_out(order: Order, now: int, due: list[Order], released: Released) -> None:
    """Ask the provider, then put an order among those to expire, pay it, or leave it for a while."""
    number, found = ask(order)
    if found.state == "paid":
        _pay_found(order, number, found, now, released)
    elif found.state == "unknown" and now < order.expires_at + ASK_LONGER_SECONDS:
        released.later[order.order_id] = now + 60
    else:
        due.append(order)


def _pay_found(order: Order, number: int, found: Found, now: int, released: Released) -> None:
    """Take in money whose notice never came. It is recorded as if it had: refunds and disputes are found by it."""
    tried = order.attempt(number)
    try:
        money = Notice(
            provider=tried.provider, event_id=f"asked:{found.provider_txn}", kind="paid",
            payment_id=payment_id_for(order.order_id, number), provider_txn=found.provider_txn,
            amount_minor=found.amount_minor, currency=found.currency, account_id=tried.account_id,
        )  # fmt: skip
        payments.put_notice(money, now, is_matched=True)
        paid = pay(
            order, amount_minor=found.amount_minor or 0, currency=found.currency or "",
            provider_txn=found.provider_txn or "", now=now, by=f"asked:{tried.provider}", attempt=number,
        )  # fmt: skip
        store.save(order, paid)
    except Exception as error:  # this one comes again, and must not keep the others waiting
        if not isinstance(error, OrderChanged):  # which only says that its notice came after all, this very moment
            log.error("found payment not applied", extra={"order_id": order.order_id, **failure_facts(error)})
        released.failed.add(order.order_id)


def _expire_together(due: list[Order], now: int, released: Released) -> None:
    try:
        _write([(order, close(order, "expired", now, "timer")) for order in due])
    except Exception as error:
        if len(due) == 1:
            if not isinstance(error, OrderChanged):
                log.error("expiry failed", extra={"order_id": due[0].order_id, **failure_facts(error)})
            released.failed.add(due[0].order_id)
            return
        for order in due:  # one of them moved: the others must not wait for it
            _expire_together([order], now, released)


def _write(changes: list[tuple[Order, Order]]) -> None:
    held = [(before.order_id, [extent for line in before.lines for extent in line.extents]) for before, _ in changes]
    transact([*(store.save_write(before, after) for before, after in changes), *inventory.return_writes(held)])
