"""What shops and operators send about balances, and how balances look in the API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from chalicelib.balance.model import Balance, BalanceEntry, Event, TopUp
from chalicelib.catalog.model import Currency
from chalicelib.checkout.model import WantedPayment
from chalicelib.core.clock import iso
from chalicelib.payments.model import Started

MAX_MOVE_MINOR = 10**12  # one change of a balance; a larger one is a slip of the finger
ShopId = Annotated[str, Field(min_length=1, max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BalanceQuery(_Query):
    shop_id: Annotated[ShopId, Field(description="operators name the shop; a shop sees its own")] | None = None


class EntriesQuery(_Query):
    currency: Currency
    shop_id: Annotated[ShopId, Field(description="operators name the shop; a shop sees its own")] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str, Field(max_length=500)] | None = None


class EventsQuery(_Query):
    shop_id: Annotated[ShopId, Field(description="operators name the shop; a shop sees its own")] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str, Field(max_length=500)] | None = None


class NewAdjustment(_Strict):
    shop_id: ShopId
    currency: Currency
    amount_minor: Annotated[
        int, Field(ge=-MAX_MOVE_MINOR, le=MAX_MOVE_MINOR, description="negative takes off; never below zero, never 0")
    ]
    reference: Annotated[str, Field(min_length=1, max_length=200, description="why: a bank transfer's number")]

    @field_validator("amount_minor")
    @classmethod
    def _moves_something(cls, amount_minor: int) -> int:
        if amount_minor == 0:
            raise ValueError("an adjustment of nothing")
        return amount_minor


class BalanceChange(_Strict):
    currency: Currency
    low_balance_minor: Annotated[
        int | None,
        Field(ge=0, le=MAX_MOVE_MINOR, description="an event tells when the balance falls below it; null: never"),
    ]


class NewTopUp(_Strict):
    amount_minor: Annotated[int, Field(ge=1, le=MAX_MOVE_MINOR)]
    currency: Currency
    payment: WantedPayment


class BalanceOfCurrency(BaseModel):
    currency: str
    balance_minor: int
    low_balance_minor: int | None
    is_low: bool


class BalanceAnswer(BaseModel):
    shop_id: str
    balances: list[BalanceOfCurrency]


class BalanceEntryAnswer(BaseModel):
    entry_id: str
    kind: Literal["top_up", "adjustment", "spend", "refund"]
    amount_minor: int = Field(description="positive came onto the balance, negative left it")
    currency: str
    at: str
    order_id: str | None
    refund_id: str | None
    reference: str | None


class BalanceEntryPage(BaseModel):
    entries: list[BalanceEntryAnswer]
    next_cursor: str | None = Field(description="give it back as `cursor` for the next page; null on the last")


class TopUpPayment(BaseModel):
    """How a top-up is paid; `pay_url`, `qr_text` or `client` is there while it can be."""

    payment_id: str
    provider: str
    method: str | None = Field(description="null: the provider's first")
    pay_url: str | None
    qr_text: str | None = Field(description="what a code to scan has to say")
    client: dict[str, str] | None = Field(description="what the provider's own client code wants")


class TopUpAnswer(BaseModel):
    top_up_id: str
    shop_id: str
    status: Literal["open", "paid", "closed", "needs_review"]
    amount_minor: int = Field(description="as asked for")
    paid_minor: int = Field(description="what really came onto the balance")
    currency: str
    created_at: str
    paid_at: str | None
    review_reason: str | None
    payment: TopUpPayment


class EventAnswer(BaseModel):
    event_id: str
    type: str
    at: str
    data: dict[str, Any]


class EventPage(BaseModel):
    events: list[EventAnswer]
    next_cursor: str | None = Field(description="give it back as `cursor` for the next page; null on the last")


def to_balance_answer(shop_id: str, balances: list[Balance]) -> BalanceAnswer:
    return BalanceAnswer(
        shop_id=shop_id,
        balances=[
            BalanceOfCurrency(
                currency=one.currency, balance_minor=one.balance_minor, low_balance_minor=one.low_balance_minor,
                is_low=one.is_low,
            )
            for one in balances
        ],
    )  # fmt: skip


def to_entry_answer(entry: BalanceEntry) -> BalanceEntryAnswer:
    return BalanceEntryAnswer(
        entry_id=entry.entry_id, kind=entry.kind, amount_minor=entry.amount_minor, currency=entry.currency,
        at=iso(entry.at), order_id=entry.order_id, refund_id=entry.refund_id, reference=entry.reference,
    )  # fmt: skip


def to_top_up_answer(top_up: TopUp, started: Started | None) -> TopUpAnswer:
    shown = started or Started()
    return TopUpAnswer(
        top_up_id=top_up.top_up_id, shop_id=top_up.shop_id,
        status="needs_review" if top_up.review else top_up.state, amount_minor=top_up.amount_minor,
        paid_minor=top_up.paid_minor, currency=top_up.currency, created_at=iso(top_up.created_at),
        paid_at=iso(top_up.paid_at), review_reason=top_up.review,
        payment=TopUpPayment(
            payment_id=top_up.top_up_id, provider=top_up.provider, method=top_up.method, pay_url=shown.pay_url,
            qr_text=shown.qr_text, client=shown.client,
        ),
    )  # fmt: skip


def to_event_answer(event: Event) -> EventAnswer:
    return EventAnswer(event_id=event.event_id, type=event.type, at=iso(event.at), data=event.data)
