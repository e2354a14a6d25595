"""Bytes -> records: where each record of a file begins and ends. Pure, streaming, memory flat whatever a line's length.

Called twice for every byte: by the planner over the whole file, and by the worker over one chunk. Both must see the
same records: the worker starts where a record starts, and a quoted field that the planner saw closed lies within
the chunk.

Splitting looks at bytes only. That is safe in UTF-8 and in GB18030: no byte of a longer character equals a line
end, quote or comma.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal

from chalicelib.imports.model import MAX_RECORD_BYTES, Format, Record

_BOM = b"\xef\xbb\xbf"


def split_records(blocks: Iterable[bytes], file_format: Format, *, offset: int = 0, line: int = 1) -> Iterator[Record]:
    """The records of a file (or of a piece of it that begins at `offset` on `line`). Blank lines are none.

    Example:
        >>> [record.raw for record in split_records([b'a,"b\\n', b'c"\\r\\n\\nd'], "csv")]
        [b'a,"b\\nc"', b'd']
    """
    lines = _lines(blocks, offset, line)
    return _join_quoted(lines) if file_format == "csv" else (one for one in lines if not _is_blank(one))


def _lines(blocks: Iterable[bytes], offset: int, line: int) -> Iterator[Record]:
    """Physical lines without their line end. Of a line that is too long nothing is kept but its length."""
    rest, dropped = b"", 0
    for block in blocks:
        parts = (rest + block).split(b"\n")
        rest = parts.pop()
        for part in parts:
            length = dropped + len(part) + 1
            yield _line(line, offset, length, part, dropped)
            offset, line, dropped = offset + length, line + 1, 0
        if len(rest) > MAX_RECORD_BYTES + 4:
            rest, dropped = b"", dropped + len(rest)
    if rest or dropped:
        yield _line(line, offset, dropped + len(rest), rest, dropped)


def _line(line: int, offset: int, length: int, part: bytes, dropped: int) -> Record:
    raw = part[:-1] if part.endswith(b"\r") else part
    if offset == 0 and not dropped:
        raw = raw.removeprefix(_BOM)
    if dropped or len(raw) > MAX_RECORD_BYTES:
        return Record(line, offset, length, None, "too_long")
    return Record(line, offset, length, raw)


def _is_blank(one: Record) -> bool:
    return one.raw is not None and not one.raw.strip()


def _join_quoted(lines: Iterator[Record]) -> Iterator[Record]:
    """Lines -> CSV records: a quoted field may hold line ends.

    A quote that is not closed properly within the longest permitted record costs its own line only: the lines after it
    are read anew, so that one damaged line never swallows the keys below it.
    """
    waiting: deque[Record] = deque()
    while (first := waiting.popleft() if waiting else next(lines, None)) is not None:
        if _is_blank(first):
            continue
        if first.raw is None or b'"' not in first.raw or _quoting(first.raw) != "open":
            yield first
            continue
        text, state, more = first.raw, "open", []
        while state == "open" and (following := waiting.popleft() if waiting else next(lines, None)) is not None:
            more.append(following)
            if following.raw is None or len(text) + len(following.raw) >= MAX_RECORD_BYTES:
                break
            text += b"\n" + following.raw
            if b'"' in following.raw:
                state = _quoting(text)
        if state == "closed":
            yield first._replace(raw=text, length=first.length + sum(one.length for one in more))
        else:
            waiting.extendleft(reversed(more))
            yield first._replace(raw=None, problem="bad_quoting")


def _quoting(text: bytes) -> Literal["open", "closed", "broken"]:
    """Whether the text ends within a quoted field, or goes on after a closing quote; only a field's start opens one."""
    at = 0
    while True:
        while text[at : at + 1] == b" ":
            at += 1
        if text[at : at + 1] == b'"':
            at = _closing_quote(text, at + 1) + 1
            if at == 0:
                return "open"
            if text[at : at + 1] not in (b"", b","):
                return "broken"
        at = text.find(b",", at)
        if at < 0:
            return "closed"
        at += 1


def _closing_quote(text: bytes, at: int) -> int:
    """Where the quoted field that begins here ends (a doubled quote does not end it); -1 when it does not."""
    while (at := text.find(b'"', at)) >= 0 and text[at + 1 : at + 2] == b'"':
        at += 2
    return at
