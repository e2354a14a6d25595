"""Money: integers in the currency's minor unit, never a float.

`MINOR_DIGITS` holds the ISO 4217 exponent of the currencies we sell in. Adding one is a line here.
"""

from __future__ import annotations

MINOR_DIGITS = {
    "AUD": 2, "BRL": 2, "CAD": 2, "CHF": 2, "CNY": 2, "EUR": 2, "GBP": 2, "HKD": 2, "IDR": 2, "INR": 2, "JPY": 0,
    "KRW": 0, "MOP": 2, "MYR": 2, "NZD": 2, "PHP": 2, "SGD": 2, "THB": 2, "TWD": 2, "USD": 2, "VND": 0,
}  # fmt: skip

MAX_MINOR = 2**53 - 1  # the largest integer every JSON reader keeps exact


def format_minor(amount_minor: int, currency: str) -> str:
    """An amount for people: `4999, CNY` reads `49.99 CNY`.

    Example:
        >>> format_minor(4999, "CNY"), format_minor(500, "JPY"), format_minor(-5, "USD")
        ('49.99 CNY', '500 JPY', '-0.05 USD')
    """
    digits = MINOR_DIGITS[currency]
    sign, number = ("-" if amount_minor < 0 else ""), abs(amount_minor)
    if digits == 0:
        return f"{sign}{number} {currency}"
    whole, part = divmod(number, 10**digits)
    return f"{sign}{whole}.{part:0{digits}d} {currency}"
