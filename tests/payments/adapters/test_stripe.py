from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import stripe as official

from chalicelib.core.ids import payment_id_for
from chalicelib.edge import web
from chalicelib.payments.adapters import stripe
from chalicelib.payments.bracket_form import encode_form
from chalicelib.payments.errors import BadNotice, ProviderRefused, ProviderUnavailable
from chalicelib.payments.model import Found, Notice, Payment, RefundResult, Started
from chalicelib.payments.timed_signature import sign
from tests.payments.adapters.stripe_server import INTENT, SECRET_KEY, StripeServer

SAMPLES = json.loads((Path(__file__).parent / "samples/stripe/stripe.json").read_text())
CASES = {case["name"]: case for case in SAMPLES["cases"]}
NOW = 1_781_500_000
ENDPOINT_SECRET = "whsec_test_5c2f1a7e9b0d4c3aa1b2c3d4e5f60718"
PAYMENT = Payment(
    payment_id=payment_id_for("ord_0123456789abcdef"),
    order_id="ord_0123456789abcdef",
    total_minor=4999,
    currency="CNY",
    title="点券 500",
    expires_at=NOW + 900,
    base_url="https://pay.example",
    return_url="https://shop.example/return?sid={CHECKOUT_SESSION_ID}",
)
PAID = replace(PAYMENT, provider_ref="cs_test_1", provider_txn=INTENT)
POST_FAULTS = ["drop_after", "error_after", "slow", "html"]


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> dict:
    stored = {"secret_key": SECRET_KEY, "webhook_secrets": [ENDPOINT_SECRET]}
    monkeypatch.setattr(stripe, "find_secret", lambda name: {"stripe": stored}[name])
    return stored


@pytest.fixture
def server(credentials: dict, monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeServer]:
    monkeypatch.setattr(web, "READ_SECONDS", 0.5)
    one = StripeServer(now=NOW)
    credentials["api_base"] = one.url
    yield one
    one.close()


def posts(server: StripeServer) -> int:
    return sum(one.method == "POST" for one in server.seen)


# notices: the recorded ones


def read(case: dict, now: int | None = None) -> Notice:
    headers = {name.lower(): value for name, value in case["headers"].items()}
    return stripe.read_notice(headers, case["raw_body"].encode(), case["now"] if now is None else now)


AHEAD = "future_timestamp_accepted_by_library"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["expected_valid"] and name != AHEAD])
def test_a_recorded_notice_is_verified(name: str, credentials: dict):
    event = json.loads(CASES[name]["raw_body"])
    notice = read(CASES[name])
    assert (notice.provider, notice.event_id) == ("stripe", event["id"])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case["expected_valid"]] + [AHEAD])
def test_a_recorded_notice_that_is_forged_or_out_of_time_is_refused(name: str, credentials: dict):
    with pytest.raises(BadNotice):
        read(CASES[name])


ORDER = "VG202606150001"
KINDS = {
    "checkout_completed_paid": ("paid", ORDER, INTENT, 4999, None),
    "checkout_completed_unpaid_async_method": ("other", ORDER, INTENT, 4999, None),
    "checkout_async_payment_failed": ("failed", ORDER, INTENT, 4999, None),
    "checkout_expired": ("failed", ORDER, None, 4999, None),
    "payment_intent_failed": ("other", ORDER, INTENT, 4999, None),
    "charge_refunded_partial": ("other", ORDER, INTENT, 4999, None),
    "refund_created_pending": ("other", ORDER, INTENT, 1999, "RF202606150001"),
    "refund_updated_succeeded": ("refunded", ORDER, INTENT, 1999, "RF202606150001"),
    "dispute_created": ("other", None, INTENT, 4999, None),
    "dispute_closed_lost": ("other", None, INTENT, 4999, None),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_a_recorded_notice_means_to_us(name: str, credentials: dict):
    kind, payment_id, txn, amount_minor, refund_id = KINDS[name]
    event_id = json.loads(CASES[name]["raw_body"])["id"]
    assert read(CASES[name]) == Notice("stripe", event_id, kind, payment_id, txn, amount_minor, "CNY", refund_id)


def test_every_recorded_event_type_has_its_meaning_pinned():
    assert {case["name"] for case in SAMPLES["cases"] if "expected_parsed" in case} == set(KINDS)


# notices: time, keys, forgeries


@pytest.mark.parametrize(("age", "is_good"), [(300, True), (301, False), (-300, True), (-301, False)])
def test_a_notice_is_good_for_300_seconds_to_either_side(age: int, is_good: bool, credentials: dict):
    case = CASES["checkout_completed_paid"]
    if is_good:
        assert read(case, NOW + age).kind == "paid"
    else:
        with pytest.raises(BadNotice):
            read(case, NOW + age)


def test_during_a_rollover_either_secret_is_accepted_and_afterwards_only_the_new_one(credentials: dict):
    case = CASES["checkout_completed_paid"]
    credentials["webhook_secrets"] = ["whsec_new", ENDPOINT_SECRET]
    assert read(case).kind == "paid"
    credentials["webhook_secrets"] = ["whsec_new"]
    with pytest.raises(BadNotice):
        read(case)


@pytest.mark.parametrize("secrets", [[], [""], ["  "]])
def test_without_a_secret_nobody_can_sign_not_even_with_an_empty_one(secrets: list[str], credentials: dict):
    credentials["webhook_secrets"] = secrets
    body = b'{"id":"evt_1","type":"checkout.session.completed","data":{"object":{}}}'
    for key in (b"", b"  ", b"None"):
        with pytest.raises(BadNotice):
            stripe.read_notice({"stripe-signature": sign(body, key, NOW)}, body, NOW)


def test_a_copy_without_stripe_credentials_refuses_every_notice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stripe, "find_secret", lambda name: None)
    with pytest.raises(BadNotice):
        read(CASES["checkout_completed_paid"])


GOOD_MAC = CASES["checkout_completed_paid"]["headers"]["Stripe-Signature"].partition("v1=")[2]


@pytest.mark.parametrize(
    "header",
    [
        f"v1={GOOD_MAC}", f"t=,v1={GOOD_MAC}", f"t=abc,v1={GOOD_MAC}", f"t=-1781500000,v1={GOOD_MAC}",
        f"t=1781500000,t=1781500000,v1={GOOD_MAC}", f"t=１７８１５０００００,v1={GOOD_MAC}", f"t=17815.0,v1={GOOD_MAC}",
        f"t= 1781500000,v1={GOOD_MAC}", "t=1781500000", "t=1781500000,v1=", "t=1781500000,v1=é",
        f"t=1781500000,v1={GOOD_MAC[:-1]}", f"t=1781500000;v1={GOOD_MAC}", f"t={'9' * 5000},v1={GOOD_MAC}",
        f"t={'9' * 12},v1={GOOD_MAC}", ",,,", "=", "t", "\0",
        f"t=1781500000,v1={GOOD_MAC}" + ",v1=00" * 2000,
    ],
)  # fmt: skip
def test_a_broken_signature_header_is_a_bad_notice_and_never_a_fault(header: str, credentials: dict):
    case = CASES["checkout_completed_paid"]
    with pytest.raises(BadNotice):
        stripe.read_notice({"stripe-signature": header}, case["raw_body"].encode(), NOW)


def test_a_notice_without_the_header_is_refused(credentials: dict):
    with pytest.raises(BadNotice):
        stripe.read_notice({}, CASES["checkout_completed_paid"]["raw_body"].encode(), NOW)


def test_any_single_changed_byte_of_the_body_breaks_the_signature(credentials: dict):
    case = CASES["checkout_completed_paid"]
    body = case["raw_body"].encode()
    for position in range(0, len(body), 37):
        changed = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
        with pytest.raises(BadNotice):
            stripe.read_notice({"stripe-signature": case["headers"]["Stripe-Signature"]}, changed, NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff\xfe", b"null", b"[]", b'"text"', b"7", b"{}", b'{"id":"evt_1"}', b"[" * 100_000,
        b'{"id":7,"type":"refund.created","data":{"object":{}}}', b'{"id":"","type":"x","data":{"object":{}}}',
        b'{"id":"evt_1","type":7,"data":{"object":{}}}', b'{"id":"evt_1","type":"x","data":{"object":[]}}',
        b'{"id":"evt_1","type":"refund.created","data":{"object":{"metadata":[1]}}}',
        b'{"id":"evt_1","type":"refund.created","data":{"object":{"status":[1]}}}',
        b'{"id":"' + b"e" * 300 + b'","type":"x","data":{"object":{}}}',
    ],
)  # fmt: skip
def test_a_signed_body_that_is_no_event_is_a_bad_notice_and_never_a_fault(body: bytes, credentials: dict):
    with pytest.raises(BadNotice):
        stripe.read_notice({"stripe-signature": sign(body, ENDPOINT_SECRET.encode(), NOW)}, body, NOW)


def signed_event(event_type: str, thing: dict) -> Notice:
    body = json.dumps({"id": "evt_1", "type": event_type, "data": {"object": thing}}).encode()
    return stripe.read_notice({"stripe-signature": sign(body, ENDPOINT_SECRET.encode(), NOW)}, body, NOW)


SESSION = {
    "id": "cs_1", "mode": "payment", "payment_status": "paid", "client_reference_id": "pay_1", "amount_total": 500,
    "currency": "jpy", "payment_intent": "pi_1", "metadata": {"order_no": "pay_1"},
}  # fmt: skip


def test_a_currency_without_minor_units_is_taken_as_it_comes(credentials: dict):
    notice = signed_event("checkout.session.completed", SESSION)
    assert (notice.kind, notice.amount_minor, notice.currency) == ("paid", 500, "JPY")


def test_a_reference_that_a_buyer_can_set_in_a_payment_link_names_no_payment_of_ours(credentials: dict):
    assert signed_event("checkout.session.completed", SESSION).payment_id == "pay_1"
    assert signed_event("checkout.session.completed", {**SESSION, "metadata": {}}).payment_id is None


def test_a_delayed_method_pays_when_its_own_event_comes(credentials: dict):
    assert signed_event("checkout.session.async_payment_succeeded", SESSION).kind == "paid"
    unpaid = {**SESSION, "payment_status": "unpaid"}
    assert signed_event("checkout.session.async_payment_succeeded", unpaid).kind == "other"


def test_an_order_with_nothing_to_pay_is_paid_and_has_the_session_as_its_reference(credentials: dict):
    free = {**SESSION, "payment_status": "no_payment_required", "payment_intent": None, "amount_total": 0}
    notice = signed_event("checkout.session.completed", free)
    assert (notice.kind, notice.provider_txn, notice.amount_minor) == ("paid", "cs_1", 0)


@pytest.mark.parametrize("event_type", ["payment_intent.succeeded", "charge.succeeded", "invented.tomorrow"])
def test_events_beside_the_session_pay_nothing(event_type: str, credentials: dict):
    assert (
        signed_event(event_type, {"id": "pi_1", "metadata": {"order_no": "pay_1"}, "status": "succeeded"}).kind
        == "other"
    )


def test_a_subscription_session_of_the_same_account_pays_nothing(credentials: dict):
    assert signed_event("checkout.session.completed", {**SESSION, "mode": "subscription"}).kind == "other"


@pytest.mark.parametrize("amount", ["4999", 49.99, True, None, [4999]])
def test_an_amount_that_is_no_integer_is_no_amount(amount: object, credentials: dict):
    assert signed_event("checkout.session.completed", {**SESSION, "amount_total": amount}).amount_minor is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [("succeeded", "refunded"), ("failed", "refund_failed"), ("canceled", "refund_failed"), ("pending", "other"),
     ("requires_action", "other"), ("invented_tomorrow", "other"), (None, "other")],
)  # fmt: skip
@pytest.mark.parametrize("event_type", ["refund.created", "refund.updated", "refund.failed", "charge.refund.updated"])
def test_a_refund_event_means_what_its_status_says(event_type: str, status: str, kind: str, credentials: dict):
    thing = {"id": "re_1", "status": status, "amount": 5, "currency": "cny", "metadata": {"refund_no": "rf_1"}}
    notice = signed_event(event_type, thing)
    assert (notice.kind, notice.refund_id) == (kind, "rf_1")


# the official package as the oracle


def test_the_official_package_signs_and_we_accept(credentials: dict):
    body = CASES["checkout_completed_paid"]["raw_body"]
    header = official.WebhookSignature.generate_signature_header(body, ENDPOINT_SECRET, NOW)
    assert stripe.read_notice({"stripe-signature": header}, body.encode(), NOW).kind == "paid"


def test_we_sign_and_the_official_package_accepts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(official._webhook.time, "time", lambda: NOW)
    body = CASES["checkout_completed_paid"]["raw_body"]
    header = sign(body.encode(), ENDPOINT_SECRET.encode(), NOW)
    assert official.Webhook.construct_event(body, header, ENDPOINT_SECRET).id == "evt_1Vg0001"
    with pytest.raises(official.SignatureVerificationError):
        official.Webhook.construct_event(body + " ", header, ENDPOINT_SECRET)


def test_we_send_the_same_bytes_as_the_official_package(server: StripeServer):
    stripe.start(PAYMENT, NOW)
    client = official.StripeClient(SECRET_KEY, base_addresses={"api": server.url})
    # The package repeats our request under our key: Stripe would refuse it if one parameter were different.
    session = client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "client_reference_id": PAYMENT.payment_id,
            "success_url": PAYMENT.return_url,
            "cancel_url": PAYMENT.return_url,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {"currency": "cny", "unit_amount": 4999, "product_data": {"name": "点券 500"}},
                }
            ],
            "metadata": {"order_no": PAYMENT.payment_id},
            "payment_intent_data": {"metadata": {"order_no": PAYMENT.payment_id}},
            "expires_at": PAYMENT.expires_at + stripe.SESSION_GRACE_SECONDS,
        },
        options={"idempotency_key": PAYMENT.payment_id},
    )
    ours, theirs = server.seen
    assert session.id == "cs_test_1"
    assert ours.body == theirs.body
    for name in ("authorization", "stripe-version", "content-type", "idempotency-key"):
        assert ours.headers[name] == theirs.headers[name]


# the recorded API requests


@pytest.mark.parametrize("number", range(len(SAMPLES["api_requests"])))
def test_a_recorded_request_is_reproduced_to_the_byte(number: int, server: StripeServer):
    recorded = SAMPLES["api_requests"][number]
    path = recorded["url"].removeprefix("https://api.stripe.com")
    form = nested(recorded["body"]) if recorded["body"] else None
    stripe._call(
        stripe.find_secret("stripe"), recorded["method"], path, form, recorded["headers"].get("Idempotency-Key")
    )
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.body) == (recorded["method"], path, (recorded["body"] or "").encode())
    assert {name: seen.headers.get(name.lower()) for name in recorded["headers"]} == recorded["headers"]


def nested(body: str) -> dict:
    """A recorded form as the nested value it was made from."""
    from urllib.parse import parse_qsl

    root: dict = {}
    for name, value in parse_qsl(body, keep_blank_values=True):
        *way, last = name.replace("]", "").split("[")
        place = root
        for step in way:
            place = place.setdefault(step, {})
        place[last] = value
    return root


def test_the_refund_call_is_the_recorded_one(server: StripeServer):
    stripe.refund(replace(PAID, payment_id="VG202606150001"), "RF202606150001", 1999, NOW)
    recorded = SAMPLES["api_requests"][2]["body"]
    assert server.seen[-1].body.decode() == recorded + "&metadata[order_no]=VG202606150001"


def test_a_form_keeps_its_order_and_leaves_out_what_is_absent():
    assert (
        encode_form({"b": [{"x": 1}, {"x": "ä&="}], "a": None, "c": {"d": {"e": 0}}})
        == "b[0][x]=1&b[1][x]=%C3%A4%26%3D&c[d][e]=0"
    )


# start


def test_starting_opens_one_session_and_repeating_answers_the_same(server: StripeServer):
    first = stripe.start(PAYMENT, NOW)
    again = stripe.start(PAYMENT, NOW + 600)
    assert first == again == Started("https://checkout.stripe.com/c/pay/cs_test_1", "cs_test_1")
    assert len(server.sessions) == 1
    assert server.sessions["cs_test_1"]["client_reference_id"] == PAYMENT.payment_id


@pytest.mark.parametrize("hold_seconds", [1, 60, 900, 3_600, 43_200, 86_000, 90_000, 172_800])
def test_a_session_lives_as_long_as_stripe_allows_whatever_the_hold(hold_seconds: int, server: StripeServer):
    stripe.start(replace(PAYMENT, expires_at=NOW + hold_seconds), NOW)
    assert server.sessions["cs_test_1"]["expires_at"] >= NOW + min(hold_seconds, 86_400)


def test_a_yen_order_is_charged_in_yen_and_not_in_hundredths(server: StripeServer):
    stripe.start(replace(PAYMENT, total_minor=500, currency="JPY"), NOW)
    assert (server.sessions["cs_test_1"]["amount_total"], server.sessions["cs_test_1"]["currency"]) == (500, "jpy")


@pytest.mark.parametrize("fault", ["drop_after", "slow", "html"])
def test_a_start_whose_answer_was_lost_is_repeated_without_a_second_session(fault: str, server: StripeServer):
    server.fault = fault
    with pytest.raises(ProviderUnavailable):
        stripe.start(PAYMENT, NOW)
    assert stripe.start(PAYMENT, NOW + 5).provider_ref == "cs_test_1"
    assert len(server.sessions) == 1


@pytest.mark.parametrize("fault", ["drop_before", "error_before", *POST_FAULTS])
def test_a_start_that_was_not_answered_is_asked_once_and_said_to_be_unavailable(fault: str, server: StripeServer):
    server.fault = fault
    with pytest.raises(ProviderUnavailable):
        stripe.start(PAYMENT, NOW)
    assert len(server.seen) == 1


def test_a_stripe_that_cannot_be_reached_is_unavailable(server: StripeServer):
    server.close()
    with pytest.raises(ProviderUnavailable):
        stripe.start(PAYMENT, NOW)


def test_a_definite_no_of_stripe_is_a_refusal(server: StripeServer, credentials: dict):
    with pytest.raises(ProviderRefused):
        stripe.start(replace(PAYMENT, expires_at=NOW - 3600), NOW)
    credentials["secret_key"] = "sk_test_other"
    with pytest.raises(ProviderRefused):
        stripe.start(PAYMENT, NOW)
    assert server.sessions == {}


@pytest.mark.parametrize("stored", [None, {}, {"secret_key": ""}])
def test_without_credentials_nothing_is_sent(
    stored: dict | None, server: StripeServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stripe, "find_secret", lambda name: stored)
    with pytest.raises(ProviderRefused):
        stripe.start(PAYMENT, NOW)
    assert stripe.find(PAID) == Found("unknown")
    assert stripe.refund(PAID, "rf_1", 1, NOW) == RefundResult("unknown")
    assert server.seen == []


# find


@pytest.mark.parametrize(
    ("status", "payment_status", "found"),
    [
        ("open", "unpaid", Found("unpaid")),
        ("expired", "unpaid", Found("unpaid")),
        ("complete", "unpaid", Found("unknown")),
        ("complete", "paid", Found("paid", 4999, "CNY", INTENT)),
        ("invented_tomorrow", "unpaid", Found("unknown")),
    ],
)
def test_finding_a_payment_says_what_stripe_knows(status: str, payment_status: str, found: Found, server: StripeServer):
    started = stripe.start(PAYMENT, NOW)
    server.sessions["cs_test_1"] |= {"status": status, "payment_status": payment_status, "payment_intent": INTENT}
    assert stripe.find(replace(PAYMENT, provider_ref=started.provider_ref)) == found


@pytest.mark.parametrize("fault", ["drop_before", "error_before", "slow", "html"])
def test_finding_concludes_nothing_from_silence(fault: str, server: StripeServer):
    stripe.start(PAYMENT, NOW)
    server.fault, server.is_fault_lasting = fault, True
    assert stripe.find(PAID) == Found("unknown")


def test_finding_concludes_nothing_about_a_session_it_does_not_know(server: StripeServer):
    assert stripe.find(PAYMENT) == Found("unknown")
    assert stripe.find(replace(PAYMENT, provider_ref="cs_of_another_account")) == Found("unknown")


def test_a_reference_cannot_lead_to_another_call(server: StripeServer):
    stripe.find(replace(PAYMENT, provider_ref="../refunds?x="))
    assert server.seen[0].path == "/v1/checkout/sessions/..%2Frefunds%3Fx%3D"


# refunds


def test_a_refund_pays_once_however_often_it_is_asked(server: StripeServer):
    results = [stripe.refund(PAID, "rf_1", 1999, NOW) for _ in range(3)]
    assert results == [RefundResult("succeeded", "re_1")] * 3
    assert [one["amount"] for one in server.refunds] == [1999]


def test_a_refund_pays_once_even_after_stripe_has_forgotten_the_idempotency_key(server: StripeServer):
    stripe.refund(PAID, "rf_1", 1999, NOW)
    server.stored.clear()
    assert stripe.refund(PAID, "rf_1", 1999, NOW + 90_000) == RefundResult("succeeded", "re_1")
    assert len(server.refunds) == 1


@pytest.mark.parametrize("fault", POST_FAULTS)
def test_a_refund_whose_answer_was_lost_is_unknown_and_found_by_asking(fault: str, server: StripeServer):
    server.fault = fault
    assert stripe.refund(PAID, "rf_1", 1999, NOW) == RefundResult("unknown")
    assert stripe.find_refund(PAID, "rf_1") == RefundResult("succeeded", "re_1")
    assert stripe.refund(PAID, "rf_1", 1999, NOW) == RefundResult("succeeded", "re_1")
    assert (len(server.refunds), posts(server)) == (1, 1)


@pytest.mark.parametrize("fault", ["drop_before", "error_before"])
def test_a_refund_that_never_arrived_is_unknown_and_can_be_repeated(fault: str, server: StripeServer):
    server.fault = fault
    assert stripe.refund(PAID, "rf_1", 1999, NOW) == RefundResult("unknown")
    assert stripe.find_refund(PAID, "rf_1") is None
    assert stripe.refund(PAID, "rf_1", 1999, NOW) == RefundResult("succeeded", "re_1")


def test_no_money_moves_while_stripe_cannot_say_what_it_has_done(server: StripeServer):
    server.fault, server.is_fault_lasting = "error_before", True
    assert stripe.refund(PAID, "rf_1", 1999, NOW) == RefundResult("unknown")
    assert posts(server) == 0


def test_more_than_was_paid_is_refused_and_moves_nothing(server: StripeServer):
    assert stripe.refund(PAID, "rf_1", 3000, NOW).state == "succeeded"
    assert stripe.refund(PAID, "rf_2", 2000, NOW) == RefundResult("failed")
    assert sum(one["amount"] for one in server.refunds) == 3000
    assert stripe.find_refund(PAID, "rf_2") is None


def test_two_refunds_under_one_id_at_once_pay_once(server: StripeServer):
    results: list[RefundResult] = []
    threads = [
        threading.Thread(target=lambda: results.append(stripe.refund(PAID, "rf_1", 1999, NOW))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.state for one in results} <= {"succeeded", "unknown"}
    assert len(server.refunds) == 1


def test_a_key_in_use_by_a_request_under_way_settles_nothing(server: StripeServer):
    server.under_way.add("rf_1")
    assert stripe.refund(PAID, "rf_1", 1999, NOW) == RefundResult("unknown")
    assert server.refunds == []


@pytest.mark.parametrize("status", ["401", "403", "409", "429", "500", "503"])
def test_an_answer_that_says_nothing_about_the_money_settles_nothing(status: str, server: StripeServer):
    server.fault = status
    assert stripe.refund(PAID, "rf_1", 1999, NOW) == RefundResult("unknown")
    assert stripe.refund(PAID, "rf_1", 1999, NOW) == RefundResult("succeeded", "re_1")


@pytest.mark.parametrize("status", ["409", "429", "500", "503"])
def test_a_start_that_was_put_off_can_be_repeated(status: str, server: StripeServer):
    server.fault = status
    with pytest.raises(ProviderUnavailable):
        stripe.start(PAYMENT, NOW)
    assert stripe.start(PAYMENT, NOW).provider_ref == "cs_test_1"


def test_the_same_id_with_another_amount_is_never_taken_for_a_failed_refund(server: StripeServer):
    server.stored["rf_1"] = (("/v1/refunds", (("amount", "5"),)), 200, b"{}")
    assert stripe.refund(PAID, "rf_1", 1999, NOW) == RefundResult("unknown")


def test_a_wrong_api_key_settles_nothing(server: StripeServer, credentials: dict):
    credentials["secret_key"] = "sk_test_other"
    assert stripe.refund(PAID, "rf_1", 1999, NOW) == RefundResult("unknown")
    assert server.refunds == []


@pytest.mark.parametrize(
    ("status", "state"),
    [("succeeded", "succeeded"), ("pending", "pending"), ("requires_action", "pending"), ("failed", "failed"),
     ("canceled", "failed"), ("invented_tomorrow", "unknown")],
)  # fmt: skip
def test_the_state_of_a_refund_is_what_stripe_says_now(status: str, state: str, server: StripeServer):
    server.refund_status = status
    assert stripe.refund(PAID, "rf_1", 1999, NOW) == RefundResult(state, "re_1")
    assert stripe.find_refund(PAID, "rf_1") == RefundResult(state, "re_1")


def test_a_refund_is_found_behind_a_hundred_others_and_not_confused_with_those_made_by_hand(server: StripeServer):
    server.captured[INTENT] = 100_000
    stripe.refund(PAID, "rf_old", 7, NOW)
    by_hand = {"amount": 1, "payment_intent": INTENT, "metadata": None, "status": "succeeded"}
    server.refunds += [{**by_hand, "id": f"re_hand_{number}"} for number in range(205)]
    assert stripe.find_refund(PAID, "rf_old") == RefundResult("succeeded", "re_1")
    assert stripe.find_refund(PAID, "rf_new") is None


def test_a_payment_that_was_never_made_cannot_be_refunded(server: StripeServer):
    assert stripe.refund(PAYMENT, "rf_1", 1, NOW) == RefundResult("unknown")
    assert server.seen == []


def test_a_refusal_carries_no_credential(server: StripeServer, credentials: dict):
    credentials["secret_key"] = "sk_live_canary"
    with pytest.raises(ProviderRefused) as refused:
        stripe.start(PAYMENT, NOW)
    assert "canary" not in repr(refused.value) + json.dumps(refused.value.body("r"))
