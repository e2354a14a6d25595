"""Payment accounts, methods and disputes as the API takes and shows them. A secret goes in and never comes out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from chalicelib.payments.model import Mode, Shows

_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
_Value = Annotated[str, Field(min_length=1, max_length=8192)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NewAccount(_Strict):
    """`GET /v1/payment-providers` tells which settings and secrets a provider wants."""

    shop_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    provider: _Name
    mode: Mode
    settings: dict[_Name, _Value] = {}
    secrets: dict[_Name, _Value] = Field(default={}, description="kept in Secrets Manager; never shown again")


class AccountChange(_Strict):
    """Members left out stay as they are. `settings` are merged by name; an empty text removes one."""

    status: Literal["on", "off"] | None = None
    settings: dict[_Name, Annotated[str, Field(max_length=8192)]] | None = None
    secrets: dict[_Name, _Value] | None = Field(default=None, description="new values; the others stay")
    overlap_minutes: Annotated[
        int,
        Field(
            ge=0, le=10_080, description="how long notices under the old secrets are still taken; at least 10 is wise"
        ),
    ] = 60


class AccountAnswer(BaseModel):
    account_id: str
    shop_id: str
    provider: str
    mode: Mode
    status: Literal["on", "off"]
    settings: dict[str, str]
    secret_names: list[str] = Field(description="which secrets are stored; their values are shown to nobody")
    notice_url: str = Field(description="where the provider is to send its notices")
    created_at: str
    updated_at: str


class AccountList(BaseModel):
    accounts: list[AccountAnswer]


class FieldAnswer(BaseModel):
    name: str
    where: str = Field(description="what it is, and where the provider shows it")
    is_secret: bool
    is_needed: bool
    form: str


class ProviderAnswer(BaseModel):
    provider: str
    title: str
    methods: list[str]
    currencies: list[str] | None = Field(description="null: every currency we sell in")
    fields: list[FieldAnswer]


class ProviderList(BaseModel):
    providers: list[ProviderAnswer]


class MethodAnswer(BaseModel):
    provider: str
    title: str
    method: str
    mode: Mode
    shows: Shows = Field(
        description="redirect: send the buyer to pay_url; qr: show qr_url; client: hand `client` to the provider's code"
    )
    meaning: str
    needs: list[str] = Field(description="members of `payment` (client_ip: `buyer.ip`) that must come with the order")
    currencies: list[str] | None = Field(description="null: every currency we sell in")


class MethodList(BaseModel):
    methods: list[MethodAnswer]


class SettleDispute(_Strict):
    """What became of a dispute whose end the provider does not tell, e.g. a complaint that was talked over."""

    outcome: Literal["won", "lost"]
    note: Annotated[str, Field(min_length=1, max_length=200, description="why, and how you know; kept in the audit")]


class DisputeRow(BaseModel):
    dispute_id: str
    provider: str
    order_id: str
    shop_id: str
    state: Literal["open", "won", "lost"]
    amount_minor: int
    currency: str | None
    reason: str
    was_revealed: bool = Field(description="whether somebody had seen a key of the order by then")
    opened_at: str
    due_at: str | None = Field(description="until when the provider takes evidence")
    closed_at: str | None


class DisputePage(BaseModel):
    disputes: list[DisputeRow]
    next_cursor: str | None


class PageQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=500)] | None = None


class AccountQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    shop_id: Annotated[str, Field(max_length=40)] | None = None
