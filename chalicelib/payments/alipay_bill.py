"""Alipay's statement of a day: the file "业务明细" (bill type `trade`), as CSV or in the ZIP it comes in. Pure.

    #支付宝业务明细查询
    #账号：[<seller id>0156]
    #起始日期：[2026年06月15日 00:00:00]   终止日期：[2026年06月16日 00:00:00]
    #----…业务明细列表----…
    支付宝交易号,商户订单号,业务类型,…,完成时间,…,商家实收（元）,…,退款批次号/请求号,服务费（元）,…
    …one line for each payment (交易) and each refund (退款)…
    #----…业务明细列表结束----…

Written in GBK, every number followed by a tab. The ZIP holds a summary file besides, which is passed over. A file that
is cut short, of another seller or of another day is refused as a whole: half a statement shows money missing that is
not.
"""

from __future__ import annotations

import csv
import io
import re

from chalicelib.payments.alipay_signature import from_china_time, to_china_time, to_minor
from chalicelib.payments.model import StatementLine

MAX_BYTES = 32 * 1024 * 1024
_MAX_FILES = 32
_COLUMNS = {
    "支付宝交易号": "txn", "商户订单号": "payment_no", "退款批次号/请求号": "refund_no", "业务类型": "type",
    "创建时间": "created", "完成时间": "finished", "商家实收": "amount", "服务费": "fee",
}  # fmt: skip
_UNIT = re.compile(r"[（(]元[）)]$")
_ACCOUNT = re.compile(r"^#账号[：:]\s*\[?([0-9]+)")
_PERIOD = re.compile(r"^#起始日期[：:]\s*\[([0-9年月日]+)[^]]*\].*?终止日期[：:]\s*\[([0-9年月日]+) ?([0-9:]*)")
_OUR_REFUND = "rfd_"


def read_bill(raw: bytes, seller_id: str, day: str) -> list[StatementLine]:
    """The movements of a day ("YYYY-MM-DD", China time). Raises: ValueError when it is not this seller's whole bill."""
    texts = [_decode(one) for one in (_unzip(raw) if raw[:2] == b"PK" else [raw])]
    bills = [bill for text in texts if (bill := _read_table(text)) is not None]
    if not bills:
        raise ValueError("no bill in it")
    lines = []
    for comments, rows in bills:
        _check_heading(comments, seller_id, day)
        lines += [line for row in rows if (line := _to_line(row, day)) is not None]
    if not lines and any(rows for _, rows in bills):
        raise ValueError("a bill of another day")
    return lines


def _unzip(raw: bytes) -> list[bytes]:
    """The CSV files of a ZIP, as long as they stay within bounds, whatever its directory claims of their size."""
    import zipfile
    import zlib

    files, left = [], MAX_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = [one for one in archive.infolist() if not one.is_dir()]
            if len(entries) > _MAX_FILES:
                raise ValueError("too many files")
            for entry in entries:
                with archive.open(entry) as opened:
                    content = opened.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise ValueError("too long")
                files.append(content)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError):
        raise ValueError("not a ZIP that can be read") from None
    return files


def _decode(raw: bytes) -> str:
    """GBK as Alipay writes it, or the UTF-8 it became when somebody saved it again."""
    if len(raw) > MAX_BYTES:
        raise ValueError("too long")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("gb18030")


def _read_table(text: str) -> tuple[list[str], list[dict[str, str]]] | None:
    """The comment lines and the rows by our names; None when the file is no list of movements."""
    comments: list[str] = []
    rows: list[dict[str, str]] = []
    names: list[str | None] | None = None
    try:
        for written in csv.reader(io.StringIO(text), strict=True):
            cells = [cell.strip(" \t`") for cell in written]
            if not any(cells):
                continue
            if cells[0].startswith("#"):
                comments.append(",".join(cells))
            elif names is None:
                names = [_COLUMNS.get(_UNIT.sub("", cell)) for cell in cells]
                if not set(_COLUMNS.values()) <= set(names):
                    return None
            else:  # `strict`: a row of another length is refused
                rows.append({name: cell for name, cell in zip(names, cells, strict=True) if name})
    except csv.Error:
        raise ValueError("not CSV") from None
    return (comments, rows) if names else None


def _check_heading(comments: list[str], seller_id: str, day: str) -> None:
    begun = any("业务明细列表-" in one for one in comments)
    if begun and not any("业务明细列表结束" in one for one in comments):
        raise ValueError("cut short")
    for comment in comments:
        account, period = _ACCOUNT.match(comment), _PERIOD.match(comment)
        if account and not account[1].startswith(seller_id):
            raise ValueError("a bill of another seller")
        if period and not _is_within(day, _as_day(period[1]), _as_day(period[2]), period[3]):
            raise ValueError("a bill of another day")


def _is_within(day: str, first: str, last: str, last_hour: str) -> bool:
    return first <= day and (day < last or (day == last and last_hour != "00:00:00"))


def _as_day(written: str) -> str:
    return written.replace("年", "-").replace("月", "-").replace("日", "")


def _to_line(row: dict[str, str], day: str) -> StatementLine | None:
    at = from_china_time(row["finished"] or row["created"])
    if to_china_time(at)[:10] != day:
        return None  # a bill of a month holds other days too
    if not row["txn"]:
        raise ValueError("a movement without a number")
    amount, fee, refund_no = to_minor(row["amount"]), to_minor(row["fee"] or "0"), row["refund_no"] or None
    if row["type"] == "交易":
        return StatementLine("payment", row["txn"], row["payment_no"] or None, abs(amount), "CNY", at, abs(fee))
    if row["type"] == "退款":
        # One made by hand in Alipay's console has a number of Alipay's there, not a refund id of ours.
        our_no = refund_no if refund_no and refund_no.startswith(_OUR_REFUND) else None
        return StatementLine("refund", row["txn"], our_no, -abs(amount), "CNY", at, -abs(fee), refund_no)
    return StatementLine("other", row["txn"], row["payment_no"] or None, amount, "CNY", at, -fee, refund_no)
