from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from chalice.test import Client

from app import app
from chalicelib.aws.clients import sqs
from chalicelib.core import clock, settings
from chalicelib.core.ids import order_id_for, payment_id_for
from chalicelib.orders import store as orders
from chalicelib.orders.model import Happening, Line, Order
from chalicelib.orders.rules import status_of
from chalicelib.payments import sandbox
from chalicelib.payments import sandbox_store as books
from chalicelib.payments.adapters.sandbox import read_notice
from chalicelib.payments.errors import BadNotice, NoSuchPayment
from chalicelib.payments.model import Account, Notice

NOW = 1_772_323_200
LONG_AGO = NOW - 10_000


class Endpoint:
    """Stands where our notice address would: takes what is truly signed; answers `status`, or nothing if `is_down`."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.status = 200
        self.is_down = False
        self.now = NOW
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if endpoint.is_down:
                    return
                assert self.path == "/v1/notices/sandbox"
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = endpoint.take(headers, body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def take(self, headers: dict, body: bytes) -> int:
        try:
            notice = read_notice(Account("sandbox"), headers, body, self.now)
        except BadNotice:
            return 400
        if self.status == 200:
            self.notices.append(notice)
        return self.status


@pytest.fixture
def endpoint(stack: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    one = Endpoint()
    monkeypatch.setenv("BASE_URL", one.url)
    yield one
    one.server.shutdown()
    one.server.server_close()


def order(number: str = "1", *, expires_at: int = NOW + 900, provider: str = "sandbox") -> str:
    """An unpaid order of 49.99 with one key held; its payment id."""
    order_id = order_id_for("shop_a", number)
    line = Line(1, "prd_1", "Ten gems", 1, 4999, "auto", 0, 60, extents=(("lot_1", 0, 1),))
    orders.put_order(
        Order(
            order_id, "shop_a", number, LONG_AGO, expires_at, 4999, "CNY", provider, (line,), {}, "hash", ("take1",),
            history=(Happening(LONG_AGO, "pending_payment", "shop"),),
        ),
        "take1",
    )  # fmt: skip
    return payment_id_for(order_id)


def play(payment_id: str, outcome: str, endpoint: Endpoint, now: int = NOW) -> sandbox.Played:
    endpoint.now = now
    return sandbox.play(payment_id, outcome, base_url=endpoint.url, now=now)


def queue_url() -> str:
    return sqs().get_queue_url(QueueName=settings.queue_name("sandbox-notice-due"))["QueueUrl"]


def take_message(wait_seconds: int = 5) -> dict:
    """The next message of the queue, as the worker would get it; gone from the queue afterwards."""
    (message,) = sqs().receive_message(QueueUrl=queue_url(), WaitTimeSeconds=wait_seconds)["Messages"]
    sqs().delete_message(QueueUrl=queue_url(), ReceiptHandle=message["ReceiptHandle"])
    return json.loads(message["Body"])


def waiting() -> int:
    """Messages in the queue, visible or delayed."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"]
    found = sqs().get_queue_attributes(QueueUrl=queue_url(), AttributeNames=names)["Attributes"]
    return sum(int(value) for value in found.values())


def test_paying_captures_the_total_and_sends_one_signed_notice(endpoint: Endpoint):
    payment_id = order()
    assert play(payment_id, "paid", endpoint) == sandbox.Played(sent=1, notice_at=NOW)
    capture = books.find_capture(payment_id)
    assert (capture.captured_minor, capture.currency, capture.captured_at) == (4999, "CNY", NOW)
    assert endpoint.notices == [Notice("sandbox", capture.event_id, "paid", payment_id, capture.txn, 4999, "CNY")]
    assert waiting() == 0


def test_paying_again_repeats_the_same_notice_and_takes_no_more_money(endpoint: Endpoint):
    payment_id = order()
    play(payment_id, "paid", endpoint)
    first = books.find_capture(payment_id)
    for outcome in ("paid", "wrong_amount"):
        play(payment_id, outcome, endpoint, NOW + 5)
    assert endpoint.notices == [endpoint.notices[0]] * 3
    assert books.find_capture(payment_id) == first


def test_a_failed_payment_takes_nothing_and_says_so(endpoint: Endpoint):
    payment_id = order()
    assert play(payment_id, "failed", endpoint).sent == 1
    assert play(payment_id, "failed", endpoint).sent == 1
    assert [one.kind for one in endpoint.notices] == ["failed", "failed"]
    assert len({one.event_id for one in endpoint.notices}) == 2
    assert books.find_capture(payment_id) is None


def test_after_a_failed_attempt_the_payment_can_still_succeed(endpoint: Endpoint):
    payment_id = order()
    play(payment_id, "failed", endpoint)
    play(payment_id, "paid", endpoint)
    assert [one.kind for one in endpoint.notices] == ["failed", "paid"]


def test_paid_twice_says_it_three_times_under_two_event_ids_about_one_sum_of_money(endpoint: Endpoint):
    payment_id = order()
    assert play(payment_id, "paid_twice", endpoint).sent == 3
    first, again, anew = endpoint.notices
    assert first == again
    assert first.event_id != anew.event_id
    assert {(one.kind, one.provider_txn, one.amount_minor) for one in endpoint.notices} == {
        ("paid", books.find_capture(payment_id).txn, 4999)
    }


def test_the_wrong_amount_is_one_minor_unit_too_much_and_truly_captured(endpoint: Endpoint):
    payment_id = order()
    assert play(payment_id, "wrong_amount", endpoint).sent == 1
    assert endpoint.notices[0].amount_minor == books.find_capture(payment_id).captured_minor == 5000


def test_paid_late_takes_and_says_nothing_before_the_hold_has_ended(endpoint: Endpoint):
    payment_id = order(expires_at=NOW - 1)
    assert play(payment_id, "paid_late", endpoint) == sandbox.Played(sent=0, notice_at=NOW + 1)
    assert (books.find_capture(payment_id), endpoint.notices) == (None, [])

    message = take_message()
    endpoint.now = NOW + 1
    sandbox.send_due_notice(message, NOW + 1)
    assert [one.kind for one in endpoint.notices] == ["paid"]
    assert books.find_capture(payment_id).captured_at == NOW + 1
    assert waiting() == 0


def test_a_hold_longer_than_the_longest_delay_is_waited_for_in_steps(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
):
    payment_id = order(expires_at=NOW + 2_000)
    delays = []
    monkeypatch.setattr(
        sandbox.queues, "send", lambda fact, message, delay_seconds: delays.append((fact, message, delay_seconds))
    )
    play(payment_id, "paid_late", endpoint)
    sandbox.send_due_notice(delays[-1][1], NOW + 900)
    sandbox.send_due_notice(delays[-1][1], NOW + 2_001)
    assert [(fact, delay) for fact, _, delay in delays] == [
        ("sandbox-notice-due", 2_002),  # capped by the queue at 900, hence the steps
        ("sandbox-notice-due", 1_102),
        ("sandbox-notice-due", 1),
    ]
    assert (books.find_capture(payment_id), endpoint.notices) == (None, [])


def test_paid_late_after_the_hold_has_ended_needs_no_waiting(endpoint: Endpoint):
    payment_id = order(expires_at=NOW - 2)
    assert play(payment_id, "paid_late", endpoint) == sandbox.Played(sent=1, notice_at=NOW)
    assert waiting() == 0


def test_a_late_payment_of_what_was_paid_meanwhile_only_repeats_the_notice(endpoint: Endpoint):
    payment_id = order(expires_at=NOW - 1)
    play(payment_id, "paid_late", endpoint)
    play(payment_id, "paid", endpoint)
    first = books.find_capture(payment_id)
    endpoint.now = NOW + 1
    sandbox.send_due_notice(take_message(), NOW + 1)
    assert endpoint.notices == [endpoint.notices[0]] * 2
    assert books.find_capture(payment_id) == first


@pytest.mark.parametrize("status", [302, 400, 503])
def test_a_notice_that_is_not_taken_is_sent_again_until_it_is(status: int, endpoint: Endpoint):
    payment_id = order()
    endpoint.status = status
    assert play(payment_id, "paid", endpoint).sent == 0
    assert books.find_capture(payment_id).captured_minor == 4999

    message = take_message()
    sandbox.send_due_notice(message, message["at"])
    endpoint.status, endpoint.now = 200, NOW + 1_000  # so much later that the first signature would be too old
    sandbox.send_due_notice({**message, "at": 0}, NOW + 1_000)
    assert [one.event_id for one in endpoint.notices] == [books.find_capture(payment_id).event_id]


def test_each_notice_that_is_not_taken_keeps_its_own_event_id(endpoint: Endpoint):
    payment_id = order()
    endpoint.is_down = True
    assert play(payment_id, "paid_twice", endpoint).sent == 0
    endpoint.is_down = False
    for _ in range(3):
        message = take_message()
        sandbox.send_due_notice(message, max(message["at"], NOW))
    assert len({one.event_id for one in endpoint.notices}) == 2
    assert len(endpoint.notices) == 3


def test_pauses_grow_and_the_last_attempt_ends_in_the_dead_letters(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch):
    payment_id = order()
    endpoint.is_down = True
    sent: list[dict] = []
    monkeypatch.setattr(sandbox.queues, "send", lambda fact, message, delay_seconds: sent.append(message))
    play(payment_id, "paid", endpoint)
    with pytest.raises(sandbox.NoticeNotTaken):
        for _ in range(100):
            sandbox.send_due_notice(sent[-1], sent[-1]["at"])
    pauses = [later["at"] - earlier["at"] for earlier, later in itertools.pairwise(sent)]
    assert len(sent) == sandbox.MAX_ATTEMPTS
    assert pauses == sorted(pauses) and pauses[0] == 4 and pauses[-1] == 900


def test_a_message_handled_twice_repeats_the_notice_and_takes_the_money_once(endpoint: Endpoint):
    payment_id = order(expires_at=NOW - 1)
    play(payment_id, "paid_late", endpoint)
    message = take_message()
    endpoint.now = NOW + 1
    for _ in range(2):
        sandbox.send_due_notice(message, NOW + 1)
    assert endpoint.notices == [endpoint.notices[0]] * 2
    assert books.find_capture(payment_id).captured_minor == 4999


@pytest.mark.parametrize("outcome", ["paid", "failed", "paid_twice", "paid_late", "wrong_amount"])
def test_a_payment_the_sandbox_does_not_know_is_refused_and_nothing_happens(outcome: str, endpoint: Endpoint):
    another = order("2", provider="stripe")
    for payment_id in (payment_id_for(order_id_for("shop_a", "never")), another, "pay_", "pay_x", "ord_1", "", "é"):
        with pytest.raises(NoSuchPayment):
            play(payment_id, outcome, endpoint)
    assert (endpoint.notices, waiting(), books.find_capture(another)) == ([], 0, None)


# through the front door


@pytest.fixture
def client(endpoint: Endpoint, clock: object) -> Iterator[Client]:
    """The product itself; the endpoint hands what it receives to the true notice route."""
    with Client(app) as one:
        endpoint.take = lambda headers, body: (
            one.http.post("/v1/notices/sandbox", headers=headers, body=body).status_code
        )
        yield one


def post(client: Client, payment_id: str, body: dict) -> tuple[int, dict]:
    answer = client.http.post(
        f"/sandbox/payments/{payment_id}", headers={"Content-Type": "application/json"}, body=json.dumps(body).encode()
    )
    return answer.status_code, answer.json_body


def statuses(payment_id: str) -> list[str]:
    found = orders.get_order("ord_" + payment_id.removeprefix("pay_"))
    return [*(one.status for one in found.history), status_of(found)]


def test_a_click_on_paid_delivers_the_order_and_says_when(client: Client):
    payment_id = order()
    assert post(client, payment_id, {"outcome": "paid"}) == (
        200,
        {"payment_id": payment_id, "outcome": "paid", "sent": 1, "notice_at": "2026-03-01T00:00:00Z"},
    )
    assert statuses(payment_id) == ["pending_payment", "delivered", "delivered"]


def test_paying_twice_delivers_once_and_gives_nothing_back(client: Client):
    payment_id = order()
    assert post(client, payment_id, {"outcome": "paid_twice"})[1]["sent"] == 3
    assert statuses(payment_id) == ["pending_payment", "delivered", "delivered"]


def test_the_wrong_amount_delivers_nothing_and_calls_a_person(client: Client):
    payment_id = order()
    assert post(client, payment_id, {"outcome": "wrong_amount"})[1]["sent"] == 1
    assert statuses(payment_id) == ["pending_payment", "needs_review", "needs_review"]


def test_a_failed_payment_leaves_the_order_payable(client: Client):
    payment_id = order()
    assert post(client, payment_id, {"outcome": "failed"})[1]["sent"] == 1
    assert statuses(payment_id) == ["pending_payment", "pending_payment"]


def test_the_worker_sends_what_is_due_and_reports_only_what_failed(client: Client, endpoint: Endpoint):
    payment_id = order(expires_at=NOW - 1)
    assert post(client, payment_id, {"outcome": "paid_late"})[1] == {
        "payment_id": payment_id, "outcome": "paid_late", "sent": 0, "notice_at": "2026-03-01T00:00:01Z"
    }  # fmt: skip
    late = take_message()
    clock_now = clock.now() + 1
    records = [
        {"messageId": "broken", "body": "{}"},
        {"messageId": "late", "body": json.dumps({**late, "at": clock_now - 1})},
        {"messageId": "no json", "body": "paid"},
    ]
    answer = client.lambda_.invoke("on_sandbox_notice_due", {"Records": records}).payload
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["broken", "no json"]
    assert statuses(payment_id)[-1] == "delivered"


@pytest.mark.parametrize(
    "body",
    [{}, {"outcome": "refunded"}, {"outcome": None}, {"outcome": "paid", "amount_minor": 1}, {"outcome": ["paid"]}],
)
def test_a_click_that_is_none_of_the_five_is_refused_and_takes_nothing(body: dict, client: Client):
    payment_id = order()
    assert post(client, payment_id, body)[0] == 422
    assert books.find_capture(payment_id) is None


def test_an_unknown_payment_is_a_404(client: Client):
    status, answer = post(client, "pay_0000000000000000", {"outcome": "paid"})
    assert (status, answer["error"]["code"]) == (404, "payments.not_found")


def test_where_there_is_no_sandbox_its_address_does_not_exist(client: Client, monkeypatch: pytest.MonkeyPatch):
    payment_id = order()
    monkeypatch.setenv("SANDBOX", "off")
    status, answer = post(client, payment_id, {"outcome": "paid"})
    assert (status, answer["error"]["code"]) == (404, "request.not_found")
    assert books.find_capture(payment_id) is None
