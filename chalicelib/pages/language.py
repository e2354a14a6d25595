"""Which of our two languages a page speaks. Pure."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "zh"]


def choose_language(asked: str | None, accept_language: str | None) -> Language:
    """The language a reader chose on the page, else the one the browser likes best, else English.

    Example:
        >>> choose_language("zh", "en"), choose_language(None, "fr, zh-TW;q=0.9, en;q=0.8"), choose_language("x", None)
        ('zh', 'zh', 'en')
    """
    if asked in ("en", "zh"):
        return asked
    liked: list[tuple[float, Language]] = []
    for choice in (accept_language or "")[:500].split(","):
        name, _, parameter = choice.partition(";")
        language = name.strip().lower().partition("-")[0]
        if language in ("en", "zh"):
            liked.append((_weight(parameter), language))
    best = max(liked, key=lambda pair: pair[0], default=(0.0, "en"))
    return best[1] if best[0] > 0 else "en"


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
