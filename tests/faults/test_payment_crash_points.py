"""The fault matrix of payments: accounts, what providers say, balances, top-ups, the ledger and its daily proof.

Each act is interrupted before and after every call it makes of AWS, loses the answer of every write and meets a busy
table at each; then it is done again, as a provider, queue, timer or operator would. At the end time passes and
everything is added up: orders and keys by the auditor, balances, ledger and disputes by the arithmetic below.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count, cycle
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.accounts import store as shops
from chalicelib.aws import queues
from chalicelib.aws.secrets import forget_secrets
from chalicelib.balance import store as balances
from chalicelib.balance import top_up_store
from chalicelib.balance.adjust import adjust
from chalicelib.balance.errors import InsufficientBalance
from chalicelib.balance.model import TopUp
from chalicelib.balance.receive_top_up import receive_top_up
from chalicelib.checkout.model import WantedPayment
from chalicelib.checkout.offer_payment import offer_payment
from chalicelib.checkout.place_order import place_order
from chalicelib.core.errors import Busy
from chalicelib.core.ids import new_id, order_id_for, order_id_of_payment, payment_id_for
from chalicelib.fulfilment.deliver import deliver_by_hand
from chalicelib.fulfilment.errors import NothingToDeliver
from chalicelib.ledger import post_ledger, prove_ledger
from chalicelib.ledger import store as ledger
from chalicelib.ledger.days import DAY_SECONDS, day_of
from chalicelib.ledger.post_ledger import post_change, post_missing
from chalicelib.ledger.rules import entry_sets, is_balanced, shop_balance
from chalicelib.orders.order_row import to_order
from chalicelib.orders.release_unpaid import cancel_order
from chalicelib.orders.rules import refund_id_of, status_of
from chalicelib.payments import account_store, providers
from chalicelib.payments import store as payments
from chalicelib.payments.answers import AccountChange, NewAccount
from chalicelib.payments.ask_payments import ask_payments
from chalicelib.payments.close_payments import close_payments
from chalicelib.payments.errors import AccountChanged, AccountExists, NoSuchAccount, ProviderUnavailable
from chalicelib.payments.manage_accounts import HOLD_SECONDS, change_account, create_account
from chalicelib.payments.model import (
    AccountField,
    DisputeFacts,
    Method,
    Notice,
    Payment,
    ProviderFacts,
    RefundResult,
    Started,
)
from chalicelib.payments.open_payment import open_payment
from chalicelib.payments.receive_notice import receive_notice, settle_dispute
from chalicelib.refunds.finish_refund import finish_refunds, recheck_refund
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from chalicelib.refunds.workers import settle_message
from tests import shop
from tests.faults.audit import all_rows, check_invariants, quiesce
from tests.faults.bank import Bank, Capture
from tests.faults.flows import Subject, World, _product
from tests.faults.hooks import LOST, NOT_NOW, Crash, at_call, at_random, at_write, count_calls, faults, new_process
from tests.faults.test_lost_answers import act_until_done

pytestmark = pytest.mark.usefixtures("stack")
_numbers = count(1)


# -- the other side -------------------------------------------------------------------------------------------------


@dataclass
class Till(Bank):
    """A bank that also keeps what it opened, closes payments, and moves money without our asking."""

    FACTS = ProviderFacts(
        "Till", {"counter": Method("redirect", "a counter")}, ask_after_seconds=(),
        fields=(
            AccountField("secret_key", "here", is_secret=True), AccountField("webhook_secret", "here", is_secret=True),
            AccountField("api_base", "here", is_needed=False, form="url"),
        ),
    )  # fmt: skip

    taken: dict[str, int] = field(default_factory=dict)  # txn -> what left by dispute or by hand
    undone: set[str] = field(default_factory=set)  # refunds that came to nothing after all
    opened: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    lock: Any = field(default_factory=threading.RLock)

    def start(self, payment: Payment, now: int) -> Started:
        self.opened.add(payment.payment_id)
        return Started(f"http://127.0.0.1:9/{payment.payment_id}", f"ref_{payment.payment_id}")

    def close(self, payment: Payment) -> str:
        state = self.find(payment).state
        if state == "unpaid":
            self.closed.add(payment.payment_id)
        return {"unpaid": "closed"}.get(state, state)

    def capture(self, payment_id: str, amount_minor: int, currency: str) -> Capture:
        with self.lock:
            return super().capture(payment_id, amount_minor, currency)

    def find(self, payment: Payment) -> Any:
        with self.lock:
            return super().find(payment)

    def refunded_of(self, txn: str) -> int:
        return super().refunded_of(txn) + self.taken.get(txn, 0)

    def refund(self, payment: Payment, refund_id: str, amount_minor: int, now: int) -> RefundResult:
        with self.lock:
            one = self.captures.get(payment.provider_txn or "")
            if one is not None and one.payment_id != payment.payment_id:
                self.wrongs.append(f"{refund_id} asks for money that came by another way")
            return super().refund(payment, refund_id, amount_minor, now)

    def find_refund(self, payment: Payment, refund_id: str) -> RefundResult | None:
        return RefundResult("failed") if refund_id in self.undone else super().find_refund(payment, refund_id)


def open_till(patch: Any) -> Till:
    """A till behind every provider's name but `balance`, whose books are ours."""
    till, real = Till(), providers.load_plug
    patch.setattr(
        "chalicelib.payments.providers.load_plug",
        lambda package, name: real(package, name) if name == "balance" else till,
    )
    return till


@dataclass
class House(World):
    till: Till = field(default_factory=Till)


@pytest.fixture
def house(clock, monkeypatch, stack) -> House:
    """A shop with plenty on its balance; the ledger's walk does not look back for years."""
    monkeypatch.setattr(post_ledger, "EVERY_HOUR_DAYS", 0)
    monkeypatch.setattr(post_ledger, "EVERY_WEEK_DAYS", 0)
    monkeypatch.setattr(prove_ledger, "FIRST_LOOK_BACK_DAYS", 2)
    made = House(clock, till=open_till(monkeypatch))
    queues._queue_url("refund-due")  # looked up once per process
    shops.put_shop(shop.SHOP, "Demo", clock.at)
    shop.open_account("stripe", secrets={"secret_key": "sk_test_1", "webhook_secret": "whsec_1"})
    adjust(shop.SHOP, "CNY", 1_000_000, "cash", adjustment_id="first", by="key_op", now=clock.at)
    return made


def another_process() -> None:
    new_process()
    account_store.forget_accounts()
    forget_secrets()


# -- what must be true of the books -----------------------------------------------------------------------------------


def check_books(now: int, till: Bank | None = None) -> None:
    """Hold orders, keys, balances, ledger and disputes against each other once all is quiet.

    Raises: AssertionError that says what does not fit.
    """
    post_missing(now)
    rows = all_rows()
    found = [to_order(row) for row in rows if row["sk"] == "O" and row["st"] != "fenced"]
    _check_balances(rows, found)
    _check_ledger(rows, found)
    _check_labels(rows, found)
    check_invariants(now, bank=_all_money(rows, till) if till else None)


def _all_money(rows: list[dict], till: Bank) -> Bank:
    """The books of the till and those of the balance in one, as the auditor wants them."""
    taken = getattr(till, "taken", {})
    whole = Bank(wrongs=list(till.wrongs), refunds=dict(till.refunds))
    for txn, one in till.captures.items():
        first = payment_id_for(order_id_of_payment(one.payment_id) or "")  # the auditor knows orders by their first way
        whole.captures[txn] = replace(one, payment_id=first, amount_minor=one.amount_minor - taken.get(txn, 0))
    for row in rows:
        if row["pk"].startswith("BALANCE#") and row["sk"].startswith("X#spend:"):
            txn, currency = row["sk"].removeprefix("X#"), row["pk"].rpartition("#")[2]
            whole.captures[txn] = Capture(row["payment_id"], txn, -row["amount_minor"], currency)
        elif row["pk"].startswith("BALANCE#") and row["sk"].startswith("X#refund:"):
            whole.refunds[row["refund_id"]] = (f"spend:{row['order_id']}", row["amount_minor"])
    return whole


def _check_balances(rows: list[dict], found: list) -> None:
    """Entries add up to the balance; each order is spent for once; what went back is in orders, and nothing else is."""
    moved: Counter[str] = Counter()
    named: Counter[str] = Counter()
    spent: dict[str, int] = {}
    given_back: dict[str, int] = {}
    for row in rows:
        if not row["pk"].startswith("BALANCE#"):
            continue
        if row["sk"].startswith("E#"):
            moved[row["pk"]] += row["amount_minor"]
            if row["kind"] == "spend":
                assert row["order_id"] not in spent, f"{row['order_id']} was spent for twice"
                spent[row["order_id"]] = -row["amount_minor"]
            if row["kind"] == "refund":
                assert row["refund_id"] not in given_back, f"{row['refund_id']} was credited twice"
                given_back[row["refund_id"]] = row["amount_minor"]
        elif row["sk"].startswith("X#"):
            named[row["pk"]] += row["amount_minor"]
    assert moved == named, "entries and their names differ"
    standing = {f"{row['pk']}#{row['sk']}": row["balance_minor"] for row in rows
                if row["pk"].startswith("BALANCE#") and "balance_minor" in row}  # fmt: skip
    assert {name: minor for name, minor in standing.items() if name in moved} == moved, "balance and entries differ"
    assert min(standing.values(), default=0) >= 0
    by_balance = {one.order_id: one for one in found if one.provider == "balance"}
    assert spent == {order_id: one.paid_minor for order_id, one in by_balance.items()}
    assert given_back == {refund_id_of(one, refund): refund.amount_minor for one in by_balance.values()
                          for refund in one.refunds if refund.state == "succeeded"}  # fmt: skip


def _check_ledger(rows: list[dict], found: list) -> None:
    """The sets that stand are those of all orders and of all other movements of balances, and each comes to zero."""
    standing = {row["sk"]: ledger._to_set(row) for row in rows if row["pk"].startswith("LEDGER#")}
    assert len(standing) == sum(row["pk"].startswith("LEDGER#") for row in rows), "one event has two sets"
    assert all(is_balanced(one) for one in standing.values())
    of_orders = {one.event_id: one for order in found for one in entry_sets(order)}
    wrong = {name for name, one in of_orders.items() if standing.get(name) != one}
    assert not wrong, f"sets that are missing, or say something else: {sorted(wrong)[:5]}"
    others = {row["sk"].split("#", 2)[2] for row in rows
              if row["pk"].startswith("BALANCE#") and row["sk"].startswith("E#")
              and row["kind"] in ("top_up", "adjustment")}  # fmt: skip
    assert standing.keys() - of_orders.keys() == others
    owed: Counter[tuple[str, str]] = Counter()
    for one in standing.values():
        for account, minor, currency in one.entries:
            if account.startswith(shop_balance("")):
                owed[account.removeprefix(shop_balance("")), currency] -= minor
    theirs = {(row["pk"].removeprefix("BALANCE#"), row["sk"]): row["balance_minor"]
              for row in rows if row["pk"].startswith("BALANCE#") and "balance_minor" in row}  # fmt: skip
    assert +owed == +Counter(theirs), "the ledger owes shops something else than their balances say"


def _check_labels(rows: list[dict], found: list) -> None:
    labels = sorted(
        (row["order_id"], row["dispute_id"], row["state"], row["amount_minor"], row["opened_at"],
         row.get("evidence_due_at"), row.get("closed_at"), row["reason"])
        for row in rows if row["pk"] == "DISPUTE"
    )  # fmt: skip
    said = sorted(
        (order.order_id, one.dispute_id, one.state, one.amount_minor, one.opened_at, one.due_at, one.closed_at,
         one.reason)
        for order in found for one in order.disputes
    )  # fmt: skip
    assert labels == said, "the rows of disputes are not what the orders say"


# -- acts -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One row of the matrix. `check` holds after the act; `always` also where it broke off."""

    prepare: Callable[[House], Subject]
    act: Callable[[House, Subject], Any]
    check: Callable[[House, Subject], None]
    always: Callable[[House, Subject], None] = lambda house, subject: None

    def start(self, house: House) -> Subject:
        subject = self.prepare(house)
        another_process()
        return subject


def ends(status: str, label: str | None = None) -> Callable[[House, Subject], None]:
    def check(house: House, subject: Subject) -> None:
        order = subject.order()
        assert (status_of(order), [one.state for one in order.disputes]) == (status, [label] if label else [])

    return check


# Accounts: each try has a shop of its own.

SECRETS = {"secret_key": "sk_test_1", "webhook_secret": "whsec_1"}


def _new_shop(house: House) -> Subject:
    shop_id = f"shop_{next(_numbers)}"
    shops.put_shop(shop_id, "One more", house.now)
    return Subject(
        order_id_for(shop_id, "none"),
        {"shop_id": shop_id, "account_id": account_store.account_id_for(shop_id, "stripe", "test")},
    )


def _account(house: House) -> Subject:
    subject = _new_shop(house)
    wanted = NewAccount(shop_id=subject.facts["shop_id"], provider="stripe", mode="test", secrets=SECRETS)
    create_account(wanted, by="key_op", now=house.now)
    change_account(subject.facts["account_id"], AccountChange(status="on"), by="key_op", now=house.now)
    return subject


def _as_operator(house: House, send: Callable[[], Any]) -> None:
    """Told that somebody else is changing the account, an operator sends the change again a minute later."""
    try:
        send()
    except AccountChanged:
        house.clock.advance(HOLD_SECONDS + 1)
        send()


def _create(house: House, subject: Subject) -> None:
    """The account, and where its making had broken off its secrets."""
    wanted = NewAccount(shop_id=subject.facts["shop_id"], provider="stripe", mode="test", secrets=SECRETS)
    with suppress(AccountExists):
        create_account(wanted, by="key_op", now=house.now)
        return
    if account_store.get_account_row(subject.facts["account_id"])["secret_names"] != sorted(SECRETS):
        _change(AccountChange(secrets=SECRETS))(house, subject)


def _change(change: AccountChange) -> Callable[[House, Subject], None]:
    def act(house: House, subject: Subject) -> None:
        account_id = subject.facts["account_id"]
        _as_operator(house, lambda: change_account(account_id, change, by="key_op", now=house.now))

    return act


def stored_secrets(account_id: str) -> dict[str, Any]:
    return account_store.read_secrets(account_id, is_fresh=True)


def _has_what_it_names(house: House, subject: Subject) -> None:
    """An account names no secret that is not stored, and what was good before the change is still taken."""
    with suppress(NoSuchAccount):
        row = account_store.get_account_row(subject.facts["account_id"])
        stored = stored_secrets(row["account_id"])
        assert set(row["secret_names"]) <= stored["current"].keys(), "a secret is named and not there"
        if row["status"] == "on":
            good = [stored["current"], *(one["secrets"] for one in stored["earlier"])]
            assert {"whsec_1", "sk_test_1"} <= {text for one in good for text in one.values()}, "it was cut off"


def _is_complete(house: House, subject: Subject) -> None:
    row = account_store.get_account_row(subject.facts["account_id"])
    assert (row["status"], row["secret_names"], "held_until" in row) == ("off", sorted(SECRETS), False)
    assert stored_secrets(row["account_id"]) == {"current": SECRETS, "earlier": []}


ROTATION = AccountChange(status="on", secrets={"webhook_secret": "whsec_2"}, overlap_minutes=60)


def _is_rotated(house: House, subject: Subject) -> None:
    row = account_store.get_account_row(subject.facts["account_id"])
    stored = stored_secrets(row["account_id"])
    assert (row["status"], "held_until" in row) == ("on", False)
    assert stored["current"] == {**SECRETS, "webhook_secret": "whsec_2"}
    assert [one["secrets"] for one in stored["earlier"]] == [{"webhook_secret": "whsec_1"}]


def _is_off(house: House, subject: Subject) -> None:
    row = account_store.get_account_row(subject.facts["account_id"])
    assert (row["status"], row["settings"]) == ("off", {"api_base": "http://127.0.0.1:9"})


def _empty_account(house: House) -> Subject:
    subject = _new_shop(house)
    create_account(
        NewAccount(shop_id=subject.facts["shop_id"], provider="stripe", mode="test"), by="key_op", now=house.now
    )
    return subject


def _is_on(house: House, subject: Subject) -> None:
    row = account_store.get_account_row(subject.facts["account_id"])
    assert (row["status"], row["secret_names"]) == ("on", sorted(SECRETS))
    assert stored_secrets(row["account_id"]) == {"current": SECRETS, "earlier": []}


ACCOUNTS = {
    "making an account": Row(_new_shop, _create, _is_complete, _has_what_it_names),
    "rotating its secrets": Row(_account, _change(ROTATION), _is_rotated, _has_what_it_names),
    "filling it in and switching it on": Row(
        _empty_account, _change(AccountChange(status="on", secrets=SECRETS)), _is_on, _has_what_it_names
    ),
    "switching it off": Row(
        _account, _change(AccountChange(status="off", settings={"api_base": "http://127.0.0.1:9"})), _is_off,
        _has_what_it_names,
    ),
}  # fmt: skip


# What providers say.


def _placed(house: House) -> Subject:
    return Subject(shop.place({_product(house): 1}, house.now).order_id, {})


def _captured(house: House) -> Subject:
    subject = _placed(house)
    order = subject.order()
    one = house.till.capture(payment_id_for(order.order_id), order.total_minor, order.currency)
    return replace(subject, facts={"txn": one.txn})


def _paid(house: House) -> Subject:
    subject = _captured(house)
    _told_paid(house, subject)
    return subject


def _told_paid(house: House, subject: Subject) -> None:
    receive_notice(shop.paid_notice(subject.order(), provider_txn=subject.facts["txn"]), house.now)


def word(order: Any, kind: str, *, amount_minor: int | None = None, dispute: str | None = None, **members: Any):
    """What the provider says later about the money of an order, naming it only by its own number."""
    minor = order.total_minor if amount_minor is None else amount_minor
    facts = DisputeFacts(dispute, "fraudulent", order.created_at + 86_400) if dispute else None
    event_id = members.pop("event_id", f"evt_{order.order_id}_{kind}")
    return Notice(
        order.provider, event_id, kind, None, order.provider_txn, minor, order.currency, dispute=facts,
        **members,
    )  # fmt: skip


def tell(*kinds: str) -> Callable[[House, Subject], None]:
    """Dispute notices, one after the other; a lost one takes the money at the till."""

    def act(house: House, subject: Subject) -> None:
        order = subject.order()
        for kind in kinds:
            if kind == "dispute_lost":
                house.till.taken[order.provider_txn] = order.total_minor
            receive_notice(word(order, kind, dispute=f"dp_{order.order_id}"), house.now)

    return act


def _after(prepare: Callable[[House], Subject], *acts: Callable[[House, Subject], Any]):
    def prepared(house: House) -> Subject:
        subject = prepare(house)
        for act in acts:
            act(house, subject)
        return subject

    return prepared


def _revealed(house: House) -> Subject:
    subject = Subject(shop.place({_product(house, is_sealed=True): 1}, house.now).order_id, {})
    order = subject.order()
    txn = house.till.capture(payment_id_for(order.order_id), order.total_minor, order.currency).txn
    subject = replace(subject, facts={"txn": txn})
    _told_paid(house, subject)
    house.shown.reveal(subject.order_id, house.now)
    return subject


def _settle(house: House, subject: Subject) -> None:
    house.till.taken[subject.facts["txn"]] = subject.order().total_minor
    settle_dispute(subject.order_id, f"dp_{subject.order_id}", "lost", by="key_op", note="seen", now=house.now)


def _refunded_by_hand(minor: int | None) -> Callable[[House, Subject], None]:
    def act(house: House, subject: Subject) -> None:
        order = subject.order()
        house.till.taken[order.provider_txn] = minor or order.total_minor
        receive_notice(
            word(order, "refunded", amount_minor=minor, provider_refund_id=f"re_{order.order_id}"), house.now
        )

    return act


def _refund(house: House, subject: Subject) -> None:
    request_refund(
        subject.order(), AskRefund(), is_operator=True, by="key_op", now=house.now, request_id="r1"
    )  # fmt: skip
    if status_of(finish_refunds(subject.order_id, house.now)) == "refunding":
        raise ProviderUnavailable()  # comes again


def _undo(house: House, subject: Subject) -> None:
    order = subject.order()
    house.till.undone.add(refund_id_of(order, order.refund(1)))


def _told_undone(house: House, subject: Subject) -> None:
    order = subject.order()
    refund_id = refund_id_of(order, order.refund(1))
    receive_notice(word(order, "refund_failed", refund_id=refund_id), house.now)
    settle_message({"order_id": order.order_id, "recheck": 1})


def _is_undone(house: House, subject: Subject) -> None:
    order = subject.order()
    assert (status_of(order), [one.state for one in order.refunds]) == ("needs_review", ["reversed"])


def _offer(house: House, subject: Subject) -> None:
    offered = offer_payment(subject.order(), WantedPayment(provider="stripe"), by="key_shop", now=house.now)
    open_payment(offered, "http://127.0.0.1:9", "http://127.0.0.1:9/order", house.now)


def _is_offered(house: House, subject: Subject) -> None:
    order = subject.order()
    second = payment_id_for(order.order_id, 2)
    assert (status_of(order), [one.provider for one in order.attempts]) == ("pending_payment", ["stripe"])
    assert payments.find_session(order.order_id, 2).provider_ref == f"ref_{second}"


def _close(house: House, subject: Subject) -> None:
    if not close_payments(subject.order_id):
        raise ProviderUnavailable()


def _is_closed(house: House, subject: Subject) -> None:
    assert status_of(subject.order()) == "cancelled"
    assert {payment_id_for(subject.order_id, number) for number in (1, 2)} <= house.till.closed


def _ask(house: House, subject: Subject) -> None:
    if not ask_payments(subject.order_id, house.now):
        raise ProviderUnavailable()


def _paid_by_the_other_way(house: House) -> Subject:
    """Offered by two ways, paid by the second, and nobody was told."""
    subject = _after(_placed, _offer)(house)
    order = subject.order()
    house.till.capture(payment_id_for(order.order_id, 2), order.total_minor, order.currency)
    return subject


NOTICES = {
    "paid": Row(_captured, _told_paid, ends("delivered")),
    "dispute opened": Row(_paid, tell("dispute_opened"), ends("needs_review", "open")),
    "dispute won": Row(_after(_paid, tell("dispute_opened")), tell("dispute_won"), ends("delivered", "won")),
    "dispute lost": Row(_after(_paid, tell("dispute_opened")), tell("dispute_lost"), ends("refunded", "lost")),
    "dispute lost, keys seen": Row(_revealed, tell("dispute_lost"), ends("refunded", "lost")),
    "dispute settled by hand": Row(_after(_paid, tell("dispute_opened")), _settle, ends("refunded", "lost")),
    "refunded by hand": Row(_paid, _refunded_by_hand(None), ends("refunded")),
    "a part refunded by hand": Row(_paid, _refunded_by_hand(300), ends("needs_review")),
    "a refund that came to nothing": Row(_after(_paid, _refund, _undo), _told_undone, _is_undone),
    "offering another way": Row(_placed, _offer, _is_offered),
    "closing every way": Row(
        _after(_placed, _offer, lambda h, s: cancel_order(s.order(), by="key_shop", now=h.now)), _close, _is_closed
    ),
    "asking": Row(_paid_by_the_other_way, _ask, ends("delivered")),
}


# Balances.


def _wish(house: House) -> Subject:
    wanted = shop.wish({_product(house): 1}, provider="balance")
    return Subject(order_id_for(shop.SHOP, wanted.merchant_order_no), {"wanted": wanted})


def _place(house: House, subject: Subject) -> None:
    place_order(subject.facts["wanted"], shop_id=shop.SHOP, by="key_shop", now=house.now)


def _is_bought(house: House, subject: Subject) -> None:
    order = subject.order()
    entry = balances.find_entry(shop.SHOP, "CNY", f"spend:{order.order_id}")
    assert (status_of(order), entry.amount_minor) == ("delivered", -order.total_minor)


def _top_up(house: House) -> Subject:
    top_up = TopUp(new_id("top", house.now), shop.SHOP, 500, "CNY", "stripe", house.now)
    top_up_store.put_top_up(top_up, house.now + 60)
    return Subject(order_id_for(shop.SHOP, top_up.top_up_id), {"top_up_id": top_up.top_up_id})


def _told_top_up(house: House, subject: Subject) -> None:
    top_up_id = subject.facts["top_up_id"]
    notice = Notice("stripe", f"evt_{top_up_id}", "paid", top_up_id, f"txn_{top_up_id}", 500, "CNY")
    receive_top_up(notice, house.now)


def _is_topped_up(house: House, subject: Subject) -> None:
    top_up = top_up_store.find_top_up(subject.facts["top_up_id"])
    assert (top_up.state, top_up.paid_minor) == ("paid", 500)


BALANCES = {
    "checkout out of the balance": Row(_wish, _place, _is_bought),
    "refund to the balance": Row(_after(_wish, _place), _refund, ends("refunded")),
    "top-up": Row(_top_up, _told_top_up, _is_topped_up),
}


# The ledger.


def _post(late_days: int) -> Callable[[House, Subject], None]:
    def act(house: House, subject: Subject) -> None:
        post_change(None, subject.order(), house.now + late_days * DAY_SECONDS)

    return act


def _is_posted(house: House, subject: Subject) -> None:
    wanted = entry_sets(subject.order())
    assert wanted and sorted(ledger.get_sets(wanted), key=str) == sorted(wanted, key=str)


def _is_posted_late(house: House, subject: Subject) -> None:
    """The day is proved again: an end of the proof at or after it would carry on sums without these sets."""
    _is_posted(house, subject)
    assert ledger.read_clock().until < day_of(subject.order().paid_at)


def _a_day(house: House) -> Subject:
    """A day with sales, a top-up and money back, all posted; it is over, and those before it are proved."""
    prove_ledger.prove_ledger(house.now + 2 * 3_600)
    subject = _after(_wish, _place, _refund)(house)
    _told_top_up(house, _top_up(house))
    tell("dispute_opened")(house, _paid(house))
    post_missing(house.now)
    day = day_of(house.now)
    house.clock.advance(DAY_SECONDS)
    return replace(subject, facts={"day": day})


def _prove(house: House, subject: Subject) -> None:
    prove_ledger.prove_ledger(house.now + 2 * 3_600)


def _is_proved(house: House, subject: Subject) -> None:
    day = ledger.find_day(subject.facts["day"])
    assert ledger.read_clock().until == subject.facts["day"]
    assert (day.differences, day.waiting) == ((), ())
    assert day.sets >= 7


LEDGER = {
    "posting a change": Row(_after(_wish, _place), _post(0), _is_posted),
    "posting a change late": Row(_after(_paid, _refund), _post(3), _is_posted_late),
    "the hourly walk": Row(_after(_paid, _refund), lambda h, s: post_missing(h.now), _is_posted),
}
PROOF = {"the daily proof": Row(_a_day, _prove, _is_proved)}
GROUPS = {"accounts": ACCOUNTS, "notices": NOTICES, "balances": BALANCES, "ledger": LEDGER, "proof": PROOF}


# -- the matrix ------------------------------------------------------------------------------------------------------


def _repeat(row: Row, house: House, subject: Subject, point: str) -> None:
    try:
        row.always(house, subject)
        another_process()
        row.act(house, subject)
        row.check(house, subject)
        row.always(house, subject)
    except Exception as broken:
        raise AssertionError(f"{point}: {broken!r}") from broken


def _rest(house: House) -> None:
    check_books(quiesce(house.clock, seconds=(3_700, 61)), house.till)
    assert len(house.till.asked) == len(set(house.till.asked)), "a refund was asked for twice"


def _calls(row: Row, house: House) -> list:
    house.products.clear()
    subject = row.start(house)
    calls = count_calls(lambda: row.act(house, subject))
    row.check(house, subject)
    return calls


def play_crashes(rows: dict[str, Row], house: House) -> dict[str, int]:
    """Break each act off at every call; after one call is before the next, so each once, and the end of the last. Of a
    walk over partitions the first read of a kind says what the others would.
    """
    counts = {}
    for name, row in rows.items():
        calls = _calls(row, house)
        first = {call.operation: call.number for call in reversed(calls)}
        is_walk = len(calls) > 16
        tried = [call for call in calls if call.is_write or not is_walk or first[call.operation] == call.number]
        for fault, call in [*(("crash_before", call) for call in tried), ("crash_after", calls[-1])]:
            subject = row.start(house)
            with faults(at_call(call.number, fault)), pytest.raises(Crash):
                row.act(house, subject)
            _repeat(row, house, subject, f"{name}: {fault} {call}")
        counts[name] = len(tried) + 1
    _rest(house)
    return counts


def play_writes(rows: dict[str, Row], house: House) -> int:
    """The answer of every write is lost; the ways of losing one take turns."""
    lost, played = cycle(LOST), 0
    for name, row in rows.items():
        writes = [call for call in _calls(row, house) if call.is_write]
        for number, call in enumerate(writes, start=1):
            fault, subject = next(lost), row.start(house)
            with faults(at_write(number, fault)) as injected:
                act_until_done(SimpleNamespace(act=row.act), house, subject)
            assert injected.struck
            _repeat(row, house, subject, f"{name}: {fault} {call}")
            played += 1
    _rest(house)
    return played


@pytest.mark.parametrize("group", GROUPS)
def test_a_crash_anywhere_in_payments_loses_no_money_and_doubles_none(group, house):
    counts = play_crashes(GROUPS[group], house)
    assert min(counts.values()) >= 3, f"an act that asks so little of AWS was not played: {counts}"


@pytest.mark.parametrize("group", GROUPS)
def test_a_write_of_payments_whose_answer_is_lost_has_its_effect_once(group, house):
    assert play_writes(GROUPS[group], house) >= len(GROUPS[group])


def test_throttling_conflicts_and_lost_answers_all_over_payments_are_overcome(house):
    """Each act meets a table that says 'not now' in every way it has; a walk over hundreds of reads would never end."""
    rows = {name: row for rows in GROUPS.values() for name, row in rows.items()
            if name not in ("the hourly walk", "the daily proof")}  # fmt: skip
    met: Counter[str] = Counter()
    for seed, (name, row) in enumerate(rows.items()):
        subject = row.start(house)
        with faults(at_random(random.Random(seed), 0.35, (*NOT_NOW, *NOT_NOW, *LOST))) as injected:
            act_until_done(SimpleNamespace(act=row.act), house, subject)
        _repeat(row, house, subject, f"{name}, seed {seed}")
        met.update(fault for fault, _ in injected.struck)
    assert min(met[fault] for fault in NOT_NOW) >= 3 and met.total() >= len(rows), met
    _rest(house)


def test_a_table_that_stays_busy_is_told_and_leaves_every_book_as_it_was(house):
    """Conflicts at every write: a checkout, a refund and a change of an account are refused, to be sent again."""
    wish, bought, account = _wish(house), _after(_wish, _place)(house), _account(house)
    post_missing(house.now)
    before = _books()
    for fault in ("throttled", "conflict"):
        with faults(lambda call, fault=fault: fault if call.service == "dynamodb" and call.is_write else None):
            with pytest.raises(Busy):
                _place(house, wish)
            with pytest.raises(Busy):
                _refund(house, bought)
            with pytest.raises(Busy):
                change_account(account.facts["account_id"], ROTATION, by="key_op", now=house.now)
    assert _books() == before
    _has_what_it_names(house, account)
    assert stored_secrets(account.facts["account_id"]) == {"current": SECRETS, "earlier": []}


def _books() -> list[dict]:
    return [row for row in all_rows() if row["pk"].startswith(("BALANCE#", "LEDGER#", "PAYACC", "O#"))]


# -- single faults ---------------------------------------------------------------------------------------------------


def test_a_checkout_there_is_no_money_for_gives_its_keys_back_at_once(house):
    product_id = shop.make_product(house.now, keys_in_stock=2, price_minor=600_000)
    wanted = shop.wish({product_id: 2}, provider="balance")
    for _ in range(2):
        with pytest.raises(InsufficientBalance):
            place_order(wanted, shop_id=shop.SHOP, by="key_shop", now=house.now)
        assert shop.stock_of(product_id, house.now).available == 2
    place_order(shop.wish({product_id: 1}, provider="balance"), shop_id=shop.SHOP, by="key_shop", now=house.now)
    _rest(house)


def test_a_rotation_sent_again_and_again_does_not_push_out_the_secret_that_is_still_good(house):
    subject = _account(house)
    for _ in range(5):
        change_account(subject.facts["account_id"], ROTATION, by="key_op", now=house.now)
    _is_rotated(house, subject)


def test_a_change_starts_from_the_secrets_of_this_moment_not_from_those_this_process_remembers(house):
    from chalicelib.aws import secrets

    subject = _account(house)
    account_id = subject.facts["account_id"]
    account_store.read_secrets(account_id)
    remembered = dict(secrets._kept)
    change_account(account_id, AccountChange(secrets={"webhook_secret": "whsec_2"}), by="key_op", now=house.now)
    secrets._kept.update(remembered)  # the next change comes to a process that read them before
    change_account(account_id, AccountChange(secrets={"secret_key": "sk_test_2"}), by="key_op", now=house.now)
    stored = stored_secrets(account_id)
    assert stored["current"] == {"secret_key": "sk_test_2", "webhook_secret": "whsec_2"}
    assert [one["secrets"] for one in stored["earlier"]] == [{"secret_key": "sk_test_1"}, {"webhook_secret": "whsec_1"}]


def test_making_an_account_that_is_there_does_not_touch_its_secrets_even_where_it_is_not_known_yet(house):
    subject = _new_shop(house)
    account_store.find_account(subject.facts["account_id"])
    unknown = dict(account_store._kept)
    _create(house, subject)
    account_store._kept.update(unknown)  # a process that looked before it was made
    other = NewAccount(
        shop_id=subject.facts["shop_id"], provider="stripe", mode="test", secrets={"secret_key": "sk_test_9"}
    )
    with pytest.raises(AccountExists):
        create_account(other, by="key_op2", now=house.now)
    another_process()
    _is_complete(house, subject)


def test_a_change_that_broke_off_keeps_others_out_for_a_minute_and_no_longer(house):
    subject = _account(house)
    account_id = subject.facts["account_id"]
    with faults(lambda call: "crash_after" if call.operation == "PutSecretValue" else None), pytest.raises(Crash):
        change_account(account_id, ROTATION, by="key_op", now=house.now)
    with pytest.raises(AccountChanged):
        change_account(account_id, AccountChange(status="off"), by="key_op2", now=house.clock.advance(59))
    change_account(account_id, AccountChange(status="off"), by="key_op2", now=house.clock.advance(1))
    row = account_store.get_account_row(account_id)
    assert (row["status"], "held_until" in row) == ("off", False)


def test_a_refund_said_to_be_undone_is_asked_about_until_the_provider_knows(house):
    """Nothing else remembers what was said: a message that is dropped is a buyer without goods and money."""
    subject = _after(_paid, _refund)(house)
    for answer in ("unknown", "pending"):
        house.till.find_refund = lambda payment, refund_id, answer=answer: RefundResult(answer)
        with pytest.raises(ProviderUnavailable):
            recheck_refund(subject.order_id, 1, house.now)
        assert status_of(subject.order()) == "refunded"
    del house.till.find_refund
    _undo(house, subject)
    recheck_refund(subject.order_id, 1, house.now)
    _is_undone(house, subject)


def test_an_order_whose_refund_came_to_nothing_is_not_called_delivered_without_its_keys(house):
    """The keys are back in stock: looking after it by hand may send the money again, not wave the order through."""
    subject = _after(_paid, _refund, _undo, _told_undone)(house)
    with pytest.raises(NothingToDeliver):
        deliver_by_hand(subject.order_id, by="key_op", now=house.now)
    _is_undone(house, subject)
    house.till.refunds.clear()
    request_refund(subject.order(), AskRefund(), is_operator=True, by="key_op", now=house.now)
    assert status_of(finish_refunds(subject.order_id, house.now)) == "refunded"


@pytest.mark.parametrize("fault", ["lost_busy", "crash_after"])
def test_a_day_that_does_not_balance_is_cried_out_whatever_breaks_off(house, monkeypatch, fault):
    cried = []
    monkeypatch.setattr(prove_ledger, "count", lambda name, *_: cried.append(name))
    subject = _a_day(house)
    with monkeypatch.context() as patch:
        patch.setattr(prove_ledger, "close_day", _with_a_difference(prove_ledger.close_day))
        with faults(at_write(1, fault)), suppress(Crash):
            _prove(house, subject)
    another_process()
    _prove(house, subject)
    assert ledger.find_day(subject.facts["day"]).differences == ("something",)
    assert cried == ["LedgerDoesNotBalance"]


def _with_a_difference(real: Callable) -> Callable:
    return lambda *given: replace(real(*given), differences=("something",))


def test_a_dispute_heard_of_first_by_its_end_is_decided_and_freezes_nothing_later(house):
    for kinds in (("won", "opened"), ("opened", "won", "opened"), ("won", "won", "opened", "opened")):
        subject = _paid(house)
        order = subject.order()
        for number, kind in enumerate(kinds):
            said = word(order, f"dispute_{kind}", dispute=f"dp_{order.order_id}", event_id=f"{order.order_id}{number}")
            receive_notice(said, house.clock.advance(1))
        ends("delivered", "won")(house, subject)
    _rest(house)


def test_a_word_that_comes_between_an_order_and_its_dispute_row_is_not_lost_from_the_row(house):
    """The older writer is slower: what it knows must not replace what is known since."""
    subject = _paid(house)
    order = subject.order()
    opened = word(order, "dispute_opened", dispute="dp_1")
    calls = count_calls(lambda: receive_notice(opened, house.now))
    for call in calls:
        subject = _paid(house)
        order = subject.order()
        opened = word(order, "dispute_opened", dispute="dp_1", event_id="e1")
        later = replace(opened, event_id="e2", dispute=DisputeFacts("dp_1", "fraudulent", order.created_at + 9))
        with faults(at_call(call.number, lambda later=later: receive_notice(later, house.now))) as injected:
            receive_notice(opened, house.now)
        assert injected.struck
        label = {row["order_id"]: row for row in all_rows() if row["pk"] == "DISPUTE"}[order.order_id]
        assert label["evidence_due_at"] == subject.order().disputes[0].due_at, str(call)
