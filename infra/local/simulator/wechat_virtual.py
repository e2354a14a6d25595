"""WeChat's virtual payment, seen from outside: log-in, access tokens, orders, refunds, encrypted message push.

Written from the mini-program documentation. One app, its sandbox (`env` 1). The address of its messages is set in the
console, not with a payment.

    POST /cgi-bin/stable_token         GET /sns/jscode2session?appid&secret&js_code&grant_type=authorization_code
    POST /xpay/query_order             /xpay/refund_order, /xpay/notify_provide_goods     ?access_token&pay_sig
    POST /client/requestVirtualPayment what a buyer's phone does with the parameters of `wx.requestVirtualPayment`

The last is this simulator's own: it stands for the client. Its body is {"openid", "mode", "signData", "paySig",
"signature"}; it checks both signatures as the client's server would, and only then does the order exist. Any text is a
login code; the same code is the same person with the same session key. Goods named `<anything>_<price in fen>` count as
published at that price; others do not exist.

What the documents do not say, and how it is here: an order that is not there is error 268490002; a refund sent again
under its number is answered like the first; an order the client opened runs out after two hours.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from typing import Any
from urllib.parse import urlencode

from infra.local.simulator import NoticeRequest, Request, Response, json_response
from infra.local.simulator.world import Event, Impossible, Record, Refund, World

ENV = 1
REFUND_SECONDS = 2
FEE_BASIS_POINTS = 100
ORDER_LIFE_SECONDS = 2 * 3_600
TOKEN_SECONDS = 7_200
RETRY_SECONDS = (
    15, 15, 30, 180, 600, 1_200, 1_800, 1_800, 1_800, 3_600, 10_800, 10_800, 10_800, 21_600, 21_600,
)  # fmt: skip
NOTICES = {
    "paid": ("xpay_goods_deliver_notify",),
    "refunded": ("xpay_refund_notify",),
    "refund_failed": ("xpay_refund_notify",),
    "dispute_opened": ("xpay_complaint_notify",),
}
_BAD_FIELD, _BAD_SIGNATURE, _NO_SESSION, _WRONG_LEFT = 268490002, 268490003, 268490009, 268490016
_REFUND_STATUS = {"pending": 2, "succeeded": 5, "failed": 7}
_NUMBER = re.compile(r"[0-9A-Za-z|*@-][0-9A-Za-z_|*@-]{7,31}")
_REFUND_NUMBER = re.compile(r"[0-9A-Za-z_-]{8,32}")


class _Refused(Exception):
    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code, self.message = code, message


def demo_account(world: World) -> dict[str, Any]:
    return {
        "mode": "test",
        "settings": {
            "appid": _app_id(world),
            "offer_id": "1450019686",
            "product_id": "keys_{fen}",
            "api_base": world.base_url("wechat_virtual"),
        },
        "secrets": {
            "appsecret": world.secret("wechat-app-secret", 32),
            "app_key": world.secret("wechat-app-key", 32),
            "token": world.secret("wechat-push-token", 24),
            "encoding_aes_key": world.secret("wechat-push-aes", 43),
        },
    }


def handle(request: Request, world: World) -> Response:
    try:
        if request.path == "/sns/jscode2session":
            return json_response(_log_in(request.query, world))
        if request.method != "POST":
            raise _Refused(43002, "require POST method")
        try:
            wanted = request.json()
        except ValueError:
            wanted = None
        if not isinstance(wanted, dict):
            raise _Refused(47001, "data format error")
        if request.path == "/cgi-bin/stable_token":
            return json_response(_give_token(wanted, world))
        if request.path == "/client/requestVirtualPayment":
            return json_response(_open(wanted, world))
        if request.path not in _CALLS:
            raise _Refused(40066, "invalid url")
        _check_call(request, world)
        return json_response({"errcode": 0, "errmsg": "ok", **_CALLS[request.path](wanted, world)})
    except _Refused as no:
        return json_response({"errcode": no.code, "errmsg": f"{no.message} rid: {secrets.token_hex(8)}"})


def notice(world: World, record: Record, event: Event) -> NoticeRequest | None:
    message = {
        "ToUserName": "gh_0123456789ab",
        "FromUserName": record.extra["openid"],
        "CreateTime": event.at,
        "MsgType": "event",
        "Event": event.name,
        "OpenId": record.extra["openid"],
        **_about(world, record, event),
    }
    sealed = _seal(world, json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode())
    at, nonce = str(world.now()), str(secrets.randbelow(10**10))
    token = world.secret("wechat-push-token", 24)
    query = {
        "signature": _sha1(token, at, nonce),
        "timestamp": at,
        "nonce": nonce,
        "openid": record.extra["openid"],
        "encrypt_type": "aes",
        "msg_signature": _sha1(token, at, nonce, sealed),
    }
    address = world.endpoint("wechat_virtual")
    if address:
        address += f"{'&' if '?' in address else '?'}{urlencode(query)}"
    body = json.dumps({"ToUserName": message["ToUserName"], "Encrypt": sealed}).encode()
    return NoticeRequest(address, {"Content-Type": "application/json", "User-Agent": "Mozilla/4.0"}, body)


def taken(status: int, body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except ValueError:
        return False
    return status == 200 and isinstance(answer, dict) and answer.get("ErrCode") == 0


def new_txn(world: World, record: Record) -> str:
    return f"42000020{world.number('wechat_virtual_txn'):020d}"


def new_refund_id(world: World, record: Record) -> str:
    return f"wxr{world.number('wechat_virtual_refund'):024d}"


# who calls


def _log_in(query: dict[str, str], world: World) -> dict[str, Any]:
    _check_app(query.get("appid"), query.get("secret"), world)
    code = query.get("js_code", "")
    if not code or query.get("grant_type") != "authorization_code":
        raise _Refused(40029, "invalid code")
    open_id = "o" + base64.urlsafe_b64encode(hashlib.sha256(code.encode()).digest()).decode()[:27]
    with world.changing():
        people = world.shelf("wechat_virtual").setdefault("people", {})
        session_key = people.setdefault(open_id, base64.b64encode(secrets.token_bytes(16)).decode())
    return {"openid": open_id, "session_key": session_key}


def _give_token(wanted: dict, world: World) -> dict[str, Any]:
    if wanted.get("grant_type") != "client_credential":
        raise _Refused(40002, "invalid grant_type")
    _check_app(wanted.get("appid"), wanted.get("secret"), world)
    with world.changing():
        kept = world.shelf("wechat_virtual")
        if kept.get("token_until", 0) <= world.now() or wanted.get("force_refresh") is True:
            kept["token"], kept["token_until"] = secrets.token_urlsafe(90), world.now() + TOKEN_SECONDS
        return {"access_token": kept["token"], "expires_in": kept["token_until"] - world.now()}


def _check_app(app_id: Any, app_secret: Any, world: World) -> None:
    if app_id != _app_id(world):
        raise _Refused(40013, "invalid appid")
    if not _is_same(app_secret, world.secret("wechat-app-secret", 32)):
        raise _Refused(40125, "invalid appsecret")


def _check_call(request: Request, world: World) -> None:
    kept = world.shelf("wechat_virtual")
    if not _is_same(request.query.get("access_token"), kept.get("token", "")) or kept["token_until"] <= world.now():
        raise _Refused(40001, "invalid credential, access_token is invalid or not latest")
    if not _is_same(request.query.get("pay_sig"), _pay_sig(world, request.path, request.body)):
        raise _Refused(_BAD_SIGNATURE, "pay_sig error")


# the buyer's client


def _open(wanted: dict, world: World) -> dict[str, Any]:
    text, open_id = wanted.get("signData"), wanted.get("openid")
    session_key = world.shelf("wechat_virtual").get("people", {}).get(open_id)
    if not isinstance(text, str) or wanted.get("mode") != "short_series_goods":
        raise _Refused(_BAD_FIELD, "mode or signData")
    if not _is_same(wanted.get("paySig"), _pay_sig(world, "requestVirtualPayment", text.encode())):
        raise _Refused(_BAD_SIGNATURE, "paySig error")
    if session_key is None:
        raise _Refused(_NO_SESSION, "session_key expired")
    if not _is_same(wanted.get("signature"), hmac.new(session_key.encode(), text.encode(), hashlib.sha256).hexdigest()):
        raise _Refused(_BAD_SIGNATURE, "signature error")
    try:
        goods = json.loads(text)
        number, price, count = goods["outTradeNo"], goods["goodsPrice"], goods["buyQuantity"]
        product_id, offer_id = goods["productId"], goods["offerId"]
    except (ValueError, KeyError, TypeError):
        raise _Refused(_BAD_FIELD, "signData") from None
    if offer_id != "1450019686" or goods.get("env") != ENV or goods.get("currencyType") != "CNY":
        raise _Refused(_BAD_FIELD, "offerId, env or currencyType")
    if not (isinstance(number, str) and _NUMBER.fullmatch(number)):
        raise _Refused(_BAD_FIELD, "outTradeNo")
    if type(price) is not int or type(count) is not int or count != 1:
        raise _Refused(_BAD_FIELD, "goodsPrice or buyQuantity")
    published = re.fullmatch(r"[A-Za-z0-9_-]*_(\d{1,9})", str(product_id), re.ASCII)
    if published is None or int(published[1]) != price or price < 1:
        raise _Refused(_BAD_FIELD, "goods not published, or at another price")
    known = world.find("wechat_virtual", number)
    record = known or world.open(
        "wechat_virtual", number, price, "CNY", expires_at=world.now() + ORDER_LIFE_SECONDS, openid=open_id,
        product_id=product_id, attach=str(goods.get("attach", "")), title=product_id, wx_order_id=_wx_number(world),
    )  # fmt: skip
    if known is not None and (known.amount_minor, known.extra["openid"]) != (price, open_id):
        raise _Refused(_BAD_FIELD, "outTradeNo used before")
    return {"errcode": 0, "errMsg": "requestVirtualPayment:ok", "pay_url": world.pay_url(record)}


# calls of the shop's server


def _query(wanted: dict, world: World) -> dict[str, Any]:
    number = wanted.get("order_id")
    found = world.find("wechat_virtual", str(number))
    if found is not None and _is_asked_right(found, wanted):
        return {"order": _order(world, found)}
    refunded = world.find_refund("wechat_virtual", refund_no=str(number))
    if refunded is not None and _is_asked_right(refunded[0], wanted):
        return {"order": _refund_order(*refunded)}
    raise _Refused(_BAD_FIELD, "order not exist")


def _give_back(wanted: dict, world: World) -> dict[str, Any]:
    record = world.find("wechat_virtual", str(wanted.get("order_id")))
    if record is None or not _is_asked_right(record, wanted):
        raise _Refused(_BAD_FIELD, "order not exist")
    number, amount, left = wanted.get("refund_order_id"), wanted.get("refund_fee"), wanted.get("left_fee")
    if not (isinstance(number, str) and _REFUND_NUMBER.fullmatch(number)):
        raise _Refused(_BAD_FIELD, "refund_order_id")
    if wanted.get("refund_reason") not in tuple("012345") or wanted.get("req_from") not in tuple("123"):
        raise _Refused(_BAD_FIELD, "refund_reason or req_from")
    if type(amount) is not int or type(left) is not int:
        raise _Refused(_BAD_FIELD, "refund_fee or left_fee")
    with world.changing():
        made = record.refund_of(number)
        if made is None:
            if left != record.paid_minor - record.refunded_minor:
                raise _Refused(_WRONG_LEFT, "left_fee mismatch")
            try:
                made = world.refund(record, number, amount)
            except Impossible:
                raise _Refused(_BAD_FIELD, "refund_fee, or order not paid") from None
        elif made.amount_minor != amount:
            raise _Refused(_BAD_FIELD, "refund_order_id used before")
    return {
        "refund_order_id": number,
        "refund_wx_order_id": made.provider_refund_id,
        "pay_order_id": record.our_no,
        "pay_wx_order_id": record.extra["wx_order_id"],
    }


def _provide(wanted: dict, world: World) -> dict[str, Any]:
    record = world.find("wechat_virtual", str(wanted.get("order_id")))
    if record is None or record.state != "paid" or wanted.get("env") != ENV:
        raise _Refused(_BAD_FIELD, "order not exist")
    with world.changing():
        record.extra["is_provided"] = True
    return {}


_CALLS = {"/xpay/query_order": _query, "/xpay/refund_order": _give_back, "/xpay/notify_provide_goods": _provide}


def _is_asked_right(record: Record, wanted: dict) -> bool:
    return (wanted.get("openid"), wanted.get("env")) == (record.extra["openid"], ENV)


# WeChat's objects


def _order(world: World, record: Record) -> dict[str, Any]:
    is_paid = record.state == "paid"
    told = any(one.kind == "paid" and one.state == "taken" for one in world.events("wechat_virtual", record.our_no))
    status = {"open": 1, "paid": 4 if told or record.extra.get("is_provided") else 2}.get(record.state, 6)
    left = record.paid_minor - record.refunded_minor
    if is_paid and left == 0 and all(one.state != "pending" for one in record.refunds):
        status = 5
    shown = {
        "order_id": record.our_no,
        "create_time": record.created_at,
        "update_time": world.now(),
        "status": status,
        "biz_type": 0,
        "order_fee": record.amount_minor,
        "coupon_fee": 0,
        "paid_fee": record.paid_minor,
        "order_type": 0,
        "paid_time": record.paid_at or 0,
        "biz_meta": record.extra["attach"],
        "env_type": ENV + 1,
        "left_fee": left,
        "wx_order_id": record.extra["wx_order_id"],
    }
    return shown | ({"wxpay_order_id": record.provider_txn} if is_paid else {})


def _refund_order(record: Record, refund: Refund) -> dict[str, Any]:
    return {
        "order_id": refund.refund_no,
        "create_time": refund.created_at,
        "update_time": refund.settled_at or refund.created_at,
        "status": _REFUND_STATUS[refund.state],
        "biz_type": 0,
        "order_fee": record.amount_minor,
        "paid_fee": record.paid_minor,
        "order_type": 1,
        "refund_fee": refund.amount_minor,
        "env_type": ENV + 1,
        "wx_order_id": refund.provider_refund_id,
    }


def _about(world: World, record: Record, event: Event) -> dict[str, Any]:
    if event.kind == "paid":
        return {
            "OutTradeNo": record.our_no,
            "Env": ENV,
            "WeChatPayInfo": {
                "MchOrderNo": record.extra["wx_order_id"],
                "TransactionId": record.provider_txn,
                "PaidTime": record.paid_at,
            },
            "GoodsInfo": {
                "ProductId": record.extra["product_id"],
                "Quantity": 1,
                "OrigPrice": record.amount_minor,
                "ActualPrice": record.paid_minor,
                "Attach": record.extra["attach"],
            },
            "RetryTimes": event.attempts,
        }
    both = {"WxOrderId": record.extra["wx_order_id"], "MchOrderId": record.our_no, "RetryTimes": event.attempts}
    if event.refund_id is not None:
        refund = record.refund_of(provider_refund_id=event.refund_id)
        is_done = event.kind == "refunded"
        return both | {
            "WxRefundId": refund.provider_refund_id,
            "MchRefundId": refund.refund_no or f"console{refund.provider_refund_id[-12:]}",
            "RefundFee": refund.amount_minor,
            "RetCode": 0 if is_done else 1,
            "RetMsg": "ok" if is_done else "refund failed",
            "RefundStartTimestamp": refund.created_at,
            "RefundSuccTimestamp": refund.settled_at or 0,
            "WxpayRefundTransactionId": f"50{refund.provider_refund_id[3:]}" if is_done else "",
        }
    return both | {"ComplaintTime": event.at, "RequestId": event.dispute_id}


# signatures and envelopes


def _seal(world: World, message: bytes) -> str:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    key = base64.b64decode(world.secret("wechat-push-aes", 43) + "=")
    plain = secrets.token_bytes(16) + len(message).to_bytes(4, "big") + message + _app_id(world).encode()
    short = 32 - len(plain) % 32
    closer = Cipher(AES(key), CBC(key[:16])).encryptor()
    return base64.b64encode(closer.update(plain + bytes([short]) * short) + closer.finalize()).decode()


def _pay_sig(world: World, uri: str, body: bytes) -> str:
    return hmac.new(world.secret("wechat-app-key", 32).encode(), uri.encode() + b"&" + body, hashlib.sha256).hexdigest()


def _sha1(*parts: str) -> str:
    return hashlib.sha1("".join(sorted(parts)).encode()).hexdigest()


def _is_same(given: Any, expected: str) -> bool:
    return isinstance(given, str) and bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def _app_id(world: World) -> str:
    return f"wx{world.keep('wechat-app-id', lambda: secrets.token_hex(8))}"


def _wx_number(world: World) -> str:
    return f"wx{world.number('wechat_virtual_order'):026d}"
