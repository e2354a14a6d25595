from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wechat_xpay.auth as official
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from wechat_xpay.client import XPayClient
from wechat_xpay.exceptions import XPayAPIError
from wechat_xpay.webhook import WebhookParser

from chalicelib.edge import web
from chalicelib.payments.adapters import wechat_virtual
from chalicelib.payments.errors import BadNotice, BadStatement, NoStatement, ProviderRefused
from chalicelib.payments.model import Account, DisputeFacts, Found, Notice, Payment, RefundResult
from chalicelib.payments.wechat_push import OLDEST_SECONDS, decrypt, echo_of, sign
from tests.payments.adapters.wechat_virtual_server import APP_ID, APP_KEY, APP_SECRET, WeChatServer

SAMPLES = json.loads((Path(__file__).parent / "samples/wechat_virtual.json").read_text())
CASES = {case["name"]: case for case in SAMPLES["virtual_payment"]["cases"]}
PLAIN = SAMPLES["virtual_payment"]["deliver_notify_plaintext"]
PUSH = SAMPLES["message_push"]
NOW = 1_781_500_000
OPEN_ID, SESSION_KEY = "oUpF8uMuAJO", "9hAb/NEYUlkaMBEsmFgzig=="
SECRETS = {
    "appsecret": APP_SECRET, "app_key": APP_KEY, "token": PUSH["token"], "encoding_aes_key": PUSH["encoding_aes_key"],
}  # fmt: skip
ACCOUNT = Account(
    "wechat_virtual", "test", "pac_1", "shop_a",
    settings={"appid": APP_ID, "offer_id": "1450019686", "product_id": "keys_{fen}"}, secrets=SECRETS,
)  # fmt: skip
LIVE = replace(ACCOUNT, mode="live")
PAYMENT = Payment(
    payment_id="pay_0123456789abcdef",
    order_id="ord_0123456789abcdef",
    total_minor=4999,
    currency="CNY",
    title="点券 500",
    expires_at=NOW + 900,
    base_url="https://pay.example",
    account=ACCOUNT,
    method="virtual",
    payer_id=OPEN_ID,
    payer_session=SESSION_KEY,
)
FAULTS = ["drop", "error", "cut", "slow", "429"]
OTHER_KEY = base64.b64encode(bytes(range(100, 132))).decode().rstrip("=")


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    wechat_virtual._tokens.clear()
    yield
    wechat_virtual._tokens.clear()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeChatServer]:
    monkeypatch.setattr(web, "READ_SECONDS", 0.4)
    one = WeChatServer()
    yield one
    one.close()


@pytest.fixture
def payment(server: WeChatServer) -> Payment:
    return replace(PAYMENT, account=replace(ACCOUNT, settings=ACCOUNT.settings | {"api_base": server.url}))


@pytest.fixture
def paid(payment: Payment, server: WeChatServer) -> Payment:
    server.pay(payment.payment_id, OPEN_ID, 4999)
    return replace(payment, provider_txn="4200002026061512345678901", paid_minor=4999)


# signatures: the recorded ones, and the published package


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_signature_is_reproduced(name: str):
    case = CASES[name]
    assert wechat_virtual.pay_signature(case["uri"], case["post_body"], case["app_key"]) == case["pay_sig"]
    if "signature" in case:
        assert wechat_virtual.user_signature(case["post_body"], case["session_key"]) == case["signature"]


@pytest.mark.parametrize("name", CASES)
def test_any_change_of_a_recorded_text_or_key_changes_the_signature(name: str):
    case = CASES[name]
    for uri, body, key in (
        (case["uri"] + "/", case["post_body"], case["app_key"]),
        (case["uri"], case["post_body"] + " ", case["app_key"]),
        (case["uri"], case["post_body"], case["app_key"] + "x"),
    ):
        assert wechat_virtual.pay_signature(uri, body, key) != case["pay_sig"]


def test_the_recorded_client_parameters_are_made_to_the_byte(monkeypatch: pytest.MonkeyPatch):
    case = CASES["client_request_virtual_payment"]
    account = replace(LIVE, settings=ACCOUNT.settings | {"product_id": "product_001"})
    recorded = json.loads(case["post_body"])
    payment = replace(
        PAYMENT, account=account, payment_id=recorded["outTradeNo"], order_id=recorded["attach"], total_minor=100,
        payer_session=case["session_key"],
    )  # fmt: skip
    assert wechat_virtual.start(payment, NOW).client == {
        "mode": "short_series_goods", "signData": case["post_body"], "paySig": case["pay_sig"],
        "signature": case["signature"],
    }  # fmt: skip


def test_what_we_sign_for_the_client_the_published_package_signs_the_same():
    client = wechat_virtual.start(PAYMENT, NOW).client
    assert client["paySig"] == official.calc_pay_sig("requestVirtualPayment", client["signData"], APP_KEY)
    assert client["signature"] == official.calc_signature(client["signData"], SESSION_KEY)
    assert json.loads(client["signData"]) == {
        "offerId": "1450019686", "buyQuantity": 1, "env": 1, "currencyType": "CNY", "productId": "keys_4999",
        "goodsPrice": 4999, "outTradeNo": PAYMENT.payment_id, "attach": PAYMENT.order_id,
    }  # fmt: skip


def test_the_published_package_and_we_are_answered_alike_by_the_same_server(paid: Payment, server: WeChatServer):
    """The server checks the signature of both; the package stands for WeChat's reading of its own documents."""
    client = XPayClient(APP_ID, APP_KEY, env=1, base_url=server.url)
    assert client.query_order(OPEN_ID, server.token, "", order_id=paid.payment_id).paid_fee == 4999
    assert wechat_virtual.find(paid).amount_minor == 4999
    client.refund_order(OPEN_ID, server.token, "", "rfd_1_1", 4999, 999, "5", "3", order_id=paid.payment_id)
    assert wechat_virtual.find_refund(paid, "rfd_1_1").state == "pending"
    bad = XPayClient(APP_ID, "other_key", env=1, base_url=server.url)
    with pytest.raises(XPayAPIError):
        bad.query_order(OPEN_ID, server.token, "", order_id=paid.payment_id)


# start


def test_starting_twice_makes_the_same_parameters_and_asks_nobody(payment: Payment, server: WeChatServer):
    assert wechat_virtual.start(payment, NOW) == wechat_virtual.start(payment, NOW + 60)
    assert server.seen == []


@pytest.mark.parametrize("missing", ["payer_id", "payer_session", "offer_id", "product_id", "app_key", "currency"])
def test_what_is_missing_for_a_start_is_refused(missing: str):
    account = ACCOUNT
    if missing in ("offer_id", "product_id"):
        account = replace(account, settings={n: v for n, v in account.settings.items() if n != missing})
    if missing == "app_key":
        account = replace(account, secrets={"appsecret": APP_SECRET})
    changed = {missing: None} if missing.startswith("payer") else {}
    payment = replace(PAYMENT, account=account, currency="USD" if missing == "currency" else "CNY", **changed)
    with pytest.raises(ProviderRefused):
        wechat_virtual.start(payment, NOW)


def test_a_session_key_shows_nowhere():
    started = wechat_virtual.start(PAYMENT, NOW)
    assert SESSION_KEY not in repr(PAYMENT) + repr(started)
    assert APP_KEY not in repr(PAYMENT) + repr(started)


# messages: the recorded ones


def headers_of(query: dict[str, str]) -> dict[str, str]:
    return {f"x-query-{name}": value for name, value in query.items()}


def test_the_recorded_encrypted_message_is_opened():
    case = PUSH["secure_mode"]
    sealed = json.loads(case["raw_body"])["Encrypt"]
    assert decrypt(sealed, PUSH["encoding_aes_key"], PUSH["appid"]).decode() == case["decrypted"]
    notice = wechat_virtual.read_notice(ACCOUNT, headers_of(case["query"]), case["raw_body"].encode(), NOW)
    assert (notice.kind, notice.payment_id) == ("other", None)


def test_the_recorded_signatures_are_reproduced():
    query = PUSH["url_check"]["query"]
    assert sign(PUSH["token"], query["timestamp"], query["nonce"]) == query["signature"]
    case = PUSH["secure_mode"]
    sealed = json.loads(case["raw_body"])["Encrypt"]
    assert sign(PUSH["token"], "1781500000", "1320562132", sealed) == case["query"]["msg_signature"]


def test_the_recorded_check_of_an_address_is_echoed_and_no_other():
    query = PUSH["url_check"]["query"]
    assert echo_of(query, ["other", PUSH["token"]]) == PUSH["url_check"]["expected_reply"]
    for tokens in ([], [""], ["other"]):
        with pytest.raises(ValueError, match="token"):
            echo_of(query, tokens)
    for name in query:
        with pytest.raises(ValueError, match=r"token|check|signature"):
            echo_of({one: value for one, value in query.items() if one != name}, [PUSH["token"]])


@pytest.mark.parametrize("negative", PUSH["negative"], ids=lambda one: one["name"])
def test_a_recorded_forgery_is_refused(negative: dict):
    query = dict(PUSH["secure_mode"]["query"])
    if "msg_signature" in negative:
        query["msg_signature"] = negative["msg_signature"]
    else:
        del query["msg_signature"]
    with pytest.raises(BadNotice):
        wechat_virtual.read_notice(ACCOUNT, headers_of(query), PUSH["secure_mode"]["raw_body"].encode(), NOW)


# messages: made by the rule


def sealed_as(
    message: Any, *, key: str = PUSH["encoding_aes_key"], app_id: str = APP_ID, token: str = PUSH["token"],
    at: int = NOW, raw: bytes | None = None,
) -> tuple[dict[str, str], bytes]:  # fmt: skip
    text = raw if raw is not None else json.dumps(message, ensure_ascii=False).encode()
    plain = b"0123456789abcdef" + len(text).to_bytes(4, "big") + text + app_id.encode()
    short = 32 - len(plain) % 32
    aes = base64.b64decode(key + "=")
    closer = Cipher(AES(aes), CBC(aes[:16])).encryptor()
    sealed = base64.b64encode(closer.update(plain + bytes([short]) * short) + closer.finalize()).decode()
    query = {"timestamp": str(at), "nonce": "n1", "msg_signature": sign(token, str(at), "n1", sealed)}
    return headers_of(query), json.dumps({"ToUserName": "gh_0001", "Encrypt": sealed}).encode()


def told(message: Any, account: Account = LIVE, now: int = NOW, **how: Any) -> Notice:
    headers, body = sealed_as(message, **how)
    notice = wechat_virtual.read_notice(account, headers, body, now)
    assert notice is not None
    return notice


def told_plain(message: Any, account: Account, *, signature: str | None = None) -> Notice:
    open_account = replace(account, secrets={n: v for n, v in SECRETS.items() if n != "encoding_aes_key"})
    query = {"timestamp": str(NOW), "nonce": "n1"}
    query["signature"] = signature or sign(PUSH["token"], str(NOW), "n1")
    notice = wechat_virtual.read_notice(open_account, headers_of(query), json.dumps(message).encode(), NOW)
    assert notice is not None
    return notice


DELIVER = PLAIN | {"OutTradeNo": "pay_1"}


def test_the_recorded_delivery_means_paid():
    notice = told(PLAIN)
    txn = PLAIN["WeChatPayInfo"]["TransactionId"]
    assert (notice.kind, notice.payment_id, notice.provider_txn) == ("paid", PLAIN["OutTradeNo"], txn)
    assert (notice.amount_minor, notice.currency, notice.provider) == (4999, "CNY", "wechat_virtual")


def test_the_published_package_reads_the_same_in_a_delivery():
    theirs, ours = WebhookParser().parse(DELIVER), told(DELIVER)
    assert (theirs.out_trade_no, theirs.goods_info.actual_price) == (ours.payment_id, ours.amount_minor)
    assert theirs.wechat_pay_info.transaction_id == ours.provider_txn


def test_a_repeat_is_the_same_event_and_another_payment_is_another():
    first = told(DELIVER)
    again = told(DELIVER | {"CreateTime": NOW + 60, "RetryTimes": 3}, at=NOW + 60, now=NOW + 60)
    assert first.event_id == again.event_id
    assert told(DELIVER | {"OutTradeNo": "pay_2"}).event_id != first.event_id


def test_sandbox_money_pays_for_nothing_live_and_the_other_way_round():
    with pytest.raises(BadNotice):
        told(DELIVER, ACCOUNT)
    with pytest.raises(BadNotice):
        told(DELIVER | {"Env": 1}, LIVE)
    with pytest.raises(BadNotice):
        told({name: value for name, value in DELIVER.items() if name != "Env"}, LIVE)
    assert told(DELIVER | {"Env": 1}, ACCOUNT).kind == "paid"
    assert told(DELIVER | {"Env": "0"}, LIVE).kind == "paid"


def test_several_of_a_kind_are_no_sum_we_know():
    goods = DELIVER["GoodsInfo"] | {"Quantity": 2}
    assert told(DELIVER | {"GoodsInfo": goods}).amount_minor is None


def test_money_that_did_not_come_through_wechat_pay_has_no_number():
    assert told({n: v for n, v in DELIVER.items() if n != "WeChatPayInfo"}).provider_txn is None


REFUND = {
    "MsgType": "event", "Event": "xpay_refund_notify", "OpenId": OPEN_ID, "WxRefundId": "wxr1",
    "MchRefundId": "rfd_1_1", "WxOrderId": "wx1", "MchOrderId": "pay_1", "RefundFee": 1999, "RetCode": 0,
    "RetMsg": "ok", "RetryTimes": 0,
}  # fmt: skip


@pytest.mark.parametrize(("code", "kind"), [(0, "refunded"), (1, "refund_failed"), ("0", "refunded")])
def test_what_a_refund_message_means(code: object, kind: str):
    notice = told(REFUND | {"RetCode": code})
    assert (notice.kind, notice.payment_id, notice.refund_id, notice.amount_minor) == (kind, "pay_1", "rfd_1_1", 1999)
    assert notice.provider_refund_id == "wxr1"


def test_a_refund_that_fails_and_then_succeeds_is_two_events():
    assert told(REFUND | {"RetCode": 1}).event_id != told(REFUND).event_id
    assert told(REFUND | {"RetryTimes": 2}).event_id == told(REFUND).event_id


def test_a_refund_made_by_hand_in_the_console_has_no_refund_id_of_ours():
    notice = told(REFUND | {"MchRefundId": "console-1"})
    assert (notice.kind, notice.refund_id, notice.provider_refund_id) == ("refunded", None, "wxr1")


def test_a_complaint_freezes_under_one_name_however_often_it_is_told():
    complaint = {"MsgType": "event", "Event": "xpay_complaint_notify", "MchOrderId": "pay_1", "ComplaintTime": NOW,
                 "RequestId": "r1", "RetryTimes": 0}  # fmt: skip
    notice = told(complaint)
    assert (notice.kind, notice.payment_id, notice.amount_minor) == ("dispute_opened", "pay_1", None)
    assert notice.dispute == DisputeFacts(f"pay_1:{NOW}", "complaint r1")
    again = told(complaint | {"RetryTimes": 1, "RequestId": "r2"})
    assert (again.event_id, again.dispute.dispute_id) == (notice.event_id, notice.dispute.dispute_id)


@pytest.mark.parametrize("event", ["xpay_coin_pay_notify", "user_info_modified", "invented_tomorrow"])
def test_other_messages_pay_nothing(event: str):
    assert told({"MsgType": "event", "Event": event, "OutTradeNo": "pay_1", "Env": 0}).kind == "other"


def test_a_plain_message_is_a_reason_to_ask_and_never_money():
    notice = told_plain(DELIVER, LIVE)
    assert (notice.kind, notice.payment_id) == ("approved", "pay_1")
    assert notice.event_id != told(DELIVER).event_id, "the proven message must still be able to come"
    assert told_plain(REFUND, LIVE).kind == "other"
    complaint = {"MsgType": "event", "Event": "xpay_complaint_notify", "MchOrderId": "pay_1", "ComplaintTime": NOW}
    assert told_plain(complaint, LIVE).kind == "other"
    with pytest.raises(BadNotice):
        told_plain(DELIVER, LIVE, signature=sign("other", str(NOW), "n1"))


def test_where_a_key_is_set_no_plain_message_is_taken():
    query = {"timestamp": str(NOW), "nonce": "n1", "signature": sign(PUSH["token"], str(NOW), "n1")}
    with pytest.raises(BadNotice):
        wechat_virtual.read_notice(LIVE, headers_of(query), json.dumps(DELIVER).encode(), NOW)


def test_the_plain_signature_does_not_stand_in_for_the_other():
    headers, body = sealed_as(DELIVER)
    headers["x-query-msg_signature"] = sign(PUSH["token"], str(NOW), "n1")
    with pytest.raises(BadNotice):
        wechat_virtual.read_notice(LIVE, headers, body, NOW)


@pytest.mark.parametrize(
    "how", [{"token": "other"}, {"key": OTHER_KEY}, {"app_id": "wx9999999999999999"}, {"app_id": ""}]
)
def test_another_token_key_or_app_is_refused(how: dict):
    with pytest.raises(BadNotice):
        told(DELIVER, **how)


def test_while_token_and_key_are_rotated_the_earlier_ones_are_taken_too():
    rotating = replace(
        LIVE, secrets=SECRETS | {"token": "new", "encoding_aes_key": OTHER_KEY}, earlier=({**SECRETS},)
    )  # fmt: skip
    assert told(DELIVER, rotating).kind == "paid"
    assert told(DELIVER, rotating, token="new", key=OTHER_KEY).kind == "paid"
    with pytest.raises(BadNotice):
        told(DELIVER, replace(rotating, earlier=()))


@pytest.mark.parametrize(
    ("age", "is_good"), [(OLDEST_SECONDS, True), (OLDEST_SECONDS + 1, False), (-300, True), (-301, False)]
)
def test_a_message_is_good_for_about_a_day(age: int, is_good: bool):
    if is_good:
        assert told(DELIVER, now=NOW + age).kind == "paid"
    else:
        with pytest.raises(BadNotice):
            told(DELIVER, now=NOW + age)


@pytest.mark.parametrize("name", ["timestamp", "nonce", "msg_signature"])
@pytest.mark.parametrize("value", [None, "", "x", "é", "١٧٨١٥٠٠٠٠٠", "9" * 400, "-1"])
def test_a_missing_or_broken_query_is_a_bad_notice_and_never_a_fault(name: str, value: str | None):
    headers, body = sealed_as(DELIVER)
    with pytest.raises(BadNotice):
        wechat_virtual.read_notice(LIVE, headers | {f"x-query-{name}": value}, body, NOW)


@pytest.mark.parametrize("secrets", [{}, {"token": ""}, {"token": "  "}, {"token": "", "encoding_aes_key": "x"}])
def test_without_a_token_nobody_can_sign(secrets: dict):
    for token in ("", "  ", "None"):
        headers, body = sealed_as(DELIVER, token=token)
        with pytest.raises(BadNotice):
            wechat_virtual.read_notice(replace(LIVE, secrets=secrets), headers, body, NOW)
        query = {"timestamp": str(NOW), "nonce": "n1", "signature": sign(token, str(NOW), "n1")}
        with pytest.raises(BadNotice):
            wechat_virtual.read_notice(
                replace(LIVE, secrets=secrets), headers_of(query), json.dumps(DELIVER).encode(), NOW
            )


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"\xff\xfe", b"null", b"[]", b'"text"', b"7", b"{}", b"[" * 100_000,
        b'{"Event":7,"MsgType":"event"}',
        b'{"Event":"xpay_goods_deliver_notify"}', b'{"Event":"xpay_goods_deliver_notify","MsgType":"text"}',
        json.dumps(DELIVER | {"GoodsInfo": None}).encode(), json.dumps(DELIVER | {"OutTradeNo": ""}).encode(),
        json.dumps(DELIVER | {"OutTradeNo": 7}).encode(), json.dumps(DELIVER | {"GoodsInfo": {"Quantity": 1}}).encode(),
        json.dumps(DELIVER | {"GoodsInfo": {"Quantity": 1, "ActualPrice": 49.99}}).encode(),
        json.dumps(REFUND | {"RetCode": None}).encode(), json.dumps(DELIVER | {"WeChatPayInfo": [1]}).encode(),
        json.dumps({"MsgType": "event", "Event": "xpay_complaint_notify", "MchOrderId": "pay_1"}).encode(),
    ],
)  # fmt: skip
def test_a_proven_body_that_is_no_event_is_a_bad_notice_and_never_a_fault(raw: bytes):
    with pytest.raises(BadNotice):
        told(None, raw=raw)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"<xml></xml>", b'{"Encrypt":7}', b'{"Encrypt":""}', b'{"Encrypt":"AAAA"}']
)
def test_an_envelope_that_cannot_be_opened_is_refused(body: bytes):
    try:
        sealed = json.loads(body)["Encrypt"]
        signature = sign(PUSH["token"], str(NOW), "n1", sealed)
    except (ValueError, TypeError):
        signature = "0" * 40
    query = {"timestamp": str(NOW), "nonce": "n1", "msg_signature": signature}
    with pytest.raises(BadNotice):
        wechat_virtual.read_notice(LIVE, headers_of(query), body, NOW)


def test_any_changed_byte_of_the_envelope_is_noticed():
    headers, body = sealed_as(DELIVER)
    for position in range(40, len(body) - 5, 37):
        changed = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
        with pytest.raises(BadNotice):
            wechat_virtual.read_notice(LIVE, headers, changed, NOW)


def test_what_wechat_wants_to_hear():
    assert json.loads(wechat_virtual.FACTS.taken.body) == {"ErrCode": 0, "ErrMsg": "success"}


# find


def test_the_query_is_the_recorded_one(payment: Payment, server: WeChatServer):
    live = replace(payment, payment_id="VG202606150001", account=replace(payment.account, mode="live"))
    wechat_virtual.find(live)
    case = CASES["query_order"]
    assert server.seen[-1].body.decode() == case["post_body"]
    assert server.seen[-1].query == {"access_token": server.token, "pay_sig": case["pay_sig"]}


def test_a_paid_order_is_found(paid: Payment):
    assert wechat_virtual.find(paid) == Found("paid", 4999, "CNY", "4200002026061512345678901")


def test_an_order_no_client_has_opened_is_unpaid(payment: Payment):
    assert wechat_virtual.find(payment) == Found("unpaid")


@pytest.mark.parametrize(
    ("status", "state"),
    [(0, "unpaid"), (1, "unpaid"), (6, "unpaid"), (2, "paid"), (3, "paid"), (4, "paid"), (5, "paid"), (7, "paid"),
     (8, "paid"), (9, "unknown"), (99, "unknown"), (None, "unknown"), ("2", "unknown"), (True, "unknown")],
)  # fmt: skip
def test_what_the_status_of_an_order_means(status: object, state: str, paid: Payment, server: WeChatServer):
    server.orders[paid.payment_id]["shown"]["status"] = status
    assert wechat_virtual.find(paid).state == state


@pytest.mark.parametrize(
    "changed", [{"paid_fee": None}, {"paid_fee": "4999"}, {"order_type": 1}, {"order_id": "pay_2"}]
)
def test_an_order_that_cannot_be_this_one_is_concluded_nothing_from(changed: dict, paid: Payment, server: WeChatServer):
    server.orders[paid.payment_id]["shown"] |= changed
    assert wechat_virtual.find(paid) == Found("unknown")


@pytest.mark.parametrize("code", [-1, 45009, 40001, 268490001, 268490002, 268490003, 268490015, 999])
def test_an_error_that_does_not_say_there_is_no_such_order_concludes_nothing(
    code: int, paid: Payment, server: WeChatServer
):
    server.errors["/xpay/query_order"] = {"errcode": code, "errmsg": "system error"}
    assert wechat_virtual.find(paid) == Found("unknown")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("part", ["stable_token", "query_order"])
def test_when_wechat_is_out_of_reach_nothing_is_concluded(part: str, fault: str, paid: Payment, server: WeChatServer):
    server.faults[part] = fault
    assert wechat_virtual.find(paid) == Found("unknown")
    assert wechat_virtual.find(paid).state == "paid"


def test_there_is_nothing_to_close_with(paid: Payment, server: WeChatServer):
    assert wechat_virtual.close(paid) == "unknown"
    assert server.seen == []
    assert wechat_virtual.FACTS.can_close is False


def test_an_account_that_is_not_filled_in_reaches_nobody(server: WeChatServer):
    empty = replace(PAYMENT, account=Account("wechat_virtual", settings={"api_base": server.url}), provider_txn="x")
    assert (wechat_virtual.find(empty), wechat_virtual.close(empty)) == (Found("unknown"), "unknown")
    assert wechat_virtual.refund(empty, "rfd_1_1", 1, NOW) == RefundResult("unknown")
    assert wechat_virtual.find_refund(empty, "rfd_1_1") == RefundResult("unknown")
    with pytest.raises(ProviderRefused):
        wechat_virtual.statement(empty.account, "2026-06-15")
    assert server.seen == []


# the access token


def test_a_token_is_fetched_once_and_kept_until_shortly_before_its_end(
    paid: Payment, server: WeChatServer, monkeypatch: pytest.MonkeyPatch
):
    wechat_virtual.find(paid)
    wechat_virtual.find(paid)
    assert server.tokens_given == 1
    late = web.wall_clock() + server.token_seconds - wechat_virtual.TOKEN_SLACK_SECONDS + 1
    monkeypatch.setattr(web, "wall_clock", lambda: late)
    wechat_virtual.find(paid)
    assert server.tokens_given == 2


def test_a_token_taken_back_is_forgotten_and_the_next_call_gets_another(paid: Payment, server: WeChatServer):
    wechat_virtual.find(paid)
    server.token = "TOKEN_1"
    assert wechat_virtual.find(paid) == Found("unknown")
    assert wechat_virtual.find(paid).state == "paid"


def test_wrong_credentials_conclude_nothing(paid: Payment, server: WeChatServer):
    wrong = replace(paid, account=replace(paid.account, secrets=SECRETS | {"appsecret": "other"}))
    assert wechat_virtual.find(wrong) == Found("unknown")
    assert wechat_virtual.refund(wrong, "rfd_1_1", 1, NOW) == RefundResult("unknown")
    assert server.count("/xpay/query_order") == 0


def test_a_wrong_app_key_concludes_nothing(paid: Payment):
    wrong = replace(paid, account=replace(paid.account, secrets=SECRETS | {"app_key": "other"}))
    assert wechat_virtual.find(wrong) == Found("unknown")


# refunds


def test_a_refund_names_what_is_left_and_ends_by_being_asked_about(paid: Payment, server: WeChatServer):
    assert wechat_virtual.refund(paid, "rfd_1_1", 1999, NOW) == RefundResult("pending", "wxrrfd_1_1")
    sent = json.loads(server.seen[-1].body)
    assert (sent["left_fee"], sent["refund_fee"], sent["refund_order_id"]) == (4999, 1999, "rfd_1_1")
    assert list(sent) == list(json.loads(CASES["refund_order"]["post_body"]))
    assert wechat_virtual.find_refund(paid, "rfd_1_1").state == "pending"
    server.orders["rfd_1_1"]["shown"]["status"] = 5
    assert wechat_virtual.find_refund(paid, "rfd_1_1") == RefundResult("succeeded", "wxrrfd_1_1")
    wechat_virtual.refund(paid, "rfd_1_2", 3000, NOW)
    assert json.loads(server.seen[-1].body)["left_fee"] == 3000


def test_a_refund_repeated_is_one_refund(paid: Payment, server: WeChatServer):
    first = wechat_virtual.refund(paid, "rfd_1_1", 1999, NOW)
    assert wechat_virtual.refund(paid, "rfd_1_1", 1999, NOW) == first
    assert server.count("/xpay/refund_order") == 1
    assert server.orders[paid.payment_id]["shown"]["left_fee"] == 3000


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refund_whose_answer_is_lost_is_unknown_and_never_paid_twice(fault: str, paid: Payment, server: WeChatServer):
    server.faults["refund_order"] = fault
    assert wechat_virtual.refund(paid, "rfd_1_1", 1999, NOW) == RefundResult("unknown")
    assert wechat_virtual.refund(paid, "rfd_1_1", 1999, NOW).state == "pending"
    assert server.orders[paid.payment_id]["shown"]["left_fee"] == 3000


@pytest.mark.parametrize("fault", FAULTS)
def test_while_the_books_cannot_be_read_no_refund_is_sent(fault: str, paid: Payment, server: WeChatServer):
    server.faults["query_order"] = fault
    assert wechat_virtual.refund(paid, "rfd_1_1", 1999, NOW) == RefundResult("unknown")
    assert server.count("/xpay/refund_order") == 0


@pytest.mark.parametrize(
    ("code", "state"),
    [(268490013, "failed"), (268490005, "failed"), (268490014, "pending"), (268490016, "unknown"),
     (268490004, "unknown"), (268490015, "unknown"), (-1, "unknown"), (40001, "unknown"), (999, "unknown")],
)  # fmt: skip
def test_a_refund_that_wechat_refuses(code: int, state: str, paid: Payment, server: WeChatServer):
    server.errors["/xpay/refund_order"] = {"errcode": code, "errmsg": "no"}
    assert wechat_virtual.refund(paid, "rfd_1_1", 1999, NOW).state == state


def test_more_than_is_left_is_never_asked_for(paid: Payment, server: WeChatServer):
    assert wechat_virtual.refund(paid, "rfd_1_1", 5000, NOW) == RefundResult("unknown")
    assert server.count("/xpay/refund_order") == 0


@pytest.mark.parametrize(
    ("status", "state"),
    [(2, "pending"), (3, "pending"), (5, "succeeded"), (8, "succeeded"), (7, "failed"), (99, "unknown")],
)
def test_what_the_status_of_a_refund_means(status: int, state: str, paid: Payment, server: WeChatServer):
    wechat_virtual.refund(paid, "rfd_1_1", 1999, NOW)
    server.orders["rfd_1_1"]["shown"]["status"] = status
    assert wechat_virtual.find_refund(paid, "rfd_1_1").state == state


@pytest.mark.parametrize(
    "absent",
    [{"errcode": 268490002, "errmsg": "order not exist"}, {"errcode": 268490002, "errmsg": "field"},
     {"errcode": 999, "errmsg": "订单不存在"}],
)  # fmt: skip
def test_a_refund_wechat_has_never_heard_of_is_none(absent: dict, paid: Payment, server: WeChatServer):
    server.absent = absent
    assert wechat_virtual.find_refund(paid, "rfd_1_1") is None


# statements


def test_there_is_no_statement_to_read():
    with pytest.raises(NoStatement):
        wechat_virtual.statement(ACCOUNT, "2026-06-15")
    with pytest.raises(BadStatement):
        wechat_virtual.parse_statement(ACCOUNT, b"a,b\n", "2026-06-15")
