"""Payments: what we tell providers and what they tell us, in our own words.

A *payment* is one order's wish to be paid through one provider; its id is derived from the order's. A *notice* is a
provider's verified word about a payment. An *account* is a shop's contract with a provider: settings anybody may read,
secrets nobody may. A provider is one file in `adapters/`; the contract is the docstring of that package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

NoticeKind = Literal[
    "paid", "approved", "failed", "refunded", "refund_failed", "dispute_opened", "dispute_won", "dispute_lost", "other"
]  # approved: the buyer said yes, and asking the provider (`find`) brings the money in
Mode = Literal["test", "live"]
SandboxOutcome = Literal["paid", "failed", "paid_twice", "paid_late", "wrong_amount"]
Closed = Literal["closed", "paid", "unknown"]
Shows = Literal["redirect", "qr", "client"]  # a page to go to, a code to scan, parameters for the provider's own client


@dataclass(frozen=True)
class Method:
    """One way to pay at a provider. `needs` names what a shop must send with it, e.g. `payer_id` (an openid).

    `good_seconds`: how long what `start` made can be used; then it is started anew. None: as long as the payment.
    """

    shows: Shows
    meaning: str
    needs: tuple[str, ...] = ()
    good_seconds: int | None = None


@dataclass(frozen=True)
class AccountField:
    """One thing an operator fills in for an account. `where` says where in the provider's console it is found.

    `form` names how it is checked: text, digits, pem_private_key, pem_public_key, pem_certificate, url.
    """

    name: str
    where: str
    is_secret: bool = False
    is_needed: bool = True
    form: Literal["text", "digits", "pem_private_key", "pem_public_key", "pem_certificate", "url"] = "text"
    max_length: int = 8192


@dataclass(frozen=True)
class Reply:
    """What a provider wants to hear when we have taken its notice."""

    body: str = '{"received":true}'
    content_type: str = "application/json"
    status: int = 200


@dataclass(frozen=True)
class ProviderFacts:
    """What is true of a provider whatever the account; every adapter has one as `FACTS`.

    one_of             sets of fields of which an account needs at least one, whole
    currencies         None: all we know
    keeps_session      `start` makes something whose handle or address must be kept
    ask_after_seconds  ages of an unpaid order at which the provider is asked about it, in case its notice was lost
    can_close          `close` is worth calling: the provider ends a payment when told to
    day_offset_hours   the provider's days begin so many hours before those of UTC (statements)
    """

    title: str
    methods: dict[str, Method]
    fields: tuple[AccountField, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    currencies: frozenset[str] | None = None
    keeps_session: bool = True
    ask_after_seconds: tuple[int, ...] = (60, 180, 600)
    can_close: bool = True
    day_offset_hours: int = 0
    taken: Reply = Reply()


@dataclass(frozen=True)
class Account:
    """A shop's contract with a provider, as an adapter uses it.

    `account_id` is None for what belongs to the whole stage (the sandbox). `earlier` are secrets being rotated out:
    they sign nothing any more, and what they sign is accepted until they run out.
    """

    provider: str
    mode: Mode = "test"
    account_id: str | None = None
    shop_id: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    earlier: tuple[dict[str, str], ...] = field(default=(), repr=False)

    def each_secret(self, name: str) -> list[str]:
        """All values of a secret that are good at present, the newest first."""
        return [one[name] for one in (self.secrets, *self.earlier) if one.get(name)]


@dataclass(frozen=True)
class Payment:
    """What an adapter needs to know of an order.

    provider_ref  the provider's own handle of what was opened (Stripe: session id)
    provider_txn  its number of the money, once there is some
    paid_minor    what was paid in all, in `currency`; providers want it with a refund
    payer_id      who pays, in the provider's words (WeChat: openid); client_ip: from where
    payer_session what proves that payer's presence, where a provider signs with it (WeChat: session_key); never stored
    """

    payment_id: str
    order_id: str
    total_minor: int
    currency: str
    title: str
    expires_at: int
    base_url: str
    account: Account
    method: str
    notify_url: str = ""
    return_url: str | None = None
    provider_ref: str | None = None
    provider_txn: str | None = None
    paid_minor: int | None = None
    payer_id: str | None = None
    payer_session: str | None = field(default=None, repr=False)
    client_ip: str | None = None


@dataclass(frozen=True)
class Started:
    """How the buyer pays: by going to `pay_url`, by scanning `qr_text`, or with `client` handed to the provider's own
    client code. `provider_ref` is the provider's handle of it, if it has one.
    """

    pay_url: str | None = None
    provider_ref: str | None = None
    qr_text: str | None = None
    client: dict[str, str] | None = None
    opened_at: int = 0  # noted when it is kept


@dataclass(frozen=True)
class DisputeFacts:
    """What a provider says of a dispute (chargeback, complaint). `due_at`: until when evidence is taken."""

    dispute_id: str
    reason: str = ""
    due_at: int | None = None


@dataclass(frozen=True)
class Notice:
    """A verified message of a provider. `event_id` is the provider's id of the message, `provider_txn` of the money.

    Amount and currency are those of the event: of the payment, the refund or the dispute.
    """

    provider: str
    event_id: str
    kind: NoticeKind
    payment_id: str | None
    provider_txn: str | None
    amount_minor: int | None
    currency: str | None
    refund_id: str | None = None
    provider_refund_id: str | None = None  # the provider's own number of a refund, for those made by hand there
    refunded_total_minor: int | None = (
        None  # of the payment in all, where the message says that and not the refund's own
    )
    dispute: DisputeFacts | None = None
    account_id: str | None = None


@dataclass(frozen=True)
class Found:
    """A provider's answer about a payment. `unknown` means: ask again later, conclude nothing."""

    state: Literal["paid", "unpaid", "unknown"]
    amount_minor: int | None = None
    currency: str | None = None
    provider_txn: str | None = None


@dataclass(frozen=True)
class RefundResult:
    """What became of a refund at the provider. `pending` and `unknown` are asked again with the same refund id, never
    repeated with a new one.
    """

    state: Literal["succeeded", "pending", "failed", "unknown"]
    provider_refund_id: str | None = None


@dataclass(frozen=True)
class StatementLine:
    """One movement of a provider's statement of a day.

    our_no       the payment id or refund id we gave, where the statement has it
    amount_minor positive for money that came, negative for money that went; the fee is not in it
    fee_minor    what the provider kept for it; negative when a fee was given back
    """

    kind: Literal["payment", "refund", "dispute", "fee", "other"]
    provider_txn: str
    our_no: str | None
    amount_minor: int
    currency: str
    at: int
    fee_minor: int = 0
    refund_txn: str | None = None
