"""Amounts and instants as PayPal writes them: decimal text in whole units of a currency, RFC 3339 times. Pure."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

from chalicelib.core.money import MINOR_DIGITS

WITHOUT_DECIMALS = frozenset({"HUF", "JPY", "TWD"})  # PayPal's own rule; ISO 4217 gives TWD two places
_DECIMAL = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,6})?")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:?\d\d)", re.ASCII)


def to_value(amount_minor: int, currency: str) -> str:
    """What PayPal wants to read. Raises: ValueError when PayPal has no way to write it.

    Example:
        >>> to_value(799, "USD"), to_value(500, "JPY"), to_value(10_000, "TWD")
        ('7.99', '500', '100')
    """
    digits = MINOR_DIGITS.get(currency)
    if digits is None:
        raise ValueError("not a currency of ours")
    value = Decimal(amount_minor).scaleb(-digits)
    if currency not in WITHOUT_DECIMALS:
        return f"{value:.{digits}f}"
    if value != value.to_integral_value():
        raise ValueError("PayPal takes whole units of this currency only")
    return f"{value:.0f}"


def to_minor(value: Any, currency: Any) -> int:
    """Raises: ValueError for anything but an amount that our minor units can hold exactly.

    Example:
        >>> to_minor("7.99", "USD"), to_minor("500", "JPY"), to_minor("-100.00", "TWD")
        (799, 500, -10000)
    """
    if not (isinstance(value, str) and _DECIMAL.fullmatch(value) and currency in MINOR_DIGITS):
        raise ValueError("not an amount")
    minor = Decimal(value).scaleb(MINOR_DIGITS[currency])
    if minor != minor.to_integral_value():
        raise ValueError("more decimals than the currency has")
    return int(minor)


def money_of(thing: Any) -> tuple[int | None, str | None]:
    """`{"currency_code", "value"}` as minor units and currency; what cannot be read is None."""
    if not isinstance(thing, dict):
        return None, None
    currency = thing.get("currency_code")
    if not (isinstance(currency, str) and re.fullmatch("[A-Z]{3}", currency)):
        return None, None
    try:
        return to_minor(thing.get("value"), currency), currency
    except ValueError:
        return None, currency


def to_seconds(text: Any) -> int:
    """Raises: ValueError when it is not an instant with its offset.

    Example:
        >>> to_seconds("2026-06-15T05:06:40Z"), to_seconds("2026-06-15T13:06:40.5+0800")
        (1781500000, 1781500000)
    """
    if not (isinstance(text, str) and _INSTANT.fullmatch(text)):
        raise ValueError("not an instant")
    return int(datetime.fromisoformat(text.upper()).timestamp())
