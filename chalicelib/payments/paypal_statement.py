"""PayPal's movements of a day: entries of the transaction search, or rows of the activity download. Pure.

An entry's event code says what it is: T00xx payments, T0106 and the like fees, T1107 a refund we made, T1106, T1110,
T1111, T1201 and T1202 money that a dispute moved. Days are those of UTC; the download writes local times, so its rows
are turned into UTC before they are counted to a day.
"""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chalicelib.payments.model import StatementLine
from chalicelib.payments.paypal_values import to_minor, to_seconds

_DISPUTE_CODES = frozenset({"T1106", "T1110", "T1111", "T1114", "T1201", "T1202", "T1203", "T1205", "T1207"})
_STANDING = frozenset({"S", "V"})  # V: given back since; the payment itself did happen
_STANDING_WORDS = frozenset({"completed", "refunded", "partially refunded", "reversed"})
_ZONES = {"UTC": 0, "GMT": 0, "PST": -8, "PDT": -7, "MST": -7, "MDT": -6, "EST": -5, "EDT": -4, "BST": 1, "CET": 1,
          "CEST": 2, "JST": 9, "AEST": 10, "AEDT": 11}  # fmt: skip
_OFFSET = re.compile(r"(?:GMT|UTC)?([+-])(\d{1,2}):?(\d\d)?", re.ASCII)
_DATE_ORDERS = ("%m/%d/%Y", "%d/%m/%Y", "%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y")
_NEEDED = ("date", "time", "timezone", "type", "status", "currency", "gross", "transaction id")


def lines_of_entries(entries: Any, day: str) -> list[StatementLine]:
    """The lines of `transaction_details`. Raises: ValueError when the list is of another shape."""
    if not isinstance(entries, list):
        raise ValueError("not a list of transactions")
    lines = []
    for entry in entries:
        info = entry["transaction_info"] if isinstance(entry, dict) and "transaction_info" in entry else None
        if not isinstance(info, dict):
            raise ValueError("not a transaction")
        if info.get("transaction_status", "S") in _STANDING and (line := _line_of_entry(info)) is not None:
            lines.append(line)
    return [line for line in lines if _day_of(line.at) == day]


def lines_of_file(raw: bytes, day: str) -> list[StatementLine]:
    """The lines of a file: answers of the transaction search as JSON, or the activity download as CSV or tabs.

    Raises: ValueError when it is neither, or its dates can be read in two ways.
    """
    text = raw.decode("utf-8-sig")
    if text.lstrip()[:1] in ("{", "["):
        found = json.loads(text)
        pages = found if isinstance(found, list) else [found]
        entries = []
        for page in pages:
            if not isinstance(page, dict):
                raise ValueError("not an answer of the transaction search")
            entries += page.get("transaction_details", [page])
        return lines_of_entries(entries, day)
    return _lines_of_table(text, day)


def _line_of_entry(info: dict) -> StatementLine | None:
    amount = info["transaction_amount"]
    currency = amount["currency_code"]
    code = str(info.get("transaction_event_code") or "")
    amount_minor = to_minor(amount["value"], currency)
    fee = info.get("fee_amount")
    return _line(
        _kind_of_code(code, amount_minor),
        str(info["transaction_id"]),
        (info.get("custom_field"), info.get("invoice_id")),
        amount_minor,
        currency,
        to_seconds(info["transaction_initiation_date"]),
        -to_minor(fee["value"], currency) if isinstance(fee, dict) else 0,
        info.get("paypal_reference_id") if info.get("paypal_reference_id_type") in (None, "TXN") else None,
    )


def _kind_of_code(code: str, amount_minor: int) -> str:
    if code in _DISPUTE_CODES:
        return "dispute"
    if code == "T1107":
        return "refund"
    if code.startswith("T01"):
        return "fee"
    return "payment" if code.startswith("T00") and amount_minor > 0 else "other"


def _line(
    kind: Any, txn: str, ours: tuple, amount_minor: int, currency: str, at: int, fee_minor: int, reference: Any
) -> StatementLine:
    ids = [one for one in ours if isinstance(one, str) and one]
    if kind in ("refund", "dispute"):
        # PayPal copies the payment's custom id into its refunds: only an id that a refund of ours can have names one.
        refund_id = next((one for one in ids if one.startswith("rfd_")), None)
        payment_id = next((one for one in ids if one.startswith("pay_")), None)
        our_no = refund_id if kind == "refund" else payment_id
        origin = reference if isinstance(reference, str) and reference else txn
        return StatementLine(kind, origin, our_no, amount_minor, currency, at, fee_minor, txn)
    return StatementLine(kind, txn, ids[0] if ids else None, amount_minor, currency, at, fee_minor)


def _lines_of_table(text: str, day: str) -> list[StatementLine]:
    head = text.partition("\n")[0]
    table = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in head else ",")
    names = {(name or "").strip().strip('"').lower(): name for name in table.fieldnames or []}
    if not all(one in names for one in _NEEDED):
        raise ValueError("not an activity download")
    rows = [{plain: (row.get(name) or "").strip() for plain, name in names.items()} for row in table]
    rows = [row for row in rows if row["status"].lower() in _STANDING_WORDS]
    readings = []
    for order in _DATE_ORDERS:
        try:
            lines = [_line_of_row(row, order) for row in rows]
        except ValueError:
            continue
        found = [line for line in lines if _day_of(line.at) == day]
        if found not in readings:
            readings.append(found)
    if len(readings) != 1:  # none: not dates at all; two: 06/07 may be in June or in July
        raise ValueError("dates that cannot be read, or in two ways")
    return readings[0]


def _line_of_row(row: dict[str, str], order: str) -> StatementLine:
    currency = row["currency"]
    amount_minor = to_minor(_plain(row["gross"]), currency)
    code = row.get("transaction event code") or ""
    at = datetime.strptime(f"{row['date']} {row['time']}", f"{order} %H:%M:%S")
    return _line(
        _kind_of_code(code, amount_minor) if code else _kind_of_words(row["type"], amount_minor),
        row["transaction id"],
        (row.get("custom number"), row.get("invoice number")),
        amount_minor,
        currency,
        int(at.replace(tzinfo=_zone(row["timezone"])).timestamp()),
        -to_minor(_plain(row.get("fee") or "0"), currency),
        row.get("reference txn id"),
    )


def _kind_of_words(words: str, amount_minor: int) -> str:
    said = words.lower()
    if "fee" in said.split():
        return "fee"
    if "chargeback" in said or "dispute" in said or "reversal" in said:
        return "dispute"
    if "refund" in said:
        return "refund"
    return "payment" if "payment" in said and amount_minor > 0 else "other"


def _plain(number: str) -> str:
    """`1,234.56` and `1.234,56` as `1234.56`."""
    if re.fullmatch(r"-?\d{1,3}(?:,\d{3})*(?:\.\d+)?|-?\d+(?:\.\d+)?", number, re.ASCII):
        return number.replace(",", "")
    if re.fullmatch(r"-?\d{1,3}(?:\.\d{3})*,\d{1,2}|-?\d+,\d{1,2}", number, re.ASCII):
        return number.replace(".", "").replace(",", ".")
    raise ValueError("not a number")


def _zone(name: str) -> Any:
    if name in _ZONES:
        return timezone(timedelta(hours=_ZONES[name]))
    if match := _OFFSET.fullmatch(name):
        ahead = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
        return timezone(ahead if match[1] == "+" else -ahead)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("a time zone that cannot be read") from None


def _day_of(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
