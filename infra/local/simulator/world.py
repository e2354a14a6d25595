"""The books of all providers: payments, refunds, disputes, messages to send, keys. One JSON file, kept over restarts.

Provider modules read records freely and change them only through the functions here, or inside `with world.changing():`
(one lock, saved when the outermost block ends). Nothing here knows a provider's wire format.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from infra.local.simulator import load_provider
from infra.local.simulator.outcomes import (
    LATE_BY_SECONDS,
    REVERSED_AFTER_SECONDS,
    SLOW_SECONDS,
    copies_of_notice,
    outcome_of,
)


class Impossible(Exception):
    """What was asked cannot be done in the state the books are in; `reason` is one word, to be said in the provider's.

    closed, failed, paid (there is nothing to close), not_paid, too_much, other_amount (under a number already used).
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Down(Exception):
    """The provider is out of order for this call; the server answers 503 and nothing was done."""


@dataclass
class Refund:
    """refund_no is ours, None for one made by hand at the provider. state: pending, succeeded, failed.

    `reversed_at`: it had succeeded and was taken back (state failed).
    """

    refund_no: str | None
    provider_refund_id: str
    amount_minor: int
    created_at: int
    state: str = "pending"
    settled_at: int | None = None
    reversed_at: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Dispute:
    """state: opened, won, lost."""

    dispute_id: str
    amount_minor: int
    opened_at: int
    due_at: int
    state: str = "opened"
    settled_at: int | None = None


@dataclass
class Record:
    """One payment. state: open, paid, closed, failed. `closed_by`: us, time. `extra` belongs to the provider's module.

    expires_at    when it runs out by itself; None: never
    paid_minor    what was captured (an outcome may make it differ from amount_minor)
    fee_minor     what the provider kept
    """

    provider: str
    our_no: str
    amount_minor: int
    currency: str
    notify_url: str | None
    return_url: str | None
    created_at: int
    outcome: str
    expires_at: int | None = None
    state: str = "open"
    closed_by: str | None = None
    closed_at: int | None = None
    provider_txn: str | None = None
    paid_minor: int = 0
    paid_at: int | None = None
    fee_minor: int = 0
    refunds: list[Refund] = field(default_factory=list)
    disputes: list[Dispute] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def refunded_minor(self) -> int:
        """What all refunds give back that have not failed."""
        return sum(one.amount_minor for one in self.refunds if one.state != "failed")

    def refund_of(self, refund_no: str | None = None, provider_refund_id: str | None = None) -> Refund | None:
        for one in self.refunds:
            if refund_no is not None and one.refund_no == refund_no:
                return one
            if provider_refund_id is not None and one.provider_refund_id == provider_refund_id:
                return one
        return None


@dataclass
class Event:
    """One message to a shop, and what became of it. The id stays over all sendings; the message is made anew for each.

    kind          what happened (the package's docstring lists them); name: the provider's own name of the message
    refund_id     the provider's id of the refund it is about; dispute_id likewise
    state         waiting, taken, given_up
    """

    event_id: str
    provider: str
    our_no: str
    kind: str
    name: str
    at: int
    refund_id: str | None = None
    dispute_id: str | None = None
    copies: int = 1
    attempts: int = 0
    next_at: float = 0.0
    state: str = "waiting"
    last_answer: str = ""


@dataclass(frozen=True)
class Movement:
    """A movement of money for statements: kind payment, refund, refund_reversed, dispute or dispute_won.

    amount_minor: positive what came, negative what went; the fee is not in it.
    """

    kind: str
    at: int
    amount_minor: int
    currency: str
    fee_minor: int
    record: Record
    refund: Refund | None = None
    dispute: Dispute | None = None


class World:
    """`directory` is made when it is not there; `url` is where the server listens, without a slash at the end."""

    def __init__(self, directory: Path, url: str = "", speed: float = 1.0):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.url = url
        self.speed = speed
        self.something_is_due = threading.Event()  # the postman sleeps on it
        self._lock = threading.RLock()
        self._depth = 0
        self._this_request = threading.local()
        self._records: dict[tuple[str, str], Record] = {}
        self._events: list[Event] = []
        self._timers: list[dict[str, Any]] = []
        self._keys: dict[str, Keys] = {}
        self._books: dict[str, Any] = {
            "clock_ahead": 0,
            "turned_away": [],
            "endpoints": {},
            "shelves": {},
            "faults": [],
        }
        self._load()

    # time

    def clock(self) -> float:
        """Seconds since 1970, as the providers see them; `/_control/clock` can move them ahead."""
        return time.time() + self._books["clock_ahead"]

    def now(self) -> int:
        return int(self.clock())

    def move_clock(self, seconds: int) -> None:
        with self.changing():
            self._books["clock_ahead"] += seconds

    # payments

    def base_url(self, provider: str) -> str:
        return f"{self.url}/{provider}"

    def pay_url(self, record: Record) -> str:
        """The wallet page of a payment: the address a buyer is sent to, and what a QR code may say."""
        from urllib.parse import quote

        return f"{self.url}/pay/{record.provider}/{quote(record.our_no, safe='')}"

    def find(self, provider: str, our_no: str) -> Record | None:
        with self._lock:
            return self._records.get((provider, our_no))

    def find_by(self, provider: str, **wanted: Any) -> Record | None:
        """The record with this field or `extra` entry: `find_by("stripe", session_id="cs_1")`, `provider_txn=…`."""
        for record in self.each(provider):
            if all(getattr(record, name, record.extra.get(name)) == value for name, value in wanted.items()):
                return record
        return None

    def find_refund(self, provider: str, **wanted: str) -> tuple[Record, Refund] | None:
        """By `refund_no` or `provider_refund_id`, whichever payment it belongs to."""
        for record in self.each(provider):
            if (found := record.refund_of(**wanted)) is not None:
                return record, found
        return None

    def each(self, provider: str | None = None) -> list[Record]:
        """All payments (of a provider), the oldest first."""
        with self._lock:
            return [one for one in self._records.values() if provider in (None, one.provider)]

    def open(
        self,
        provider: str,
        our_no: str,
        amount_minor: int,
        currency: str,
        notify_url: str | None = None,
        return_url: str | None = None,
        *,
        expires_at: int | None = None,
        **extra: Any,
    ) -> Record:
        """The payment of this number, made unless it exists (then whoever calls compares the amounts).

        Raises: Down on the first call when the amount says so.
        """
        with self.changing():
            key = (provider, our_no)
            if key in self._records:
                return self._records[key]
            outcome = outcome_of(amount_minor)
            if outcome == "down_first" and f"{provider}/{our_no}" not in self._books["turned_away"]:
                self._books["turned_away"].append(f"{provider}/{our_no}")
                raise Down()
            record = Record(
                provider, our_no, amount_minor, currency, notify_url, return_url, self.now(), outcome, expires_at,
                extra=extra,
            )  # fmt: skip
            self._records[key] = record
            if expires_at is not None:
                self._at(expires_at, "expire", record)
            return record

    def pay(self, record: Record, outcome: str | None = None) -> None:
        """The buyer pays. What comes of it is the amount's choice, or `outcome`. Paying what is paid changes nothing.

        Raises: Impossible (closed, failed).
        """
        with self.changing():
            if record.state == "paid":
                return
            record.outcome = outcome or record.outcome
            if record.outcome == "late":
                if record.state in ("closed", "failed"):
                    self._capture(record)
                elif record.expires_at is not None:
                    self._at(record.expires_at + LATE_BY_SECONDS, "capture", record)
                record.extra["is_late"] = True  # `close` brings the money, too
                return
            if record.state != "open":
                raise Impossible(record.state)
            if record.outcome == "fail":
                record.state = "failed"
                self.emit(record, "failed")
            elif record.outcome == "slow":
                self._after(SLOW_SECONDS, "capture", record)
            else:
                self._capture(record)

    def approve(self, record: Record) -> None:
        """For providers where the buyer's word comes first and the capture (`pay`) is a call of ours."""
        with self.changing():
            if record.state != "open":
                raise Impossible(record.state)
            if not record.extra.get("is_approved"):
                record.extra["is_approved"] = True
                self.emit(record, "approved")

    def close(self, record: Record, closed_by: str = "us") -> None:
        """Nobody can pay any more; closing twice changes nothing. Raises: Impossible("paid")."""
        with self.changing():
            if record.state == "paid":
                raise Impossible("paid")
            if record.state != "open":
                return
            record.state, record.closed_by, record.closed_at = "closed", closed_by, self.now()
            self.emit(record, "closed" if closed_by == "us" else "expired")
            if record.extra.get("is_late"):
                # Not divided by speed: whoever closed it is to learn first that it is closed.
                self._at(self.clock() + LATE_BY_SECONDS, "capture", record)

    def refund(self, record: Record, refund_no: str | None, amount_minor: int, **extra: Any) -> Refund:
        """Give money back; the same number again is the same refund. `refund_no` None: made by hand at the provider.

        Raises: Impossible (not_paid, too_much, other_amount).
        """
        with self.changing():
            if refund_no is not None and (known := record.refund_of(refund_no)) is not None:
                if known.amount_minor != amount_minor:
                    raise Impossible("other_amount")
                return known
            if record.state != "paid":
                raise Impossible("not_paid")
            if amount_minor < 1 or record.refunded_minor + amount_minor > record.paid_minor:
                raise Impossible("too_much")
            made = Refund(
                refund_no, self._number(record, "new_refund_id", "refund"), amount_minor, self.now(), extra=extra
            )
            record.refunds.append(made)
            self.emit(record, "refund_created", refund=made)
            wait = getattr(self.module(record.provider), "REFUND_SECONDS", 0)
            if wait:
                self._after(wait, "settle_refund", record, refund_id=made.provider_refund_id)
            else:
                self._settle_refund(record, made)
            if record.outcome == "refund_unknown" and len(record.refunds) == 1 and refund_no is not None:
                self._this_request.is_answer_lost = True
            return made

    def dispute(self, record: Record, state: str = "opened") -> Dispute:
        """Open, win or lose (the seller's view) the dispute of a payment. Raises: Impossible("not_paid")."""
        with self.changing():
            if record.state != "paid":
                raise Impossible("not_paid")
            running = next((one for one in record.disputes if one.state == "opened"), None)
            if running is None:
                number = self._number(record, "new_dispute_id", "dispute")
                running = Dispute(number, record.paid_minor, self.now(), self.now() + 7 * 86_400)
                record.disputes.append(running)
                self.emit(record, "dispute_opened", dispute=running)
            if state != "opened":
                running.state, running.settled_at = state, self.now()
                self.emit(record, f"dispute_{state}", dispute=running)
            return running

    def movements(self, provider: str, since: int, until: int) -> list[Movement]:
        """What moved from `since` up to before `until`, in order of time: the rows of a statement."""
        found = []
        for record in self.each(provider):
            if record.paid_at is not None:
                found.append(
                    Movement("payment", record.paid_at, record.paid_minor, record.currency, record.fee_minor, record)
                )
            for one in record.refunds:
                if one.settled_at is not None and (one.state == "succeeded" or one.reversed_at is not None):
                    moved = -one.amount_minor
                    found.append(Movement("refund", one.settled_at, moved, record.currency, 0, record, one))
                if one.reversed_at is not None:
                    back = one.amount_minor
                    found.append(Movement("refund_reversed", one.reversed_at, back, record.currency, 0, record, one))
            for each in record.disputes:
                lost = -each.amount_minor
                found.append(Movement("dispute", each.opened_at, lost, record.currency, 0, record, dispute=each))
                if each.state == "won" and each.settled_at is not None:
                    back = each.amount_minor
                    found.append(
                        Movement("dispute_won", each.settled_at, back, record.currency, 0, record, dispute=each)
                    )
        return sorted((one for one in found if since <= one.at < until), key=lambda one: one.at)

    # messages

    def set_endpoint(self, provider: str, url: str | None) -> None:
        """Where messages go of providers whose console has one address for all (Stripe, PayPal, WeChat's push)."""
        with self.changing():
            self._books["endpoints"][provider] = url

    def endpoint(self, provider: str) -> str | None:
        with self._lock:
            return self._books["endpoints"].get(provider)

    def emit(self, record: Record, kind: str, *, refund: Refund | None = None, dispute: Dispute | None = None) -> None:
        """Something happened: put the provider's messages about it on the way."""
        with self.changing():
            copies = copies_of_notice(record.outcome, kind)
            names = getattr(self.module(record.provider), "NOTICES", {}).get(kind, ())
            for name in names if copies else ():
                self._events.append(Event(
                    event_id=f"evt{secrets.token_hex(12)}", provider=record.provider, our_no=record.our_no, kind=kind,
                    name=name, at=self.now(), refund_id=refund.provider_refund_id if refund else None,
                    dispute_id=dispute.dispute_id if dispute else None, copies=copies, next_at=self.clock(),
                ))  # fmt: skip

    def events(self, provider: str | None = None, our_no: str | None = None) -> list[Event]:
        with self._lock:
            return [one for one in self._events if provider in (None, one.provider) and our_no in (None, one.our_no)]

    # what a provider's module keeps for itself

    def shelf(self, name: str) -> dict[str, Any]:
        """A dict of plain JSON values kept over restarts; change it inside `with world.changing():`."""
        with self._lock:
            return self._books["shelves"].setdefault(name, {})

    def number(self, name: str) -> int:
        """1, 2, 3 …, never the same one twice."""
        with self.changing():
            counters = self.shelf("_numbers")
            counters[name] = counters.get(name, 0) + 1
            return counters[name]

    def keep(self, name: str, make: Callable[[], str]) -> str:
        """A text made once (a key, a secret, a certificate) and the same ever after, also over restarts."""
        with self._lock:
            path = self.directory / "keys" / name
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                fresh = path.with_name(name + ".new")
                fresh.write_text(make())
                fresh.replace(path)
            return path.read_text()

    def secret(self, name: str, length: int = 32) -> str:
        """A random text of letters and digits, made once."""
        letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
        return self.keep(f"{name}.secret", lambda: "".join(secrets.choice(letters) for _ in range(length)))

    def keys(self, name: str) -> Keys:
        """An RSA key pair (2048 bits), made once."""
        with self._lock:
            if name not in self._keys:
                self._keys[name] = Keys(self.keep(f"{name}.pem", _new_private_pem))
            return self._keys[name]

    def module(self, provider: str) -> ModuleType:
        """Raises: LookupError."""
        found = load_provider(provider)
        if found is None:
            raise LookupError(provider)
        return found

    # faults on demand

    def add_fault(self, provider: str, what: str, times: int = 1, path: str = "", seconds: float = 12.0) -> None:
        """down: 503, nothing done. slow: done, answered after `seconds`. drop: done, never answered.

        `path` limits it to requests whose path contains it.
        """
        with self.changing():
            fault = {"provider": provider, "what": what, "times": times, "path": path, "seconds": seconds}
            self._books["faults"].append(fault)

    def take_fault(self, provider: str, path: str) -> dict[str, Any] | None:
        with self._lock:
            for fault in self._books["faults"]:
                if fault["provider"] == provider and fault["path"] in path and fault["times"] > 0:
                    with self.changing():
                        fault["times"] -= 1
                        self._books["faults"] = [one for one in self._books["faults"] if one["times"] > 0]
                    return fault
            return None

    def take_lost_answer(self) -> bool:
        """Whether the request this thread has just carried out must stay without an answer."""
        was_lost = getattr(self._this_request, "is_answer_lost", False)
        self._this_request.is_answer_lost = False
        return was_lost

    # what happens by itself

    def run_due(self) -> float:
        """Carry out what is due; the instant of the next thing waiting (or far ahead)."""
        with self._lock:
            now = self.clock()
            due = [one for one in self._timers if one["at"] <= now]
            if due:
                with self.changing():
                    self._timers = [one for one in self._timers if one["at"] > now]
                    for one in sorted(due, key=lambda timer: timer["at"]):
                        record = self._records.get((one["provider"], one["our_no"]))
                        if record is not None:
                            self._happen(one["what"], record, one.get("refund_id"))
            return min((one["at"] for one in self._timers), default=now + 3600)

    def _happen(self, what: str, record: Record, refund_id: str | None) -> None:
        refund = record.refund_of(provider_refund_id=refund_id) if refund_id else None
        if what == "expire" and record.state == "open":
            self.close(record, closed_by="time")
        elif what == "capture" and (record.state == "open" or record.extra.get("is_late")):
            self._capture(record)
        elif what == "settle_refund" and refund is not None:
            self._settle_refund(record, refund)
        elif what == "reverse_refund" and refund is not None and refund.reversed_at is None:
            refund.state, refund.reversed_at = "failed", self.now()
            self.emit(record, "refund_failed", refund=refund)

    def _capture(self, record: Record) -> None:
        if record.state == "paid":
            return
        module = self.module(record.provider)
        record.state, record.paid_at = "paid", self.now()
        record.paid_minor = record.amount_minor + (1 if record.outcome == "wrong_amount" else 0)
        rate, fixed = getattr(module, "FEE_BASIS_POINTS", 0), getattr(module, "FEE_FIXED_MINOR", 0)
        record.fee_minor = min(record.paid_minor, (record.paid_minor * rate + 5_000) // 10_000 + fixed)
        record.provider_txn = self._number(record, "new_txn", "txn")
        self.emit(record, "paid")
        if record.outcome == "dispute":
            self.dispute(record)

    def _settle_refund(self, record: Record, refund: Refund) -> None:
        if refund.state != "pending":
            return
        refund.settled_at = self.now()
        if record.outcome == "refund_fails":
            refund.state = "failed"
            return self.emit(record, "refund_failed", refund=refund)
        refund.state = "succeeded"
        self.emit(record, "refunded", refund=refund)
        if record.outcome == "refund_reversed":
            self._after(REVERSED_AFTER_SECONDS, "reverse_refund", record, refund_id=refund.provider_refund_id)
        return None

    def _number(self, record: Record, maker: str, prefix: str) -> str:
        make = getattr(self.module(record.provider), maker, None)
        return make(self, record) if make else f"{prefix}_{secrets.token_hex(10)}"

    def _after(self, seconds: float, what: str, record: Record, **more: Any) -> None:
        self._at(self.clock() + seconds / self.speed, what, record, **more)

    def _at(self, at: float, what: str, record: Record, **more: Any) -> None:
        self._timers.append({"at": at, "what": what, "provider": record.provider, "our_no": record.our_no, **more})

    # the file

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock; save when the outermost block ends, also when it ends in an exception."""
        with self._lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._save()
                    self.something_is_due.set()

    @cached_property
    def _path(self) -> Path:
        return self.directory / "books.json"

    def _save(self) -> None:
        whole = {
            **self._books,
            "records": [asdict(one) for one in self._records.values()],
            "events": [asdict(one) for one in self._events],
            "timers": self._timers,
        }
        fresh = self._path.with_name(f"books.{os.getpid()}.new")
        fresh.write_text(json.dumps(whole, ensure_ascii=False))
        fresh.replace(self._path)

    def _load(self) -> None:
        if not self._path.exists():
            return
        whole = json.loads(self._path.read_text())
        for row in whole.pop("records"):
            row["refunds"] = [Refund(**one) for one in row["refunds"]]
            row["disputes"] = [Dispute(**one) for one in row["disputes"]]
            record = Record(**row)
            self._records[(record.provider, record.our_no)] = record
        self._events = [Event(**row) for row in whole.pop("events")]
        self._timers = whole.pop("timers")
        self._books = {**self._books, **whole}


@dataclass(frozen=True)
class Keys:
    """An RSA key pair as PEM (PKCS#8 and SubjectPublicKeyInfo); `sign` and `verify` are PKCS#1 v1.5 with SHA-256."""

    private_pem: str

    @cached_property
    def _private(self) -> Any:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        return load_pem_private_key(self.private_pem.encode(), password=None)

    @cached_property
    def public_pem(self) -> str:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, message: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._private.sign(message, PKCS1v15(), SHA256())

    def verify(self, message: bytes, signature: bytes) -> bool:
        return verify_rsa(self.public_pem, message, signature)


def verify_rsa(public_pem: str, message: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        load_pem_public_key(public_pem.encode()).verify(signature, message, PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def _new_private_pem() -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(65_537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
