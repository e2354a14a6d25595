"""Encoding, columns, chunks and next steps, decided without any table."""

from __future__ import annotations

import pytest

from chalicelib.imports import rules
from chalicelib.imports.lines import split_records
from chalicelib.imports.model import CHUNK_RECORDS, FILE_PROBLEMS, LINE_REASONS, Chunk, FileRefused, Record, Votes
from chalicelib.keys.model import PAGE_KEYS, KeyField, PlainFields


def record(raw: bytes) -> Record:
    return Record(2, 10, len(raw), raw)


@pytest.mark.parametrize(
    "head",
    [
        b"PK\x03\x04xx", b"\x1f\x8b\x08", b"Rar!\x1a", b"7z\xbc\xaf", b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd",
        b"\xd0\xcf\x11\xe0", b"%PDF-1.4", b"\xfe\xff\x00c", b"\x00" * 50,
        "code\n".encode("utf-16"), "code\n".encode("utf-16-le"), "code\n".encode("utf-16-be"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_text_of_ours_is_told_by_its_first_bytes(head):
    assert rules.unreadable(head)


@pytest.mark.parametrize("head", [b"code\nA", b"\xef\xbb\xbfcode", "卡号\n".encode("gbk"), b"A1\x00B\nA2 plain text\n"])
def test_a_text_file_is_let_through(head):
    assert rules.unreadable(head) is None


def encoding_of(data: bytes) -> str:
    votes = Votes()
    for one in split_records([data], "txt"):
        votes = rules.vote(votes, one)
    return rules.choose_encoding(votes)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"A1\nA2", "utf-8"),
        ("卡密一\n卡密二\n".encode(), "utf-8"),
        ("卡密一\n卡密二\n".encode("gbk"), "gb18030"),
        ("𠮷龘\n".encode("gb18030"), "gb18030"),
        ("卡密一\n卡密二\n卡密三\n".encode() + b"\xff\xfe\n", "utf-8"),
        ("联通\n卡密二\n卡密三\n".encode("gbk"), "gb18030"),
        (b"\xff\xff\n", "utf-8"),
    ],
)
def test_the_encoding_is_what_most_lines_are_readable_in(data, encoding):
    assert encoding_of(data) == encoding


CARD = (KeyField("card"), KeyField("pin"))


@pytest.mark.parametrize(
    ("raw", "encoding", "wanted", "columns"),
    [
        (b"code", "utf-8", (), ["code"]),
        ("卡号,密码".encode("gbk"), "gb18030", (), ["卡号", "密码"]),
        (b'"card no", Pin_2', "utf-8", (), ["card no", "Pin_2"]),
        ("ＣＡＲＤ，x".encode(), "utf-8", (), "bad_header"),
        (b"pin,CARD", "utf-8", CARD, ["pin", "card"]),
        (b"card", "utf-8", CARD, "wrong_columns"),
        (b"card,pin,note", "utf-8", CARD, "wrong_columns"),
        (b"card,card", "utf-8", CARD, "wrong_columns"),
        (b"code,Code", "utf-8", (), "bad_header"),
        (b"code,", "utf-8", (), "bad_header"),
        (b"a,b,c,d,e,f,g,h,i", "utf-8", (), "bad_header"),
        (b"x" * 33, "utf-8", (), "bad_header"),
        (b"=cmd", "utf-8", (), "bad_header"),
        (b"ABCD-EFGH", "utf-8", (), "bad_header"),
        (b"A1B2C3D4E5", "utf-8", (), "bad_header"),
        (b"1234567890", "utf-8", (), "bad_header"),
        (b"\xff\xff", "utf-8", (), "bad_header"),
        (b"co\x00de", "utf-8", (), "bad_header"),
    ],
)
def test_the_first_line_of_a_csv_names_the_fields(raw, encoding, wanted, columns):
    if isinstance(columns, list):
        assert rules.read_columns(record(raw), encoding, wanted) == columns
    else:
        with pytest.raises(FileRefused) as refused:
            rules.read_columns(record(raw), encoding, wanted)
        assert refused.value.problem == columns
        assert columns in FILE_PROBLEMS


def test_a_txt_line_is_the_one_field_of_the_product():
    assert rules.txt_columns(()) == ["code"]
    assert rules.txt_columns((KeyField("pin"),)) == ["pin"]
    with pytest.raises(FileRefused):
        rules.txt_columns(CARD)


@pytest.mark.parametrize(
    ("raw", "file_format", "outcome"),
    [
        (b"A1", "txt", {"code": "A1"}),
        (b"a,b", "txt", {"code": "a,b"}),
        (b'"A1"', "txt", {"code": '"A1"'}),
        (b'"A,1"', "csv", {"code": "A,1"}),
        (b'"A""1"', "csv", {"code": 'A"1'}),
        (b'"A\n1"', "csv", {"code": "A\n1"}),
        (b"=1+1", "csv", {"code": "=1+1"}),
        ("ＡＢ\u200b１".encode(), "csv", {"code": "AB1"}),
        (b"A1,", "csv", "wrong_field_count"),
        (b'"A"1', "csv", "bad_quoting"),
        (b'"A1', "csv", "bad_quoting"),
        (b"A\x001", "txt", "nul_byte"),
        (b'"A\x001"', "csv", "nul_byte"),
        (b"A1\rA2", "txt", "stray_line_end"),
        (b"A1\rA2", "csv", "stray_line_end"),
        (b"A\xff", "txt", "bad_encoding"),
        (b'""', "csv", "empty"),
        ("\u200b".encode(), "txt", "empty"),
        (b"x" * 513, "txt", "too_long"),
    ],
)
def test_a_line_becomes_a_key_or_a_reason(raw, file_format, outcome):
    assert rules.read_line(record(raw), "utf-8", file_format, ["code"], ()) == outcome
    assert not isinstance(outcome, str) or outcome in LINE_REASONS


def test_a_line_that_could_not_be_split_keeps_its_reason():
    assert rules.read_line(Record(1, 0, 9, None, "too_long"), "utf-8", "csv", ["code"], ()) == "too_long"


def test_chunks_cover_the_file_without_gap_or_overlap_and_say_where_the_next_begins():
    data = b"".join(b"%d\n\n" % number for number in range(CHUNK_RECORDS * 2 + 1))
    found = list(rules.cut_chunks(split_records([data], "txt")))
    assert [chunk.records for chunk, _, _ in found] == [CHUNK_RECORDS, CHUNK_RECORDS, 1]
    assert [next_line for _, _, next_line in found] == [2 * CHUNK_RECORDS + 1, 4 * CHUNK_RECORDS + 1, None]
    first, second, last = (chunk for chunk, _, _ in found)
    assert (first.offset, first.offset + first.length, second.offset + second.length) == (0, second.offset, last.offset)
    assert last == Chunk(last.offset, 5, 4 * CHUNK_RECORDS + 1, 1)


def test_a_page_never_belongs_to_two_chunks():
    assert CHUNK_RECORDS % PAGE_KEYS == 0
    keys = [PlainFields(code=str(number)) for number in range(CHUNK_RECORDS)]
    numbers = [(rules.number_pages(chunk, keys)) for chunk in range(3)]
    pages = [page for _, numbered in numbers for page, _ in numbered]
    assert pages == list(range(3 * CHUNK_RECORDS // PAGE_KEYS))
    assert [start for start, _ in numbers] == [0, CHUNK_RECORDS, 2 * CHUNK_RECORDS]
    assert rules.number_pages(0, []) == (0, [])


def test_of_equal_keys_in_a_chunk_the_first_line_is_claimed():
    assert rules.first_of_each([(2, "a"), (3, "b"), (4, "a"), (5, "a")]) == ([(2, "a"), (3, "b")], [4, 5])


def test_more_than_two_million_lines_are_refused():
    rules.check_size(2_000_000)
    with pytest.raises(FileRefused):
        rules.check_size(2_000_001)


@pytest.mark.parametrize(
    ("row", "step"),
    [
        ({"status": "awaiting_upload"}, "nothing"),
        ({"status": "planning"}, "plan"),
        ({"status": "running", "chunks": 3, "chunks_done": 3}, "finish"),
        ({"status": "running", "chunks": 3, "chunks_done": 1}, "wait"),
        ({"status": "running", "chunks": 3, "chunks_done": 1, "watched": 1}, "send"),
        ({"status": "running", "chunks": 3, "chunks_done": 0}, "send"),
        ({"status": "completed"}, "nothing"),
        ({"status": "failed"}, "nothing"),
    ],
)
def test_what_a_standing_import_waits_for(row, step):
    assert rules.next_step(row) == step
