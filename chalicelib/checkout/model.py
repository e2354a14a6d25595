"""What a shop sends to place an order."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from chalicelib.core.money import MAX_MINOR

MAX_QUANTITY = 10_000
MAX_LINES = 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class WantedLine(_Strict):
    product_id: Annotated[str, Field(min_length=1, max_length=40)]
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)]


class BuyerFacts(_Strict):
    """Who buys, as far as the shop knows. Kept on the order, shown to nobody, never logged."""

    buyer_id: Annotated[str, Field(max_length=64)] | None = None
    email: Annotated[str, Field(max_length=254)] | None = None
    phone: Annotated[str, Field(max_length=32)] | None = None
    ip: Annotated[str, Field(max_length=45)] | None = None
    device_id: Annotated[str, Field(max_length=128)] | None = None


class WantedPayment(_Strict):
    """How the buyer is to pay; `GET /v1/payment-methods` tells what there is and what each needs."""

    provider: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    method: (
        Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", description="the provider's first by default")] | None
    ) = None
    payer_id: (
        Annotated[str, Field(min_length=1, max_length=128, description="who pays, where the method needs it: openid")]
        | None
    ) = None
    payer_session: (
        Annotated[str, Field(min_length=1, max_length=128, description="session_key, where needed; never stored")]
        | None
    ) = None
    return_url: (
        Annotated[str, Field(max_length=500, description="where the buyer comes back to after paying")] | None
    ) = None

    @field_validator("return_url")
    @classmethod
    def _is_web_address(cls, return_url: str | None) -> str | None:
        if return_url is not None and not return_url.startswith(("https://", "http://")):
            raise ValueError("return_url begins with https:// or http://")
        return return_url


class PlaceOrder(_Strict):
    merchant_order_no: Annotated[
        str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$", description="unique per shop, for ever")
    ]
    lines: Annotated[list[WantedLine], Field(min_length=1, max_length=MAX_LINES)]
    buyer: BuyerFacts = BuyerFacts()
    payment: WantedPayment
    expected_total_minor: (
        Annotated[int, Field(ge=0, le=MAX_MINOR, description="refuse the order when the total is another")] | None
    ) = None
