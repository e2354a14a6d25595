"""WeChat mini-program virtual payment (xpay): goods bought inside a mini-program, signed by us, paid in its client.

`start` asks nobody: it signs the parameters of `wx.requestVirtualPayment`, with the AppKey of the account's environment
and with the buyer's `session_key`. WeChat checks the price against the goods published in its console, so each price
we sell at needs goods of its own there: `{fen}` in the account's `product_id` stands for the price.

Our payment id is `outTradeNo` there, our refund id `refund_order_id`; both can be asked about with `query_order`. A
refund names what is left of the payment, so the books are read before; WeChat then works on it by itself. There is no
call to close: parameters once handed out can be paid with while WeChat takes them.

A message in plain mode proves nothing about its body: it is read as `approved` (ask!) or `other`, never as money.
What went unanswered WeChat sends again; messages have no id, so one is made of what makes them different.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import Any
from urllib.parse import urlencode

from chalicelib.edge import web
from chalicelib.payments.errors import BadNotice, BadStatement, NoStatement, ProviderRefused
from chalicelib.payments.model import (
    Account,
    AccountField,
    Closed,
    DisputeFacts,
    Found,
    Method,
    Notice,
    NoticeKind,
    Payment,
    ProviderFacts,
    RefundResult,
    Reply,
    Started,
    StatementLine,
)
from chalicelib.payments.wechat_push import echo_of, read_message

API_BASE = "https://api.weixin.qq.com"
GOODS_MODE = "short_series_goods"
TOKEN_SLACK_SECONDS = 300  # WeChat itself keeps the one before alive for so long
_ENVIRONMENTS = {"live": 0, "test": 1}
_PAID = (2, 3, 4, 5, 7, 8)  # to deliver, delivering, delivered, and what became of it later: refunded, refund failed
_UNPAID = (0, 1, 6)
_REFUND_STATES = {0: "pending", 1: "pending", 2: "pending", 3: "pending", 5: "succeeded", 8: "succeeded", 7: "failed"}
_TOKEN_ENDED = (40001, 40014, 42001)
_BAD_FIELD, _NOT_OF_THIS_STATE, _UNDER_WAY, _REFUNDED_OTHERWISE = 268490002, 268490013, 268490014, 268490005
_ABSENT = re.compile(r"not\s*(?:be\s*)?(?:exist|found)|no such|不存在|未找到", re.IGNORECASE)
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_OUT_OF_REACH = (web.NotSent, web.OutcomeUnknown, ProviderRefused, *_BROKEN)

_tokens: dict[tuple[str, str, str], tuple[str, float]] = {}

FACTS = ProviderFacts(
    "WeChat virtual payment",
    {
        "virtual": Method(
            "client", "goods inside a WeChat mini-program, by wx.requestVirtualPayment", ("payer_id", "payer_session")
        )
    },
    (
        AccountField("appid", "Mini-program console > Development settings: AppID"),
        AccountField("appsecret", "the same page: AppSecret, for access tokens", is_secret=True),
        AccountField("offer_id", "Mini-program console > Virtual payment > Basic settings: OfferID"),
        AccountField("product_id", "the same section > Goods: id of the published goods; {fen} stands for the price"),
        AccountField("app_key", "beside OfferID: AppKey, the live or the sandbox one as the mode is", is_secret=True),
        AccountField("token", "Development settings > Message push: Token", is_secret=True),
        AccountField("encoding_aes_key", "the same page: EncodingAESKey", is_secret=True, is_needed=False),
        AccountField("api_base", "only to speak to a stand-in for WeChat", is_needed=False, form="url"),
    ),
    currencies=frozenset({"CNY"}),
    ask_after_seconds=(20, 60, 180, 600),  # its sandbox is said never to send messages
    can_close=False,
    day_offset_hours=8,
    taken=Reply('{"ErrCode":0,"ErrMsg":"success"}'),
)  # fmt: skip


def start(payment: Payment, now: int) -> Started:
    """Sign what the mini-program hands to WeChat. The same payment makes the same parameters; nobody is asked."""
    account = payment.account
    offer_id, product_id = account.settings.get("offer_id"), account.settings.get("product_id")
    app_key = account.secrets.get("app_key")
    if not (offer_id and product_id and app_key and payment.payer_id and payment.payer_session):
        raise ProviderRefused()
    if payment.currency != "CNY":
        raise ProviderRefused()
    sign_data = _compact({
        "offerId": offer_id,
        "buyQuantity": 1,
        "env": _ENVIRONMENTS[account.mode],
        "currencyType": "CNY",
        "productId": product_id.replace("{fen}", str(payment.total_minor)),
        "goodsPrice": payment.total_minor,
        "outTradeNo": payment.payment_id,
        "attach": payment.order_id,
    })  # fmt: skip
    return Started(client={
        "mode": GOODS_MODE,
        "signData": sign_data,
        "paySig": pay_signature("requestVirtualPayment", sign_data, app_key),
        "signature": user_signature(sign_data, payment.payer_session),
    })  # fmt: skip


def pay_signature(uri: str, text: str, app_key: str) -> str:
    return hmac.new(app_key.encode(), f"{uri}&{text}".encode(), hashlib.sha256).hexdigest()


def user_signature(text: str, session_key: str) -> str:
    """The session key signs as the text it is: WeChat does not decode it."""
    return hmac.new(session_key.encode(), text.encode(), hashlib.sha256).hexdigest()


def read_notice(account: Account, headers: Any, raw_body: bytes, now: int) -> Notice | None:
    """The address's query comes as headers `x-query-<name>`: WeChat puts its signature there."""
    names = ("signature", "msg_signature", "timestamp", "nonce")
    try:
        query = {name: headers.get(f"x-query-{name}") for name in names}
        keys = account.each_secret("encoding_aes_key")
        app_id = account.settings.get("appid", "")
        message, is_proven = read_message(query, raw_body, account.each_secret("token"), keys, app_id, now)
        return _to_notice(account, message, is_proven)
    except _BROKEN:
        raise BadNotice() from None


def prove_address(account: Account, headers: Any) -> str:
    """WeChat's one-time check of the address, made when the message push is saved in the console."""
    query = {name: headers.get(f"x-query-{name}") for name in ("signature", "timestamp", "nonce", "echostr")}
    try:
        return echo_of(query, account.each_secret("token"))
    except (ValueError, TypeError):
        raise BadNotice() from None


def find(payment: Payment) -> Found:
    try:
        order = _query(payment, payment.payment_id)
        if order is None:
            return Found("unpaid")  # an order begins to exist there when the buyer's client opens it
        status = order["status"]
        if order.get("order_type", 0) != 0 or not _is_whole(status):
            return Found("unknown")
        if status in _UNPAID:
            return Found("unpaid")
        if status in _PAID and _is_whole(order["paid_fee"]):
            return Found("paid", order["paid_fee"], "CNY", _txn_of(order))
    except _OUT_OF_REACH:
        pass
    return Found("unknown")


def close(payment: Payment) -> Closed:
    return "unknown"


def refund(payment: Payment, refund_id: str, amount_minor: int, now: int) -> RefundResult:
    """Ask for our refund id first, then for what is left: WeChat takes the refund only with the right sum of that."""
    known = find_refund(payment, refund_id)
    if known is not None:
        return known
    try:
        order = _query(payment, payment.payment_id)
        if order is None:
            return RefundResult("unknown")
        left = order["left_fee"] if "left_fee" in order else order["leftFee"]
        if not _is_whole(left) or left < amount_minor:
            return RefundResult("unknown")  # an earlier try of this very refund may have taken it
        answer = _call(payment.account, "/xpay/refund_order", {
            "openid": payment.payer_id,
            "env": _ENVIRONMENTS[payment.account.mode],
            "order_id": payment.payment_id,
            "refund_order_id": refund_id,
            "left_fee": left,
            "refund_fee": amount_minor,
            "biz_meta": "",
            "refund_reason": "5",
            "req_from": "3",
        })  # fmt: skip
    except _OUT_OF_REACH:
        return RefundResult("unknown")
    code = answer.get("errcode", 0)
    if code in (0, _UNDER_WAY):
        return RefundResult("pending", _text(answer.get("refund_wx_order_id")))
    return RefundResult("failed" if code in (_NOT_OF_THIS_STATE, _REFUNDED_OTHERWISE) else "unknown")


def find_refund(payment: Payment, refund_id: str) -> RefundResult | None:
    try:
        order = _query(payment, refund_id, is_refund=True)
        if order is None:
            return None
        if order.get("order_type", 1) != 1 or not _is_whole(order["status"]):
            return RefundResult("unknown")
        number = _text(order.get("wx_order_id")) or _text(order.get("wxOrderId"))
        return RefundResult(_REFUND_STATES.get(order["status"], "unknown"), number)
    except _OUT_OF_REACH:
        return RefundResult("unknown")


def statement(account: Account, day: str) -> list[StatementLine]:
    if not (account.settings.get("appid") and account.secrets.get("appsecret") and account.secrets.get("app_key")):
        raise ProviderRefused()
    raise NoStatement()


def parse_statement(account: Account, raw: bytes, day: str) -> list[StatementLine]:
    raise BadStatement()


# messages


def _to_notice(account: Account, message: dict, is_proven: bool) -> Notice:
    """Raises: BadNotice for the other environment's: sandbox money pays for nothing."""
    event = message["Event"]
    if message["MsgType"] != "event" or not isinstance(event, str):
        raise BadNotice()
    if "Env" in message and _whole(message["Env"]) != _ENVIRONMENTS[account.mode]:
        raise BadNotice()
    kind: NoticeKind = "other"
    payment_id = provider_txn = amount_minor = refund_id = provider_refund_id = dispute = None
    marks: list[Any] = []
    if event == "xpay_goods_deliver_notify":
        if "Env" not in message:
            raise BadNotice()
        kind = "paid" if is_proven else "approved"
        payment_id = _needed(message["OutTradeNo"])
        goods, paid = message["GoodsInfo"], message.get("WeChatPayInfo") or {}
        # We sell one of a kind in each order: the price of one is the sum only then.
        amount_minor = _whole(goods["ActualPrice"]) if _whole(goods["Quantity"]) == 1 else None
        provider_txn = _text(paid.get("TransactionId")) or _text(paid.get("MchOrderNo"))
        marks = [payment_id, provider_txn]
    elif event == "xpay_refund_notify":
        state: NoticeKind = "refunded" if _whole(message["RetCode"]) == 0 else "refund_failed"
        kind = state if is_proven else "other"
        payment_id, given = _needed(message["MchOrderId"]), _text(message.get("MchRefundId"))
        refund_id = given if given and given.startswith("rfd_") else None
        provider_refund_id = _text(message.get("WxRefundId"))
        amount_minor = _whole(message["RefundFee"])
        marks = [payment_id, given, provider_refund_id, message["RetCode"]]
    elif event == "xpay_complaint_notify":
        kind = "dispute_opened" if is_proven else "other"
        payment_id = _needed(message["MchOrderId"])
        opened_at = _whole(message["ComplaintTime"])
        # One complaint may be told with several request ids: order and time name it.
        dispute = DisputeFacts(
            f"{payment_id}:{opened_at}", f"complaint {_text(message.get('RequestId')) or ''}".strip()
        )
        marks = [payment_id, opened_at]
    else:
        marks = [_compact({name: value for name, value in message.items() if name != "RetryTimes"})]
        payment_id = _text(message.get("OutTradeNo"))
    return Notice(
        provider="wechat_virtual",
        event_id=_event_id(event, kind, marks),
        kind=kind,
        payment_id=payment_id,
        provider_txn=provider_txn,
        amount_minor=amount_minor,
        currency="CNY" if amount_minor is not None else None,
        refund_id=refund_id,
        provider_refund_id=provider_refund_id,
        dispute=dispute,
    )


def _event_id(event: str, kind: str, marks: list[Any]) -> str:
    """The same for every repeat of a message; a hint never has the id of the proven message."""
    return f"{event[:64]}:{hashlib.sha256(_compact([event, kind, marks]).encode()).hexdigest()[:32]}"


# calls


def _query(payment: Payment, order_id: str, *, is_refund: bool = False) -> dict | None:
    """An order of WeChat's books; None when it says that there is none.

    Which code it says that with is not documented. For a refund a complaint about the fields is taken for it: to send
    the refund again under its id does no harm. For a payment only the words themselves are.
    """
    if not payment.payer_id:
        raise web.NotSent("nobody to ask about")
    wanted = {"openid": payment.payer_id, "env": _ENVIRONMENTS[payment.account.mode], "order_id": order_id}
    answer = _call(payment.account, "/xpay/query_order", wanted)
    code = answer.get("errcode", 0)
    if code == 0:
        order = answer.get("order")
        if not isinstance(order, dict) or order.get("order_id", order_id) != order_id:
            raise web.OutcomeUnknown("not an order")
        return order
    if _ABSENT.search(str(answer.get("errmsg"))) or (is_refund and code == _BAD_FIELD):
        return None
    raise web.OutcomeUnknown("not answered")


def _call(account: Account, path: str, wanted: dict) -> dict:
    """Raises: NotSent, OutcomeUnknown; payments.provider_refused when WeChat does not know the credentials."""
    app_key = account.secrets.get("app_key")
    if not app_key:
        raise web.NotSent("no credentials")
    body = _compact(wanted)
    query = {"access_token": _token(account), "pay_sig": pay_signature(path, body, app_key)}
    answer = _post(account, f"{path}?{urlencode(query)}", body)
    if answer.get("errcode") in _TOKEN_ENDED:
        _tokens.pop(_place_of_token(account), None)  # taken back before its time: the next call gets another
    return answer


def _post(account: Account, path: str, body: str) -> dict:
    own_base = account.settings.get("api_base")
    answer = web.send(
        "POST",
        (own_base or API_BASE).rstrip("/") + path,
        headers={"Content-Type": "application/json"},
        body=body.encode(),
        is_configured=bool(own_base),
    )
    found = answer.json()
    if answer.status != 200 or not isinstance(found, dict):
        raise web.OutcomeUnknown("not answered")
    return found


def _place_of_token(account: Account) -> tuple[str, str, str]:
    return account.settings.get("api_base") or API_BASE, account.settings["appid"], account.secrets["appsecret"]


def _token(account: Account) -> str:
    """The access token of an app, kept by this process; the stable kind, so that copies do not end each other's."""
    if not (account.settings.get("appid") and account.secrets.get("appsecret")):
        raise web.NotSent("no credentials")
    place = _place_of_token(account)
    token, until = _tokens.get(place, ("", 0.0))
    if token and web.wall_clock() < until:
        return token
    wanted = {"grant_type": "client_credential", "appid": place[1], "secret": place[2]}
    found = _post(account, "/cgi-bin/stable_token", _compact(wanted))
    token, lasts = found.get("access_token"), found.get("expires_in")
    if not (isinstance(token, str) and 0 < len(token) <= 1024):
        if found.get("errcode") in (40001, 40013, 40125, 40164):
            raise ProviderRefused()
        raise web.NotSent("no access token")
    if len(_tokens) >= 64:
        _tokens.clear()
    _tokens[place] = (token, web.wall_clock() + (lasts - TOKEN_SLACK_SECONDS if _is_whole(lasts) else 0))
    return token


# values


def _compact(value: Any) -> str:
    """JSON without spaces, letters as they are: what is signed is sent, to the byte."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _txn_of(order: dict) -> str | None:
    names = ("wxpay_order_id", "wx_order_id", "wxOrderId")
    return next((found for name in names if (found := _text(order.get(name)))), None)


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _whole(value: Any) -> int:
    """A whole number, which some of WeChat's messages write as text. Raises: ValueError."""
    if type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,15}", value):
        return int(value)
    raise ValueError("not a whole number")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 128 else None


def _needed(value: Any) -> str:
    if _text(value) is None:
        raise BadNotice()
    return value
