"""WeChat Pay, API v3, as its documents describe it: native, JSAPI and H5 payments, refunds, certificates, trade bills.

Requests must be signed with the merchant's key; every answer but a 401 is signed, with the public key when the request
names it, else with the platform certificate. Notices use either at random, like those of a merchant in the middle of
the change, and the demo account has the public key only: the certificate is to be fetched. A refund is `PROCESSING` for
a moment. A day's bill can be had once the day is over in China (`/_control/clock` helps).

Signatures go by the machine's real clock; what happens in the books goes by the world's.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import re
import secrets
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, unquote

from infra.local.simulator import NoticeRequest, Request, Response
from infra.local.simulator.world import Event, Impossible, Keys, Record, Refund, World

RETRY_SECONDS = (15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10800, 10800, 10800, 21600, 21600)
NOTICES = {
    "paid": ("TRANSACTION.SUCCESS",),
    "refunded": ("REFUND.SUCCESS",),
    "refund_failed": ("REFUND.CLOSED",),
}
REFUND_SECONDS = 1
FEE_BASIS_POINTS = 60

NAME = "wechat_pay"
MCHID, APPID = "1900000109", "wx8888888888888888"
PUBLIC_KEY_ID = "PUB_KEY_ID_0119000001092026010100123400005678"
WINDOW_SECONDS = 300
CHINA = timezone(timedelta(hours=8))
BILL_COLUMNS = (
    "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,"
    "应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,"
    "手续费,费率,订单金额,申请退款金额,费率备注"
)
BILL_TOTALS = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"
_TRADE_STATES = {"open": "NOTPAY", "paid": "SUCCESS", "closed": "CLOSED", "failed": "PAYERROR"}
_AUTHORIZATION = re.compile(
    r'WECHATPAY2-SHA256-RSA2048 mchid="([^"]*)",nonce_str="([^"]*)",signature="([^"]*)",timestamp="(\d+)",'
    r'serial_no="([^"]*)"'
)


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str = ""):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message or code


# the account


def demo_account(world: World) -> dict[str, Any]:
    settings = {
        "mchid": MCHID,
        "appid": APPID,
        "merchant_serial_no": _merchant_serial(world),
        "public_key_id": PUBLIC_KEY_ID,
        "public_key": _public_keys(world).public_pem,
        "api_base": world.base_url(NAME),
    }
    secrets_ = {"private_key": _merchant_keys(world).private_pem, "apiv3_key": world.secret("wechat_pay_apiv3")}
    return {"mode": "test", "settings": settings, "secrets": secrets_}


def _merchant_keys(world: World) -> Keys:
    return _read_once(world.keys("wechat_pay_merchant"))


def _public_keys(world: World) -> Keys:
    return _read_once(world.keys("wechat_pay_public_key"))


def _platform_keys(world: World) -> Keys:
    return _read_once(world.keys("wechat_pay_platform"))


@functools.lru_cache(maxsize=32)
def _read_once(keys: Keys) -> Keys:
    """The first object with these keys: reading a private key takes long, and it remembers what it has read."""
    return keys


def _merchant_serial(world: World) -> str:
    return hashlib.sha1(_merchant_keys(world).public_pem.encode()).hexdigest().upper()


def platform_certificate(world: World) -> tuple[str, str]:
    """Serial number and PEM."""
    from cryptography import x509

    pem = world.keep("wechat_pay_platform_certificate.pem", lambda: _make_certificate(_platform_keys(world)))
    return f"{x509.load_pem_x509_certificate(pem.encode()).serial_number:X}", pem


def _make_certificate(keys: Keys) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
    from cryptography.x509.oid import NameOID

    key = load_pem_private_key(keys.private_pem.encode(), password=None)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenpay.com sign (simulated)")])
    serial = int("7" + secrets.token_hex(19) + "1", 16) % (1 << 159)
    since = datetime.now(UTC) - timedelta(days=1)
    built = x509.CertificateBuilder(name, name, key.public_key(), serial, since, since + timedelta(days=5 * 365))
    return built.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


# its HTTP API


def handle(request: Request, world: World) -> Response:
    if request.method == "GET" and request.path == "/cgi-bin/mmpayweb-bin/checkmweb":
        return _phone_page(request, world)
    try:
        _check_signature(request, world)
        body = json.loads(request.body) if request.body else {}
        if not isinstance(body, dict):
            raise ValueError
        status, answer = _route(request, world, body)
        if isinstance(answer, Response):
            return answer
    except Refusal as refusal:
        status, answer = refusal.status, {"code": refusal.code, "message": refusal.message}
    except (ValueError, KeyError, TypeError):
        status, answer = 400, {"code": "PARAM_ERROR", "message": "a parameter is missing or of the wrong form"}
    raw = b"" if answer is None else json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json; charset=utf-8", "Request-ID": secrets.token_hex(12)}
    if status != 401:
        by_public_key = request.headers.get("wechatpay-serial", "").startswith("PUB_KEY_ID_")
        headers |= _signed(world, raw, int(time.time()), by_public_key)
    return Response(status, raw, headers)


def _check_signature(request: Request, world: World) -> None:
    headers = request.headers
    if "json" not in headers.get("accept", "") or not headers.get("user-agent"):
        raise Refusal(400, "PARAM_ERROR", "Accept and User-Agent are needed")
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None:
        raise Refusal(401, "SIGN_ERROR", "no Authorization of this scheme")
    mchid, nonce, signature, stamp, serial = found.groups()
    signed = f"{request.method}\n{request.target}\n{stamp}\n{nonce}\n".encode() + request.body + b"\n"
    is_ours = mchid == MCHID and serial == _merchant_serial(world)
    is_fresh = abs(time.time() - int(stamp)) <= WINDOW_SECONDS
    if not (is_ours and is_fresh and nonce and _merchant_keys(world).verify(signed, base64.b64decode(signature))):
        raise Refusal(401, "SIGN_ERROR", "the signature is wrong")
    if headers.get("wechatpay-serial", PUBLIC_KEY_ID) not in (PUBLIC_KEY_ID, platform_certificate(world)[0]):
        raise Refusal(400, "PARAM_ERROR", "Wechatpay-Serial is unknown")


def _route(request: Request, world: World, body: dict) -> tuple[int, Any]:
    steps = [unquote(one) for one in request.path.strip("/").split("/")]
    match (request.method, steps):
        case ("POST", ["v3", "pay", "transactions", ("native" | "jsapi" | "h5") as method]):
            return 200, _open(world, method, body)
        case ("GET", ["v3", "pay", "transactions", ("out-trade-no" | "id") as by, number]):
            _check_merchant(request.query.get("mchid"))
            found = world.find(NAME, number) if by == "out-trade-no" else world.find_by(NAME, provider_txn=number)
            if found is None:
                raise Refusal(404, "ORDER_NOT_EXIST")
            return 200, _transaction(found)
        case ("POST", ["v3", "pay", "transactions", "out-trade-no", number, "close"]):
            _check_merchant(body.get("mchid"))
            _close(world, number)
            return 204, None
        case ("POST", ["v3", "refund", "domestic", "refunds"]):
            return 200, _give_back(world, body)
        case ("GET", ["v3", "refund", "domestic", "refunds", number]):
            known = world.find_refund(NAME, refund_no=number)
            if known is None:
                raise Refusal(404, "RESOURCE_NOT_EXISTS")
            return 200, _refund_answer(*known)
        case ("GET", ["v3", "certificates"]):
            return 200, {"data": [_sealed_certificate(world)]}
        case ("GET", ["v3", "bill", "tradebill"]):
            return 200, _apply_for_bill(world, request.query)
        case ("GET", ["v3", "billdownload", "file"]):
            return 200, _bill_file(world, request.query["token"])
    raise Refusal(404, "RESOURCE_NOT_EXISTS", "no such address")


def _check_merchant(mchid: Any) -> None:
    if mchid != MCHID:
        raise Refusal(400, "PARAM_ERROR", "mchid is not the signer's")


def _open(world: World, method: str, wish: dict) -> dict[str, str]:
    _check_merchant(wish["mchid"])
    if wish["appid"] != APPID:
        raise Refusal(400, "APPID_MCHID_NOT_MATCH")
    total, number, ends_at = wish["amount"]["total"], wish["out_trade_no"], datetime.fromisoformat(wish["time_expire"])
    is_right = (
        type(total) is int
        and total >= 1
        and wish["amount"].get("currency", "CNY") == "CNY"
        and re.fullmatch(r"[0-9A-Za-z_\-*|]{6,32}", number)
        and 0 < len(wish["description"]) <= 127
        and len(wish["description"].encode()) <= 127
        and re.fullmatch(r"https?://[^?#]+", wish["notify_url"])
        and ends_at.timestamp() > world.now() + 60
    )
    if method == "jsapi":
        is_right = is_right and isinstance(wish["payer"]["openid"], str) and wish["payer"]["openid"]
    if method == "h5":
        is_right = is_right and wish["scene_info"]["payer_client_ip"] and wish["scene_info"]["h5_info"]["type"]
    if not is_right:
        raise Refusal(400, "PARAM_ERROR")
    record = world.open(
        NAME, number, total, "CNY", wish["notify_url"], expires_at=int(ends_at.timestamp()), title=wish["description"],
        method=method, prepay_id=f"wx{secrets.token_hex(17)}", openid=wish.get("payer", {}).get("openid"),
    )  # fmt: skip
    if record.state == "paid":
        raise Refusal(400, "ORDERPAID")
    if record.state == "closed":
        raise Refusal(400, "ORDER_CLOSED")
    told = (record.amount_minor, record.extra["title"], record.extra["method"], record.notify_url)
    if told != (total, wish["description"], method, wish["notify_url"]):
        raise Refusal(403, "OUT_TRADE_NO_USED")
    if method == "native":
        return {"code_url": world.pay_url(record)}
    if method == "jsapi":
        return {"prepay_id": record.extra["prepay_id"]}
    page = f"{world.base_url(NAME)}/cgi-bin/mmpayweb-bin/checkmweb"
    return {"h5_url": f"{page}?prepay_id={record.extra['prepay_id']}&package=1"}


def _phone_page(request: Request, world: World) -> Response:
    """Where an H5 payment sends the phone; the address to come back to is in the query, put there by the shop."""
    record = world.find_by(NAME, prepay_id=request.query.get("prepay_id"))
    if record is None:
        return Response(404, b"no such payment", {"Content-Type": "text/plain"})
    with world.changing():
        back = parse_qs(request.target.partition("?")[2]).get("redirect_url")
        record.extra["redirect_url"] = back[0] if back else None
    return Response(302, b"", {"Location": world.pay_url(record)})


def return_address(world: World, record: Record) -> str | None:
    return record.extra.get("redirect_url")


def _close(world: World, number: str) -> None:
    """An order that never was is closed like any other."""
    record = world.find(NAME, number)
    if record is None:
        return
    try:
        world.close(record)
    except Impossible:
        raise Refusal(400, "ORDERPAID") from None


def _give_back(world: World, wish: dict) -> dict[str, Any]:
    by_txn = wish.get("transaction_id")
    record = world.find_by(NAME, provider_txn=by_txn) if by_txn else world.find(NAME, wish["out_trade_no"])
    if record is None:
        raise Refusal(404, "RESOURCE_NOT_EXISTS")
    number, amount = wish["out_refund_no"], wish["amount"]
    if not re.fullmatch(r"[0-9A-Za-z_\-|*@]{1,64}", number) or type(amount["refund"]) is not int:
        raise Refusal(400, "PARAM_ERROR")
    if "notify_url" in wish and not re.fullmatch(r"https?://[^?#]+", wish["notify_url"]):
        raise Refusal(400, "PARAM_ERROR", "notify_url")
    used = world.find_refund(NAME, refund_no=number)
    if amount["total"] != record.paid_minor or amount["currency"] != "CNY" or (used and used[0] is not record):
        raise Refusal(400, "INVALID_REQUEST")
    try:
        made = world.refund(record, number, amount["refund"], notify_url=wish.get("notify_url"))
    except Impossible as impossible:
        raise Refusal(400, "INVALID_REQUEST", impossible.reason) from None
    return _refund_answer(record, made)


def new_txn(world: World, record: Record) -> str:
    return f"4200{_china(world.now()):%Y%m%d}{world.number('wechat_pay_txn'):016d}"


def new_refund_id(world: World, record: Record) -> str:
    return f"5030{_china(world.now()):%Y%m%d}{world.number('wechat_pay_refund'):017d}"


# what it says of things


def _transaction(record: Record) -> dict[str, Any]:
    state = "REFUND" if record.refunded_minor else _TRADE_STATES[record.state]
    told: dict[str, Any] = {
        "mchid": MCHID,
        "appid": APPID,
        "out_trade_no": record.our_no,
        "trade_state": state,
        "trade_state_desc": state,
        "attach": "",
    }
    if record.state != "paid":
        return told | {"amount": {"total": record.amount_minor, "currency": "CNY"}}
    return told | {
        "transaction_id": record.provider_txn,
        "trade_type": {"native": "NATIVE", "jsapi": "JSAPI", "h5": "MWEB"}[record.extra["method"]],
        "bank_type": "OTHERS",
        "success_time": _china(record.paid_at or 0).isoformat(),
        "payer": {"openid": record.extra.get("openid") or "oUpF8uMuAJO_simulated"},
        "amount": {
            "total": record.paid_minor,
            "payer_total": record.paid_minor,
            "currency": "CNY",
            "payer_currency": "CNY",
        },
    }


def _refund_state(refund: Refund) -> str:
    if refund.reversed_at is not None:
        return "ABNORMAL"  # it could not be paid out where it came from
    return {"pending": "PROCESSING", "succeeded": "SUCCESS", "failed": "CLOSED"}[refund.state]


def _refund_number(refund: Refund) -> str:
    """One made by hand in the console gets a number like this."""
    return refund.refund_no or f"BH{refund.provider_refund_id}"


def _refund_answer(record: Record, refund: Refund) -> dict[str, Any]:
    told = {
        "refund_id": refund.provider_refund_id,
        "out_refund_no": _refund_number(refund),
        "transaction_id": record.provider_txn,
        "out_trade_no": record.our_no,
        "channel": "ORIGINAL",
        "user_received_account": "支付用户零钱",
        "create_time": _china(refund.created_at).isoformat(),
        "status": _refund_state(refund),
        "amount": {
            "total": record.paid_minor,
            "refund": refund.amount_minor,
            "payer_total": record.paid_minor,
            "payer_refund": refund.amount_minor,
            "currency": "CNY",
        },
    }
    return told | ({"success_time": _china(refund.settled_at).isoformat()} if refund.settled_at else {})


def _sealed_certificate(world: World) -> dict[str, Any]:
    serial, pem = platform_certificate(world)
    now = _china(world.now())
    return {
        "serial_no": serial,
        "effective_time": (now - timedelta(days=1)).isoformat(),
        "expire_time": (now + timedelta(days=1000)).isoformat(),
        "encrypt_certificate": _seal(world, pem.encode(), "certificate"),
    }


# signing and sealing


def _signed(world: World, raw: bytes, at: int, by_public_key: bool) -> dict[str, str]:
    nonce = secrets.token_hex(16)
    keys = _public_keys(world) if by_public_key else _platform_keys(world)
    signature = keys.sign(f"{at}\n{nonce}\n".encode() + raw + b"\n")
    return {
        "Wechatpay-Timestamp": str(at),
        "Wechatpay-Nonce": nonce,
        "Wechatpay-Signature": base64.b64encode(signature).decode(),
        "Wechatpay-Serial": PUBLIC_KEY_ID if by_public_key else platform_certificate(world)[0],
        "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
    }


def _seal(world: World, plain: bytes, extra: str) -> dict[str, str]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_hex(6)
    key = world.secret("wechat_pay_apiv3").encode()
    ciphertext = AESGCM(key).encrypt(nonce.encode(), plain, extra.encode())
    return {
        "algorithm": "AEAD_AES_256_GCM",
        "ciphertext": base64.b64encode(ciphertext).decode(),
        "associated_data": extra,
        "nonce": nonce,
    }


# notices


def notice(world: World, record: Record, event: Event) -> NoticeRequest | None:
    refund = record.refund_of(provider_refund_id=event.refund_id) if event.refund_id else None
    url = record.notify_url
    if refund is None:
        name, kind, thing = event.name, "transaction", _transaction(record) | {"trade_state": "SUCCESS"}
    else:
        name = "REFUND.ABNORMAL" if event.kind == "refund_failed" and refund.reversed_at is not None else event.name
        kind, thing = "refund", _refund_answer(record, refund)
        status = name.removeprefix("REFUND.")
        thing = {**thing, "mchid": MCHID, "refund_status": status}
        thing["amount"] = {name: value for name, value in thing["amount"].items() if name != "currency"}
        for unsaid in ("status", "channel", "create_time"):
            thing.pop(unsaid)
        url = refund.extra.get("notify_url") or url
    message = {
        "id": event.event_id,
        "create_time": _china(event.at).isoformat(),
        "resource_type": "encrypt-resource",
        "event_type": name,
        "summary": {"transaction": "支付成功", "refund": "退款"}[kind],
        "resource": {
            "original_type": kind,
            **_seal(world, json.dumps(thing, ensure_ascii=False, separators=(",", ":")).encode(), kind),
        },
    }
    raw = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    by_public_key = bool(secrets.randbelow(2))
    headers = {"Content-Type": "application/json", "User-Agent": "Mozilla/4.0"}
    return NoticeRequest(url, headers | _signed(world, raw, world.now(), by_public_key), raw)


def taken(status: int, body: bytes) -> bool:
    return status in (200, 204)


# the trade bill


def _apply_for_bill(world: World, query: dict[str, str]) -> dict[str, str]:
    day = query["bill_date"]
    since = int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=CHINA).timestamp())
    if query.get("bill_type", "ALL") != "ALL" or query.get("tar_type", "GZIP") != "GZIP":
        raise Refusal(400, "PARAM_ERROR")
    rows = _bill_rows(world, since, since + 86_400)
    if world.now() < since + 86_400 or not rows:
        raise Refusal(400, "NO_STATEMENT_EXIST")
    plain = _bill(rows)
    with world.changing():
        token = secrets.token_urlsafe(24)
        world.shelf("wechat_pay_bills")[token] = {"bill": plain, "is_packed": query.get("tar_type") == "GZIP"}
    return {
        "hash_type": "SHA1",
        "hash_value": hashlib.sha1(plain.encode()).hexdigest(),
        "download_url": f"{world.base_url(NAME)}/v3/billdownload/file?token={token}",
    }


def _bill_file(world: World, token: str) -> Response:
    """The file itself is not signed."""
    kept = world.shelf("wechat_pay_bills").get(token)
    if kept is None:
        raise Refusal(404, "RESOURCE_NOT_EXISTS")
    raw = kept["bill"].encode()
    if kept["is_packed"]:
        return Response(200, gzip.compress(raw), {"Content-Type": "application/x-gzip"})
    return Response(200, raw, {"Content-Type": "text/plain"})


def _bill_rows(world: World, since: int, until: int) -> list[tuple[int, list[str]]]:
    """A payment stands at the time it was paid, a refund at the time it was accepted."""
    rows = []
    for one in world.each(NAME):
        head = [APPID, MCHID, "0", "", one.provider_txn or "", one.our_no, "oUpF8uMuAJO_simulated"]
        kind = {"native": "NATIVE", "jsapi": "JSAPI", "h5": "MWEB"}[one.extra["method"]]
        title = one.extra["title"]
        if one.paid_at is not None and since <= one.paid_at < until:
            paid, fee = _yuan(one.paid_minor), _fee(one.fee_minor)
            money = [paid, "0.00", "0", "0", "0.00", "0.00", "", "", title, "", fee, "0.60%", paid, "0.00", ""]
            rows.append((one.paid_at, [_stamp(one.paid_at), *head, kind, "SUCCESS", "OTHERS", "CNY", *money]))
        for refund in one.refunds:
            if not since <= refund.created_at < until:
                continue
            given, fee = _yuan(refund.amount_minor), _fee(-_share(one, refund))
            state = (
                "SUCCESS"
                if refund.reversed_at
                else {"pending": "PROCESSING", "succeeded": "SUCCESS"}.get(refund.state, "FAIL")
            )
            money = ["0.00", "0.00", refund.provider_refund_id, _refund_number(refund), given, "0.00", "ORIGINAL"]
            money += [state, title, "", fee, "0.60%", "0.00", given, ""]
            rows.append(
                (refund.created_at, [_stamp(refund.created_at), *head, kind, "REFUND", "OTHERS", "CNY", *money])
            )
    return sorted(rows, key=lambda row: row[0])


def _bill(rows: list[tuple[int, list[str]]]) -> str:
    values = [row for _, row in rows]

    def total(column: int, states: tuple[str, ...]) -> str:
        return f"{sum(float(row[column]) for row in values if row[9] in states):.2f}"

    sums = [
        str(len(values)), total(12, ("SUCCESS",)), total(16, ("REFUND",)), "0.00",
        f"{sum(float(row[22]) for row in values):.5f}", total(24, ("SUCCESS",)), total(25, ("REFUND",)),
    ]  # fmt: skip
    lines = [BILL_COLUMNS, *(",".join("`" + value for value in row) for row in values), BILL_TOTALS]
    return "\ufeff" + "".join(f"{line}\r\n" for line in [*lines, ",".join("`" + value for value in sums)])


def _share(record: Record, refund: Refund) -> int:
    """What of the fee comes back with a refund."""
    return (record.fee_minor * refund.amount_minor * 2 + record.paid_minor) // (2 * record.paid_minor)


def _yuan(fen: int) -> str:
    return f"{fen // 100}.{fen % 100:02d}"


def _fee(fen: int) -> str:
    return ("-" if fen < 0 else "") + _yuan(abs(fen)) + "000"


def _china(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone(CHINA)


def _stamp(at: int) -> str:
    return f"{_china(at):%Y-%m-%d %H:%M:%S}"
