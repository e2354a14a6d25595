"""Alipay: page, wap and QR payments over the open platform's gateway, signed with RSA2 both ways.

Our payment id is `out_trade_no`, our refund id `out_request_no`; both find everything again, so nothing need be kept
but the address or code that was made. Amounts are yuan with two places, times those of China. An account holds either
Alipay's public key (`alipay_public_key`) or, in certificate mode, Alipay's certificate and the two serial numbers that
are sent along; each may hold several while Alipay's is changed, and any of them is believed.

A notice says TRADE_SUCCESS for a payment and again for each partial refund of it; a refund shows by its refund fields.
`refund_fee` in it is the sum of all refunds, so a notice never says how much one refund was.

What concerns money is believed only when Alipay signed it. An answer without a signature, with one of another digest,
or about another payment means that nothing is known. `failed` is said of a refund only where Alipay's refusal is for
good and its books do not have the refund: a seller's empty balance or a frozen trade is `unknown`, because the same
refund, asked again under the same id, goes through later.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode, urlsplit

from chalicelib.edge import web
from chalicelib.payments.alipay_bill import read_bill
from chalicelib.payments.alipay_signature import (
    is_signed,
    read_answer,
    read_form,
    sign_request,
    split_keys,
    string_of_notice,
    to_china_time,
    to_minor,
    to_yuan,
)
from chalicelib.payments.errors import BadNotice, BadStatement, NoStatement, ProviderRefused, ProviderUnavailable
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

API_BASES = {"live": "https://openapi.alipay.com", "test": "https://openapi-sandbox.dl.alipaydev.com"}
_BILL_HOSTS = (".alipay.com", ".alipaydev.com")
_SHORTEST_SECONDS = 60  # what Alipay demands between opening a payment and its end
_MAX_TITLE = 128
_MAX_RETURN_URL = 256
_NOT_IN_TITLES = re.compile(r"""[\x00-\x1f\x7f/=&"'<>,\\]+""")  # refused in a subject, or breaks Alipay's unquoted CSV
_OUR_REFUND = "rfd_"
_DONE = "10000"
_NO_TRADE = "ACQ.TRADE_NOT_EXIST"
_NOT_OPEN = ("ACQ.TRADE_STATUS_ERROR", "ACQ.REASON_TRADE_STATUS_INVALID", "ACQ.REASON_ILLEGAL_STATUS")
_LATER = ("ACQ.SYSTEM_ERROR", "AQC.SYSTEM_ERROR", "ACQ.TRADE_HAS_SUCCESS")  # a paid trade: its notice is on the way
_NO_BILL = (
    "isp.bill_not_exist", "BILL_NOT_EXIST", "BILL_DATE_BEFORE_REGISTRATION",
    "isv.invalid_arguments", "invalid_arguments", "INVAILID_ARGUMENTS",  # the day is not over yet
)  # fmt: skip
_REFUSED_FOR_GOOD = frozenset({
    "ACQ.TRADE_NOT_EXIST", "ACQ.TRADE_HAS_FINISHED", "ACQ.TRADE_HAS_CLOSE", "ACQ.TRADE_STATUS_ERROR",
    "ACQ.REASON_TRADE_STATUS_INVALID", "ACQ.TRADE_NOT_ALLOW_REFUND", "ACQ.NOT_ALLOW_PARTIAL_REFUND",
    "ACQ.ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND", "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL", "ACQ.REASON_TRADE_REFUND_FEE_ERR",
    "ACQ.REFUND_FEE_ERROR", "ACQ.INVALID_PARAMETER", "ACQ.CURRENCY_NOT_SUPPORT", "ACQ.USER_NOT_MATCH_ERR",
    "ACQ.BUYER_ERROR", "ACQ.BUYER_NOT_EXIST", "ACQ.BUYER_ENABLE_STATUS_FORBID",
})  # fmt: skip
_UNREACHED = (web.NotSent, web.OutcomeUnknown)

FACTS = ProviderFacts(
    "Alipay",
    {
        "page": Method("redirect", "Alipay's page in a desktop browser"),
        "precreate": Method("qr", "a code to scan with the Alipay app"),
        "wap": Method("redirect", "Alipay's page in a phone's browser; opens the app"),
    },
    (
        AccountField("app_id", "Console > the application: APPID", form="digits", max_length=32),
        AccountField("seller_id", "Merchant centre > account: PID, begins with 2088", form="digits", max_length=32),
        AccountField(
            "alipay_public_key",
            "Console > development settings > signing (key mode): Alipay's public key, not the application's",
            is_needed=False,
            form="pem_public_key",
        ),
        AccountField(
            "alipay_certificate",
            "certificate mode: alipayCertPublicKey_RSA2.crt",
            is_needed=False,
            form="pem_certificate",
            max_length=16384,
        ),
        AccountField("app_cert_sn", "certificate mode: serial number of appCertPublicKey", is_needed=False),
        AccountField("alipay_root_cert_sn", "certificate mode: serial number of alipayRootCert", is_needed=False),
        AccountField("api_base", "only to speak to a stand-in for Alipay", is_needed=False, form="url"),
        AccountField(
            "private_key", "made by the operator: the application's private key", is_secret=True, form="pem_private_key"
        ),
    ),
    one_of=(("alipay_public_key",), ("alipay_certificate", "app_cert_sn", "alipay_root_cert_sn")),
    currencies=frozenset({"CNY"}),
    day_offset_hours=8,
    taken=Reply("success", "text/plain"),
)


def start(payment: Payment, now: int) -> Started:
    """For the pages an address is made and nothing is sent; for a code Alipay is asked. A repeat is the same trade."""
    account = payment.account
    if not (_is_filled_in(account) and account.settings.get("seller_id")):
        raise ProviderRefused()
    if payment.currency != "CNY" or payment.total_minor < 1 or payment.method not in FACTS.methods:
        raise ProviderRefused()
    ends_at = max(payment.expires_at, now + _SHORTEST_SECONDS)
    about: dict[str, Any] = {
        "out_trade_no": payment.payment_id,
        "total_amount": to_yuan(payment.total_minor),
        "subject": _NOT_IN_TITLES.sub(" ", payment.title).strip()[:_MAX_TITLE] or payment.order_id,
        "time_expire": to_china_time(ends_at),
    }
    addresses = {"notify_url": payment.notify_url} if payment.notify_url else {}
    if payment.method == "precreate":
        return _start_code(account, about, addresses, now)
    back = payment.return_url or ""
    addresses["return_url"] = back = back if 0 < len(back) <= _MAX_RETURN_URL else f"{payment.base_url}/"
    if payment.method == "wap":
        method, about = "alipay.trade.wap.pay", {**about, "product_code": "QUICK_WAP_PAY", "quit_url": back}
    else:
        method, about = "alipay.trade.page.pay", {**about, "product_code": "FAST_INSTANT_TRADE_PAY"}
    try:
        signed = _signed(account, method, {**about, "goods_type": "0"}, now, addresses)
    except ValueError:
        raise ProviderRefused() from None
    return Started(pay_url=f"{_gateway(account)}?{urlencode(signed)}")


def read_notice(account: Account, headers: Any, raw_body: bytes, now: int) -> Notice | None:
    try:
        fields = read_form(raw_body)
        if fields.get("sign_type") != "RSA2" or fields.get("charset", "utf-8").lower() != "utf-8":
            raise BadNotice()
        if not is_signed(string_of_notice(fields), fields.get("sign"), _keys(account)):
            raise BadNotice()
        if not account.settings.get("app_id") or fields.get("app_id") != account.settings["app_id"]:
            raise BadNotice()
        if "msg_method" in fields:
            return None  # a message of another kind that the application subscribed to
        if not account.settings.get("seller_id") or fields.get("seller_id") != account.settings["seller_id"]:
            raise BadNotice()
        return _to_notice(fields)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise BadNotice() from None


def find(payment: Payment) -> Found:
    try:
        trade = _ask_about(payment, "alipay.trade.query")
        status, code = trade.get("trade_status"), trade.get("code")
        if code != _DONE:
            # Alipay makes the trade when a buyer scans the code or signs in on the page, not when we open it.
            return Found("unpaid" if _sub_code(trade) == _NO_TRADE else "unknown")
        if not _names(trade, payment):
            return Found("unknown")
        if status in ("TRADE_SUCCESS", "TRADE_FINISHED") and _text(trade.get("trade_no")):
            return Found("paid", to_minor(trade.get("total_amount")), "CNY", trade["trade_no"])
        if status == "WAIT_BUYER_PAY" or (status == "TRADE_CLOSED" and not trade.get("send_pay_date")):
            return Found("unpaid")
    except (*_UNREACHED, ValueError):
        pass
    return Found("unknown")  # also of a trade that was paid and given back entirely: neither is true of it any more


def close(payment: Payment) -> Closed:
    """Alipay closes what waits for its buyer. What no buyer has begun is no trade yet and cannot be closed: it stays
    `unknown`, and runs out at `time_expire` by itself.
    """
    try:
        answer = _ask_about(payment, "alipay.trade.close")
        if answer.get("code") == _DONE:
            return "closed" if _names(answer, payment) else "unknown"
        if _sub_code(answer) not in _NOT_OPEN:
            return "unknown"
        trade = _ask_about(payment, "alipay.trade.query")
    except (*_UNREACHED, ValueError):
        return "unknown"
    if trade.get("code") != _DONE or not _names(trade, payment):
        return "unknown"
    states: dict[Any, Closed] = {"TRADE_SUCCESS": "paid", "TRADE_FINISHED": "paid", "TRADE_CLOSED": "closed"}
    return states.get(trade.get("trade_status"), "unknown")


def refund(payment: Payment, refund_id: str, amount_minor: int, now: int) -> RefundResult:
    """`fund_change=Y` alone says that money moved by this call; anything else is looked up in Alipay's books."""
    if amount_minor < 1 or payment.currency != "CNY":
        return RefundResult("failed")
    about = {"refund_amount": to_yuan(amount_minor), "out_request_no": refund_id}
    try:
        answer = _ask_about(payment, "alipay.trade.refund", about, now)
    except (*_UNREACHED, ValueError):
        return RefundResult("unknown")
    if answer.get("code") == _DONE and answer.get("fund_change") == "Y" and _names(answer, payment):
        return RefundResult("succeeded")
    if answer.get("code") == _DONE:
        return find_refund(payment, refund_id) or RefundResult("unknown")
    if _sub_code(answer) not in _REFUSED_FOR_GOOD:
        return RefundResult("unknown")
    # An earlier try, whose answer was lost, may be why Alipay refuses this one.
    return find_refund(payment, refund_id) or RefundResult("failed")


def find_refund(payment: Payment, refund_id: str) -> RefundResult | None:
    """Alipay answers "done" even when it has no such refund; then the refund's own fields are missing."""
    try:
        known = _ask_about(payment, "alipay.trade.fastpay.refund.query", {"out_request_no": refund_id})
    except (*_UNREACHED, ValueError):
        return RefundResult("unknown")
    if known.get("code") != _DONE:
        return None if _sub_code(known) == _NO_TRADE else RefundResult("unknown")
    status = known.get("refund_status")
    if not status and not known.get("refund_amount"):
        return None
    is_it = _names(known, payment) and known.get("out_request_no") == refund_id
    return RefundResult("succeeded" if is_it and status in ("REFUND_SUCCESS", None) else "unknown")


def statement(account: Account, day: str) -> list[StatementLine]:
    """Alipay makes a day's bill in the morning after (from about 9 o'clock in China); a day without trade has none."""
    if not (_is_filled_in(account) and account.settings.get("seller_id")):
        raise ProviderRefused()
    about = {"bill_type": "trade", "bill_date": day}
    try:
        answer = _ask(account, "alipay.data.dataservice.bill.downloadurl.query", about, is_about_money=False)
        if answer.get("code") != _DONE:
            if answer.get("sub_code") in _NO_BILL:
                raise NoStatement()
            raise _refusal(answer)
        bill = web.send(
            "GET", _bill_url(account, answer), headers={}, is_configured=bool(account.settings.get("api_base")),
            max_bytes=web.MAX_STATEMENT_BYTES,
        )  # fmt: skip
    except _UNREACHED:
        raise ProviderUnavailable() from None
    except ValueError:  # the private key is none
        raise ProviderRefused() from None
    if bill.status != 200:
        raise ProviderUnavailable()
    try:
        return read_bill(bill.body, account.settings["seller_id"], day)
    except ValueError:
        raise ProviderUnavailable() from None


def parse_statement(account: Account, raw: bytes, day: str) -> list[StatementLine]:
    try:
        return read_bill(raw, account.settings.get("seller_id") or "", day)
    except ValueError:
        raise BadStatement() from None


def _start_code(account: Account, about: dict, addresses: dict, now: int) -> Started:
    try:
        made = _ask(account, "alipay.trade.precreate", about, now, addresses, is_about_money=False)
    except _UNREACHED:
        raise ProviderUnavailable() from None
    except ValueError:
        raise ProviderRefused() from None
    if made.get("code") != _DONE:
        raise _refusal(made)
    if made.get("out_trade_no", about["out_trade_no"]) != about["out_trade_no"] or not _text(made.get("qr_code")):
        raise ProviderUnavailable()
    return Started(qr_text=made["qr_code"])


def _to_notice(fields: dict[str, str]) -> Notice:
    kind, amount_minor = _kind_of(fields), to_minor(fields["total_amount"])
    if not _text(fields["notify_id"]) or amount_minor < 1:
        raise BadNotice()
    refund_no = _text(fields.get("out_biz_no")) if kind == "refunded" else None
    is_ours = refund_no is not None and refund_no.startswith(_OUR_REFUND)
    return Notice(
        provider="alipay",
        event_id=fields["notify_id"],
        kind=kind,
        payment_id=_text(fields.get("out_trade_no")),
        provider_txn=_text(fields.get("trade_no")),
        amount_minor=None if kind == "refunded" else amount_minor,
        currency="CNY",
        refund_id=refund_no if is_ours else None,
        provider_refund_id=None if is_ours else refund_no,
        refunded_total_minor=to_minor(fields["refund_fee"])
        if kind == "refunded" and fields.get("refund_fee")
        else None,
    )


def _kind_of(fields: dict[str, str]) -> NoticeKind:
    status = fields.get("trade_status")
    is_refund = bool(fields.get("gmt_refund")) or to_minor(fields.get("refund_fee") or "0") > 0
    if fields.get("notify_type", "trade_status_sync") != "trade_status_sync":
        return "other"
    if status == "TRADE_SUCCESS":
        return "refunded" if is_refund else "paid"
    if status == "TRADE_FINISHED":
        return "paid"  # nothing can be given back any more; the first notice of it may be the first of the payment
    if status == "TRADE_CLOSED":  # after a payment Alipay closes a trade only once all of it was given back
        return "refunded" if is_refund or fields.get("gmt_payment") else "failed"
    return "other"


def _ask_about(payment: Payment, method: str, about: dict | None = None, now: int | None = None) -> dict:
    """What Alipay answers about this payment. Raises: as `_ask`."""
    return _ask(payment.account, method, {"out_trade_no": payment.payment_id, **(about or {})}, now)


def _names(answer: dict, payment: Payment) -> bool:
    """Whether an answer is about this payment: Alipay's signature does not say what it was asked."""
    return answer.get("out_trade_no") == payment.payment_id


def _ask(
    account: Account,
    method: str,
    about: dict,
    now: int | None = None,
    addresses: dict | None = None,
    *,
    is_about_money: bool = True,
) -> dict:
    """One call of the gateway, and what it answered. Only a refusal that decides nothing about money may be unsigned
    (Alipay does not sign when it does not know the application).

    Raises: NotSent, OutcomeUnknown; ValueError when the private key is none
    """
    if not _is_filled_in(account):
        raise web.NotSent("no credentials")
    signed = _signed(account, method, about, int(web.wall_clock()) if now is None else now, addresses or {})
    body = urlencode({"biz_content": signed.pop("biz_content")}).encode()
    answer = web.send(
        "POST",
        f"{_gateway(account)}?{urlencode(signed)}",
        headers={"Content-Type": "application/x-www-form-urlencoded;charset=utf-8"},
        body=body,
        is_configured=bool(account.settings.get("api_base")),
    )
    if answer.status != 200:
        raise web.OutcomeUnknown("not answered")
    try:
        node, message, signature = read_answer(answer.body, method.replace(".", "_") + "_response")
    except ValueError:
        raise web.OutcomeUnknown("the answer cannot be read") from None
    may_be_unsigned = signature is None and not is_about_money and node.get("code") != _DONE
    if not may_be_unsigned and not is_signed(message, signature, _keys(account)):
        raise web.OutcomeUnknown("the answer is not signed by Alipay")
    return node


def _signed(account: Account, method: str, about: dict, at: int, addresses: dict) -> dict[str, str]:
    serials = {name: account.settings.get(name) for name in ("app_cert_sn", "alipay_root_cert_sn")}
    params = {
        "app_id": account.settings["app_id"],
        "method": method,
        "format": "JSON",
        "charset": "utf-8",
        "sign_type": "RSA2",
        "timestamp": to_china_time(at),
        "version": "1.0",
        **addresses,
        **{name: serial for name, serial in serials.items() if serial},
        "biz_content": json.dumps(about, ensure_ascii=False, separators=(",", ":")),
    }
    return sign_request(params, account.secrets["private_key"])


def _gateway(account: Account) -> str:
    return (account.settings.get("api_base") or API_BASES[account.mode]).rstrip("/") + "/gateway.do"


def _bill_url(account: Account, answer: dict) -> str:
    """Where the bill lies. Alipay names its own host, often without TLS; it is fetched with it.

    Raises: OutcomeUnknown when it is somewhere else
    """
    url = answer.get("bill_download_url")
    try:
        parts, own = urlsplit(url or ""), urlsplit(account.settings.get("api_base") or "")
    except (ValueError, TypeError, AttributeError):
        raise web.OutcomeUnknown("no address") from None
    if own.netloc and (parts.scheme, parts.netloc) == (own.scheme, own.netloc):
        return str(url)
    if parts.scheme in ("http", "https") and parts.netloc.lower().endswith(_BILL_HOSTS):
        return parts._replace(scheme="https").geturl()
    raise web.OutcomeUnknown("not an address of Alipay")


def _refusal(answer: dict) -> Exception:
    """What an answer other than "done" means where no money is at stake."""
    if str(answer.get("code")) in ("20000", "10003", "40005") or _sub_code(answer) in _LATER:
        return ProviderUnavailable()
    return ProviderRefused()


def _sub_code(answer: dict) -> str:
    """Alipay's reason of a business failure; empty when it failed otherwise, or does not know itself whether it did."""
    return str(answer.get("sub_code")) if answer.get("code") == "40004" else ""


def _is_filled_in(account: Account) -> bool:
    return bool(account.settings.get("app_id") and account.secrets.get("private_key") and _keys(account))


def _keys(account: Account) -> list[str]:
    texts = (account.settings.get("alipay_public_key"), account.settings.get("alipay_certificate"))
    return [key for text in texts if text for key in split_keys(text)]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 255 else None
