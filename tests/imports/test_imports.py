"""Files become stock: every kind of file, every kind of refusal, from upload to the opened key."""

from __future__ import annotations

import csv
import io

import pytest

from chalicelib.aws import files
from chalicelib.aws.clients import s3, sqs
from chalicelib.aws.due import list_due
from chalicelib.core import settings
from chalicelib.imports import resume_imports, rules, store
from chalicelib.imports.import_chunk import import_chunk
from chalicelib.imports.plan_import import plan_import
from chalicelib.imports.start_import import start_import
from chalicelib.inventory import store as inventory
from tests.imports import uploads
from tests.shop import make_product

CARD = [{"name": "card", "pattern": "[0-9]{4}"}, {"name": "pin"}]


def codes(product_id, now):
    return sorted(key["code"] for key in uploads.open_all_on_sale(product_id, now))


def refused_lines(row):
    return store.shown_refusals(row)


@pytest.mark.parametrize(
    ("body", "file_format", "fields", "keys", "refused"),
    [
        (b"code\r\nA1\r\nA2\r\n", "csv", None, [{"code": "A1"}, {"code": "A2"}], {}),
        (b"\xef\xbb\xbfcode\nA1", "csv", None, [{"code": "A1"}], {}),
        (b"\xef\xbb\xbfA1\r\n\r\nA2", "txt", None, [{"code": "A1"}, {"code": "A2"}], {}),
        ("卡号,密码\n甲一,乙二\n".encode("gbk"), "csv", None, [{"卡号": "甲一", "密码": "乙二"}], {}),
        (b'code,note\n"A,1","two\r\nlines"\n"A""2",\n', "csv", None,
         [{"code": "A,1", "note": "two\nlines"}, {"code": 'A"2'}], {}),
        ("PIN, Card\n x ,１２３４\n".encode(), "csv", CARD, [{"card": "1234", "pin": "x"}], {}),
        (b"card,pin\n12345,x\n1234,\n1234\n1234,x,y\n1234,y\n", "csv", CARD, [{"card": "1234", "pin": "y"}],
         {2: "bad_format:card", 3: "empty", 4: "wrong_field_count", 5: "wrong_field_count"}),
        ("A1\nＡ１\nA\u200b1\n\ufeffA1 \na1\n".encode(), "txt", None, [{"code": "A1"}, {"code": "a1"}],
         {2: "duplicate_in_file", 3: "duplicate_in_file", 4: "duplicate_in_file"}),
        (b"A1\n" + b"x" * 1_048_576 + b"\nA\x002\nA3\rA4\n" + b"y" * 513 + b"\nA5\xff\nA6", "txt", None,
         [{"code": "A1"}, {"code": "A6"}],
         {2: "too_long", 3: "nul_byte", 4: "stray_line_end", 5: "too_long", 6: "bad_encoding"}),
        (b'code\n"open\nA1\n"B"2\n=HYPERLINK(1)\n', "csv", None, [{"code": "A1"}, {"code": "=HYPERLINK(1)"}],
         {2: "bad_quoting", 4: "bad_quoting"}),
    ],
    ids=["crlf", "bom", "txt-bom", "gbk", "quoted", "any-order", "formats", "same-key", "bad-lines", "quotes"],
)  # fmt: skip
def test_a_file_becomes_stock(stack, clock, body, file_format, fields, keys, refused):
    product_id = make_product(clock.at, key_fields=fields)
    row = uploads.imported(product_id, body, clock.at, format=file_format)
    assert row["status"] == "completed"
    assert dict(refused_lines(row)) == refused
    assert (row["imported"], row["refused"], row["records"]) == (len(keys), len(refused), len(keys) + len(refused))
    opened = uploads.open_all_on_sale(product_id, clock.at)
    assert sorted(map(str, map(sorted, map(dict.items, opened)))) == sorted(
        map(str, map(sorted, map(dict.items, keys)))
    )
    assert inventory.read_stock(product_id, clock.at).imported == len(keys)


@pytest.mark.parametrize(
    ("body", "file_format", "fields", "problem"),
    [
        (b"code\n", "csv", None, "no_records"),
        (b"\n \n", "txt", None, "no_records"),
        (b"\n\n", "csv", None, "no_records"),
        (b"ABCD-1234-EFGH\nABCD-1234-EFGI\n", "csv", None, "bad_header"),
        (b"card\n1234\n", "csv", CARD, "wrong_columns"),
        (b"1234\n", "txt", CARD, "wrong_columns"),
    ],
)
def test_a_file_that_cannot_be_imported_fails_as_a_whole_and_leaves_nothing(
    stack, clock, body, file_format, fields, problem
):
    product_id = make_product(clock.at, key_fields=fields)
    row = uploads.imported(product_id, body, clock.at, format=file_format)
    assert (row["status"], row["problem"], row["imported"]) == ("failed", problem, 0)
    assert inventory.read_stock(product_id, clock.at).imported == 0
    assert uploads.count_rows("F#") + uploads.count_rows("K#") + uploads.count_rows("LOT#") == 0
    assert list(list_due("import", clock.at + 10_000)) == []
    assert files.find_upload(row["import_id"]) is None
    assert b"ABCD-1234" not in uploads.everything_stored()


def test_too_many_lines_fail_the_file(stack, clock, monkeypatch):
    monkeypatch.setattr(rules, "MAX_RECORDS", 3)
    product_id = make_product(clock.at)
    row = uploads.imported(product_id, b"A1\nA2\nA3\nA4\n", clock.at, format="txt")
    assert (row["status"], row["problem"]) == ("failed", "too_many_records")


def test_a_key_sold_under_any_product_in_any_earlier_import_is_refused(stack, clock):
    first, second = make_product(clock.at), make_product(clock.at)
    uploads.imported(first, b"A1\nA2\n", clock.at, format="txt")
    row = uploads.imported(second, "pin\nＡ１\u200b\nA3\n".encode(), clock.at)
    assert refused_lines(row) == [(2, "duplicate_of_earlier_import")]
    assert uploads.open_all_on_sale(second, clock.at) == [{"pin": "A3"}]
    assert codes(first, clock.at) == ["A1", "A2"]
    again = uploads.imported(first, b"A1\nA2\n", clock.at, format="txt")
    assert (again["status"], again["imported"], again["refused"]) == ("completed", 0, 2)
    assert again["reasons"] == {"duplicate_of_earlier_import": 2}


def test_a_long_file_goes_through_in_chunks_and_reports_every_refused_line(stack, clock, monkeypatch):
    monkeypatch.setattr(rules, "CHUNK_RECORDS", 32)
    monkeypatch.setattr(store, "SEGMENT_CHUNKS", 2)
    monkeypatch.setattr("chalicelib.imports.plan_import.SEGMENT_CHUNKS", 2)
    product_id = make_product(clock.at)
    lines = [b"A%d" % (number % 150) for number in range(200)]
    import_id = uploads.upload(product_id, b"code\n" + b"\n".join(lines), clock.at)
    start_import(import_id, clock.at)
    plan_import(import_id, clock.at)
    assert [len(one.chunks) for one in store.list_segments(import_id)] == [2, 2, 2, 1]
    for chunk in range(7):
        row = store.get_import(import_id)
        assert (row["status"], row["chunks_done"]) == ("running", chunk)
        import_chunk(import_id, chunk, clock.at)
    row = store.get_import(import_id)
    assert (row["status"], row["imported"], row["refused"]) == ("completed", 150, 50)
    assert codes(product_id, clock.at) == sorted({line.decode() for line in lines})
    report = uploads.download(files.report_link(import_id)).decode("utf-8-sig")
    rows = [(int(line), reason) for line, reason in list(csv.reader(io.StringIO(report)))[1:]]
    assert rows == [(line, "duplicate_in_file") for line in range(152, 202)]
    assert refused_lines(row) == rows[:20]
    assert files.find_upload(import_id) is None


def test_planning_goes_on_where_it_stopped(stack, clock, monkeypatch):
    monkeypatch.setattr(rules, "CHUNK_RECORDS", 16)
    monkeypatch.setattr("chalicelib.imports.plan_import.SEGMENT_CHUNKS", 2)
    monkeypatch.setattr(store, "SEGMENT_CHUNKS", 2)
    product_id = make_product(clock.at)
    body = "卡号\n".encode("gbk") + b"".join("卡%03d\n\n".encode("gbk") % number for number in range(100))
    import_id = uploads.upload(product_id, body, clock.at)
    start_import(import_id, clock.at)
    put_segment, reads = store.put_segment, []

    def stop_after_the_second(*given):
        put_segment(*given)
        if given[1].number == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "put_segment", stop_after_the_second)
    with pytest.raises(KeyboardInterrupt):
        plan_import(import_id, clock.at)
    monkeypatch.setattr(store, "put_segment", put_segment)
    s3().meta.events.register("before-call.s3.GetObject", lambda params, **_: reads.append(params["headers"]["Range"]))
    uploads.work(import_id, clock.at)
    row = store.get_import(import_id)
    assert (row["status"], row["imported"], row["refused"], row["encoding"]) == ("completed", 100, 0, "gb18030")
    assert f"bytes={store.list_segments(import_id)[1].next_offset}-{len(body) - 1}" in reads
    assert reads.count(f"bytes=0-{len(body) - 1}") == 1  # the header's line, within the first blocks


def test_a_file_replaced_after_the_start_is_not_read(stack, clock, monkeypatch):
    monkeypatch.setattr(rules, "CHUNK_RECORDS", 16)
    product_id = make_product(clock.at)
    import_id = uploads.upload(product_id, b"".join(b"A%d\n" % number for number in range(20)), clock.at, format="txt")
    start_import(import_id, clock.at)
    plan_import(import_id, clock.at)
    import_chunk(import_id, 0, clock.at)
    s3().put_object(Bucket=settings.bucket_name(), Key=f"uploads/{import_id}", Body=b"B1\n" * 20)
    import_chunk(import_id, 1, clock.at)
    row = store.get_import(import_id)
    assert (row["status"], row["problem"], row["imported"]) == ("failed", "file_changed", 16)
    assert codes(product_id, clock.at) == sorted(f"A{number}" for number in range(16))
    import_chunk(import_id, 1, clock.at)
    assert store.get_import(import_id)["imported"] == 16


def test_the_minute_timer_alone_brings_an_import_to_its_end(stack, clock):
    """No message arrives: each is thrown away until the timer sends it again."""
    product_id = make_product(clock.at)
    import_id = uploads.upload(product_id, b"A1\nA2\n", clock.at, format="txt")
    start_import(import_id, clock.at)
    uploads.messages("import-started")
    assert resume_imports.resume_imports(clock.at) == 0
    assert resume_imports.resume_imports(clock.advance(rules.RESUME_SECONDS)) == 1
    assert len(uploads.messages("import-started")) == 1
    plan_import(import_id, clock.at)
    uploads.messages("import-chunk")
    assert resume_imports.resume_imports(clock.at) == 0
    assert resume_imports.resume_imports(clock.advance(rules.RESUME_SECONDS)) == 1
    assert resume_imports.resume_imports(clock.advance(60)) == 0
    uploads.carry_messages()
    assert store.get_import(import_id)["status"] == "completed"
    assert codes(product_id, clock.at) == ["A1", "A2"]
    assert resume_imports.resume_imports(clock.advance(100_000)) == 0


def test_two_timers_at_once_send_the_messages_once(stack, clock):
    product_id = make_product(clock.at)
    import_id = uploads.upload(product_id, b"A1\n", clock.at, format="txt")
    start_import(import_id, clock.at)
    uploads.messages("import-started")
    due = list(list_due("import", clock.advance(rules.RESUME_SECONDS)))
    assert [store.push_on(import_id, due[0]["due_at"], due=clock.at + 60, watched=0) for _ in range(2)] == [True, False]


def test_messages_carry_the_work_through_the_workers_and_a_bad_one_fails_alone(stack, clock):
    product_id = make_product(clock.at)
    import_id = uploads.upload(product_id, b"A1\nA2\n", clock.at, format="txt")
    start_import(import_id, clock.at)
    assert [answer["batchItemFailures"] for answer in uploads.carry_messages()] == [[], []]
    assert store.get_import(import_id)["status"] == "completed"
    url = sqs().get_queue_url(QueueName=settings.queue_name("import-chunk"))["QueueUrl"]
    for body in ("not json", '{"import_id": "imp_x"}', '{"import_id": "imp_0000000000000000000", "chunk": 0}'):
        sqs().send_message(QueueUrl=url, MessageBody=body)
    assert [len(answer["batchItemFailures"]) for answer in uploads.carry_messages()] == [1, 1, 1]
    assert codes(product_id, clock.at) == ["A1", "A2"]


def test_batch_facts_reach_the_lot_and_expired_keys_are_not_sold(stack, clock):
    product_id = make_product(clock.at)
    facts = {"supplier": "acme", "unit_cost_minor": 250, "expires_at": "2026-03-01T08:01:00+08:00"}
    row = uploads.imported(product_id, b"A1\n", clock.at, format="txt", **facts)
    assert row["expires_at"] == clock.at + 60
    assert inventory.read_stock(product_id, clock.at).available == 1
    assert inventory.read_stock(product_id, clock.at + 60).expired == 1
