"""Imports as the API takes and shows them.

Apart from `model`, because the import workers need no pydantic: their cold start is a feature.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from chalicelib.core.money import MAX_MINOR
from chalicelib.imports.model import Format, Status


class NewImport(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    product_id: Annotated[str, Field(max_length=40)]
    filename: Annotated[
        str,
        Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", description="shown again, nothing else"),
    ]
    format: Format = Field(description="csv: the first line names the fields; txt: each line is one key, field `code`")
    supplier: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    unit_cost_minor: Annotated[int, Field(ge=0, le=MAX_MINOR, description="what one key cost us")] | None = None
    expires_at: AwareDatetime | None = Field(default=None, description="when the keys of this batch expire, RFC 3339")


class Upload(BaseModel):
    """Send the file's bytes to `url` with `method` and exactly these `headers`, within an hour."""

    url: str
    method: Literal["PUT"]
    headers: dict[str, str]


class ImportCreated(BaseModel):
    import_id: str
    status: Status
    upload: Upload


class Progress(BaseModel):
    records: int | None = Field(description="keys in the file; null until they are counted")
    chunks: int | None
    chunks_done: int


class RefusedLine(BaseModel):
    line: int = Field(description="line of the file the record starts on, counted from 1")
    reason: str


class Import(BaseModel):
    """Lines are `imported` or `refused`; together they are the file's records once the status is `completed`."""

    import_id: str
    product_id: str
    filename: str
    format: Format
    supplier: str | None
    unit_cost_minor: int | None
    expires_at: str | None
    status: Status
    problem: str | None = Field(description="why the whole file failed")
    lot_id: str
    progress: Progress
    imported: int
    refused: int
    refused_by_reason: dict[str, int]
    refused_lines: list[RefusedLine] = Field(description="some of them; all are in the report")
    report_url: str | None = Field(
        description="CSV of all refused lines, once completed; the link lives for 15 minutes"
    )
    created_at: str
    started_at: str | None
    finished_at: str | None
