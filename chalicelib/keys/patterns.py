"""Which patterns a product may demand of its keys: those that no value can make slow.

A pattern is a small part of Python's syntax: characters, `.`, `[…]`, `\\d \\w \\s`, groups, `|`, and `? * + {n}
{n,m}`. What is left out (look-around, back references, flags, lazy and possessive repeats) is not needed to
describe a code. Pure.

Matching tries, at worst, every way of sharing a value out among the repeats, so that number is calculated
beforehand and limited: nested or many open repeats (`(a+)+`, `.*a.*b.*c`) are refused when the product is created,
not met at import.
"""

from __future__ import annotations

import re

from chalicelib.keys.model import MAX_VALUE_CHARACTERS

MAX_PATTERN_CHARACTERS = 200
MAX_WAYS = 300_000  # two open repeats over a value of 512 characters; some milliseconds at worst
_MAX_DEPTH = 20
_SPECIAL = set("\\^$.|?*+()[]{}")
_CLASS_ESCAPES = set("dDwWsS")
_REPEAT = re.compile(r"\{(\d{0,4})(,?)(\d{0,4})\}")


def check_pattern(pattern: str) -> None:
    """Accept a pattern that always matches quickly.

    Raises: ValueError with a sentence for the person who wrote the pattern.

    Example:
        >>> check_pattern("[A-Z0-9]{4}(-[A-Z0-9]{4}){3}")
        >>> check_pattern("(a+)+")
        Traceback (most recent call last):
        ValueError: the pattern has too many ways to match; use fewer open repeats
    """
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise ValueError(f"a pattern has at most {MAX_PATTERN_CHARACTERS} characters")
    if _Reader(pattern).read() > MAX_WAYS:
        raise ValueError("the pattern has too many ways to match; use fewer open repeats")
    compile_pattern(pattern)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A checked pattern, ready for `fullmatch`; `\\d` and `\\w` mean ASCII, as keys are.

    Raises: ValueError when it is not a regular expression.
    """
    try:
        return re.compile(pattern, re.ASCII)
    except (re.error, OverflowError, RecursionError):
        raise ValueError("the pattern is not a regular expression") from None


class _Reader:
    """Reads a pattern left to right and counts the ways it can match; anything outside the small syntax is an error."""

    def __init__(self, pattern: str):
        self.pattern = pattern
        self.at = 0

    def read(self) -> int:
        if self.pattern.startswith("^"):
            self.at = 1
        ways = self._alternatives(0)
        if self.at < len(self.pattern):
            raise ValueError("the pattern has an unexpected ')'")
        return ways

    def _next(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _alternatives(self, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise ValueError("the pattern is nested too deeply")
        ways = self._sequence(depth)
        while self._next() == "|":
            self.at += 1
            ways += self._sequence(depth)
        return ways

    def _sequence(self, depth: int) -> int:
        ways = 1
        while (character := self._next()) and character not in "|)":
            if character == "$" and self.at == len(self.pattern) - 1:
                self.at += 1
                break
            ways = min(ways * self._repeated(self._atom(depth)), MAX_WAYS + 1)
        return ways

    def _atom(self, depth: int) -> int:
        character = self._next()
        self.at += 1
        if character == "(":
            return self._group(depth)
        if character == "[":
            self._character_class()
        elif character == "\\":
            self._escape()
        elif character in _SPECIAL - {"."}:
            raise ValueError(f"the pattern has an unexpected '{character}'; write it as '\\{character}'")
        return 1

    def _group(self, depth: int) -> int:
        if self.pattern.startswith("?:", self.at):
            self.at += 2
        elif self._next() == "?":
            raise ValueError("of the groups only (…) and (?:…) may be used")
        ways = self._alternatives(depth + 1)
        if self._next() != ")":
            raise ValueError("the pattern lacks a ')'")
        self.at += 1
        return ways

    def _character_class(self) -> None:
        if self._next() == "^":
            self.at += 1
        is_first = True
        while (character := self._next()) != "]" or is_first:
            if not character:
                raise ValueError("the pattern lacks a ']'")
            self.at += 1
            if character == "\\":
                self._escape()
            is_first = False
        self.at += 1

    def _escape(self) -> None:
        character = self._next()
        if not character or (character.isalnum() and character not in _CLASS_ESCAPES):
            raise ValueError("after a backslash only d, w, s, D, W, S or a sign may stand")
        self.at += 1

    def _repeated(self, ways: int) -> int:
        """The ways of an atom with the repeat that follows it: the sum over all permitted numbers of repeats."""
        least, most = self._repeat()
        total = 0
        for times in range(least, most + 1):
            total += ways**times if ways > 1 else 1
            if total > MAX_WAYS:
                return MAX_WAYS + 1
        return total

    def _repeat(self) -> tuple[int, int]:
        simple = {"?": (0, 1), "*": (0, MAX_VALUE_CHARACTERS), "+": (1, MAX_VALUE_CHARACTERS)}
        character = self._next()
        if character in simple:
            self.at += 1
            bounds = simple[character]
        elif character == "{":
            found = _REPEAT.match(self.pattern, self.at)
            if not found or not (found[1] or found[3]):
                raise ValueError("a repeat is written {n}, {n,} or {n,m}")
            self.at = found.end()
            least = int(found[1] or 0)
            most = int(found[3] or MAX_VALUE_CHARACTERS) if found[2] else least
            if not least <= most <= MAX_VALUE_CHARACTERS:
                raise ValueError(f"a repeat goes up to {MAX_VALUE_CHARACTERS}")
            bounds = (least, most)
        else:
            return (1, 1)
        if self._next() and self._next() in "?*+{":
            raise ValueError("a repeat cannot itself be repeated")
        return bounds
