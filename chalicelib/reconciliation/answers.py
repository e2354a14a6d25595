"""Reconciliations as the API takes and shows them, to operators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from chalicelib.core.clock import iso
from chalicelib.orders.model import Order
from chalicelib.orders.model import Status as OrderStatus
from chalicelib.orders.rules import status_of
from chalicelib.payments.model import StatementLine
from chalicelib.reconciliation.model import (
    Action,
    Answer,
    Difference,
    Ours,
    OutcomeName,
    Source,
    Status,
    Suggestion,
    Total,
)


def _is_day(day: str) -> str:
    datetime.strptime(day, "%Y-%m-%d")
    return day


Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_is_day)]


class NewReconciliation(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    provider: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    account_id: Annotated[str, Field(max_length=40)] | None = Field(
        default=None, description="the payment account; left out for what serves the whole stage"
    )
    day: Day = Field(description="the provider's own day, which must be over: China's for WeChat Pay and Alipay")
    source: Source = Field(
        description="api: ask the provider for its statement; file: you upload the one you downloaded"
    )


class SettleDifference(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    action: Annotated[str, Field(max_length=20)] = Field(description="one of the difference's `actions`")
    note: Annotated[str, Field(max_length=500)] = Field(default="", description="why; needed with `accept`")


class ReconciliationQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=500)] | None = None


class DifferenceQuery(ReconciliationQuery):
    outcome: OutcomeName | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class StatementUpload(BaseModel):
    """Send the file's bytes to `url` with `method` and exactly these `headers`, within an hour; then start."""

    url: str
    method: Literal["PUT"]
    headers: dict[str, str]


class Counts(BaseModel):
    """Lines of the statement: matched + missing_here + amount_differs + state_differs + not_compared."""

    matched: int
    missing_here: int = Field(description="the statement has it, our books do not")
    amount_differs: int
    state_differs: int = Field(description="the statement has a refund that is not carried out here")
    missing_there: int = Field(description="our books have it, the statement does not")
    elsewhere: int = Field(description="of our books around the day: belongs to the statement of another day")
    not_compared: int = Field(description="of the statement: fees, payouts, corrections")


class TotalAnswer(BaseModel):
    currency: str
    ours_minor: int = Field(description="what our books have of this statement's day")
    theirs_minor: int = Field(description="payments, refunds and disputes of the statement")
    fees_minor: int = Field(description="what the provider kept; these are in the ledger once completed")
    other_minor: int = Field(description="what was not compared: payouts, corrections")


class ReconciliationAnswer(BaseModel):
    reconciliation_id: str
    provider: str
    account_id: str | None
    day: str
    source: Source
    status: Status
    problem: str | None = Field(description="why it failed")
    counts: Counts | None = Field(description="null until compared")
    totals: list[TotalAnswer]
    differences: int
    settled: int = Field(description="how many of the differences are settled")
    next_try_at: str | None = Field(description="when the provider is asked again for its statement")
    created_at: str
    compared_at: str | None
    finished_at: str | None
    upload: StatementUpload | None = Field(default=None, description="only in the answer that creates it, for a file")


class ReconciliationPage(BaseModel):
    reconciliations: list[ReconciliationAnswer]
    next_cursor: str | None = Field(description="give it back as `cursor` for the next page; null on the last")


class OursAnswer(BaseModel):
    """A movement of our books; `event_id` is its set in the ledger."""

    event_id: str
    kind: str
    refund_id: str | None
    provider_txn: str | None
    amount_minor: int = Field(description="positive: came to us; negative: went")
    currency: str
    at: str = Field(description="when we learned of it")
    state: Literal["recorded", "pending", "failed"]


class TheirsAnswer(BaseModel):
    """A line of the statement."""

    kind: str
    our_no: str | None
    provider_txn: str
    refund_txn: str | None
    amount_minor: int = Field(description="positive: came to us; negative: went; without the fee")
    fee_minor: int
    currency: str
    at: str


class OrderState(BaseModel):
    order_id: str
    status: OrderStatus
    review_reason: str | None


class AskedAnswer(BaseModel):
    answer: Answer
    by: str
    at: str


class SettledAnswer(BaseModel):
    action: Action
    note: str
    by: str
    at: str


class DifferenceAnswer(BaseModel):
    number: int
    outcome: OutcomeName
    ours: OursAnswer | None
    theirs: TheirsAnswer | None
    order: OrderState | None = Field(description="how the order stands at this moment")
    suggested_action: Suggestion = Field(description="review: look at it, then accept it with a note")
    actions: list[Action]
    asked: AskedAnswer | None = Field(description="what the provider said when asked")
    settled: SettledAnswer | None


class DifferencePage(BaseModel):
    differences: list[DifferenceAnswer]
    next_cursor: str | None = Field(description="give it back as `cursor` for the next page; null on the last")


def to_reconciliation_answer(row: dict[str, Any], upload: StatementUpload | None = None) -> ReconciliationAnswer:
    return ReconciliationAnswer(
        reconciliation_id=row["reconciliation_id"], provider=row["provider"], account_id=row.get("account_id"),
        day=row["day"], source=row["source"], status=row["status"], problem=row.get("problem"),
        counts=Counts(**row["counts"]) if "counts" in row else None,
        totals=[TotalAnswer(**Total(*one)._asdict()) for one in row.get("totals", ())],
        differences=row.get("differences", 0), settled=row.get("settled", 0),
        next_try_at=iso(row["next_try_at"]) if row["status"] == "waiting" else None,
        created_at=iso(row["created_at"]), compared_at=iso(row.get("compared_at")),
        finished_at=iso(row.get("finished_at")), upload=upload,
    )  # fmt: skip


def to_difference_answer(
    number: int, one: Difference, step: dict[str, Any], order: Order | None
) -> DifferenceAnswer:  # fmt: skip
    from chalicelib.reconciliation.rules import actions_of, suggested

    asked = (
        AskedAnswer(answer=step["answer"], by=step["asked_by"], at=iso(step["asked_at"]))
        if "asked_at" in step
        else None
    )
    settled = None
    if "action" in step:
        settled = SettledAnswer(action=step["action"], note=step.get("note", ""), by=step["by"], at=iso(step["at"]))
    return DifferenceAnswer(
        number=number, outcome=one.outcome, ours=_to_ours(one.ours) if one.ours else None,
        theirs=_to_theirs(one.theirs) if one.theirs else None,
        order=_to_order(order) if order else None,
        suggested_action=suggested(one), actions=list(actions_of(one)), asked=asked, settled=settled,
    )  # fmt: skip


def _to_order(order: Order) -> OrderState:
    return OrderState(order_id=order.order_id, status=status_of(order), review_reason=order.review)


def _to_ours(one: Ours) -> OursAnswer:
    return OursAnswer(
        event_id=one.event_id, kind=one.kind, refund_id=one.our_no, provider_txn=one.provider_txn,
        amount_minor=one.amount_minor, currency=one.currency, at=iso(one.at), state=one.state,
    )  # fmt: skip


def _to_theirs(line: StatementLine) -> TheirsAnswer:
    return TheirsAnswer(
        kind=line.kind, our_no=line.our_no, provider_txn=line.provider_txn, refund_txn=line.refund_txn,
        amount_minor=line.amount_minor, fee_minor=line.fee_minor, currency=line.currency, at=iso(line.at),
    )  # fmt: skip
