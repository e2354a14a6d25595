"""Imports: a file of card keys is uploaded, started, and line by line becomes stock or is refused with a reason.

One import is one lot of one product. It is worked through in chunks of 1,024 records, each a message, in any order
and any number of times: what was imported is decided by rows, never by how often a message came. See
docs/decisions/0005-import-in-chunks.md.

    awaiting_upload -> planning -> running -> completed
                              \\->         \\-> failed        (`problem` says why)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

CHUNK_RECORDS = 1_024  # 64 pages of 16 keys, so that no page belongs to two chunks
MAX_FILE_BYTES = 200 * 1024 * 1024
MAX_RECORDS = 2_000_000
MAX_RECORD_BYTES = 4_096
SHOWN_REFUSALS = 20

Format = Literal["csv", "txt"]
Status = Literal["awaiting_upload", "planning", "running", "completed", "failed"]

# Why a line is refused. `bad_format` comes as `bad_format:<field>`.
LINE_REASONS = {
    "duplicate_in_file": "the same key stands on another line of this file",
    "duplicate_of_earlier_import": "the same key came with an earlier import, of whatever product",
    "bad_format": "a field does not look as the product demands",
    "empty": "a field that must have a value has none",
    "too_long": "the line has more than 4,096 bytes, or a field more than 512 characters",
    "wrong_field_count": "the line has more or fewer fields than the header",
    "bad_encoding": "the line is not text in the encoding of the rest of the file",
    "bad_quoting": "a quoted field does not end, or goes on after its closing quote",
    "nul_byte": "the line contains a NUL byte",
    "stray_line_end": "the line contains a carriage return without a line feed",
}
# Why a whole file is refused after its start; nothing of it is imported (but `file_changed`: what was imported
# until then stays).
FILE_PROBLEMS = {
    "no_records": "there is no key in the file",
    "too_many_records": "there are more than 2,000,000 lines; split the file",
    "bad_header": "the first line is not a list of 1 to 8 different field names",
    "wrong_columns": "the first line does not name exactly the product's key fields",
    "file_changed": "the file was replaced or removed after the start",
}


class Record(NamedTuple):
    """One record of a file as bytes. `raw` is None when `problem` says what is wrong with it."""

    line: int
    offset: int
    length: int
    raw: bytes | None
    problem: str | None = None


class Chunk(NamedTuple):
    """A piece of the file, from the start of one record to the start of another."""

    offset: int
    length: int
    line: int
    records: int


class Votes(NamedTuple):
    """How many of the lines with non-ASCII bytes are readable as UTF-8, and as GB18030 (of which GBK is a part)."""

    utf8: int = 0
    gb18030: int = 0


class FileRefused(Exception):
    """The whole file is refused; `problem` is one of FILE_PROBLEMS."""

    def __init__(self, problem: str):
        self.problem = problem
        super().__init__(problem)
