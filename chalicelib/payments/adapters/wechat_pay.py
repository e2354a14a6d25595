"""WeChat Pay, API v3: a code to scan (native), WeChat's own client (jsapi), a phone's browser (h5).

Our payment id is WeChat's `out_trade_no`, our refund id its `out_refund_no`: asking needs no handle of theirs, and the
same number sent again is the same payment and the same refund. Amounts are in fen on both sides; the one compared with
the order is `amount.total`, before coupons. Whether WeChat signs with a platform certificate or with its public key is
told by each message's `Wechatpay-Serial`, and both verify at any time: WeChat moves merchants from the one to the other
message by message. Its answers are verified like its notices; one that is not signed tells nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets as chance
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from chalicelib.edge import web
from chalicelib.payments.errors import BadNotice, NoStatement, ProviderRefused, ProviderUnavailable
from chalicelib.payments.model import (
    Account,
    AccountField,
    Closed,
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
from chalicelib.payments.wechat_bill import parse_bill, unpacked
from chalicelib.payments.wechat_signature import (
    authorization,
    certificates,
    china_time,
    client_parameters,
    is_from_wechat,
    open_sealed,
    plain_json,
    plain_serial,
    sealed_certificates,
)

API_BASE = "https://api.mch.weixin.qq.com"
TITLE_BYTES = 127
SHORTEST_LIFE_SECONDS = 61  # WeChat opens nothing that ends within a minute
CERTIFICATES_KEPT_SECONDS = 12 * 3600
CERTIFICATES_ASKED_SECONDS = 60  # an unknown serial number is looked up no more often than this
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f`]+")  # a backtick begins every value of the trade bill
_TRADE_STATES = {
    "SUCCESS": "paid",
    "REFUND": "paid",
    "NOTPAY": "unpaid",
    "CLOSED": "unpaid",
    "REVOKED": "unpaid",
    "PAYERROR": "unpaid",
}
_REFUND_STATES = {"SUCCESS": "succeeded", "PROCESSING": "pending", "CLOSED": "failed", "ABNORMAL": "failed"}
_REFUND_EVENTS: dict[str, tuple[str, NoticeKind]] = {
    "REFUND.SUCCESS": ("SUCCESS", "refunded"),
    "REFUND.ABNORMAL": ("ABNORMAL", "refund_failed"),
    "REFUND.CLOSED": ("CLOSED", "refund_failed"),
}
_NO_SUCH = ("ORDER_NOT_EXIST", "RESOURCE_NOT_EXISTS", "ORDERNOTEXIST")
_TRY_AGAIN = ("SYSTEM_ERROR", "SYSTEMERROR", "BANK_ERROR", "FREQUENCY_LIMITED", "RATELIMIT_EXCEEDED", "ORDERPAID")
_NEVER_REFUNDED = ("NOT_ENOUGH", "PARAM_ERROR", "INVALID_REQUEST", "USER_ACCOUNT_ABNORMAL", *_NO_SUCH)
_NO_BILL = ("NO_STATEMENT_EXIST", "STATEMENT_CREATING")

FACTS = ProviderFacts(
    "WeChat Pay",
    {
        "native": Method("qr", "a code on the screen, scanned with WeChat", good_seconds=7_000),
        "jsapi": Method("client", "inside WeChat: an official account's page or a mini-program", ("payer_id",), 7_000),
        "h5": Method("redirect", "a phone's browser outside WeChat, which opens WeChat", ("client_ip",), 240),
    },
    (
        AccountField("mchid", "Account centre > merchant information: merchant number", form="digits", max_length=32),
        AccountField("appid", "Product centre > AppID accounts: the linked AppID", max_length=32),
        AccountField("merchant_serial_no", "Account centre > API security > API certificate: serial", max_length=64),
        AccountField("private_key", "apiclient_key.pem of the API certificate", is_secret=True, form="pem_private_key"),
        AccountField("apiv3_key", "Account centre > API security: the APIv3 key (32 characters)", is_secret=True),
        AccountField(
            "public_key_id", "API security > WeChat Pay public key: PUB_KEY_ID_…", is_needed=False, max_length=64
        ),
        AccountField(
            "public_key", "API security > WeChat Pay public key: pub_key.pem", is_needed=False, form="pem_public_key"
        ),
        AccountField(
            "platform_certificate",
            "older accounts: WeChat's platform certificates, several one after the other; fetched when left empty",
            is_needed=False,
            form="pem_certificate",
        ),
        AccountField("api_base", "only to speak to a stand-in for WeChat Pay", is_needed=False, form="url"),
    ),
    currencies=frozenset({"CNY"}),
    ask_after_seconds=(30, 60, 180, 300, 600, 1800),
    day_offset_hours=8,
    taken=Reply('{"code":"SUCCESS","message":"OK"}'),
)

_fetched: dict[tuple, tuple[int, dict[str, str]]] = {}  # when asked for, and what came: a hint


def start(payment: Payment, now: int) -> Started:
    """Open the payment. A repeat sends the same number with the same content, and WeChat answers for the same order."""
    settings = payment.account.settings
    order: dict[str, Any] = {
        "appid": settings.get("appid"),
        "mchid": settings.get("mchid"),
        "description": _title(payment),
        "out_trade_no": payment.payment_id,
        "time_expire": china_time(max(payment.expires_at, now + SHORTEST_LIFE_SECONDS)),
        "notify_url": payment.notify_url,
        "amount": {"total": payment.total_minor, "currency": "CNY"},
    }
    if payment.method == "jsapi":
        order["payer"] = {"openid": payment.payer_id}
    if payment.method == "h5":
        order["scene_info"] = {"payer_client_ip": payment.client_ip, "h5_info": {"type": "Wap"}}
    if payment.method not in FACTS.methods or payment.currency != "CNY":
        raise ProviderRefused()
    try:
        status, told = _ask(payment.account, "POST", f"/v3/pay/transactions/{payment.method}", order)
    except _NotFilledIn:
        raise ProviderRefused() from None
    except (web.NotSent, web.OutcomeUnknown):
        raise ProviderUnavailable() from None
    if status != 200:
        raise ProviderUnavailable() if _is_passing(status, told) else ProviderRefused()
    handle = _text(told.get({"native": "code_url", "jsapi": "prepay_id", "h5": "h5_url"}[payment.method]), 2048)
    if handle is None:
        raise ProviderUnavailable()
    if payment.method == "native":
        return Started(qr_text=handle)
    if payment.method == "jsapi":
        key = payment.account.secrets["private_key"]
        client = client_parameters(settings["appid"], handle, private_key=key, at=now, nonce=_nonce())
        return Started(client=client, provider_ref=handle)
    back = f"&redirect_url={quote(payment.return_url, safe='')}" if payment.return_url else ""
    return Started(pay_url=handle + back)


def read_notice(account: Account, headers: Any, raw_body: bytes, now: int) -> Notice | None:
    """Signature first, then what is sealed, then whose it is. A wrong APIv3 key fails too: WeChat then sends again, and
    nothing is lost once the key is put right.
    """
    if not is_from_wechat(headers, raw_body, lambda serial: _key_of(account, serial, now), now):
        raise BadNotice()
    try:
        message = json.loads(raw_body)
        event_id, event_type = message["id"], message["event_type"]
        if not (isinstance(event_id, str) and 0 < len(event_id) <= 255 and isinstance(event_type, str)):
            raise BadNotice()
        is_echo = event_type.startswith("SECURITY_ECHO")
        if is_echo and not message.get("resource"):
            return None
        thing = plain_json(open_sealed(message["resource"], account.each_secret("apiv3_key")))
        if is_echo:
            return None
        if event_type.startswith(("TRANSACTION.", "REFUND.")):
            _check_whose(account, thing, ("mchid", "appid") if event_type.startswith("T") else ("mchid",))
        if event_type == "TRANSACTION.SUCCESS":
            return _payment_notice(event_id, thing)
        if event_type in _REFUND_EVENTS:
            return _refund_notice(event_id, event_type, thing)
        return Notice("wechat_pay", event_id, "other", _text(thing.get("out_trade_no")), None, None, None)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise BadNotice() from None


def find(payment: Payment) -> Found:
    mchid = payment.account.settings.get("mchid", "")
    try:
        status, trade = _ask(payment.account, "GET", f"{_order_path(payment)}?{urlencode({'mchid': mchid})}")
    except (web.NotSent, web.OutcomeUnknown):
        return Found("unknown")
    if status == 404 and trade.get("code") in _NO_SUCH:
        return Found("unpaid")
    if status != 200 or trade.get("out_trade_no") != payment.payment_id or trade.get("mchid") != mchid:
        return Found("unknown")
    state = _TRADE_STATES.get(str(trade.get("trade_state")), "unknown")
    if state != "paid":
        return Found("unpaid" if state == "unpaid" else "unknown")
    amount, txn = trade.get("amount"), _text(trade.get("transaction_id"))
    if not isinstance(amount, dict) or _fen(amount.get("total")) is None or txn is None:
        return Found("unknown")
    return Found("paid", amount["total"], _text(amount.get("currency", "CNY")), txn)


def close(payment: Payment) -> Closed:
    """WeChat answers a second closing like the first, and one of a payment it never heard of too."""
    try:
        body = {"mchid": payment.account.settings.get("mchid")}
        status, told = _ask(payment.account, "POST", f"{_order_path(payment)}/close", body)
    except (web.NotSent, web.OutcomeUnknown):
        return "unknown"
    code = told.get("code")
    if status in (200, 204) or (400 <= status < 500 and code in ("ORDER_CLOSED", "ORDERCLOSED", *_NO_SUCH)):
        return "closed"
    return "paid" if find(payment).state == "paid" else "unknown"


def refund(payment: Payment, refund_id: str, amount_minor: int, now: int) -> RefundResult:
    """WeChat carries out one refund per refund id, for ever: a repeat is safe whatever became of the first."""
    wish: dict[str, Any] = {
        "out_trade_no": payment.payment_id,
        "out_refund_no": refund_id,
        "amount": {
            "refund": amount_minor,
            "total": payment.paid_minor or payment.total_minor,
            "currency": "CNY",
        },
    }
    if payment.notify_url:
        wish["notify_url"] = payment.notify_url
    try:
        status, made = _ask(payment.account, "POST", "/v3/refund/domestic/refunds", wish)
    except (web.NotSent, web.OutcomeUnknown):
        return RefundResult("unknown")
    if status == 200:
        return _to_result(made, refund_id)
    if 400 <= status < 500 and made.get("code") in _NEVER_REFUNDED:
        # A repeat that differs from the first is refused in the same words: the books say whether there was a first.
        return find_refund(payment, refund_id) or RefundResult("failed")
    return RefundResult("unknown")


def find_refund(payment: Payment, refund_id: str) -> RefundResult | None:
    try:
        status, told = _ask(payment.account, "GET", f"/v3/refund/domestic/refunds/{quote(refund_id, safe='')}")
    except (web.NotSent, web.OutcomeUnknown):
        return RefundResult("unknown")
    if status == 404 and told.get("code") in _NO_SUCH:
        return None
    return _to_result(told, refund_id) if status == 200 else RefundResult("unknown")


def statement(account: Account, day: str) -> list[StatementLine]:
    """The trade bill of a day, made by 10 o'clock of the next and kept for three months. A day on which nothing moved
    has none. The file itself is not signed; the answer that leads to it is, and has its checksum.
    """
    query = urlencode({"bill_date": day, "bill_type": "ALL", "tar_type": "GZIP"})
    try:
        status, told = _ask(account, "GET", f"/v3/bill/tradebill?{query}")
        if status != 200:
            if told.get("code") in _NO_BILL:
                raise NoStatement()
            raise ProviderUnavailable() if _is_passing(status, told) else ProviderRefused()
        file = _send(account, "GET", _path_of_bill(account, told.get("download_url")), b"")
        plain = unpacked(file.body)
    except _NotFilledIn:
        raise ProviderRefused() from None
    except (web.NotSent, web.OutcomeUnknown, ValueError):
        raise ProviderUnavailable() from None
    digest = hashlib.sha1(plain, usedforsecurity=False).hexdigest()
    if file.status != 200 or told.get("hash_type") != "SHA1" or str(told.get("hash_value")).lower() != digest:
        raise ProviderUnavailable()
    return parse_statement(account, plain, day)


def parse_statement(account: Account, raw: bytes, day: str) -> list[StatementLine]:
    mchid, appid = account.settings.get("mchid", ""), account.settings.get("appid", "")
    return parse_bill(raw, day, mchid=mchid, appid=appid)


def _check_whose(account: Account, thing: Any, names: tuple[str, ...]) -> None:
    if any(not account.settings.get(name) or thing[name] != account.settings[name] for name in names):
        raise BadNotice()


def _payment_notice(event_id: str, thing: Any) -> Notice:
    amount, payment_id, txn = thing["amount"], _text(thing["out_trade_no"]), _text(thing["transaction_id"])
    if payment_id is None or txn is None or _fen(amount["total"]) is None:
        raise BadNotice()
    return Notice(
        provider="wechat_pay",
        event_id=event_id,
        kind="paid" if thing["trade_state"] == "SUCCESS" else "other",
        payment_id=payment_id,
        provider_txn=txn,
        amount_minor=amount["total"],
        currency=_text(amount.get("currency", "CNY")),
    )


def _refund_notice(event_id: str, event_type: str, thing: Any) -> Notice:
    """A refund made by hand has a number WeChat made up, which is none of ours."""
    status, kind = _REFUND_EVENTS[event_type]
    refund_id = _text(thing["out_refund_no"])
    return Notice(
        provider="wechat_pay",
        event_id=event_id,
        kind=kind if thing["refund_status"] == status else "other",
        payment_id=_text(thing["out_trade_no"]),
        provider_txn=_text(thing["transaction_id"]),
        amount_minor=_fen(thing["amount"]["refund"]),
        currency="CNY",
        refund_id=refund_id if refund_id and refund_id.startswith("rfd_") else None,
        provider_refund_id=_text(thing["refund_id"]),
    )


def _to_result(told: dict, refund_id: str) -> RefundResult:
    if told.get("out_refund_no") != refund_id:
        return RefundResult("unknown")
    return RefundResult(_REFUND_STATES.get(str(told.get("status")), "unknown"), _text(told.get("refund_id")))


def _title(payment: Payment) -> str:
    title = _UNPRINTED.sub(" ", payment.title).strip() or payment.order_id
    return title.encode("utf-8", "ignore")[:TITLE_BYTES].decode("utf-8", "ignore")


def _order_path(payment: Payment) -> str:
    return f"/v3/pay/transactions/out-trade-no/{quote(payment.payment_id, safe='')}"


def _is_passing(status: int, told: dict) -> bool:
    """Whether the same request may fare better shortly; after `ORDERPAID` the notice or our asking tells the rest."""
    return status in (202, 429) or status >= 500 or told.get("code") in _TRY_AGAIN


def _fen(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _text(value: Any, longest: int = 255) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= longest else None


def _nonce() -> str:
    return chance.token_hex(16).upper()


# speaking to WeChat


class _NotFilledIn(web.NotSent):
    """The account lacks something, or its key cannot be used: nothing can be sent before an operator has been there."""


def _ask(account: Account, method: str, path: str, wish: dict | None = None) -> tuple[int, dict]:
    """One call, and what WeChat verifiably said to it. It signs every answer but the one to a request whose own
    signature it could not verify, so a bare 401 is passed on; it says nothing about money.

    Raises: NotSent, OutcomeUnknown
    """
    body = b"" if wish is None else json.dumps(wish, ensure_ascii=False, separators=(",", ":")).encode()
    answer = _send(account, method, path, body)
    if answer.status == 401:
        return 401, {}
    now = int(web.wall_clock())
    if not is_from_wechat(answer.headers, answer.body, lambda serial: _key_of(account, serial, now), now):
        raise web.OutcomeUnknown("the answer is not WeChat's")
    told = answer.json() if answer.body else {}
    if not isinstance(told, dict):
        raise web.OutcomeUnknown("the answer is no object")
    return answer.status, told


def _send(account: Account, method: str, path: str, body: bytes) -> web.Answer:
    """One signed request; the answer as it came."""
    if not _can_sign(account):
        raise _NotFilledIn("no credentials")
    settings = account.settings
    try:
        signed = authorization(
            method,
            path,
            body,
            mchid=settings["mchid"],
            serial_no=settings["merchant_serial_no"],
            private_key=account.secrets["private_key"],
            at=int(web.wall_clock()),
            nonce=_nonce(),
        )
    except ValueError:
        raise _NotFilledIn("the key cannot be used") from None
    headers = {"Authorization": signed, "Accept": "application/json", "User-Agent": "kamiflow"}
    if body:
        headers["Content-Type"] = "application/json"
    if settings.get("public_key_id"):  # asks for an answer signed with that key
        headers["Wechatpay-Serial"] = settings["public_key_id"]
    base, is_configured = settings.get("api_base") or API_BASE, bool(settings.get("api_base"))
    return web.send(method, base.rstrip("/") + path, headers=headers, body=body or None, is_configured=is_configured)


def _can_sign(account: Account) -> bool:
    return all(account.settings.get(name) for name in ("mchid", "appid", "merchant_serial_no")) and bool(
        account.secrets.get("private_key")
    )


def _path_of_bill(account: Account, address: Any) -> str:
    """The path of a bill's file, which must lie where the API itself is: our signature is shown to nobody else."""
    base = account.settings.get("api_base") or API_BASE
    there, here = urlsplit(str(address)), urlsplit(base)
    if (there.scheme, there.netloc) != (here.scheme, here.netloc) or not there.path.startswith(here.path.rstrip("/")):
        raise web.OutcomeUnknown("the bill lies elsewhere")
    path = there.path.removeprefix(here.path.rstrip("/"))
    return f"{path}?{there.query}" if there.query else path


# whose signature it is


def _key_of(account: Account, serial: str, now: int) -> str | None:
    """The public key or certificate a serial names: the account's own, or one WeChat hands out on request."""
    settings = account.settings
    if settings.get("public_key_id") and serial == settings["public_key_id"]:
        return settings.get("public_key")
    number = plain_serial(serial)
    if number is None:
        return None
    own = certificates(settings.get("platform_certificate") or "", now)
    return own.get(number) or _fetched_certificate(account, number, now)


def _fetched_certificate(account: Account, number: str, now: int) -> str | None:
    keys = account.each_secret("apiv3_key")
    if not keys or not _can_sign(account):
        return None
    settings = account.settings
    ours = (account.account_id, settings["mchid"], settings.get("api_base"), hashlib.sha256(keys[0].encode()).digest())
    asked_at, known = _fetched.get(ours, (None, {}))
    age = None if asked_at is None else now - asked_at
    if age is None or not 0 <= age < CERTIFICATES_KEPT_SECONDS:
        known = {}
    elif number in known or age < CERTIFICATES_ASKED_SECONDS:
        return known.get(number)
    _fetched[ours] = (now, known)  # a failure too is not repeated at once
    fresh = _fetch_certificates(account, keys)
    if fresh:
        _fetched[ours] = (now, fresh)
    return (fresh or known).get(number)


def _fetch_certificates(account: Account, keys: list[str]) -> dict[str, str]:
    """WeChat's platform certificates at present. Only who knows our APIv3 key can have sealed them, and the answer must
    be signed by one of them or by a key we had before.
    """
    now = int(web.wall_clock())
    try:
        answer = _send(account, "GET", "/v3/certificates", b"")
        fresh = sealed_certificates(answer.json(), keys, now) if answer.status == 200 else {}
    except (web.NotSent, web.OutcomeUnknown, LookupError, TypeError, AttributeError, ValueError):
        return {}
    settings = account.settings
    known = fresh | certificates(settings.get("platform_certificate") or "", now)

    def key_of(serial: str) -> str | None:
        if settings.get("public_key_id") and serial == settings["public_key_id"]:
            return settings.get("public_key")
        return known.get(plain_serial(serial) or "")

    return fresh if is_from_wechat(answer.headers, answer.body, key_of, now) else {}
