"""Identifiers: what they say, how they are made.

Every id carries a prefix that tells what it names. Ids made here sort by time of creation, except an order's: an
order's identity is *derived* from shop and merchant order number, so that writing the order twice is impossible
(decision 0003).
"""

from __future__ import annotations

import hashlib
import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base32, lower case: no i, l, o, u


def to_base32(number: int, length: int) -> str:
    """The lowest `length` base-32 digits of a number, Crockford alphabet, lower case."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def new_id(prefix: str, now: int) -> str:
    """A new id `<prefix>_<7 time characters><12 random characters>`; sorts by second of creation, 60 bits of chance.

    Example:
        >>> new_id("prd", 0)[:11]
        'prd_0000000'
    """
    return f"{prefix}_{to_base32(now, 7)}{to_base32(secrets.randbits(60), 12)}"


def new_take_id(now: int) -> str:
    """Names one attempt to take keys from stock: 7 time characters and 6 random ones (30 bits)."""
    return to_base32(now, 7) + to_base32(secrets.randbits(30), 6)


def taken_at(take_id: str) -> int:
    """The second in which a take was begun, read back from its id.

    Example:
        >>> taken_at(new_take_id(1_700_000_000))
        1700000000
    """
    number = 0
    for character in take_id[:7]:
        number = number * 32 + _ALPHABET.index(character)
    return number


def order_id_for(shop_id: str, merchant_order_no: str) -> str:
    """The id of the one order a shop can ever have under a merchant order number: `ord_` and 80 bits of SHA-256.

    Knowing it opens nothing: every call checks the caller's shop, and a buyer needs the order token.

    Example:
        >>> order_id_for("shop_a", "1") == order_id_for("shop_a", "1") != order_id_for("shop_b", "1")
        True
    """
    digest = hashlib.sha256(f"{shop_id}\n{merchant_order_no}".encode()).digest()
    return "ord_" + to_base32(int.from_bytes(digest[:10], "big"), 16)


def payment_id_for(order_id: str, attempt: int = 1) -> str:
    """The id under which a provider knows the payment of an order: derivable both ways, so it needs no index. A second
    attempt (another provider, another way to pay) is told apart by its number.

    Example:
        >>> payment_id_for("ord_0123456789abcdef"), payment_id_for("ord_0123456789abcdef", 2)
        ('pay_0123456789abcdef', 'pay_0123456789abcdef_2')
    """
    return "pay_" + order_id.removeprefix("ord_") + (f"_{attempt}" if attempt > 1 else "")


def order_id_of_payment(payment_id: str) -> str | None:
    """The order a payment id belongs to, or None when the text is not a payment id.

    Example:
        >>> order_id_of_payment(payment_id_for("ord_0123456789abcdef", 3))
        'ord_0123456789abcdef'
    """
    rest = payment_id.removeprefix("pay_").partition("_")[0]
    if not payment_id.startswith("pay_") or not is_id("ord", "ord_" + rest):
        return None
    return "ord_" + rest if payment_id == payment_id_for("ord_" + rest, attempt_of_payment(payment_id)) else None


def attempt_of_payment(payment_id: str) -> int:
    """Which attempt to pay an order a payment id names: 1 unless it says otherwise.

    Example:
        >>> attempt_of_payment("pay_0123456789abcdef"), attempt_of_payment("pay_0123456789abcdef_2")
        (1, 2)
    """
    number = payment_id.removeprefix("pay_").partition("_")[2]
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 2 else 1


def is_id(prefix: str, text: str) -> bool:
    """Whether a text has the form of an id of this kind; says nothing about existence."""
    head, _, rest = text.partition("_")
    length = 16 if prefix == "ord" else 19
    return head == prefix and len(rest) == length and all(character in _ALPHABET for character in rest)
