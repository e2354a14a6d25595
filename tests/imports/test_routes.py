"""The import calls over HTTP: who may make them, what they refuse, and the whole way from upload to report."""

from __future__ import annotations

import urllib.request

import pytest

from chalicelib.aws import files
from chalicelib.aws.clients import s3
from chalicelib.core import clock as product_clock
from chalicelib.imports import store
from tests.api import Api
from tests.imports import uploads
from tests.shop import make_product


@pytest.fixture
def api(stack, clock):
    return Api(clock.at)


def body(product_id, **members):
    return {"product_id": product_id, "filename": "keys.csv", "format": "csv", **members}


def send(upload, content):
    request = urllib.request.Request(upload["url"], data=content, method=upload["method"], headers=upload["headers"])
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def test_an_operator_uploads_starts_and_watches_a_file_become_stock(api, clock):
    product_id = make_product(clock.at)
    facts = {"supplier": "acme", "unit_cost_minor": 5, "expires_at": "2027-01-01T00:00:00Z"}
    created = api.operator.post("/v1/imports", body(product_id, **facts))
    assert created.status == 201
    import_id = created.body["import_id"]
    assert (created.body["status"], created.body["upload"]["method"]) == ("awaiting_upload", "PUT")
    send(created.body["upload"], b"code\nA1\nA2\nA1\n")
    started = api.operator.post(f"/v1/imports/{import_id}/start")
    assert (started.status, started.body["status"]) == (202, "planning")
    assert started.body["progress"] == {"records": None, "chunks": None, "chunks_done": 0}
    uploads.carry_messages()
    seen = api.operator.call("GET", f"/v1/imports/{import_id}").body
    report = uploads.download(seen.pop("report_url")).decode("utf-8-sig")
    assert report == "line,reason\r\n4,duplicate_in_file\r\n"
    assert seen == {
        "import_id": import_id, "product_id": product_id, "filename": "keys.csv", "format": "csv", **facts,
        "status": "completed", "problem": None, "lot_id": import_id.replace("imp_", "lot_"),
        "progress": {"records": 3, "chunks": 1, "chunks_done": 1}, "imported": 2, "refused": 1,
        "refused_by_reason": {"duplicate_in_file": 1},
        "refused_lines": [{"line": 4, "reason": "duplicate_in_file"}],
        "created_at": product_clock.iso(clock.at), "started_at": product_clock.iso(clock.at),
        "finished_at": product_clock.iso(clock.at),
    }  # fmt: skip
    again = api.operator.post(f"/v1/imports/{import_id}/start")
    assert (again.status, again.body["status"]) == (202, "completed")
    assert uploads.carry_messages() == []
    stock = api.operator.call("GET", f"/v1/products/{product_id}/stock").body
    assert (stock["imported"], stock["available"]) == (2, 2)


def test_an_import_without_refusals_has_no_report(api, clock):
    row = uploads.imported(make_product(clock.at), b"A1\n", clock.at, format="txt")
    assert api.operator.call("GET", f"/v1/imports/{row['import_id']}").body["report_url"] is None


def test_only_operators_import(api, clock):
    product_id = make_product(clock.at)
    row = uploads.imported(product_id, b"A1\n", clock.at, format="txt")
    for caller, status in ((api.shop, 403), (api.nobody, 401)):
        assert caller.post("/v1/imports", body(product_id)).status == status
        assert caller.post(f"/v1/imports/{row['import_id']}/start").status == status
        assert caller.call("GET", f"/v1/imports/{row['import_id']}").status == status
    assert uploads.count_rows("IMP#") == 3  # the one import: itself, its plan, its chunk


def test_the_same_request_under_the_same_key_is_one_import(api, clock):
    product_id = make_product(clock.at)
    first = api.operator.post("/v1/imports", body(product_id), Idempotency_Key="k1")
    again = api.operator.post("/v1/imports", body(product_id), Idempotency_Key="k1")
    assert again.body["import_id"] == first.body["import_id"]
    assert (first.headers.get("Idempotent-Replayed"), again.headers.get("Idempotent-Replayed")) == (None, "true")
    other = api.operator.post("/v1/imports", body(product_id, filename="b.csv"), Idempotency_Key="k1")
    assert (other.status, other.code) == (409, "request.idempotency_mismatch")
    assert uploads.count_rows("IMP#") == 1


def test_bodies_that_make_no_import(api, clock):
    good = body(make_product(clock.at))
    for change, field in (
        ({"product_id": None}, "product_id"),
        ({"format": "xlsx"}, "format"),
        ({"format": "CSV"}, "format"),
        ({"filename": ""}, "filename"),
        ({"filename": "a\nb"}, "filename"),
        ({"filename": "x" * 201}, "filename"),
        ({"unit_cost_minor": -1}, "unit_cost_minor"),
        ({"unit_cost_minor": 1.5}, "unit_cost_minor"),
        ({"unit_cost_minor": "1"}, "unit_cost_minor"),
        ({"unit_cost_minor": 2**53}, "unit_cost_minor"),
        ({"unit_cost_minor": True}, "unit_cost_minor"),
        ({"expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": 1}, "expires_at"),
        ({"status": "completed"}, "status"),
        ({"lot_id": "lot_1"}, "lot_id"),
    ):
        answer = api.operator.post("/v1/imports", {**good, **change})
        assert (answer.status, answer.body["error"]["field"]) == (422, field), change
    for product_id in ("prd_0000000000000000000", "x", "../x"):
        answer = api.operator.post("/v1/imports", {**good, "product_id": product_id})
        assert (answer.status, answer.code) == (422, "catalog.unknown_product")
    for expires_at in ("2026-03-01T00:00:00Z", "1969-01-01T00:00:00Z", "2026-03-01T08:00:00+08:00"):
        answer = api.operator.post("/v1/imports", {**good, "expires_at": expires_at})
        assert (answer.status, answer.code) == (422, "imports.batch_expired")
    assert uploads.count_rows("IMP#") == 0


def test_an_unknown_import_is_not_found(api):
    for import_id in ("imp_0000000000000000000", "x", "imp_"):
        assert api.operator.post(f"/v1/imports/{import_id}/start").code == "imports.not_found"
        assert api.operator.call("GET", f"/v1/imports/{import_id}").code == "imports.not_found"


def test_a_file_that_is_missing_or_unfit_is_refused_at_the_start_and_may_be_uploaded_again(api, clock, monkeypatch):
    product_id = make_product(clock.at)
    created = api.operator.post("/v1/imports", body(product_id)).body
    start = f"/v1/imports/{created['import_id']}/start"
    assert (api.operator.post(start).status, api.operator.post(start).code) == (409, "imports.not_uploaded")
    for content in (b"", b"PK\x03\x04zip", b"\x1f\x8bgzip", "code\nA1\n".encode("utf-16")):
        send(created["upload"], content)
        answer = api.operator.post(start)
        assert (answer.status, answer.code) == (422, "imports.unreadable_file")
    reads = []
    s3().meta.events.register("before-call.s3.GetObject", lambda **_: reads.append(1))
    monkeypatch.setattr("chalicelib.imports.start_import.MAX_FILE_BYTES", 10)
    send(created["upload"], b"code\nA1\nA2\n")
    answer = api.operator.post(start)
    assert (answer.status, answer.code, reads) == (413, "imports.file_too_large", [])
    assert store.get_import(created["import_id"])["status"] == "awaiting_upload"
    assert uploads.messages("import-started") == []


def test_a_batch_that_expired_before_its_start_is_refused(api, clock):
    created = api.operator.post("/v1/imports", body(make_product(clock.at), expires_at="2026-03-01T00:10:00Z")).body
    send(created["upload"], b"code\nA1\n")
    clock.advance(600)
    answer = api.operator.post(f"/v1/imports/{created['import_id']}/start")
    assert (answer.status, answer.code) == (422, "imports.batch_expired")
    assert store.get_import(created["import_id"])["status"] == "awaiting_upload"


def test_a_crash_between_row_and_message_at_the_start_is_made_good(api, clock, monkeypatch):
    created = api.operator.post("/v1/imports", body(make_product(clock.at))).body
    send(created["upload"], b"code\nA1\n")

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("chalicelib.aws.queues.send", crash)
        api.operator.post(f"/v1/imports/{created['import_id']}/start")
    from chalicelib.imports.resume_imports import resume_imports

    assert resume_imports(clock.advance(120)) == 1
    uploads.carry_messages()
    assert store.get_import(created["import_id"])["imported"] == 1


def test_the_address_of_an_upload_names_no_file_of_the_callers_choosing(api, clock):
    answer = api.operator.post("/v1/imports", body(make_product(clock.at), filename="../../etc/passwd"))
    assert answer.status == 201
    assert f"/uploads/{answer.body['import_id']}?" in answer.body["upload"]["url"]
    assert "passwd" not in answer.body["upload"]["url"]
    assert files.UPLOAD_SECONDS == 3_600
