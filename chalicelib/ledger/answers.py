"""The ledger as the API shows it, to operators. Amounts: positive is debit, negative is credit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from chalicelib.core.clock import iso
from chalicelib.ledger.model import DayClosing, EntrySet


def _is_day(day: str) -> str:
    datetime.strptime(day, "%Y-%m-%d")
    return day


Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="UTC"), AfterValidator(_is_day)]


class TrialBalanceQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    day: Day


class LedgerQuery(BaseModel):
    """One of `day` and `order_id`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    day: Day | None = None
    order_id: Annotated[str, Field(max_length=40)] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str, Field(max_length=500)] | None = None

    @model_validator(mode="after")
    def _names_one(self) -> LedgerQuery:
        if (self.day is None) == (self.order_id is None):
            raise ValueError("name either day or order_id")
        return self


class AccountAnswer(BaseModel):
    account: str
    currency: str
    opening_minor: int
    moved_minor: int
    closing_minor: int


class TrialBalance(BaseModel):
    day: str
    is_balanced: bool = Field(description="nothing differs; the accounts come to zero in each currency")
    differences: list[str] = Field(description="what does not fit, by event or account")
    sets: int = Field(description="events posted that day")
    accounts: list[AccountAnswer]
    proved_at: str


class EntryAnswer(BaseModel):
    account: str
    amount_minor: int = Field(description="positive is debit, negative is credit")
    currency: str


class EntrySetAnswer(BaseModel):
    event_id: str
    at: str
    order_id: str | None
    provider_txn: str | None
    entries: list[EntryAnswer]


class EntrySetPage(BaseModel):
    sets: list[EntrySetAnswer]
    next_cursor: str | None = Field(description="give it back as `cursor` for the next page; null on the last")


def to_trial_balance(closing: DayClosing) -> TrialBalance:
    return TrialBalance(
        day=f"{closing.day[:4]}-{closing.day[4:6]}-{closing.day[6:]}", is_balanced=not closing.differences,
        differences=list(closing.differences), sets=closing.sets,
        accounts=[AccountAnswer(**one._asdict(), closing_minor=one.closing_minor) for one in closing.movements],
        proved_at=iso(closing.proved_at),
    )  # fmt: skip


def to_set_answer(entry_set: EntrySet) -> EntrySetAnswer:
    return EntrySetAnswer(
        event_id=entry_set.event_id, at=iso(entry_set.at), order_id=entry_set.order_id,
        provider_txn=entry_set.provider_txn, entries=[EntryAnswer(**one._asdict()) for one in entry_set.entries],
    )  # fmt: skip
