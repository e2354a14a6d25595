"""The provider simulator: outcomes, messages and their repeats, books that survive, the wallet, faults, controls.

Asked over HTTP like the provider it stands for; Stripe, through its official package where that has the call.
"""

from __future__ import annotations

import ast
import json
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import stripe as official

from chalicelib.core.plugs import load_plug
from chalicelib.edge import web
from chalicelib.payments import account_rules, adapters
from chalicelib.payments.adapters import stripe as adapter
from chalicelib.payments.model import Account, Payment, RefundResult
from infra.local import simulator as package
from infra.local.backend import ROOT, free_port
from infra.local.simulator import load_provider, provider_names
from infra.local.simulator.outcomes import BY_DIGITS, MEANINGS, SUCCESS, outcome_of
from infra.local.simulator.server import Simulator, start_process
from infra.local.simulator.world import World

FOLDER = ROOT / "infra/local/simulator"
EVENTUALLY_SECONDS = 10


class Inbox:
    """An address of a shop's: keeps what comes, and answers what `statuses` says (then 200)."""

    def __init__(self) -> None:
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.lock = threading.Lock()
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with inbox.lock:
                    inbox.messages.append(({name.lower(): value for name, value in self.headers.items()}, body))
                    status = inbox.statuses.pop(0) if inbox.statuses else 200
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/notices/stripe/pac_1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def events(self, name: str | None = None) -> list[dict]:
        found = [json.loads(body) for _, body in self.messages]
        return [one for one in found if name in (None, one["type"])]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    one = Inbox()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def simulator(tmp_path: Path, inbox: Inbox) -> Iterator[Simulator]:
    with Simulator(tmp_path / "books", speed=2_000) as one:
        one.control("endpoint", provider="stripe", url=inbox.url)
        yield one


def eventually(true: Callable[[], Any]) -> None:
    until = time.monotonic() + EVENTUALLY_SECONDS
    while not true():
        assert time.monotonic() < until, "did not happen"
        time.sleep(0.01)


def settled(simulator: Simulator) -> bool:
    """Nothing is on its way any more."""
    return simulator.world.events() != [] and all(one.state != "waiting" for one in simulator.world.events())


def call(url: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """GET, or POST of a dict as JSON or bytes as they are."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    request = urllib.request.Request(url, data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raw = error.read()
        return error.code, json.loads(raw) if raw.startswith(b"{") else raw


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def look(url: str, form: dict[str, str] | None = None) -> tuple[int, str, str | None]:
    """A page as a browser gets it, redirects not followed: status, text, where to go on."""
    opener = urllib.request.build_opener(_Stay())
    data = urlencode(form).encode() if form is not None else None
    try:
        with opener.open(urllib.request.Request(url, data=data), timeout=10) as answer:
            return answer.status, answer.read().decode(), None
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers.get("Location")


def account(simulator: Simulator) -> Account:
    demo = load_provider("stripe").demo_account(simulator.world)
    return Account("stripe", "test", "pac_1", "demo", demo["settings"], demo["secrets"])


def payment(simulator: Simulator, amount_minor: int, payment_id: str = "pay_1", **more: Any) -> Payment:
    return Payment(
        payment_id, "ord_1", amount_minor, "CNY", "点券 <500>", int(time.time()) + 900, "https://pay.example",
        account(simulator), "checkout", return_url="https://shop.example/r?s={CHECKOUT_SESSION_ID}", **more,
    )  # fmt: skip


def opened(simulator: Simulator, amount_minor: int, payment_id: str = "pay_1") -> Payment:
    """A payment opened by our own adapter."""
    wanted = payment(simulator, amount_minor, payment_id)
    started = adapter.start(wanted, int(time.time()))
    return payment(simulator, amount_minor, payment_id, provider_ref=started.provider_ref)


def paid(simulator: Simulator, amount_minor: int, payment_id: str = "pay_1") -> Payment:
    one = opened(simulator, amount_minor, payment_id)
    simulator.control("pay", provider="stripe", our_no=payment_id)
    found = adapter.find(one)
    return payment(
        simulator, amount_minor, payment_id, provider_ref=one.provider_ref, provider_txn=found.provider_txn,
        paid_minor=found.amount_minor,
    )  # fmt: skip


def record(simulator: Simulator, our_no: str = "pay_1", provider: str = "stripe") -> Any:
    return simulator.world.find(provider, our_no)


def notices(simulator: Simulator, inbox: Inbox) -> list[Any]:
    """What came, read by our own adapter."""
    now = int(time.time())
    return [adapter.read_notice(account(simulator), headers, body, now) for headers, body in inbox.messages]


# outcomes


def test_the_page_for_people_has_every_outcome_under_its_digits():
    text = (ROOT / "docs/providers/simulator.md").read_text()
    rows = dict(re.findall(r"^\| `(\d\d)` \| `(\w+)` \|", text, re.MULTILINE))
    assert {int(digits): name for digits, name in rows.items()} == BY_DIGITS
    assert set(MEANINGS) == {SUCCESS, *BY_DIGITS.values()}


@pytest.mark.parametrize(
    ("amount", "outcome"), [(3000, SUCCESS), (4999, SUCCESS), (101, "fail"), (12, "refund_reversed")]
)
def test_the_last_two_digits_choose(amount: int, outcome: str):
    assert outcome_of(amount) == outcome


def test_success_is_one_payment_and_one_notice_that_our_adapter_takes(simulator: Simulator, inbox: Inbox):
    one = paid(simulator, 4900)
    eventually(lambda: settled(simulator))
    (notice,) = notices(simulator, inbox)
    assert (notice.kind, notice.payment_id, notice.amount_minor, notice.currency) == ("paid", "pay_1", 4900, "CNY")
    assert notice.provider_txn == one.provider_txn


def test_01_fails(simulator: Simulator, inbox: Inbox):
    one = opened(simulator, 4901)
    simulator.control("pay", provider="stripe", our_no="pay_1")
    eventually(lambda: settled(simulator))
    assert sorted(notice.kind for notice in notices(simulator, inbox)) == ["failed", "other"]
    assert adapter.find(one).state != "paid"


def test_02_is_paid_after_a_while(simulator: Simulator, inbox: Inbox):
    simulator.world.speed = 20  # five seconds are a quarter of one
    one = opened(simulator, 4902)
    simulator.control("pay", provider="stripe", our_no="pay_1")
    assert adapter.find(one).state == "unpaid"
    eventually(lambda: adapter.find(one).state == "paid")
    eventually(lambda: len(inbox.messages) == 1)


def test_03_is_paid_and_nobody_is_told(simulator: Simulator, inbox: Inbox):
    one = paid(simulator, 4903)
    adapter.refund(one, "rfd_1", 1, int(time.time()))
    paid(simulator, 4900, "pay_2")
    eventually(lambda: settled(simulator))
    assert one.provider_txn is not None
    assert {notice.payment_id for notice in notices(simulator, inbox)} == {"pay_2"}


@pytest.mark.parametrize(("amount", "times"), [(4904, 2), (4909, 50)])
def test_04_and_09_send_the_same_notice_again_and_again(amount: int, times: int, simulator: Simulator, inbox: Inbox):
    paid(simulator, amount)
    eventually(lambda: settled(simulator))
    found = notices(simulator, inbox)
    assert len(found) == times
    assert len({notice.event_id for notice in found}) == 1


def test_05_captures_one_too_much(simulator: Simulator, inbox: Inbox):
    assert paid(simulator, 4905).paid_minor == 4906
    eventually(lambda: settled(simulator))
    assert [notice.amount_minor for notice in notices(simulator, inbox)] == [4906]


def test_06_carries_the_first_refund_out_and_says_nothing(simulator: Simulator):
    one, now = paid(simulator, 4906), int(time.time())
    assert adapter.refund(one, "rfd_1", 100, now) == RefundResult("unknown")
    assert adapter.refund(one, "rfd_1", 100, now).state == "succeeded"
    assert adapter.refund(one, "rfd_2", 100, now).state == "succeeded"
    assert [refund.amount_minor for refund in record(simulator).refunds] == [100, 100]


def test_07_fails_refunds(simulator: Simulator, inbox: Inbox):
    one = paid(simulator, 4907)
    assert adapter.refund(one, "rfd_1", 100, int(time.time())).state == "failed"
    eventually(lambda: settled(simulator))
    assert "refund_failed" in {notice.kind for notice in notices(simulator, inbox)}
    assert record(simulator).refunded_minor == 0


def test_08_is_down_once(simulator: Simulator):
    from chalicelib.payments.errors import ProviderUnavailable

    with pytest.raises(ProviderUnavailable):
        opened(simulator, 4908)
    assert record(simulator) is None
    assert opened(simulator, 4908).provider_ref


def test_10_is_disputed_at_once(simulator: Simulator, inbox: Inbox):
    one = paid(simulator, 4910)
    eventually(lambda: settled(simulator))
    told = {notice.kind: notice for notice in notices(simulator, inbox)}
    assert told["dispute_opened"].provider_txn == one.provider_txn
    assert told["dispute_opened"].dispute.due_at > time.time()


def test_11_is_paid_once_it_has_been_closed(simulator: Simulator, inbox: Inbox):
    one = opened(simulator, 4911)
    simulator.control("pay", provider="stripe", our_no="pay_1")
    assert adapter.find(one).state == "unpaid"
    assert adapter.close(one) == "closed"
    eventually(lambda: adapter.find(one).state == "paid")
    eventually(lambda: {notice.kind for notice in notices(simulator, inbox)} == {"failed", "paid"})


def test_11_is_paid_once_it_has_run_out(simulator: Simulator):
    one = opened(simulator, 4911)
    simulator.control("pay", provider="stripe", our_no="pay_1")
    simulator.control("clock", ahead_seconds=3600)
    eventually(lambda: adapter.find(one).state == "paid")
    assert record(simulator).paid_at > record(simulator).expires_at


def test_12_takes_refunds_back_after_they_succeeded(simulator: Simulator, inbox: Inbox):
    simulator.world.speed = 20
    one = paid(simulator, 4912)
    assert adapter.refund(one, "rfd_1", 100, int(time.time())).state == "succeeded"
    eventually(lambda: adapter.find_refund(one, "rfd_1").state == "failed")
    eventually(lambda: [one.kind for one in notices(simulator, inbox)][-1] == "refund_failed")


def test_what_nobody_pays_runs_out(simulator: Simulator, inbox: Inbox):
    one = opened(simulator, 4900)
    simulator.control("clock", ahead_seconds=3600)
    eventually(lambda: adapter.close(one) == "closed")
    eventually(lambda: [notice.kind for notice in notices(simulator, inbox)] == ["failed"])


# messages


def test_a_message_is_sent_until_it_is_taken_and_stays_the_same_event(simulator: Simulator, inbox: Inbox):
    simulator.world.speed = 100_000
    inbox.statuses = [500, 404, 301]
    paid(simulator, 4900)
    eventually(lambda: settled(simulator))
    assert len(inbox.messages) == 4
    assert len({event["id"] for event in inbox.events()}) == 1
    (event,) = simulator.world.events()
    assert (event.state, event.attempts) == ("taken", 4)


def test_a_message_that_nobody_takes_is_given_up_after_the_documented_pauses(simulator: Simulator, inbox: Inbox):
    simulator.world.speed = 1_000_000
    inbox.statuses = [500] * 100
    paid(simulator, 4900)
    eventually(lambda: settled(simulator))
    (event,) = simulator.world.events()
    assert (event.state, len(inbox.messages)) == ("given_up", 1 + len(load_provider("stripe").RETRY_SECONDS))


def test_the_pauses_are_the_providers_own(simulator: Simulator, inbox: Inbox):
    simulator.world.speed = 1.0
    inbox.statuses = [500]
    paid(simulator, 4900)
    eventually(lambda: simulator.world.events()[0].attempts == 1)
    waits = simulator.world.events()[0].next_at - simulator.world.clock()
    assert 290 < waits <= 300
    simulator.control("clock", ahead_seconds=301)
    eventually(lambda: simulator.world.events()[0].state == "taken")


def test_a_message_without_an_address_waits_for_one(simulator: Simulator, inbox: Inbox):
    simulator.world.speed = 100_000
    simulator.control("endpoint", provider="stripe", url=None)
    paid(simulator, 4900)
    eventually(lambda: simulator.world.events()[0].attempts >= 1)
    simulator.control("endpoint", provider="stripe", url=inbox.url)
    eventually(lambda: settled(simulator))
    assert len(inbox.messages) == 1


def test_an_event_carries_its_object_as_it_was_then(simulator: Simulator, inbox: Inbox):
    simulator.control("endpoint", provider="stripe", url=None)
    simulator.world.speed = 0.0001  # the first repeat is far away
    one = opened(simulator, 4900)
    assert adapter.close(one) == "closed"
    simulator.control("pay", provider="stripe", our_no="pay_1", outcome="late")
    eventually(lambda: len(simulator.world.events()) == 2 and all(one.attempts for one in simulator.world.events()))
    simulator.control("endpoint", provider="stripe", url=inbox.url)
    simulator.control("clock", ahead_seconds=4_000_000)
    eventually(lambda: len(inbox.messages) == 2)
    told = {event["type"]: event["data"]["object"]["status"] for event in inbox.events()}
    assert told == {"checkout.session.expired": "expired", "checkout.session.completed": "complete"}


# books


def test_everything_survives_a_restart(tmp_path: Path, inbox: Inbox):
    with Simulator(tmp_path, speed=1.0) as first:
        first.control("endpoint", provider="stripe", url=inbox.url)
        inbox.statuses = [500]
        one = paid(first, 4910)
        adapter.refund(one, "rfd_1", 100, int(time.time()))
        eventually(lambda: all(event.attempts for event in first.world.events()))
        demo, before = account(first).secrets, (record(first), first.world.events())
        unsent = [event.event_id for event in first.world.events() if event.state == "waiting"]
    assert len(unsent) == 1
    inbox.messages.clear()
    with Simulator(tmp_path, speed=1.0) as second:
        assert account(second).secrets == demo
        assert (record(second), second.world.events()) == before
        assert adapter.find_refund(payment(second, 4910, provider_txn=one.provider_txn), "rfd_1").state == "succeeded"
        second.control("clock", ahead_seconds=301)
        eventually(lambda: settled(second))
    assert [event["id"].removeprefix("evt_") for event in inbox.events()] == [unsent[0].removeprefix("evt")]


def test_nothing_answered_is_lost_when_the_process_is_killed(tmp_path: Path):
    process = start_process(tmp_path, free_port())
    demo = call(f"{process.url}/_control/accounts")[1]["stripe"]
    held = Account("stripe", "test", "pac_1", "demo", demo["settings"], demo["secrets"])
    wanted = Payment(
        "pay_1", "ord_1", 4900, "CNY", "x", int(time.time()) + 900, "https://pay.example", held, "checkout"
    )
    started = adapter.start(wanted, int(time.time()))
    process.process.send_signal(signal.SIGKILL)
    process.process.wait()
    assert World(tmp_path).find("stripe", "pay_1").extra["session_id"] == started.provider_ref


def test_a_taken_port_is_said(tmp_path: Path, simulator: Simulator):
    with pytest.raises(RuntimeError, match="did not start"):
        start_process(tmp_path, int(simulator.url.rpartition(":")[2]))


def test_books_half_written_are_not_what_the_next_start_reads(tmp_path: Path):
    with Simulator(tmp_path) as one:
        opened(one, 4900)
    (tmp_path / "books.1.new").write_text('{"records": [')
    with Simulator(tmp_path) as one:
        assert record(one).amount_minor == 4900


def test_payments_of_many_buyers_at_once_are_all_kept(simulator: Simulator):
    threads = [threading.Thread(target=opened, args=(simulator, 4900, f"pay_{number}")) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.our_no for one in World(simulator.world.directory).each()} == {f"pay_{number}" for number in range(24)}


def test_many_refunds_at_once_give_back_no_more_than_was_paid(simulator: Simulator):
    one = paid(simulator, 1000)
    threads = [
        threading.Thread(target=adapter.refund, args=(one, f"rfd_{number}", 300, int(time.time())))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert record(simulator).refunded_minor == 900


def test_keys_and_secrets_are_made_once(tmp_path: Path):
    world = World(tmp_path)
    keys = world.keys("x")
    assert World(tmp_path).keys("x").private_pem == keys.private_pem
    assert World(tmp_path).secret("x") == world.secret("x") != world.secret("y")
    assert keys.verify(b"message", keys.sign(b"message"))
    assert not keys.verify(b"other", keys.sign(b"message"))


# the wallet


def test_a_buyer_pays_in_the_wallet_and_comes_back_to_the_shop(simulator: Simulator):
    started = adapter.start(payment(simulator, 4900), int(time.time()))
    assert look(simulator.url)[1].count("/pay/stripe/pay_1") == 1
    status, page, _ = look(started.pay_url)
    assert (status, "49.00 CNY" in page, "点券 &lt;500&gt;" in page) == (200, True, True)
    status, _, onward = look(started.pay_url, {"outcome": ""})
    assert (status, onward) == (303, f"https://shop.example/r?s={started.provider_ref}")
    assert "<b>paid</b>" in look(started.pay_url)[1]


def test_a_buyer_may_choose_another_outcome(simulator: Simulator):
    started = adapter.start(payment(simulator, 4900), int(time.time()))
    status, _, onward = look(started.pay_url, {"outcome": "fail"})
    assert (status, onward, record(simulator).state) == (303, started.pay_url, "failed")
    assert look(started.pay_url, {})[0] == 409


def test_a_closed_payment_cannot_be_paid(simulator: Simulator):
    one = opened(simulator, 4900)
    adapter.close(one)
    status, page, _ = look(f"{simulator.url}/pay/stripe/pay_1", {})
    assert (status, "closed" in page) == (409, True)
    assert adapter.find(one).state == "unpaid"


def test_a_page_is_not_fooled_by_what_a_shop_sends(simulator: Simulator):
    world = simulator.world
    world.open("stripe", "<script>/x", 1, "JPY", return_url="javascript:alert(1)", session_id="x", title="<img src=x>")
    for url in (simulator.url, f"{simulator.url}/pay/stripe/%3Cscript%3E%2Fx"):
        status, page, _ = look(url)
        assert (status, "<script>" in page, "<img" in page, "javascript:" in page) == (200, False, False, False)
    assert look(f"{simulator.url}/pay/stripe/nobody")[0] == 404


# faults and controls


def test_a_provider_that_is_down_does_nothing(simulator: Simulator):
    one = opened(simulator, 4900)
    simulator.control("fault", provider="stripe", what="down", times=2)
    assert [adapter.find(one).state for _ in range(3)] == ["unknown", "unknown", "unpaid"]


def test_a_dropped_answer_is_of_something_done(simulator: Simulator):
    one = opened(simulator, 4900)
    simulator.control("fault", provider="stripe", what="drop", path="/expire")
    assert adapter.find(one).state == "unpaid"
    status = official_error(lambda: official_client(simulator).v1.checkout.sessions.expire(one.provider_ref))
    assert status is official.APIConnectionError
    assert record(simulator).state == "closed"


def test_a_slow_answer_is_of_something_done(simulator: Simulator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web, "READ_SECONDS", 0.2)
    one = paid(simulator, 4900)
    simulator.control("fault", provider="stripe", what="slow", path="/v1/refunds", seconds=0.6, times=1)
    assert adapter.find_refund(one, "rfd_1") == RefundResult("unknown")
    assert adapter.find_refund(one, "rfd_1") is None


def test_faults_are_of_one_provider(simulator: Simulator):
    simulator.control("fault", provider="alipay", what="down")
    assert opened(simulator, 4900).provider_ref


def test_refunds_and_disputes_by_hand_reach_the_shop(simulator: Simulator, inbox: Inbox):
    one = paid(simulator, 4900)
    assert (
        call(f"{simulator.url}/_control/refund", {"provider": "stripe", "our_no": "pay_1", "amount_minor": 7})[0] == 200
    )
    for state in ("opened", "won"):
        body = {"provider": "stripe", "our_no": "pay_1", "state": state}
        assert call(f"{simulator.url}/_control/dispute", body)[0] == 200
    eventually(lambda: settled(simulator))
    told = next(notice for notice in notices(simulator, inbox) if notice.kind == "refunded")
    assert (told.refund_id, told.payment_id, told.provider_txn) == (None, None, one.provider_txn)
    assert {"dispute_opened", "dispute_won"} <= {notice.kind for notice in notices(simulator, inbox)}


@pytest.mark.parametrize(
    ("what", "body", "status"),
    [
        ("pay", {"provider": "stripe", "our_no": "nobody"}, 404), ("pay", {"provider": "stripe"}, 400),
        ("pay", {"provider": "stripe", "our_no": "pay_1", "outcome": "wonder"}, 400),
        ("refund", {"provider": "stripe", "our_no": "pay_1", "amount_minor": 1}, 409),
        ("dispute", {"provider": "stripe", "our_no": "pay_1", "state": "opened"}, 409),
        ("dispute", {"provider": "stripe", "our_no": "pay_1", "state": "wonder"}, 400),
        ("fault", {"provider": "stripe", "what": "wonder"}, 400), ("wonder", {}, 404),
    ],
)  # fmt: skip
def test_a_control_that_cannot_be_is_refused(what: str, body: dict, status: int, simulator: Simulator):
    opened(simulator, 4900)
    assert call(f"{simulator.url}/_control/{what}", body)[0] == status
    assert record(simulator).state == "open"


def test_the_books_can_be_read(simulator: Simulator):
    paid(simulator, 4900)
    eventually(lambda: settled(simulator))
    (shown,) = call(f"{simulator.url}/_control/records?provider=stripe&our_no=pay_1")[1]["records"]
    assert (shown["state"], shown["paid_minor"], shown["notices"][0]["state"]) == ("paid", 4900, "taken")
    assert call(f"{simulator.url}/_control/records?provider=paypal")[1] == {"records": []}


# Stripe, as its official package knows it


def official_client(simulator: Simulator, key: str | None = None) -> official.StripeClient:
    return official.StripeClient(
        key or account(simulator).secrets["secret_key"],
        base_addresses={"api": f"{simulator.url}/stripe"},
        max_network_retries=0,
    )


def official_error(doing: Callable[[], Any]) -> type | None:
    try:
        doing()
    except official.StripeError as error:
        return type(error)
    return None


def test_the_official_package_finds_the_api_it_knows(simulator: Simulator, inbox: Inbox):
    one = paid(simulator, 4900)
    adapter.refund(one, "rfd_1", 100, int(time.time()))
    client = official_client(simulator)
    session = client.v1.checkout.sessions.retrieve(one.provider_ref)
    assert (session.payment_status, session.payment_intent, session.metadata["order_no"]) == (
        "paid", one.provider_txn, "pay_1",
    )  # fmt: skip
    refunds = client.v1.refunds.list({"payment_intent": one.provider_txn})
    assert [refund.metadata["refund_no"] for refund in refunds.auto_paging_iter()] == ["rfd_1"]
    rows = client.v1.balance_transactions.list({"limit": 1, "expand": ["data.source"]}).auto_paging_iter()
    assert [(row.reporting_category, row.amount, row.fee, row.net) for row in rows] == [
        ("refund", -100, 0, -100), ("charge", 4900, 172, 4728),
    ]  # fmt: skip
    eventually(lambda: settled(simulator))
    secret = account(simulator).secrets["webhook_secret"]
    for headers, body in inbox.messages:
        assert official.Webhook.construct_event(body, headers["stripe-signature"], secret).object == "event"


def test_the_official_package_hears_the_refusals_it_knows(simulator: Simulator):
    one = paid(simulator, 4900)
    client, stranger = official_client(simulator), official_client(simulator, "sk_test_x")
    sessions = client.v1.checkout.sessions
    assert official_error(stranger.v1.refunds.list) is official.AuthenticationError
    more = {"payment_intent": one.provider_txn, "amount": 5000}
    assert official_error(lambda: sessions.retrieve("cs_test_none")) is official.InvalidRequestError
    assert official_error(lambda: sessions.expire(one.provider_ref)) is official.InvalidRequestError
    assert official_error(lambda: sessions.create({"mode": "payment"})) is official.InvalidRequestError
    assert official_error(lambda: client.v1.refunds.create(more)) is official.InvalidRequestError
    once = {"idempotency_key": "k"}
    part = {"payment_intent": one.provider_txn, "amount": 5}
    first, again = client.v1.refunds.create(part, once), client.v1.refunds.create(part, once)
    assert first.id == again.id
    assert official_error(lambda: client.v1.refunds.create({**part, "amount": 6}, once)) is official.IdempotencyError
    assert record(simulator).refunded_minor == 5


def test_a_key_that_stripe_has_forgotten_pays_again_for_whoever_trusts_it(simulator: Simulator):
    one = paid(simulator, 4900)
    part, once = {"payment_intent": one.provider_txn, "amount": 5}, {"idempotency_key": "k"}
    official_client(simulator).v1.refunds.create(part, once)
    simulator.control("clock", ahead_seconds=86_401)
    official_client(simulator).v1.refunds.create(part, once)
    assert record(simulator).refunded_minor == 10
    adapter.refund(one, "rfd_1", 5, int(time.time()))
    simulator.control("clock", ahead_seconds=86_401)
    adapter.refund(one, "rfd_1", 5, int(time.time()))
    assert record(simulator).refunded_minor == 15


def test_a_statement_of_the_day_has_everything_that_moved(simulator: Simulator):
    one = paid(simulator, 4912)
    adapter.refund(one, "rfd_1", 100, int(time.time()))
    eventually(lambda: record(simulator).refunds[0].reversed_at)
    paid(simulator, 4910, "pay_2")
    simulator.control("dispute", provider="stripe", our_no="pay_2", state="won")
    day = time.strftime("%Y-%m-%d", time.gmtime(record(simulator).paid_at))
    lines = adapter.statement(account(simulator), day)
    assert sorted((line.kind, line.our_no, line.amount_minor) for line in lines if line.our_no) == [
        ("payment", "pay_1", 4912), ("payment", "pay_2", 4910), ("refund", "rfd_1", -100), ("refund", "rfd_1", 100),
    ]  # fmt: skip
    assert [line.amount_minor for line in lines if line.kind == "dispute"] == [-4910, 4910]
    assert adapter.statement(account(simulator), "2001-01-01") == []


# what every provider's module is held to


def test_the_other_side_knows_nothing_of_ours():
    for path in FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text())
        imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert [name for name in imported if name.split(".")[0] in ("chalicelib", "tests", "app")] == [], path.name


def test_every_file_of_the_folder_is_a_provider_or_the_framework():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert files - set(package.FRAMEWORK) == set(provider_names())
    assert "stripe" in provider_names()
    for name in ("world", "__init__", "../x", "nobody", "os"):
        assert load_provider(name) is None


@pytest.mark.parametrize("name", provider_names())
def test_a_provider_has_what_the_framework_calls(name: str):
    module = load_provider(name)
    assert all(callable(getattr(module, one)) for one in ("demo_account", "handle", "notice", "taken"))
    assert module.RETRY_SECONDS
    assert all(pause > 0 for pause in module.RETRY_SECONDS)
    happenings = {
        "paid", "failed", "approved", "closed", "expired", "refund_created", "refunded", "refund_failed",
        "dispute_opened", "dispute_won", "dispute_lost",
    }  # fmt: skip
    assert set(module.NOTICES) <= happenings
    assert all(isinstance(names, tuple) and all(names) for names in module.NOTICES.values())


@pytest.mark.parametrize("name", provider_names())
def test_a_demo_account_is_what_our_adapter_asks_an_operator_for(name: str, simulator: Simulator):
    demo = load_provider(name).demo_account(simulator.world)
    facts = load_plug(adapters, name).FACTS
    account_rules.check_fields(facts, demo["settings"], demo["secrets"])
    account_rules.check_complete(facts, demo["settings"], set(demo["secrets"]))
    assert demo["mode"] == "test"
    assert demo["settings"]["api_base"] == simulator.world.base_url(name)
    assert load_provider(name).demo_account(simulator.world) == demo
