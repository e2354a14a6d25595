"""What a shop, a buyer or an operator sends to ask for money back."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class AskRefund(BaseModel):
    """Whole lines only. Left out, `line_ids` means every line that may still be refunded."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    line_ids: Annotated[list[Annotated[int, Field(ge=1, le=100)]], Field(min_length=1, max_length=100)] | None = None
    reason: Annotated[str, Field(max_length=200)] = ""
