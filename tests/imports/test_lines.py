"""Where records begin and end, whatever the blocks, quotes and line ends."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.imports.lines import split_records
from chalicelib.imports.model import MAX_RECORD_BYTES


def split(data: bytes, file_format="csv", size=7):
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    return [(one.line, one.raw if one.raw is not None else one.problem) for one in split_records(blocks, file_format)]


LONG = b"x" * (MAX_RECORD_BYTES + 1)


@pytest.mark.parametrize(
    ("data", "file_format", "records"),
    [
        (b"", "csv", []),
        (b"a\nb\n", "txt", [(1, b"a"), (2, b"b")]),
        (b"a\r\nb", "txt", [(1, b"a"), (2, b"b")]),
        (b"\xef\xbb\xbfa\nb", "txt", [(1, b"a"), (2, b"b")]),
        (b"\xef\xbb\xbf", "txt", []),
        (b"a\n\xef\xbb\xbfb", "txt", [(1, b"a"), (2, b"\xef\xbb\xbfb")]),
        (b"\n \na\n\t\r\n\nb\n\n", "txt", [(3, b"a"), (6, b"b")]),
        (b'"a\nb"\nc', "txt", [(1, b'"a'), (2, b'b"'), (3, b"c")]),
        (b'"a\nb"\nc', "csv", [(1, b'"a\nb"'), (3, b"c")]),
        (b'x,"a\r\n\r\nb",y\r\nc', "csv", [(1, b'x,"a\n\nb",y'), (4, b"c")]),
        (b'x, "a\nb"\nc', "csv", [(1, b'x, "a\nb"'), (3, b"c")]),
        (b'"say ""hi""\n""",x\nc', "csv", [(1, b'"say ""hi""\n""",x'), (3, b"c")]),
        (b'5" disk\nc', "csv", [(1, b'5" disk'), (2, b"c")]),
        (b'x,5" \nc', "csv", [(1, b'x,5" '), (2, b"c")]),
        (b'"never closed\nb\nc', "csv", [(1, "bad_quoting"), (2, b"b"), (3, b"c")]),
        (b'"a\n"b\n"c\n', "csv", [(1, "bad_quoting"), (2, "bad_quoting"), (3, "bad_quoting")]),
        (b'"a\n' + LONG + b'\nb"\nc', "csv", [(1, "bad_quoting"), (2, "too_long"), (3, b'b"'), (4, b"c")]),
        (LONG + b"\nb", "txt", [(1, "too_long"), (2, b"b")]),
        (LONG[1:] + b"\r\nb", "txt", [(1, LONG[1:]), (2, b"b")]),
        (b"a\n" + LONG * 300, "txt", [(1, b"a"), (2, "too_long")]),
        ('"中\n文",龘\n二'.encode("gbk"), "csv", [(1, '"中\n文",龘'.encode("gbk")), (3, "二".encode("gbk"))]),
    ],
)  # fmt: skip
def test_records_of(data, file_format, records):
    assert split(data, file_format) == records
    assert split(data, file_format, 4096) == records


PIECES = st.sampled_from(
    [b"a", b'"', b'""', b",", b"\n", b"\r\n", b" ", b'"x\n', b'y",', "卡".encode("gb18030"), b"z" * 900]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=60).map(b"".join), st.sampled_from(["csv", "txt"]), st.integers(1, 50))
def test_a_chunk_read_by_itself_has_the_records_the_whole_file_has_there(data, file_format, cut):
    """The worker sees only its chunk; whatever the planner saw there, it must see too."""
    records = list(split_records([data], file_format))
    starts = [record for place, record in enumerate(records) if place % cut == 0]
    ends = [record.offset for record in starts[1:]] + [len(data)] * bool(starts)
    again = [
        record
        for first, end in zip(starts, ends, strict=True)
        for record in split_records([data[first.offset : end]], file_format, offset=first.offset, line=first.line)
    ]
    assert again == records


def test_memory_stays_flat_over_a_line_of_fifty_megabytes():
    blocks = (b"x" * 65_536 for _ in range(800))
    tracemalloc.start()
    assert [one.problem for one in split_records(blocks, "csv")] == ["too_long"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
