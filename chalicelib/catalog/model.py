"""Products: what is sold, at which price, how its keys look and how it is delivered.

A product is created as a draft, goes on sale and off sale by PATCH. Its delivery rule, hold time and refund policy are
copied onto each order line at checkout, so a later change never reaches an order already placed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from chalicelib.core.money import MAX_MINOR, MINOR_DIGITS

MAX_DELAY_MINUTES = 129_600  # 90 days
Currency = Annotated[Literal[tuple(MINOR_DIGITS)], Field(description="ISO 4217 code")]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Status = Literal["draft", "on_sale", "off_sale"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class KeyField(_Strict):
    """One field of a card key, e.g. card number or password."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,31}$")]
    pattern: (
        Annotated[str, Field(max_length=200, description="regular expression the whole value must match")] | None
    ) = None

    @field_validator("pattern")
    @classmethod
    def _is_safe_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            from chalicelib.keys.rules import check_pattern

            check_pattern(pattern)
        return pattern


_NOT_DELAYED = {"properties": {"mode": {"enum": ["auto", "manual"]}, "delay_minutes": {"type": "null"}}}
_DELAYED = {
    "properties": {"mode": {"const": "delayed"}, "delay_minutes": {"type": "integer"}},
    "required": ["mode", "delay_minutes"],
}


class Delivery(_Strict):
    """When a paid line is handed out: `auto` at once, `manual` by an operator, `delayed` a number of minutes after
    payment.
    """

    model_config = ConfigDict(json_schema_extra={"anyOf": [_NOT_DELAYED, _DELAYED]})

    mode: Literal["auto", "manual", "delayed"] = "auto"
    delay_minutes: Annotated[int, Field(ge=1, le=MAX_DELAY_MINUTES, description="only with mode 'delayed'")] | None = (
        None
    )

    @model_validator(mode="after")
    def _delay_belongs_to_delayed(self) -> Delivery:
        if (self.mode == "delayed") != (self.delay_minutes is not None):
            raise ValueError("delay_minutes goes with mode 'delayed' and only with it")
        return self


class RefundPolicy(_Strict):
    """What a shop may refund by itself: unrevealed keys, within the window. 0 minutes: never."""

    window_minutes: Annotated[int, Field(ge=0, le=525_600, description="minutes after payment")] = 10_080


class NewProduct(_Strict):
    name: Text
    price_minor: Annotated[int, Field(ge=1, le=MAX_MINOR, description="price of one, in the currency's minor unit")]
    currency: Currency
    kind: Literal["card_key"] = "card_key"
    description: Annotated[str, Field(max_length=2_000)] = ""
    key_fields: (
        Annotated[
            list[KeyField],
            Field(
                min_length=1,
                max_length=8,
                description="fields of a key in order; left out: an import's header names them",
            ),
        ]
        | None
    ) = None
    delivery: Delivery = Delivery()
    hold_minutes: Annotated[int, Field(ge=1, le=1_440, description="how long an unpaid order keeps its keys")] = 15
    refund_policy: RefundPolicy = RefundPolicy()

    @field_validator("key_fields")
    @classmethod
    def _names_once(cls, key_fields: list[KeyField] | None) -> list[KeyField] | None:
        if key_fields and len({one.name for one in key_fields}) != len(key_fields):
            raise ValueError("each key field is named once")
        return key_fields


class ProductChange(_Strict):
    """Members left out stay as they are."""

    name: Text | None = None
    description: Annotated[str, Field(max_length=2_000)] | None = None
    price_minor: Annotated[int, Field(ge=1, le=MAX_MINOR)] | None = None
    delivery: Delivery | None = None
    hold_minutes: Annotated[int, Field(ge=1, le=1_440)] | None = None
    refund_policy: RefundPolicy | None = None
    status: Status | None = None


class Product(BaseModel):
    model_config = ConfigDict(frozen=True)

    product_id: str
    name: str
    description: str
    kind: str
    status: Status
    price_minor: int
    currency: str
    key_fields: list[KeyField] | None
    delivery: Delivery
    hold_minutes: int
    refund_policy: RefundPolicy
    created_at: str
    updated_at: str


class ProductPage(BaseModel):
    products: list[Product]
    next_cursor: str | None = Field(description="give it back as `cursor` for the next page; null on the last")


class ProductQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str, Field(max_length=500)] | None = None


class StockAnswer(BaseModel):
    """Number of keys per state; the states add up to `imported`. `total` repeats `imported`."""

    product_id: str
    imported: int
    total: int
    available: int
    held: int
    sold: int
    expired: int
    disabled: int
    quarantined: int
