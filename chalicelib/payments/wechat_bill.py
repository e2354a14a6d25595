"""WeChat Pay's daily trade bill (type ALL) as lines of a statement.

A CSV in which every value follows a backtick and nothing is quoted; the last two rows are totals. Amounts are yuan with
two places, fees with five, times are China's. A refund stands under the day it was accepted, whatever became of it
later; `PROCESSING` means that the money has left the merchant already.
"""

from __future__ import annotations

import gzip
import io
import zlib
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from chalicelib.payments.errors import BadStatement
from chalicelib.payments.model import StatementLine
from chalicelib.payments.wechat_signature import CHINA

MAX_BYTES = 32 * 1024 * 1024
_NEEDED = (
    "交易时间", "公众账号ID", "商户号", "微信订单号", "商户订单号", "交易状态", "货币种类", "微信退款单号",
    "商户退款单号", "退款金额", "手续费",
)  # fmt: skip
_TOTALS = "总交易单数"


def parse_bill(raw: bytes, day: str, *, mchid: str, appid: str) -> list[StatementLine]:
    """The lines of one app of one merchant on one day ("YYYY-MM-DD", China's).

    Raises: payments.bad_statement: no trade bill, cut off, of another merchant, or of another day
    """
    try:
        rows, totals = _rows(_text(raw))
        if len(rows) != int(totals[0]):
            raise BadStatement()
        lines = []
        for row in rows:
            if row["商户号"] != mchid or not row["交易时间"].startswith(day + " "):
                raise BadStatement()
            if row["公众账号ID"] == appid:
                lines += _lines_of(row)
        return lines
    except (ValueError, LookupError, InvalidOperation):
        raise BadStatement() from None


def unpacked(raw: bytes) -> bytes:
    """The bill itself, gzipped or not. Raises: ValueError when it is cut off or too long."""
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            plain = packed.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise ValueError("the bill is cut off") from None
    if len(plain) > MAX_BYTES:
        raise ValueError("the bill is too long")
    return plain


def _text(raw: bytes) -> str:
    """UTF-8 from the API; what an operator saved for a spreadsheet may be GBK."""
    plain = unpacked(raw)
    try:
        return plain.decode("utf-8-sig")
    except UnicodeDecodeError:
        return plain.decode("gb18030")


def _rows(text: str) -> tuple[list[dict[str, str]], list[str]]:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    names = [name.strip().lstrip("`") for name in lines[0].split(",")]
    if any(name not in names for name in _NEEDED) or not lines[-2].lstrip("`").startswith(_TOTALS):
        raise BadStatement()
    rows = []
    for line in lines[1:-2]:
        values = _values(line)
        if len(values) != len(names):
            raise BadStatement()
        rows.append(dict(zip(names, values, strict=True)))
    return rows, _values(lines[-1])


def _values(line: str) -> list[str]:
    """A title may have commas in it; only a comma before a backtick ends a value."""
    if not line.startswith("`"):
        raise BadStatement()
    return [value.strip() for value in line[1:].split(",`")]


def _lines_of(row: dict[str, str]) -> list[StatementLine]:
    """One row's movements: the trade, and what of it a coupon of the merchant's own paid and nobody settles."""
    at = int(datetime.strptime(row["交易时间"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=CHINA).timestamp())
    fee = _fee(row["手续费"])
    is_payment = row["交易状态"] == "SUCCESS"
    if is_payment:
        settled = _fen(row["应结订单金额"] if "应结订单金额" in row else row["总金额"])
        whole = _fen(row["订单金额"]) if "订单金额" in row else settled
        our_no, refund_txn = _number(row["商户订单号"]), None
    elif row["交易状态"] in ("REFUND", "REVOKED"):
        if row.get("退款状态") == "FAIL":
            return []  # accepted and then not carried out: nothing moved
        settled = -_fen(row["退款金额"])
        whole = -_fen(row["申请退款金额"]) if "申请退款金额" in row else settled
        our_no, refund_txn = _number(row["商户退款单号"]), _number(row["微信退款单号"])
    else:
        raise BadStatement()
    kind, txn, currency = "payment" if is_payment else "refund", row["微信订单号"], row["货币种类"]
    lines = [StatementLine(kind, txn, our_no, whole, currency, at, fee_minor=fee, refund_txn=refund_txn)]
    if settled != whole:
        lines.append(StatementLine("other", txn, our_no, settled - whole, currency, at, refund_txn=refund_txn))
    return lines


def _fen(yuan: str) -> int:
    """Yuan as fen, exactly.

    >>> _fen("49.99"), _fen("0"), _fen("-0.1")
    (4999, 0, -10)
    """
    amount = Decimal(yuan) * 100
    if not amount.is_finite() or amount != int(amount):
        raise BadStatement()
    return int(amount)


def _fee(yuan: str) -> int:
    """A fee comes with more places than can be charged, and is charged rounded.

    >>> _fee("0.29994"), _fee("-0.12000"), _fee("0.00500")
    (30, -12, 1)
    """
    return int((Decimal(yuan) * 100).quantize(Decimal(1), ROUND_HALF_UP))


def _number(value: str) -> str | None:
    return value if value not in ("", "0") else None
