"""What reveal answers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Nothing(BaseModel):
    """A body without members."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RevealedKey(BaseModel):
    key_id: str
    fields: dict[str, str] = Field(repr=False)


class RevealedKeys(BaseModel):
    """Plain keys, in order of line and number. The only answer of the product that carries any."""

    keys: list[RevealedKey] = Field(repr=False)
