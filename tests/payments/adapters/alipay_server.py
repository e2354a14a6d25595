"""A small Alipay gateway for tests, over real HTTP: trades, refunds, bills as documented, and faults on demand.

It checks our RSA2 signature with its own code and signs its answers over the very characters it sends. A trade begins
when a buyer scans or signs in (`scan`), not when it is opened. Refunds with a number already used pay nothing again.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

APP_ID = "2021000199990001"
SELLER_ID = "2088102146225135"
_NOT_EXIST = {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.TRADE_NOT_EXIST", "sub_msg": "交易不存在"}


def sign(key: RSAPrivateKey, message: bytes, digest: hashes.HashAlgorithm | None = None) -> str:
    return base64.b64encode(key.sign(message, padding.PKCS1v15(), digest or hashes.SHA256())).decode()


@dataclass
class AlipayServer:
    """`fault` befalls the next call (`is_fault_lasting`: every call) of a method that ends with `fault_on`:

    drop_before  the connection ends, nothing was done      drop_after  it was done, the connection ends
    error        503, nothing was done                      html        it was done, a proxy answers in HTML
    slow         it was done, the answer comes too late     unsigned    it was done, the answer has no signature
    tampered     one character of the node is another       sha1        signed with SHA-1
    other_key    signed with a key that is not Alipay's     system      20000, it was done, Alipay does not know
    refused      `refusal` is the sub_code, nothing was done
    another      it was done, the answer is about another payment        another_refund  likewise
    status       it was done, and comes with a status that says it was not
    """

    app_key: RSAPublicKey
    own_key: RSAPrivateKey
    other_key: RSAPrivateKey
    fault: str | None = None
    fault_on: str = ""
    is_fault_lasting: bool = False
    refusal: str = ""
    slow_seconds: float = 1.0
    seen: list[dict] = field(default_factory=list)
    opened: dict[str, dict] = field(default_factory=dict)
    trades: dict[str, dict] = field(default_factory=dict)
    refunds: dict[tuple[str, str], str] = field(default_factory=dict)
    bills: dict[str, bytes] = field(default_factory=dict)
    bill_url: str | None = None
    bill_status: int = 200

    def __post_init__(self) -> None:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                gateway.handle(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def scan(self, our_no: str, amount: str = "49.99") -> dict:
        trade = {
            "trade_no": f"20260615220014253314000{len(self.trades) + 1:05d}", "out_trade_no": our_no,
            "total_amount": amount, "trade_status": "WAIT_BUYER_PAY", "subject": "a } b \\ \" { c",
        }  # fmt: skip
        return self.trades.setdefault(our_no, trade)

    def pay(self, our_no: str, amount: str = "49.99") -> dict:
        trade = self.scan(our_no, amount)
        trade |= {"trade_status": "TRADE_SUCCESS", "send_pay_date": "2026-06-15 13:06:38"}
        return trade

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        parts = urlsplit(handler.path)
        if parts.path != "/gateway.do":
            bill = self.bills.get(parts.path)
            return self._send(handler, self.bill_status if bill is not None else 404, bill or b"")
        pairs = parse_qsl(parts.query, keep_blank_values=True) + parse_qsl(body.decode(), keep_blank_values=True)
        params = dict(pairs)
        assert len(params) == len(pairs)
        self.seen.append(params)
        method, fault = params["method"], None
        if self.fault and method.endswith(self.fault_on):
            fault = self.fault
            if not self.is_fault_lasting:
                self.fault = None
        if fault == "drop_before":
            return None
        if fault == "error":
            return self._send(handler, 503, b"overloaded")
        if fault == "refused":
            node = {"code": "40004", "msg": "Business Failed", "sub_code": self.refusal, "sub_msg": "x"}
        else:
            node = self._carry_out(method, params)
        if fault == "system":
            node = {"code": "20000", "msg": "Service Currently Unavailable", "sub_code": "aop.ACQ.SYSTEM_ERROR"}
        if fault == "another" and "out_trade_no" in node:
            node = {**node, "out_trade_no": "pay_another"}
        if fault == "another_refund" and "out_request_no" in node:
            node = {**node, "out_request_no": "rfd_another"}
        if fault == "drop_after":
            return None
        if fault == "slow":
            time.sleep(self.slow_seconds)
        if fault == "html":
            return self._send(handler, 200, b"<html>try later</html>")
        return self._send(handler, 500 if fault == "status" else 200, self._write(method, node, fault))

    def _write(self, method: str, node: dict, fault: str | None) -> bytes:
        raw = json.dumps(node, ensure_ascii=False).replace("/", "\\/").encode()  # as Alipay writes slashes
        if node.get("sub_code") == "isv.invalid-app-id":  # it does not know whose key to sign for
            return b'{"error_response":' + raw + b"}"
        key = self.other_key if fault == "other_key" else self.own_key
        signature = sign(key, raw, hashes.SHA1() if fault == "sha1" else None)
        if fault == "tampered":
            raw = raw.replace(b"10000", b"10000 ") if b"10000" in raw else raw.replace(b"4", b"5")
        name = (method.replace(".", "_") + "_response").encode()
        if fault == "unsigned":
            return b'{"' + name + b'":' + raw + b"}"
        return b'{"' + name + b'" : ' + raw + b' ,\n "sign":"' + signature.encode() + b'"}'

    def _carry_out(self, method: str, params: dict) -> dict:
        if params["app_id"] != APP_ID:
            return {"code": "40002", "msg": "Invalid Arguments", "sub_code": "isv.invalid-app-id"}
        signature = params["sign"]
        text = "&".join(f"{name}={params[name]}" for name in sorted(params) if name != "sign")
        try:
            self.app_key.verify(base64.b64decode(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return {"code": "40002", "msg": "Invalid Arguments", "sub_code": "isv.invalid-signature"}
        about = json.loads(params["biz_content"])
        done = {"code": "10000", "msg": "Success"}
        if method.endswith("bill.downloadurl.query"):
            if f"/{about['bill_date']}" not in self.bills:
                return {"code": "40004", "msg": "Business Failed", "sub_code": "isp.bill_not_exist"}
            url = self.bill_url or f"{self.url}/{about['bill_date']}"
            return {**done, "bill_download_url": url}
        our_no = about["out_trade_no"]
        if method == "alipay.trade.precreate":
            self.opened[our_no] = about
            return {**done, "out_trade_no": our_no, "qr_code": f"https://qr.alipay.com/bax{our_no}"}
        trade = self.trades.get(our_no)
        if trade is None:
            return _NOT_EXIST
        if method == "alipay.trade.query":
            return {**done, **trade}
        if method == "alipay.trade.close":
            if trade["trade_status"] != "WAIT_BUYER_PAY":
                return {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.TRADE_STATUS_ERROR"}
            trade["trade_status"] = "TRADE_CLOSED"
            return {**done, "out_trade_no": our_no, "trade_no": trade["trade_no"]}
        number = (our_no, about["out_request_no"])
        if method == "alipay.trade.fastpay.refund.query":
            if number not in self.refunds:
                return done
            known = {"refund_amount": self.refunds[number], "refund_status": "REFUND_SUCCESS"}
            return {**done, "out_trade_no": our_no, "out_request_no": number[1], **known}
        assert method == "alipay.trade.refund", method
        return self._refund(trade, number, about["refund_amount"])

    def _refund(self, trade: dict, number: tuple[str, str], amount: str) -> dict:
        is_new = number not in self.refunds
        if not is_new and self.refunds[number] != amount:
            return {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.DISCORDANT_REPEAT_REQUEST"}
        given = sum(Decimal(one) for (our_no, _), one in self.refunds.items() if our_no == number[0])
        if is_new and given + Decimal(amount) > Decimal(trade["total_amount"]):
            return {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL"}
        self.refunds[number] = amount
        total = given + Decimal(amount) if is_new else given
        if total == Decimal(trade["total_amount"]):
            trade["trade_status"] = "TRADE_CLOSED"
        return {
            "code": "10000", "msg": "Success", "fund_change": "Y" if is_new else "N", "out_trade_no": number[0],
            "trade_no": trade["trade_no"], "refund_fee": f"{total:.2f}",
        }  # fmt: skip

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        try:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:
            pass  # the caller has given up waiting
