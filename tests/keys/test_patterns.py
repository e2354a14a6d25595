"""Patterns a product may demand: the usual ones pass, the ones that could hang an import do not."""

from __future__ import annotations

import time

import pytest

from chalicelib.keys.patterns import check_pattern, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("[A-Z0-9]{16}", "ABCD1234ABCD1234"),
        ("[A-Z0-9]{4}(-[A-Z0-9]{4}){3}", "AB12-AB12-AB12-AB12"),
        (r"^\d{8,12}$", "12345678"),
        (r"(?:CN|HK)-\w+", "CN-x_1"),
        (r"[^\s]+@[^\s]+", "a@b"),
        (r".*", "anything 好"),
        (r"a\.b\-c\/d", "a.b-c/d"),
        ("[]x]+", "]x"),
        ("x{3}|y{2,}", "yyyy"),
        ("", ""),
    ],
)
def test_usual_patterns_are_accepted_and_match_what_they_say(pattern, value):
    check_pattern(pattern)
    assert compile_pattern(pattern).fullmatch(value)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+", "(a*)*", "(a|a)*", "(a|ab)+", ".*.*.*x", "(.*a){20}", "(a?){200}", "(x+x+)+y", "([a-z]+)*",
        "(a{0,50}){0,50}",
        r"(a)\1", "(?=a)a", "(?P<n>a)", "(?i)a", "a+?", "a++", "a{2}{3}", "a{,}", "a{5,2}", "a{9999}", "a{1,999}",
        "[a", "(a", "a)", "*a", "a\\", r"\bword", r"\p{L}", r"\x41", "a{", "a$b", "b^a", "[z-a]",
        "x" * 201, "(" * 40 + ")" * 40,
    ],
)  # fmt: skip
def test_patterns_that_are_slow_or_outside_the_small_syntax_are_refused(pattern):
    with pytest.raises(ValueError):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", [".*.*x", "[a-z]*[a-z]*b", "(ab?){8}c"])
def test_the_slowest_accepted_patterns_stay_quick_on_the_longest_value(pattern):
    check_pattern(pattern)
    compiled = compile_pattern(pattern)
    began = time.process_time()
    assert compiled.fullmatch("a" * 512) is None
    assert time.process_time() - began < 0.5


def test_digits_mean_ascii_digits():
    assert compile_pattern(r"\d").fullmatch("٣") is None
