"""Decisions about imports: is the file readable, in which encoding, what are its columns, is a line a key, what to
do next. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from chalicelib.imports.model import CHUNK_RECORDS, MAX_RECORDS, Chunk, FileRefused, Format, Record, Votes
from chalicelib.keys.model import MAX_FIELDS, PAGE_KEYS, KeyFormat, PlainFields
from chalicelib.keys.rules import normalise, read_key

TXT_FIELD = "code"
RESUME_SECONDS = 120  # how long an import may stand still before it is pushed on
RESEND_SECONDS = 900  # how long messages sent again are given before they are sent once more
BOM = b"\xef\xbb\xbf"
_MAGIC = {
    b"\x1f\x8b": "It is compressed (gzip); upload the file itself.",
    b"PK\x03\x04": "It is a ZIP archive or an Excel workbook; save it as CSV.",
    b"7z\xbc\xaf": "It is compressed (7z); upload the file itself.",
    b"Rar!": "It is compressed (RAR); upload the file itself.",
    b"BZh": "It is compressed (bzip2); upload the file itself.",
    b"\xfd7zXZ": "It is compressed (xz); upload the file itself.",
    b"\x28\xb5\x2f\xfd": "It is compressed (zstd); upload the file itself.",
    b"\xd0\xcf\x11\xe0": "It is an Excel workbook; save it as CSV.",
    b"%PDF": "It is a PDF.",
    b"\xff\xfe": "It is UTF-16; save it as UTF-8.",
    b"\xfe\xff": "It is UTF-16; save it as UTF-8.",
}
# A name, not a code: a first line that is itself a key must not be stored as the name of a field.
_COLUMN = re.compile(r"[^\W\d][\w ]{0,31}")
_MAX_DIGITS = 2


def unreadable(head: bytes) -> str | None:
    """What is wrong with a file whose first bytes are these, or None.

    Example:
        >>> unreadable(b"PK\\x03\\x04..."), unreadable(b"code\\nA1\\n")
        ('It is a ZIP archive or an Excel workbook; save it as CSV.', None)
    """
    for magic, sentence in _MAGIC.items():
        if head.startswith(magic):
            return sentence
    if head.count(b"\x00") * 4 > len(head):
        return "It is UTF-16 or not text at all; save it as UTF-8."
    return None


def vote(votes: Votes, record: Record) -> Votes:
    """Count one record's say in what the file's encoding is; ASCII has none."""
    if record.raw is None or record.raw.isascii():
        return votes
    return Votes(votes.utf8 + _is_text(record.raw, "utf-8"), votes.gb18030 + _is_text(record.raw, "gb18030"))


def _is_text(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def choose_encoding(votes: Votes) -> str:
    """UTF-8, unless more lines are readable as GB18030: a few damaged lines do not change what the file is."""
    return "utf-8" if votes.utf8 >= votes.gb18030 else "gb18030"


def cut_chunks(records: Iterable[Record]) -> Iterator[tuple[Chunk, list[Record], int | None]]:
    """Pieces of 1,024 records, and the line each next one starts on; blank lines belong to the piece before them."""
    batch: list[Record] = []
    for record in records:
        if len(batch) == CHUNK_RECORDS:
            yield _chunk(batch, record.offset), batch, record.line
            batch = []
        batch.append(record)
    if batch:
        yield _chunk(batch, batch[-1].offset + batch[-1].length), batch, None


def _chunk(batch: list[Record], end: int) -> Chunk:
    return Chunk(batch[0].offset, end - batch[0].offset, batch[0].line, len(batch))


def check_size(records: int) -> None:
    """Raises: FileRefused too_many_records"""
    if records > MAX_RECORDS:
        raise FileRefused("too_many_records")


def read_columns(header: Record | None, encoding: str, wanted: KeyFormat) -> list[str]:
    """The field names of a CSV file, as the product spells them where it declares them.

    Raises: FileRefused no_records, bad_header, wrong_columns
    """
    if header is None:
        raise FileRefused("no_records")
    values = split_fields(header, encoding, "csv")
    names = [] if isinstance(values, str) else [normalise(value) for value in values]
    if not 1 <= len(names) <= MAX_FIELDS or not all(_is_column(name) for name in names):
        raise FileRefused("wrong_columns" if wanted else "bad_header")
    if wanted:
        spelt = {one.name.casefold(): one.name for one in wanted}
        names = [spelt.get(name.casefold(), "") for name in names]
        if sorted(names) != sorted(one.name for one in wanted):
            raise FileRefused("wrong_columns")
    if len({name.casefold() for name in names}) != len(names):
        raise FileRefused("bad_header")
    return names


def _is_column(name: str) -> bool:
    return bool(_COLUMN.fullmatch(name)) and sum(character.isdigit() for character in name) <= _MAX_DIGITS


def txt_columns(wanted: KeyFormat) -> list[str]:
    """The one field of a TXT line: `code`, or the only field the product declares.

    Raises: FileRefused wrong_columns, for a product whose keys have several fields
    """
    if len(wanted) > 1:
        raise FileRefused("wrong_columns")
    return [wanted[0].name if wanted else TXT_FIELD]


def read_line(
    record: Record, encoding: str, file_format: Format, columns: Sequence[str], wanted: KeyFormat
) -> PlainFields | str:
    """A record as a key, or the reason it is refused."""
    values = split_fields(record, encoding, file_format)
    return values if isinstance(values, str) else read_key(columns, values, wanted)


def split_fields(record: Record, encoding: str, file_format: Format) -> list[str] | str:
    """The texts of a record's fields, or the reason it has none."""
    if record.raw is None:
        return record.problem or "too_long"
    if flaw := _flaw(record.raw, file_format):
        return flaw
    try:
        text = record.raw.decode(encoding)
        return [text] if file_format == "txt" else next(csv.reader([text], strict=True, skipinitialspace=True))
    except UnicodeDecodeError:
        return "bad_encoding"
    except (csv.Error, StopIteration):
        return "bad_quoting"


def _flaw(raw: bytes, file_format: Format) -> str | None:
    if b"\x00" in raw:
        return "nul_byte"
    # Within quotes a line end of any kind belongs to the value; elsewhere it hides a second key on the line.
    if b"\r" in raw and (file_format == "txt" or b'"' not in raw):
        return "stray_line_end"
    return None


def first_of_each(keys: Sequence[tuple[int, str]]) -> tuple[list[tuple[int, str]], list[int]]:
    """Of (line, fingerprint): those to claim, and the lines that repeat an earlier one."""
    first: dict[str, int] = {}
    repeated = []
    for line, fingerprint in keys:
        if first.setdefault(fingerprint, line) != line:
            repeated.append(line)
    return [(line, fingerprint) for fingerprint, line in first.items()], repeated


def number_pages(chunk: int, keys: Sequence[PlainFields]) -> tuple[int, list[tuple[int, list[PlainFields]]]]:
    """The number of a chunk's first key in its lot, and its keys by page. Numbers are taken without gaps within a
    chunk.

    Example:
        >>> number_pages(1, [PlainFields()] * 17)[0], [page for page, _ in number_pages(1, [PlainFields()] * 17)[1]]
        (1024, [64, 65])
    """
    start = chunk * CHUNK_RECORDS
    first_page = start // PAGE_KEYS
    pages = [keys[at : at + PAGE_KEYS] for at in range(0, len(keys), PAGE_KEYS)]
    return start, [(first_page + place, list(page)) for place, page in enumerate(pages)]


NextStep = Literal["plan", "send", "finish", "wait", "nothing"]


def next_step(row: dict[str, Any]) -> NextStep:
    """What the minute timer does with an import whose time has come.

    `wait` while chunks were done since the last look: then their messages are alive, and sending them again is waste.
    """
    if row["status"] == "planning":
        return "plan"
    if row["status"] != "running":
        return "nothing"
    if row["chunks_done"] == row["chunks"]:
        return "finish"
    return "wait" if row["chunks_done"] > row.get("watched", 0) else "send"
