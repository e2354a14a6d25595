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
from chalicelib.payments.errors import BadNotice, BadStatement, ProviderRefused, ProviderUnavailable
from chalicelib.payments.model import (
    Account,
    DisputeFacts,
    Found,
    Notice,
    Payment,
    RefundResult,
    Started,
    StatementLine,
)
from chalicelib.payments.timed_signature import sign
from tests.payments.adapters.stripe_server import INTENT, SECRET_KEY, StripeServer

SAMPLES = json.loads((Path(__file__).parent / "samples/stripe/stripe.json").read_text())
CASES = {case["name"]: case for case in SAMPLES["cases"]}
NOW = 1_781_500_000
ENDPOINT_SECRET = "whsec_test_5c2f1a7e9b0d4c3aa1b2c3d4e5f60718"
ACCOUNT = Account(
    "stripe", "test", "pac_1", "shop_1", {}, {"secret_key": SECRET_KEY, "webhook_secret": ENDPOINT_SECRET}
)
PAYMENT = Payment(
    account=ACCOUNT,
    method="checkout",
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


def account(**secrets: str) -> Account:
    """The account with other secrets, sent to wherever ACCOUNT is."""
    return replace(ACCOUNT, secrets={**ACCOUNT.secrets, **secrets})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeServer]:
    monkeypatch.setattr(web, "READ_SECONDS", 0.5)
    one = StripeServer(now=NOW)
    monkeypatch.setitem(ACCOUNT.settings, "api_base", one.url)
    yield one
    one.close()


def posts(server: StripeServer) -> int:
    return sum(one.method == "POST" for one in server.seen)


# notices: the recorded ones


def read(case: dict, now: int | None = None, by: Account = ACCOUNT) -> Notice:
    headers = {name.lower(): value for name, value in case["headers"].items()}
    return stripe.read_notice(by, headers, case["raw_body"].encode(), case["now"] if now is None else now)


AHEAD = "future_timestamp_accepted_by_library"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["expected_valid"] and name != AHEAD])
def test_a_recorded_notice_is_verified(name: str):
    event = json.loads(CASES[name]["raw_body"])
    notice = read(CASES[name])
    assert (notice.provider, notice.event_id) == ("stripe", event["id"])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case["expected_valid"]] + [AHEAD])
def test_a_recorded_notice_that_is_forged_or_out_of_time_is_refused(name: str):
    with pytest.raises(BadNotice):
        read(CASES[name])


ORDER = "VG202606150001"
REFUND = {"refund_id": "RF202606150001", "provider_refund_id": "re_3Vg0001TestRefund1"}
DISPUTE = {"dispute": DisputeFacts("dp_1Vg0001TestDispute", "fraudulent", 1_782_104_800)}
KINDS = {
    "checkout_completed_paid": ("paid", ORDER, INTENT, 4999, {}),
    "checkout_completed_unpaid_async_method": ("other", ORDER, INTENT, 4999, {}),
    "checkout_async_payment_failed": ("failed", ORDER, INTENT, 4999, {}),
    "checkout_expired": ("failed", ORDER, None, 4999, {}),
    "payment_intent_failed": ("other", ORDER, INTENT, 4999, {}),
    "charge_refunded_partial": ("other", ORDER, INTENT, 4999, {}),
    "refund_created_pending": ("other", ORDER, INTENT, 1999, REFUND),
    "refund_updated_succeeded": ("refunded", ORDER, INTENT, 1999, REFUND),
    "dispute_created": ("dispute_opened", None, INTENT, 4999, DISPUTE),
    "dispute_closed_lost": ("dispute_lost", None, INTENT, 4999, DISPUTE),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_a_recorded_notice_means_to_us(name: str):
    kind, payment_id, txn, amount_minor, more = KINDS[name]
    event_id = json.loads(CASES[name]["raw_body"])["id"]
    assert read(CASES[name]) == Notice("stripe", event_id, kind, payment_id, txn, amount_minor, "CNY", **more)


@pytest.mark.parametrize("mode", ["test", "live"])
def test_an_event_of_the_other_mode_is_refused_though_its_signature_is_good(mode: str):
    """Test secrets in a live account would otherwise let test cards pay for real goods."""
    body = json.dumps({"id": "evt_1", "type": "x", "livemode": mode == "test", "data": {"object": {}}}).encode()
    with pytest.raises(BadNotice):
        signature = {"stripe-signature": sign(body, ENDPOINT_SECRET.encode(), NOW)}
        stripe.read_notice(replace(ACCOUNT, mode=mode), signature, body, NOW)


def test_every_recorded_event_type_has_its_meaning_pinned():
    assert {case["name"] for case in SAMPLES["cases"] if "expected_parsed" in case} == set(KINDS)


# notices: time, keys, forgeries


@pytest.mark.parametrize(("age", "is_good"), [(300, True), (301, False), (-300, True), (-301, False)])
def test_a_notice_is_good_for_300_seconds_to_either_side(age: int, is_good: bool):
    case = CASES["checkout_completed_paid"]
    if is_good:
        assert read(case, NOW + age).kind == "paid"
    else:
        with pytest.raises(BadNotice):
            read(case, NOW + age)


def test_during_a_rollover_either_secret_is_accepted_and_afterwards_only_the_new_one():
    case = CASES["checkout_completed_paid"]
    rolled_over = replace(account(webhook_secret="whsec_new"), earlier=({"webhook_secret": ENDPOINT_SECRET},))
    assert read(case, by=rolled_over).kind == "paid"
    with pytest.raises(BadNotice):
        read(case, by=replace(rolled_over, earlier=()))


@pytest.mark.parametrize("secret", [None, "", "  "])
def test_without_a_secret_nobody_can_sign_not_even_with_an_empty_one(secret: str | None):
    bare = replace(ACCOUNT, secrets={} if secret is None else {"webhook_secret": secret})
    body = b'{"id":"evt_1","type":"checkout.session.completed","data":{"object":{}}}'
    for key in (b"", b"  ", b"None"):
        with pytest.raises(BadNotice):
            stripe.read_notice(bare, {"stripe-signature": sign(body, key, NOW)}, body, NOW)


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
def test_a_broken_signature_header_is_a_bad_notice_and_never_a_fault(header: str):
    case = CASES["checkout_completed_paid"]
    with pytest.raises(BadNotice):
        stripe.read_notice(ACCOUNT, {"stripe-signature": header}, case["raw_body"].encode(), NOW)


def test_a_notice_without_the_header_is_refused():
    with pytest.raises(BadNotice):
        stripe.read_notice(ACCOUNT, {}, CASES["checkout_completed_paid"]["raw_body"].encode(), NOW)


def test_any_single_changed_byte_of_the_body_breaks_the_signature():
    case = CASES["checkout_completed_paid"]
    body = case["raw_body"].encode()
    for position in range(0, len(body), 37):
        changed = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
        with pytest.raises(BadNotice):
            stripe.read_notice(ACCOUNT, {"stripe-signature": case["headers"]["Stripe-Signature"]}, changed, NOW)


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
def test_a_signed_body_that_is_no_event_is_a_bad_notice_and_never_a_fault(body: bytes):
    with pytest.raises(BadNotice):
        stripe.read_notice(ACCOUNT, {"stripe-signature": sign(body, ENDPOINT_SECRET.encode(), NOW)}, body, NOW)


def signed_event(event_type: str, thing: dict) -> Notice:
    body = json.dumps({"id": "evt_1", "type": event_type, "data": {"object": thing}}).encode()
    return stripe.read_notice(ACCOUNT, {"stripe-signature": sign(body, ENDPOINT_SECRET.encode(), NOW)}, body, NOW)


SESSION = {
    "id": "cs_1", "mode": "payment", "payment_status": "paid", "client_reference_id": "pay_1", "amount_total": 500,
    "currency": "jpy", "payment_intent": "pi_1", "metadata": {"order_no": "pay_1"},
}  # fmt: skip


def test_a_currency_without_minor_units_is_taken_as_it_comes():
    notice = signed_event("checkout.session.completed", SESSION)
    assert (notice.kind, notice.amount_minor, notice.currency) == ("paid", 500, "JPY")


def test_a_reference_that_a_buyer_can_set_in_a_payment_link_names_no_payment_of_ours():
    assert signed_event("checkout.session.completed", SESSION).payment_id == "pay_1"
    assert signed_event("checkout.session.completed", {**SESSION, "metadata": {}}).payment_id is None


def test_a_delayed_method_pays_when_its_own_event_comes():
    assert signed_event("checkout.session.async_payment_succeeded", SESSION).kind == "paid"
    unpaid = {**SESSION, "payment_status": "unpaid"}
    assert signed_event("checkout.session.async_payment_succeeded", unpaid).kind == "other"


def test_an_order_with_nothing_to_pay_is_paid_and_has_the_session_as_its_reference():
    free = {**SESSION, "payment_status": "no_payment_required", "payment_intent": None, "amount_total": 0}
    notice = signed_event("checkout.session.completed", free)
    assert (notice.kind, notice.provider_txn, notice.amount_minor) == ("paid", "cs_1", 0)


@pytest.mark.parametrize("event_type", ["payment_intent.succeeded", "charge.succeeded", "invented.tomorrow"])
def test_events_beside_the_session_pay_nothing(event_type: str):
    assert (
        signed_event(event_type, {"id": "pi_1", "metadata": {"order_no": "pay_1"}, "status": "succeeded"}).kind
        == "other"
    )


def test_a_subscription_session_of_the_same_account_pays_nothing():
    assert signed_event("checkout.session.completed", {**SESSION, "mode": "subscription"}).kind == "other"


@pytest.mark.parametrize("amount", ["4999", 49.99, True, None, [4999]])
def test_an_amount_that_is_no_integer_is_no_amount(amount: object):
    assert signed_event("checkout.session.completed", {**SESSION, "amount_total": amount}).amount_minor is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [("succeeded", "refunded"), ("failed", "refund_failed"), ("canceled", "refund_failed"), ("pending", "other"),
     ("requires_action", "other"), ("invented_tomorrow", "other"), (None, "other")],
)  # fmt: skip
@pytest.mark.parametrize("event_type", ["refund.created", "refund.updated", "refund.failed", "charge.refund.updated"])
def test_a_refund_event_means_what_its_status_says(event_type: str, status: str, kind: str):
    thing = {"id": "re_1", "status": status, "amount": 5, "currency": "cny", "metadata": {"refund_no": "rf_1"}}
    notice = signed_event(event_type, thing)
    assert (notice.kind, notice.refund_id) == (kind, "rf_1")


def test_a_refund_made_in_the_dashboard_is_told_by_stripes_own_numbers():
    thing = {
        "id": "re_1",
        "status": "succeeded",
        "amount": 5,
        "currency": "cny",
        "metadata": {},
        "payment_intent": "pi_1",
    }
    notice = signed_event("refund.created", thing)
    assert notice == Notice("stripe", "evt_1", "refunded", None, "pi_1", 5, "CNY", None, "re_1")


def test_a_refund_that_had_succeeded_can_still_fail():
    thing = {"id": "re_1", "status": "failed", "amount": 5, "currency": "cny", "metadata": {"refund_no": "rf_1"}}
    assert signed_event("refund.updated", {**thing, "status": "succeeded"}).kind == "refunded"
    assert signed_event("refund.failed", thing).kind == "refund_failed"


def dispute(status: str | None, **more: object) -> dict:
    return {"id": "dp_1", "status": status, "amount": 5, "currency": "cny", "payment_intent": "pi_1", **more}


@pytest.mark.parametrize(
    ("event", "status", "kind"),
    [
        ("created", "needs_response", "dispute_opened"),
        ("created", "under_review", "dispute_opened"),  # sent late: it has been answered meanwhile
        ("updated", "needs_response", "dispute_opened"),
        ("updated", "under_review", "other"),
        ("updated", "won", "dispute_won"),
        ("closed", "won", "dispute_won"),
        ("closed", "lost", "dispute_lost"),
        ("created", "warning_needs_response", "dispute_opened"),
        ("created", "warning_under_review", "other"),
        ("updated", "warning_under_review", "other"),
        ("closed", "warning_closed", "dispute_won"),
        ("closed", "prevented", "other"),
        ("created", "invented_tomorrow", "other"),
        ("created", None, "other"),
        ("funds_withdrawn", "needs_response", "other"),
        ("funds_reinstated", "won", "other"),
    ],
)
def test_a_dispute_event_means_what_its_status_says(event: str, status: str | None, kind: str):
    notice = signed_event(f"charge.dispute.{event}", dispute(status))
    assert (notice.kind, notice.provider_txn, notice.amount_minor) == (kind, "pi_1", 5)


def test_a_dispute_says_which_one_it_is_why_and_until_when_to_answer():
    facts = {"reason": "product_not_received", "evidence_details": {"due_by": NOW + 7}}
    told = signed_event("charge.dispute.created", dispute("needs_response", **facts)).dispute
    assert told == DisputeFacts("dp_1", "product_not_received", NOW + 7)
    assert signed_event("charge.dispute.closed", dispute("lost", evidence_details=None)).dispute == DisputeFacts("dp_1")


@pytest.mark.parametrize("dispute_id", [None, "", 7, "d" * 300])
def test_a_dispute_without_a_number_is_a_bad_notice(dispute_id: object):
    with pytest.raises(BadNotice):
        signed_event("charge.dispute.created", dispute("needs_response", id=dispute_id))


# the official package as the oracle


def test_the_official_package_signs_and_we_accept():
    body = CASES["checkout_completed_paid"]["raw_body"]
    header = official.WebhookSignature.generate_signature_header(body, ENDPOINT_SECRET, NOW)
    assert stripe.read_notice(ACCOUNT, {"stripe-signature": header}, body.encode(), NOW).kind == "paid"


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
    stripe._call(ACCOUNT, recorded["method"], path, form, recorded["headers"].get("Idempotency-Key"))
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


def test_a_definite_no_of_stripe_is_a_refusal(server: StripeServer):
    with pytest.raises(ProviderRefused):
        stripe.start(replace(PAYMENT, expires_at=NOW - 3600), NOW)
    with pytest.raises(ProviderRefused):
        stripe.start(replace(PAYMENT, account=account(secret_key="sk_test_other")), NOW)
    assert server.sessions == {}


@pytest.mark.parametrize("secrets", [{}, {"secret_key": ""}, {"webhook_secret": ENDPOINT_SECRET}])
def test_without_credentials_nothing_is_sent(secrets: dict, server: StripeServer):
    paid = replace(PAID, account=replace(ACCOUNT, secrets=secrets))
    with pytest.raises(ProviderRefused):
        stripe.start(paid, NOW)
    with pytest.raises(ProviderRefused):
        stripe.statement(paid.account, "2026-06-15")
    assert stripe.find(paid) == Found("unknown")
    assert stripe.close(paid) == "unknown"
    assert stripe.refund(paid, "rf_1", 1, NOW) == RefundResult("unknown")
    assert server.seen == []


def test_only_an_address_the_operator_filled_in_may_be_near(monkeypatch: pytest.MonkeyPatch, server: StripeServer):
    monkeypatch.setattr(stripe, "API_BASE", server.url)
    with pytest.raises(ProviderUnavailable):
        stripe.start(replace(PAYMENT, account=replace(ACCOUNT, settings={})), NOW)
    assert server.seen == []


@pytest.mark.parametrize("is_live", [True, False])
def test_keys_of_the_other_mode_open_nothing_and_confirm_nothing(is_live: bool, server: StripeServer):
    server.is_live = not is_live
    wrong = replace(PAYMENT, account=replace(ACCOUNT, mode="live" if is_live else "test"))
    with pytest.raises(ProviderRefused):
        stripe.start(wrong, NOW)
    server.sessions["cs_test_1"] |= {"status": "complete", "payment_status": "paid", "payment_intent": INTENT}
    assert stripe.find(replace(wrong, provider_ref="cs_test_1")) == Found("unknown")
    assert stripe.close(replace(wrong, provider_ref="cs_test_1")) == "unknown"


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


# close


def test_closing_ends_the_session_and_closing_again_is_a_success(server: StripeServer):
    open_one = replace(PAYMENT, provider_ref=stripe.start(PAYMENT, NOW).provider_ref)
    assert [stripe.close(open_one), stripe.close(open_one)] == ["closed", "closed"]
    assert server.sessions["cs_test_1"]["status"] == "expired"


@pytest.mark.parametrize(
    ("status", "payment_status", "closed"),
    [("complete", "paid", "paid"), ("complete", "unpaid", "unknown"), ("expired", "unpaid", "closed")],
)
def test_closing_what_is_no_longer_open_says_what_became_of_it(
    status: str, payment_status: str, closed: str, server: StripeServer
):
    stripe.start(PAYMENT, NOW)
    server.sessions["cs_test_1"] |= {"status": status, "payment_status": payment_status, "payment_intent": INTENT}
    assert stripe.close(PAID) == closed
    assert server.sessions["cs_test_1"]["status"] == status


@pytest.mark.parametrize("fault", POST_FAULTS)
def test_closing_whose_answer_was_lost_looks_at_what_was_done(fault: str, server: StripeServer):
    stripe.start(PAYMENT, NOW)
    server.fault = fault
    assert stripe.close(PAID) == "closed"


@pytest.mark.parametrize("fault", ["drop_before", "error_before"])
def test_closing_that_never_arrived_concludes_nothing_and_can_be_repeated(fault: str, server: StripeServer):
    stripe.start(PAYMENT, NOW)
    server.fault = fault
    assert stripe.close(PAID) == "unknown"
    assert stripe.close(PAID) == "closed"


def test_closing_concludes_nothing_from_silence(server: StripeServer):
    stripe.start(PAYMENT, NOW)
    server.fault, server.is_fault_lasting = "error_before", True
    assert stripe.close(PAID) == "unknown"
    assert stripe.close(PAYMENT) == "unknown"


# statements

DAY, DAY_BEGINS = "2026-06-15", 1_781_481_600
CHARGE = {
    "id": "ch_1", "object": "charge", "amount": 4999, "amount_captured": 4999, "currency": "cny",
    "payment_intent": INTENT, "metadata": {"order_no": "pay_1"},
}  # fmt: skip
GIVEN_BACK = {
    "id": "re_1", "object": "refund", "amount": 1999, "currency": "cny", "payment_intent": INTENT,
    "metadata": {"refund_no": "rfd_1", "order_no": "pay_1"},
}  # fmt: skip
DISPUTED = {"id": "dp_1", "object": "dispute", "amount": 4999, "currency": "cny", "payment_intent": INTENT}


def movement(number: int, category: str, amount: int, fee: int, source: object, **more: object) -> dict:
    return {
        "id": f"txn_{number}", "amount": amount, "fee": fee, "net": amount - fee, "currency": "cny",
        "created": DAY_BEGINS + number, "reporting_category": category, "source": source, **more,
    }  # fmt: skip


def test_a_statement_tells_every_movement_of_the_day_with_its_fee_and_our_number(server: StripeServer):
    server.movements = [
        movement(1, "charge", 4999, 175, CHARGE),
        movement(2, "refund", -1999, 0, GIVEN_BACK),
        movement(3, "refund_failure", 1999, 0, GIVEN_BACK),
        movement(4, "dispute", -4999, 1500, DISPUTED),
        movement(5, "dispute_reversal", 4999, 0, DISPUTED),
        movement(6, "fee", -200, 0, None),
        movement(7, "payout", -90_000, 0, "po_1"),
        movement(8, "invented_tomorrow", 7, 0, {"id": "x_1", "amount": -9, "currency": "usd"}),
    ]
    assert stripe.statement(ACCOUNT, DAY) == [
        StatementLine("payment", INTENT, "pay_1", 4999, "CNY", DAY_BEGINS + 1, 175),
        StatementLine("refund", INTENT, "rfd_1", -1999, "CNY", DAY_BEGINS + 2, 0, "re_1"),
        StatementLine("refund", INTENT, "rfd_1", 1999, "CNY", DAY_BEGINS + 3, 0, "re_1"),
        StatementLine("dispute", INTENT, None, -4999, "CNY", DAY_BEGINS + 4, 1500),
        StatementLine("dispute", INTENT, None, 4999, "CNY", DAY_BEGINS + 5, 0),
        StatementLine("fee", "txn_6", None, -200, "CNY", DAY_BEGINS + 6),
        StatementLine("other", "txn_7", None, -90_000, "CNY", DAY_BEGINS + 7),
        StatementLine("other", "txn_8", None, 7, "CNY", DAY_BEGINS + 8),
    ]


def test_a_statement_is_of_one_day_from_midnight_to_midnight_however_many_pages_it_has(server: StripeServer):
    server.movements = [movement(number, "charge", 1, 0, CHARGE) for number in (-1, *range(120), 86_399, 86_400)]
    lines = stripe.statement(ACCOUNT, DAY)
    assert [one.at - DAY_BEGINS for one in lines] == [*range(120), 86_399]
    assert len(server.seen) == 3


def test_money_that_stripe_exchanged_is_told_as_the_buyer_saw_it_and_its_fee_by_itself(server: StripeServer):
    server.movements = [
        movement(1, "charge", 690, 50, CHARGE, currency="usd"),
        movement(2, "refund", -276, 0, GIVEN_BACK, currency="usd"),
    ]
    assert stripe.statement(ACCOUNT, DAY) == [
        StatementLine("payment", INTENT, "pay_1", 4999, "CNY", DAY_BEGINS + 1),
        StatementLine("fee", "txn_1", None, -50, "USD", DAY_BEGINS + 1),
        StatementLine("refund", INTENT, "rfd_1", -1999, "CNY", DAY_BEGINS + 2, 0, "re_1"),
    ]


@pytest.mark.parametrize("fault", ["drop_before", "error_before", "html", "slow", "429"])
def test_a_statement_that_does_not_come_whole_is_unavailable(fault: str, server: StripeServer):
    server.movements = [movement(1, "charge", 4999, 175, CHARGE)]
    server.fault, server.is_fault_lasting = fault, True
    with pytest.raises(ProviderUnavailable):
        stripe.statement(ACCOUNT, DAY)


@pytest.mark.parametrize(
    "broken",
    [{"amount": "1"}, {"fee": None}, {"created": DAY_BEGINS + 0.5}, {"reporting_category": []}, {"currency": 7},
     {"id": ""}],
)  # fmt: skip
def test_a_statement_with_an_unreadable_movement_is_no_statement(broken: dict, server: StripeServer):
    server.movements = [movement(1, "charge", 4999, 175, CHARGE), movement(2, "charge", 1, 0, CHARGE) | broken]
    with pytest.raises(ProviderUnavailable):
        stripe.statement(ACCOUNT, DAY)


def test_a_statement_under_a_wrong_key_is_refused(server: StripeServer):
    with pytest.raises(ProviderRefused):
        stripe.statement(account(secret_key="sk_test_other"), DAY)


HEAD = (
    "balance_transaction_id,created_utc,created,available_on,currency,gross,fee,net,reporting_category,source_id,"
    "description,customer_facing_amount,customer_facing_currency,charge_id,payment_intent_id,"
    "payment_metadata[order_no],refund_metadata[refund_no]"
)
ROWS = (
    f'txn_1,2026-06-15 00:00:01,2026-06-15 08:00:01,2026-06-17,cny,49.99,1.75,48.24,charge,ch_1,"点券, 500",49.99,cny,'
    f"ch_1,{INTENT},pay_1,",
    f"txn_2,2026-06-15 00:00:02,2026-06-15 08:00:02,2026-06-17,cny,-19.99,0.00,-19.99,refund,re_1,,-19.99,cny,ch_1,"
    f"{INTENT},pay_1,rfd_1",
    f"txn_4,2026-06-15 00:00:04,2026-06-15 08:00:04,2026-06-17,cny,-49.99,15.00,-64.99,dispute,dp_1,,,,ch_1,{INTENT},,",
    "txn_6,2026-06-15 00:00:06,2026-06-15 08:00:06,2026-06-17,cny,-2.00,0.00,-2.00,fee,,Radar,,,,,,",
    "txn_9,2026-06-15 00:00:09,2026-06-15 08:00:09,2026-06-17,jpy,500,18,482,charge,ch_9,,500,jpy,ch_9,pi_9,pay_9,",
    "txn_0,2026-06-16 00:00:00,2026-06-16 08:00:00,2026-06-17,cny,1.00,0.00,1.00,charge,ch_0,,1.00,cny,ch_0,pi_0,,",
)


def csv_file(*rows: str, head: str = HEAD) -> bytes:
    return ("\ufeff" + "\r\n".join((head, *rows)) + "\r\n").encode()


def test_a_downloaded_report_says_the_same_as_the_api():
    assert stripe.parse_statement(ACCOUNT, csv_file(*ROWS), DAY) == [
        StatementLine("payment", INTENT, "pay_1", 4999, "CNY", DAY_BEGINS + 1, 175),
        StatementLine("refund", INTENT, "rfd_1", -1999, "CNY", DAY_BEGINS + 2, 0, "re_1"),
        StatementLine("dispute", INTENT, None, -4999, "CNY", DAY_BEGINS + 4, 1500),
        StatementLine("fee", "txn_6", None, -200, "CNY", DAY_BEGINS + 6),
        StatementLine("payment", "pi_9", "pay_9", 500, "JPY", DAY_BEGINS + 9, 18),
    ]


def test_a_report_of_exchanged_money_is_read_as_the_buyer_saw_it():
    row = ROWS[0].replace(",cny,49.99,1.75,48.24,", ",usd,6.90,0.50,6.40,")
    assert stripe.parse_statement(ACCOUNT, csv_file(row), DAY) == [
        StatementLine("payment", INTENT, "pay_1", 4999, "CNY", DAY_BEGINS + 1),
        StatementLine("fee", "txn_1", None, -50, "USD", DAY_BEGINS + 1),
    ]


def test_a_report_without_the_metadata_columns_still_has_stripes_numbers():
    head = "balance_transaction_id,created,currency,gross,fee,net,reporting_category,source_id,payment_intent_id"
    row = f"txn_1,2026-06-15 00:00:01,cny,49.99,1.75,48.24,charge,ch_1,{INTENT}"
    (line,) = stripe.parse_statement(ACCOUNT, csv_file(row, head=head), DAY)
    assert (line.provider_txn, line.our_no, line.amount_minor) == (INTENT, None, 4999)


def test_a_report_in_which_nothing_happened_has_no_lines():
    assert stripe.parse_statement(ACCOUNT, csv_file(), DAY) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\xff\xfe\x00", b"<html></html>", b"{}", csv_file(head="date,amount"), csv_file(ROWS[-1]), b"\0" * 99,
        csv_file(ROWS[0].replace("49.99,1.75", '"49,99",1.75')), csv_file(ROWS[0].replace("49.99,1.75", "49.999,1.75")),
        csv_file(ROWS[0].replace("49.99,1.75", "NaN,1.75")), csv_file(ROWS[0].replace("49.99,1.75", "9e99999,1.75")),
        csv_file(ROWS[0].replace("49.99,1.75", ",1.75")), csv_file(ROWS[0].replace(",cny,49", ",xxx,49")),
        csv_file(ROWS[0].replace("2026-06-15 00:00:01", "yesterday")), csv_file(ROWS[0], ROWS[1][:40]),
        csv_file(ROWS[0].replace("txn_1,", ",")), csv_file(ROWS[0] + '"'), HEAD.encode() + b"\r\n" + b"x" * 200_000,
    ],
)  # fmt: skip
def test_a_file_that_is_no_report_of_that_day_is_refused_as_a_whole(raw: bytes):
    with pytest.raises(BadStatement):
        stripe.parse_statement(ACCOUNT, raw, DAY)


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


def test_a_wrong_api_key_settles_nothing(server: StripeServer):
    other = replace(PAID, account=account(secret_key="sk_test_other"))
    assert stripe.refund(other, "rf_1", 1999, NOW) == RefundResult("unknown")
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


def test_a_refusal_carries_no_credential(server: StripeServer):
    with pytest.raises(ProviderRefused) as refused:
        stripe.start(replace(PAYMENT, account=account(secret_key="sk_live_canary")), NOW)
    assert "canary" not in repr(refused.value) + json.dumps(refused.value.body("r")) + repr(
        account(secret_key="canary")
    )
