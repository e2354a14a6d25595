"""Orders as the API shows them, to shops, operators and buyers. No key, no token of another, no internal number."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from chalicelib.core.clock import iso
from chalicelib.orders.model import Dispute, Line, Order, Refund, Status
from chalicelib.orders.rules import has_open_dispute, may_be_refunded_by_shop, may_be_revealed, refund_id_of, status_of
from chalicelib.payments.model import Started

LineStatus = Literal[
    "reserved", "released", "allocating", "awaiting_manual", "scheduled", "delivered", "disputed", "refunding",
    "refunded",
]  # fmt: skip


class LineAnswer(BaseModel):
    line_id: int
    product_id: str
    name: str
    quantity: int
    unit_price_minor: int
    status: LineStatus
    deliver_at: str | None = Field(description="when a delayed line is due, UTC")
    delivered_at: str | None
    is_revealed: bool


class RefundAnswer(BaseModel):
    refund_id: str
    status: Literal["pending", "succeeded", "failed", "reversed"]
    amount_minor: int
    currency: str
    line_ids: list[int]
    reason: str
    created_at: str
    finished_at: str | None


class RefundList(BaseModel):
    refunds: list[RefundAnswer]


class PaymentAnswer(BaseModel):
    """How the order is paid, or was. `pay_url`, `qr_url` or `client` is there while there is something to pay."""

    payment_id: str
    provider: str
    method: str | None = Field(description="null: the provider's first")
    pay_url: str | None = Field(description="where the buyer pays; null once there is nothing to pay")
    qr_url: str | None = Field(default=None, description="an image (SVG) of the code to scan")
    qr_text: str | None = Field(default=None, description="what the code says")
    client: dict[str, str] | None = Field(
        default=None, description="what the provider's own client code wants: mini-program, in-app browser"
    )
    paid_at: str | None
    paid_minor: int | None
    provider_txn: str | None = Field(description="the provider's number of the money")


class DisputeAnswer(BaseModel):
    dispute_id: str
    state: Literal["open", "won", "lost"]
    amount_minor: int
    reason: str
    opened_at: str
    due_at: str | None = Field(description="until when the provider takes evidence")
    closed_at: str | None


class OrderAnswer(BaseModel):
    order_id: str
    shop_id: str
    merchant_order_no: str
    status: Status
    total_minor: int
    currency: str
    created_at: str
    expires_at: str = Field(description="until when the keys are held for payment, UTC")
    lines: list[LineAnswer]
    payment: PaymentAnswer
    refunds: list[RefundAnswer]
    disputes: list[DisputeAnswer]
    review_reason: str | None
    order_url: str = Field(description="the buyer's own page; give it to the buyer only")


class OrderPage(BaseModel):
    orders: list[OrderAnswer]
    next_cursor: str | None = Field(description="give it back as `cursor` for the next page; null on the last")


class BuyerOrder(BaseModel):
    """What the holder of the order token sees."""

    order_id: str
    merchant_order_no: str
    status: Status
    total_minor: int
    currency: str
    created_at: str
    expires_at: str
    lines: list[LineAnswer]
    payment: PaymentAnswer
    refunds: list[RefundAnswer]
    may_reveal: bool
    may_refund: bool


class HistoryEntry(BaseModel):
    at: str
    what: str = Field(description="the state the order came to, or the audited act")
    by: str
    note: str


class History(BaseModel):
    order_id: str
    entries: list[HistoryEntry]


class OrderQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    merchant_order_no: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    order_id: Annotated[str, Field(max_length=40)] | None = None
    payment_id: Annotated[str, Field(max_length=40)] | None = None
    provider_txn: Annotated[str, Field(max_length=200)] | None = None
    status: Status | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=500)] | None = None


def line_status(order: Order, line: Line) -> LineStatus:
    if line.refund_no:
        return "refunded" if order.refund(line.refund_no).state == "succeeded" else "refunding"
    if line.delivered_at is not None:  # keys that somebody saw are marked while their payment is disputed
        return "disputed" if line.revealed_at is not None and has_open_dispute(order) else "delivered"
    if order.closed:
        return "released"
    if order.paid_at is None or order.review:
        return "reserved"
    if not line.extents:
        return "allocating"
    return {"manual": "awaiting_manual", "delayed": "scheduled"}.get(line.mode, "allocating")


def to_line_answer(order: Order, line: Line) -> LineAnswer:
    return LineAnswer(
        line_id=line.line_id, product_id=line.product_id, name=line.name, quantity=line.quantity,
        unit_price_minor=line.unit_price_minor, status=line_status(order, line), deliver_at=iso(line.deliver_at),
        delivered_at=iso(line.delivered_at), is_revealed=line.revealed_at is not None,
    )  # fmt: skip


def to_refund_answer(order: Order, refund: Refund) -> RefundAnswer:
    return RefundAnswer(
        refund_id=refund_id_of(order, refund), status=refund.state, amount_minor=refund.amount_minor,
        currency=refund.currency or order.paid_currency or order.currency, line_ids=list(refund.lines),
        reason=refund.reason,
        created_at=iso(refund.asked_at), finished_at=iso(refund.finished_at),
    )  # fmt: skip


def to_payment_answer(order: Order, started: Started | None, order_url: str) -> PaymentAnswer:
    """The attempt that paid, else the latest. Where there is a code to scan and no page to go to, the page is the
    order's own: the code is on it.
    """
    from chalicelib.core.ids import payment_id_for

    number = order.paid_attempt if order.paid_at else len(order.attempts) + 1
    tried, shown = order.attempt(number), started or Started()
    return PaymentAnswer(
        payment_id=payment_id_for(order.order_id, number), provider=tried.provider, method=tried.method,
        pay_url=shown.pay_url or (order_url if shown.qr_text else None),
        qr_url=f"{order_url}/qr.svg" if shown.qr_text else None, qr_text=shown.qr_text, client=shown.client,
        paid_at=iso(order.paid_at),
        paid_minor=order.paid_minor if order.paid_at else None, provider_txn=order.provider_txn,
    )  # fmt: skip


def to_dispute_answer(dispute: Dispute) -> DisputeAnswer:
    return DisputeAnswer(
        dispute_id=dispute.dispute_id, state=dispute.state, amount_minor=dispute.amount_minor, reason=dispute.reason,
        opened_at=iso(dispute.opened_at), due_at=iso(dispute.due_at), closed_at=iso(dispute.closed_at),
    )  # fmt: skip


def to_order_answer(order: Order, started: Started | None, order_url: str) -> OrderAnswer:
    return OrderAnswer(
        order_id=order.order_id, shop_id=order.shop_id, merchant_order_no=order.merchant_order_no,
        status=status_of(order), total_minor=order.total_minor, currency=order.currency,
        created_at=iso(order.created_at), expires_at=iso(order.expires_at),
        lines=[to_line_answer(order, line) for line in order.lines], 
        payment=to_payment_answer(order, started, order_url),
        refunds=[to_refund_answer(order, one) for one in order.refunds],
        disputes=[to_dispute_answer(one) for one in order.disputes], review_reason=order.review,
        order_url=order_url,
    )  # fmt: skip


def to_buyer_order(order: Order, started: Started | None, order_url: str, now: int) -> BuyerOrder:
    return BuyerOrder(
        order_id=order.order_id, merchant_order_no=order.merchant_order_no, status=status_of(order),
        total_minor=order.total_minor, currency=order.currency, created_at=iso(order.created_at),
        expires_at=iso(order.expires_at), lines=[to_line_answer(order, line) for line in order.lines],
        payment=to_payment_answer(order, started, order_url),
        refunds=[to_refund_answer(order, one) for one in order.refunds],
        may_reveal=bool(may_be_revealed(order)), may_refund=bool(may_be_refunded_by_shop(order, now)),
    )  # fmt: skip
