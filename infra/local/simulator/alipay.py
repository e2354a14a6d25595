"""Alipay's open platform gateway: pages, codes, queries, refunds, daily bills and notices, signed with RSA2 both ways.

    GET  /gateway.do   alipay.trade.page.pay, alipay.trade.wap.pay: a buyer's browser comes here and goes to the wallet
    POST /gateway.do   alipay.trade.precreate, .query, .close, .refund, .fastpay.refund.query,
                       alipay.data.dataservice.bill.downloadurl.query; biz_content in the body, the rest in the query
    GET  /bill/<token> a day's bill, for 30 seconds after it was asked for

A trade begins when its buyer comes to the page or scans the code; before that it does not exist and cannot be closed.
Refunds are done at once. A day's bill exists from the next day on (`/_control/clock` moves the time) if money moved.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
import json
import re
import secrets
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from infra.local.simulator import NoticeRequest, Request, Response
from infra.local.simulator.world import Event, Impossible, Keys, Movement, Record, Refund, World

APP_ID = "9021000100000001"
SELLER_ID = "2088721000000001"
FEE_BASIS_POINTS = 60
RETRY_SECONDS = (240, 600, 600, 3_600, 7_200, 21_600, 54_000)
NOTICES = {kind: ("trade_status_sync",) for kind in ("paid", "failed", "closed", "expired", "refunded")}
BILL_SECONDS = 30
_PAGES = {"alipay.trade.page.pay": "FAST_INSTANT_TRADE_PAY", "alipay.trade.wap.pay": "QUICK_WAP_PAY"}
_NEEDED = ("app_id", "method", "charset", "sign_type", "sign", "timestamp", "version", "biz_content")
_YUAN = re.compile(r"[0-9]{1,9}\.[0-9]{2}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")
_CHINA = timedelta(hours=8)
_COLUMNS = (
    "支付宝交易号", "商户订单号", "业务类型", "商品名称", "创建时间", "完成时间", "门店编号", "门店名称", "操作员",
    "终端号", "对方账户", "订单金额（元）", "商家实收（元）", "支付宝红包（元）", "集分宝（元）", "支付宝优惠（元）",
    "商家优惠（元）", "券核销金额（元）", "券名称", "商家红包消费金额（元）", "卡消费金额（元）", "退款批次号/请求号",
    "服务费（元）", "分润（元）", "备注",
)  # fmt: skip


class Refused(Exception):
    """A call that is answered with an error; `code` and `sub_code` as the gateway's tables have them."""

    def __init__(self, sub_code: str, code: str = "40004"):
        super().__init__(sub_code)
        self.code, self.sub_code = code, sub_code


def demo_account(world: World) -> dict[str, Any]:
    return {
        "mode": "test",
        "settings": {
            "app_id": APP_ID,
            "seller_id": SELLER_ID,
            "alipay_public_key": world.keys("alipay").public_pem,
            "api_base": world.base_url("alipay"),
        },
        "secrets": {"private_key": world.keys("alipay-app").private_pem},
    }


def new_txn(world: World, record: Record) -> str:
    return f"{_day(world.now()).replace('-', '')}22001425331400{world.number('alipay_trade'):06d}"


def new_refund_id(world: World, record: Record) -> str:
    return f"{_day(world.now()).replace('-', '')}00{world.number('alipay_refund'):012d}"


def handle(request: Request, world: World) -> Response:
    if request.path.startswith("/bill/"):
        return _download(request.path.removeprefix("/bill/"), world)
    if request.path != "/gateway.do":
        return Response(404)
    params = dict(request.query)
    if request.method == "POST":
        try:
            params |= request.form()
        except ValueError:
            return Response(400)
    method = params.get("method", "")
    try:
        about = _checked(params, world)
        if method in _PAGES and request.method == "GET":
            return _page(method, params, about, world)
        if method not in _CALLS or request.method != "POST":
            raise Refused("isv.invalid-method", "40002")
        node = {"code": "10000", "msg": "Success", **_CALLS[method](params, about, world)}
    except Refused as no:
        if request.method == "GET":
            text = f"Alipay refuses this request: {no.sub_code}"
            return Response(400, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})
        message = "Business Failed" if no.code == "40004" else "Invalid Arguments"
        node = {"code": no.code, "msg": message, "sub_code": no.sub_code, "sub_msg": no.sub_code}
    return _answer(method, node, world)


def notice(world: World, record: Record, event: Event) -> NoticeRequest | None:
    if record.notify_url is None:
        return None
    if event.kind in ("closed", "expired") and not (record.extra.get("is_begun") and _is_wap(record)):
        return None  # only the phone's page reports a trade that nobody paid
    fields = {
        **_notice_fields(world, record, event),
        "notify_time": _china(world.now()),
        "notify_type": "trade_status_sync",
        "notify_id": f"{_day(event.at).replace('-', '')}00222{int(event.event_id[3:], 16) % 10**24:024d}",
        "charset": "utf-8",
        "version": "1.0",
        "app_id": APP_ID,
        "auth_app_id": APP_ID,
        "seller_id": SELLER_ID,
        "buyer_id": "2088102147948060",
        "body": "",
    }
    signed = _sign(world, "&".join(f"{name}={fields[name]}" for name in sorted(fields)))
    body = urlencode({**fields, "sign_type": "RSA2", "sign": signed}).encode()
    return NoticeRequest(record.notify_url, {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, body)


def taken(status: int, body: bytes) -> bool:
    return body == b"success"


def pay(world: World, record: Record, outcome: str | None) -> None:
    """To pay is to have begun; a code that was never scanned by anybody is what stays without a trade."""
    with world.changing():
        if record.state == "open":
            record.extra["is_begun"] = True
        world.pay(record, outcome)


def return_address(world: World, record: Record) -> str | None:
    """The buyer comes back with what Alipay says of the payment, signed. It proves nothing, and must be ignored."""
    if record.return_url is None or record.state != "paid":
        return record.return_url
    fields = {
        "charset": "utf-8", "out_trade_no": record.our_no, "method": f"{record.extra['method']}.return",
        "total_amount": _yuan(record.paid_minor), "trade_no": record.provider_txn or "", "auth_app_id": APP_ID,
        "version": "1.0", "app_id": APP_ID, "seller_id": SELLER_ID, "timestamp": _china(world.now()),
    }  # fmt: skip
    signed = _sign(world, "&".join(f"{name}={fields[name]}" for name in sorted(fields)))
    address, hash_mark, fragment = record.return_url.partition("#")
    joint = "&" if "?" in address else "?"
    return f"{address}{joint}{urlencode({**fields, 'sign_type': 'RSA2', 'sign': signed})}{hash_mark}{fragment}"


# requests


def _checked(params: dict[str, str], world: World) -> dict[str, Any]:
    """The biz_content of a request that is complete and signed by the application's key."""
    for name in _NEEDED:
        if not params.get(name):
            raise Refused(f"isv.missing-{name.replace('_', '-')}", "40001")
    if params["app_id"] != APP_ID:
        raise Refused("isv.invalid-app-id", "40002")
    if params["sign_type"] != "RSA2":
        raise Refused("isv.invalid-signature-type", "40002")
    text = "&".join(f"{name}={params[name]}" for name in sorted(params) if name != "sign")
    try:
        signature = base64.b64decode(params["sign"], validate=True)
    except binascii.Error:
        signature = b""
    if not _read_once(world.keys("alipay-app")).verify(text.encode(), signature):
        raise Refused("isv.invalid-signature", "40002")
    if params["charset"].lower() != "utf-8" or params.get("format", "JSON") != "JSON" or params["version"] != "1.0":
        raise Refused("isv.invalid-format", "40002")
    if not _TIME.fullmatch(params["timestamp"]):
        raise Refused("isv.invalid-timestamp", "40002")
    try:
        about = json.loads(params["biz_content"])
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise Refused("isv.illegal-json", "40002")
    return about


def _answer(method: str, node: dict[str, Any], world: World) -> Response:
    raw = json.dumps(node, ensure_ascii=False, separators=(",", ":")).replace("/", "\\/")
    if node.get("sub_code") == "isv.invalid-app-id":  # whose key would it sign with?
        body = f'{{"error_response":{raw}}}'
    else:
        name = method.replace(".", "_") + "_response"
        body = f'{{"{name}":{raw},"sign":"{_sign(world, raw)}"}}'
    return Response(200, body.encode(), {"Content-Type": "text/html;charset=utf-8"})  # as the gateway says, really


def _open(method: str, params: dict[str, str], about: dict[str, Any], world: World) -> Record:
    our_no, subject, amount = about.get("out_trade_no"), about.get("subject"), about.get("total_amount")
    if not (isinstance(our_no, str) and re.fullmatch(r"\w{1,64}", our_no)):
        raise Refused("ACQ.INVALID_PARAMETER")
    if not (isinstance(subject, str) and 0 < len(subject) <= 256) or set("/=&") & set(subject):
        raise Refused("ACQ.INVALID_PARAMETER")
    if not (isinstance(amount, str) and _YUAN.fullmatch(amount)) or _fen(amount) < 1:
        raise Refused("ACQ.INVALID_PARAMETER")
    if any(len(params.get(name, "")) > 256 for name in ("notify_url", "return_url")):
        raise Refused("ACQ.INVALID_PARAMETER")
    known = world.find("alipay", our_no)
    expires_at = _instant(about["time_expire"]) if about.get("time_expire") else None
    if known is None and expires_at is not None and expires_at <= world.now():
        raise Refused("ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR")
    record = known or world.open(
        "alipay", our_no, _fen(amount), "CNY", params.get("notify_url"), params.get("return_url"),
        expires_at=expires_at, method=method, title=subject,
    )  # fmt: skip
    if record.amount_minor != _fen(amount):
        raise Refused("ACQ.CONTEXT_INCONSISTENT")
    return record


def _page(method: str, params: dict[str, str], about: dict[str, Any], world: World) -> Response:
    if about.get("product_code") != _PAGES[method]:
        raise Refused("ACQ.INVALID_PARAMETER")
    record = _open(method, params, about, world)
    with world.changing():
        if record.state == "open":
            record.extra["is_begun"] = True
    return Response(302, b"", {"Location": world.pay_url(record), "Cache-Control": "no-store"})


def _precreate(params: dict[str, str], about: dict[str, Any], world: World) -> dict[str, Any]:
    record = _open("alipay.trade.precreate", params, about, world)
    if record.state != "open":
        raise Refused("ACQ.TRADE_HAS_SUCCESS" if record.state == "paid" else "ACQ.TRADE_HAS_CLOSE")
    return {"out_trade_no": record.our_no, "qr_code": world.pay_url(record)}


def _query(params: dict[str, str], about: dict[str, Any], world: World) -> dict[str, Any]:
    record = _trade(about, world)
    known = {"out_trade_no": record.our_no, "trade_status": _status(record), "subject": record.extra["title"]}
    known["trade_no"] = record.provider_txn or f"{_day(record.created_at).replace('-', '')}22001425331499000000"
    known["total_amount"] = _yuan(record.paid_minor or record.amount_minor)
    if record.paid_at is not None:
        known |= {"send_pay_date": _china(record.paid_at), "receipt_amount": known["total_amount"]}
    return known


def _close(params: dict[str, str], about: dict[str, Any], world: World) -> dict[str, Any]:
    record = _trade(about, world)
    if record.state != "open":
        raise Refused("ACQ.TRADE_STATUS_ERROR")
    try:
        world.close(record)
    except Impossible:
        raise Refused("ACQ.TRADE_STATUS_ERROR") from None
    return {"out_trade_no": record.our_no}


def _refund(params: dict[str, str], about: dict[str, Any], world: World) -> dict[str, Any]:
    record, number, amount = _trade(about, world), about.get("out_request_no"), about.get("refund_amount")
    if not (isinstance(number, str) and number and isinstance(amount, str) and _YUAN.fullmatch(amount)):
        raise Refused("ACQ.INVALID_PARAMETER")
    words = {
        "not_paid": "ACQ.TRADE_STATUS_ERROR",
        "too_much": "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL",
        "other_amount": "ACQ.DISCORDANT_REPEAT_REQUEST",
    }
    with world.changing():
        is_new = record.refund_of(number) is None
        try:
            made = world.refund(record, number, _fen(amount))
        except Impossible as no:
            raise Refused(words[no.reason]) from None
    if made.state == "failed" and made.reversed_at is None:
        raise Refused("ACQ.TRADE_NOT_ALLOW_REFUND")
    total = _yuan(record.refunded_minor)
    known = {"out_trade_no": record.our_no, "trade_no": record.provider_txn, "refund_fee": total}
    return {**known, "fund_change": "Y" if is_new else "N"}


def _refund_query(params: dict[str, str], about: dict[str, Any], world: World) -> dict[str, Any]:
    record = _trade(about, world)
    found = record.refund_of(about.get("out_request_no"))
    if found is None or found.state != "succeeded":
        return {}  # done, and not a word of a refund: there is none
    return {
        "out_trade_no": record.our_no, "trade_no": record.provider_txn, "out_request_no": found.refund_no,
        "total_amount": _yuan(record.paid_minor), "refund_amount": _yuan(found.amount_minor),
        "refund_status": "REFUND_SUCCESS",
    }  # fmt: skip


def _bill_url(params: dict[str, str], about: dict[str, Any], world: World) -> dict[str, Any]:
    day = about.get("bill_date")
    if about.get("bill_type") != "trade" or not (isinstance(day, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", day)):
        raise Refused("isv.invalid_arguments")
    if day >= _day(world.now()):
        raise Refused("isv.invalid_arguments")
    if not _movements(world, day):
        raise Refused("isp.bill_not_exist")
    token = secrets.token_hex(16)
    with world.changing():
        world.shelf("alipay_bills")[token] = {"day": day, "until": world.now() + BILL_SECONDS}
    return {"bill_download_url": f"{world.base_url('alipay')}/bill/{token}"}


_CALLS = {
    "alipay.trade.precreate": _precreate,
    "alipay.trade.query": _query,
    "alipay.trade.close": _close,
    "alipay.trade.refund": _refund,
    "alipay.trade.fastpay.refund.query": _refund_query,
    "alipay.data.dataservice.bill.downloadurl.query": _bill_url,
}


def _trade(about: dict[str, Any], world: World) -> Record:
    record = world.find("alipay", str(about.get("out_trade_no")))
    if record is None and about.get("trade_no"):
        record = world.find_by("alipay", provider_txn=about["trade_no"])
    if record is None or not (record.extra.get("is_begun") or record.state == "paid"):
        raise Refused("ACQ.TRADE_NOT_EXIST")
    return record


def _status(record: Record) -> str:
    if record.state == "open":
        return "WAIT_BUYER_PAY"
    if record.state != "paid":
        return "TRADE_CLOSED"
    return "TRADE_CLOSED" if record.refunded_minor >= record.paid_minor else "TRADE_SUCCESS"


# notices


def _notice_fields(world: World, record: Record, event: Event) -> dict[str, str]:
    amount = _yuan(record.paid_minor or record.amount_minor)
    fields = {
        "trade_no": record.provider_txn or "", "out_trade_no": record.our_no, "total_amount": amount,
        "subject": record.extra["title"], "gmt_create": _china(record.created_at), "trade_status": "TRADE_CLOSED",
    }  # fmt: skip
    if event.kind in ("closed", "expired", "failed"):
        return {**fields, "gmt_close": _china(record.closed_at or event.at)}
    fields |= {"gmt_payment": _china(record.paid_at or event.at), "receipt_amount": amount, "buyer_pay_amount": amount}
    if event.kind == "paid":
        return {**fields, "trade_status": "TRADE_SUCCESS"}
    refund = record.refund_of(provider_refund_id=event.refund_id)
    if refund is None:
        raise LookupError("no such refund")
    given = _given_until(record, refund)
    if given < record.paid_minor:
        fields["trade_status"] = "TRADE_SUCCESS"
    number = refund.refund_no or refund.provider_refund_id
    return {**fields, "refund_fee": _yuan(given), "out_biz_no": number, "gmt_refund": _china(event.at) + ".123"}


def _given_until(record: Record, last: Refund) -> int:
    """What all refunds up to this one gave back: a notice tells the sum as it was then."""
    total = 0
    for one in record.refunds:
        if one.state == "succeeded" or one is last:
            total += one.amount_minor
        if one is last:
            break
    return total


def _is_wap(record: Record) -> bool:
    return record.extra.get("method") == "alipay.trade.wap.pay"


# bills


def _movements(world: World, day: str) -> list[Movement]:
    since = _instant(f"{day} 00:00:00")
    return world.movements("alipay", since, since + 86_400)


def _download(token: str, world: World) -> Response:
    known = world.shelf("alipay_bills").get(token)
    if known is None or known["until"] < world.now():
        return Response(404)
    packed = io.BytesIO()
    stem = f"{SELLER_ID}0156_{known['day'].replace('-', '')}"
    moved = _movements(world, known["day"])
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}_业务明细.csv", _details(known["day"], moved).encode("gbk", "replace"))
        archive.writestr(f"{stem}_业务明细(汇总).csv", _summary(moved).encode("gbk"))
    return Response(200, packed.getvalue(), {"Content-Type": "application/zip"})


def _details(day: str, moved: list[Movement]) -> str:
    since = _instant(f"{day} 00:00:00")
    lines = [
        "#支付宝业务明细查询",
        f"#账号：[{SELLER_ID}0156]",
        f"#起始日期：[{_spelled(since)}]   终止日期：[{_spelled(since + 86_400)}]",
        f"#{'-' * 41}业务明细列表{'-' * 40}",
        ",".join(_COLUMNS),
        *(_row(one) for one in moved),
        f"#{'-' * 41}业务明细列表结束{'-' * 36}",
        f"#导出时间：[{_spelled(since + 90_000)}]",
    ]
    return "\r\n".join(lines) + "\r\n"


def _row(moved: Movement) -> str:
    kinds = {"payment": "交易", "refund": "退款"}
    refund_no = (moved.refund.refund_no or moved.refund.provider_refund_id) if moved.refund else ""
    amount = _yuan(moved.amount_minor)
    title = str(moved.record.extra.get("title", "")).replace(",", " ").replace('"', " ")
    cells = [
        f"{moved.record.provider_txn}\t", f"{moved.record.our_no}\t", f"{kinds.get(moved.kind, '其他')}\t", title,
        _china(moved.record.created_at), _china(moved.at), "\t", "\t", "\t", "\t", "**博(156******89)\t",
        amount, amount, "0.00", "0.00", "0.00", "0.00", "0.00", "", "0.00\t", "0.00", f"{refund_no}\t",
        _yuan(-moved.fee_minor), "0.00", "",
    ]  # fmt: skip
    return ",".join(cells)


def _summary(moved: list[Movement]) -> str:
    total = _yuan(sum(one.amount_minor for one in moved))
    return f"#支付宝业务汇总查询\r\n门店编号,门店名称,商家实收（元）\r\n合计,\t,{total}\r\n"


# how Alipay writes


def _sign(world: World, text: str) -> str:
    return base64.b64encode(_read_once(world.keys("alipay")).sign(text.encode())).decode()


@functools.lru_cache(maxsize=8)
def _read_once(keys: Keys) -> Keys:
    """To read a key takes a tenth of a second, to sign with it a thousandth."""
    return keys


def _yuan(minor: int) -> str:
    sign, number = ("-" if minor < 0 else ""), abs(minor)
    return f"{sign}{number // 100}.{number % 100:02d}"


def _fen(yuan: str) -> int:
    whole, _, part = yuan.partition(".")
    return int(whole) * 100 + int(part)


def _china(at: float) -> str:
    return (datetime.fromtimestamp(int(at), UTC) + _CHINA).strftime("%Y-%m-%d %H:%M:%S")


def _day(at: float) -> str:
    return _china(at)[:10]


def _spelled(at: int) -> str:
    return (datetime.fromtimestamp(at, UTC) + _CHINA).strftime("%Y年%m月%d日 %H:%M:%S")


def _instant(text: str) -> int:
    try:
        return int((datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) - _CHINA).timestamp())
    except (ValueError, TypeError):
        raise Refused("ACQ.INVALID_PARAMETER") from None
