"""The reconciliation calls over HTTP: the whole way of an operator, who may make them, and what they refuse."""

from __future__ import annotations

import urllib.parse
import urllib.request

import pytest

from chalicelib.aws.clients import s3
from chalicelib.core import settings
from chalicelib.reconciliation import store
from tests import shop
from tests.api import Api
from tests.imports.uploads import messages
from tests.reconciliation.house import DAY, NEXT_MORNING, NOON, as_file, carry_messages, many_lines, open_house
from tests.reconciliation.test_settle import carry_payment_messages

WANTED = {"provider": "sandbox", "day": DAY, "source": "api"}


@pytest.fixture
def house(stack, clock, monkeypatch):
    return open_house(monkeypatch)


@pytest.fixture
def api(house, clock):
    clock.at = NEXT_MORNING
    return Api(clock.at)


@pytest.fixture
def order(house):
    return shop.place({shop.make_product(NOON - 60, keys_in_stock=5): 1}, NOON - 60)


def made(api, **members):
    answer = api.operator.post("/v1/reconciliations", {**WANTED, **members})
    assert answer.status == 201
    return answer.body


def path(reconciliation_id, *more):
    return "/".join(["/v1/reconciliations", reconciliation_id, *more])


def send(upload, content):
    request = urllib.request.Request(upload["url"], data=content, method=upload["method"], headers=upload["headers"])
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def test_an_operator_finds_lost_money_applies_it_and_sees_the_order_delivered(api, house, order):
    house.statements[DAY] = [house.takes(order, tells=False, fee_minor=6)]
    created = made(api)
    assert (created["status"], created["upload"], created["counts"]) == ("queued", None, None)
    assert carry_messages() == []
    seen = api.operator.get(path(created["reconciliation_id"])).body
    assert (seen["status"], seen["differences"], seen["settled"]) == ("completed", 1, 0)
    assert seen["counts"] == {
        "matched": 0, "missing_here": 1, "amount_differs": 0, "state_differs": 0, "missing_there": 0, "elsewhere": 0,
        "not_compared": 0,
    }  # fmt: skip
    assert seen["totals"] == [
        {"currency": "CNY", "ours_minor": 0, "theirs_minor": 990, "fees_minor": 6, "other_minor": 0}
    ]
    listed = api.operator.get(path(created["reconciliation_id"], "differences")).body
    (difference,) = listed["differences"]
    assert (difference["number"], difference["suggested_action"], difference["actions"]) == (
        1, "apply", ["apply", "accept"],
    )  # fmt: skip
    assert difference["order"] == {"order_id": order.order_id, "status": "pending_payment", "review_reason": None}
    assert (difference["ours"], difference["theirs"]["amount_minor"]) == (None, 990)
    settled = api.operator.post(
        path(created["reconciliation_id"], "differences", "1", "settle"), {"action": "apply", "note": "lost notice"}
    )
    assert (settled.status, settled.body["settled"]["action"], settled.body["settled"]["note"]) == (
        200, "apply", "lost notice",
    )  # fmt: skip
    carry_payment_messages()
    after = api.operator.get(path(created["reconciliation_id"], "differences")).body["differences"][0]
    assert after["order"]["status"] == "delivered"
    assert api.operator.get(path(created["reconciliation_id"])).body["settled"] == 1


def test_a_file_is_uploaded_started_and_compared(api, house, order):
    created = made(api, source="file")
    reconciliation_id = created["reconciliation_id"]
    assert created["status"] == "awaiting_upload"
    early = api.operator.post(path(reconciliation_id, "start"))
    assert (early.status, early.code) == (409, "reconciliation.not_uploaded")
    assert messages("reconciliation-due") == []
    send(created["upload"], as_file([house.takes(order)]))
    started = api.operator.post(path(reconciliation_id, "start"))
    assert (started.status, started.body["status"]) == (202, "queued")
    assert carry_messages() == []
    again = api.operator.post(path(reconciliation_id, "start")).body
    assert (again["status"], again["counts"]["matched"]) == ("completed", 1)
    assert (messages("reconciliation-due"), house.asked) == ([], 0)


def test_a_file_of_something_else_fails_the_reconciliation(api):
    created = made(api, source="file")
    send(created["upload"], b"\x00 not a statement")
    api.operator.post(path(created["reconciliation_id"], "start"))
    assert carry_messages() == []
    seen = api.operator.get(path(created["reconciliation_id"])).body
    assert (seen["status"], seen["problem"]) == ("failed", "bad_statement")


def test_a_file_that_is_replaced_after_the_start_is_not_read(api):
    created = made(api, source="file")
    send(created["upload"], as_file([]))
    api.operator.post(path(created["reconciliation_id"], "start"))
    send(created["upload"], as_file(many_lines(1)))
    assert carry_messages() == []
    assert api.operator.get(path(created["reconciliation_id"])).body["problem"] == "file_changed"


def test_an_empty_or_huge_file_is_refused_before_it_is_read(api, monkeypatch):
    created = made(api, source="file")
    send(created["upload"], b"")
    answer = api.operator.post(path(created["reconciliation_id"], "start"))
    assert (answer.status, answer.code) == (422, "payments.bad_statement")
    monkeypatch.setattr("chalicelib.reconciliation.create_reconciliation.MAX_FILE_BYTES", 3)
    s3().put_object(Bucket=settings.bucket_name(), Key=f"statements/{created['reconciliation_id']}", Body=b"1234")
    answer = api.operator.post(path(created["reconciliation_id"], "start"))
    assert (answer.status, answer.code) == (413, "reconciliation.file_too_large")


def test_a_repeated_request_answers_the_same_reconciliation(api):
    answers = [api.operator.post("/v1/reconciliations", WANTED, Idempotency_Key="one") for _ in range(2)]
    assert answers[0].body["reconciliation_id"] == answers[1].body["reconciliation_id"]
    assert answers[1].headers.get("Idempotent-Replayed") == "true"
    other = api.operator.post("/v1/reconciliations", {**WANTED, "source": "file"}, Idempotency_Key="one")
    assert (other.status, other.code) == (409, "request.idempotency_mismatch")
    assert len(api.operator.get("/v1/reconciliations").body["reconciliations"]) == 1


def test_reconciliations_are_listed_newest_first_page_by_page(api, clock):
    ids = []
    for _ in range(3):
        ids.append(made_at(api, clock.advance(1)))
    first = api.operator.get("/v1/reconciliations?limit=2").body
    assert [one["reconciliation_id"] for one in first["reconciliations"]] == ids[:0:-1]
    second = api.operator.get(f"/v1/reconciliations?limit=2&cursor={first['next_cursor']}").body
    assert [one["reconciliation_id"] for one in second["reconciliations"]] == ids[:1]
    assert second["next_cursor"] is None


def made_at(api, now):
    return made(api)["reconciliation_id"]


def test_differences_are_paged_over_all_of_them_and_over_one_outcome(api, house, order):
    house.takes(order)
    house.statements[DAY] = many_lines(205)
    created = made(api)
    assert carry_messages() == []
    base = path(created["reconciliation_id"], "differences")
    numbers, cursor = [], ""
    while cursor is not None:
        page = api.operator.get(f"{base}?limit=90" + (f"&cursor={cursor}" if cursor else "")).body
        numbers += [one["number"] for one in page["differences"]]
        cursor = page["next_cursor"]
    assert numbers == list(range(1, 207))
    one_outcome = api.operator.get(f"{base}?outcome=missing_there").body
    assert [(one["number"], one["outcome"]) for one in one_outcome["differences"]] == [(206, "missing_there")]
    assert api.operator.get(f"{base}?outcome=amount_differs").body == {"differences": [], "next_cursor": None}
    first = api.operator.get(f"{base}?limit=90&outcome=missing_here").body
    assert api.operator.get(f"{base}?cursor={first['next_cursor']}").code == "request.bad_cursor"


def test_before_it_is_compared_there_are_no_differences(api):
    created = made(api)
    base = path(created["reconciliation_id"], "differences")
    assert api.operator.get(base).body == {"differences": [], "next_cursor": None}
    answer = api.operator.post(f"{base}/1/settle", {"action": "accept", "note": "x"})
    assert (answer.status, answer.code) == (404, "reconciliation.difference_not_found")


@pytest.mark.parametrize(
    "body, code, field",
    [
        ({}, "request.invalid", "provider"),
        ({**WANTED, "provider": "Stripe!"}, "request.invalid", "provider"),
        ({**WANTED, "day": "2026-02-30"}, "request.invalid", "day"),
        ({**WANTED, "day": "2026-3-1"}, "request.invalid", "day"),
        ({**WANTED, "day": "２０２６-03-01"}, "request.invalid", "day"),
        ({**WANTED, "day": 20260301}, "request.invalid", "day"),
        ({**WANTED, "source": "ftp"}, "request.invalid", "source"),
        ({**WANTED, "status": "completed"}, "request.invalid", "status"),
        ({**WANTED, "account_id": "pac_0000000000000000000"}, "payments.account_not_found", None),
        ({**WANTED, "account_id": "x" * 41}, "request.invalid", "account_id"),
        ({**WANTED, "account_id": ""}, None, None),
        ({**WANTED, "day": "2026-03-02"}, "reconciliation.day_not_over", "day"),
        ({**WANTED, "day": "9999-12-31"}, "reconciliation.day_not_over", "day"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_with_its_field(api, body, code, field):
    answer = api.operator.post("/v1/reconciliations", body)
    if code is None:
        assert answer.status in (201, 404)
        return
    assert (answer.code, answer.body["error"]["field"]) == (code, field)
    assert api.operator.get("/v1/reconciliations").body["reconciliations"] == []


def test_a_provider_that_does_not_exist_is_refused(stack, clock):
    clock.at = NEXT_MORNING
    answer = Api(clock.at).operator.post("/v1/reconciliations", {**WANTED, "provider": "nobody"})
    assert (answer.status, answer.code, answer.body["error"]["field"]) == (422, "payments.unknown_provider", "provider")


@pytest.mark.parametrize("number", ["0", "2", "-1", "1.0", "x", "١", "99999999", "1%20"])
def test_a_number_that_is_none_is_no_difference(api, house, order, number):
    house.statements[DAY] = [house.takes(order, tells=False)]
    created = made(api)
    assert carry_messages() == []
    answer = api.operator.post(
        path(created["reconciliation_id"], "differences", urllib.parse.quote(number, safe="%"), "settle"),
        {"action": "accept", "note": "x"},
    )
    assert (answer.status, answer.code) == (404, "reconciliation.difference_not_found")


@pytest.mark.parametrize(
    "body, status, code",
    [
        ({}, 422, "request.invalid"),
        ({"action": "apply", "by": "me"}, 422, "request.invalid"),
        ({"action": "apply", "note": "x" * 501}, 422, "request.invalid"),
        ({"action": "accept"}, 422, "request.invalid"),
        ({"action": "ask"}, 422, "reconciliation.bad_action"),
        ({"action": "review"}, 422, "reconciliation.bad_action"),
        ({"action": 1}, 422, "request.invalid"),
    ],
)
def test_settling_in_a_way_that_is_none_is_refused_and_leaves_it_open(api, house, order, body, status, code):
    house.statements[DAY] = [house.takes(order, tells=False)]
    created = made(api)
    assert carry_messages() == []
    answer = api.operator.post(path(created["reconciliation_id"], "differences", "1", "settle"), body)
    assert (answer.status, answer.code) == (status, code)
    assert store.list_steps(created["reconciliation_id"], 1, 1) == {}


@pytest.mark.parametrize("missing", ["rec_0000000000000000009", "rec_x", "imp_0000000000000000001", "%2e%2e"])
def test_a_reconciliation_that_is_not_there_is_not_found(api, missing):
    for answer in (
        api.operator.get(path(missing)),
        api.operator.get(path(missing, "differences")),
        api.operator.post(path(missing, "start")),
        api.operator.post(path(missing, "differences", "1", "settle"), {"action": "accept", "note": "x"}),
    ):
        assert (answer.status, answer.code) == (404, "reconciliation.not_found")


def test_only_operators_may(api):
    for caller, status in ((api.shop, 403), (api.nobody, 401)):
        assert caller.post("/v1/reconciliations", WANTED).status == status
        assert caller.get("/v1/reconciliations").status == status
        assert caller.get(path("rec_0000000000000000001", "differences")).status == status
