"""When are two keys the same, and which values are acceptable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.keys.model import KeyField, PlainFields, PlainKey
from chalicelib.keys.rules import fingerprint, normalise, parse_format, read_key

SECRET = b"s" * 64


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("ABC-123", "ABC-123"),
        ("  ABC-123\t", "ABC-123"),
        ("ＡＢＣ－１２３", "ABC-123"),
        ("\ufeffABC\u200b-\u200c1\u200d2\u20603\u00ad", "ABC-123"),
        ("A\u202eBC-123\u2066", "ABC-123"),
        ("ABC\u3164-123\ufe0f\u034f\U000e0041", "ABC-123"),
        ("ABC\u00a0-123\u3000", "ABC -123"),
        ("ABC\x07-12\x7f3\x00", "ABC-123"),
        ("①②", "12"),
        ("ﬁ", "fi"),
        ("e\u200b\u0301", "é"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("abc", "abc"),
        ("\u200b \ufeff", ""),
        ("😀卡密𠮷", "😀卡密𠮷"),
    ],
)
def test_a_value_has_one_form_however_it_was_typed(text, same):
    assert normalise(text) == same


def test_letter_case_makes_a_difference():
    assert normalise("aB") != normalise("Ab")


@given(st.text(max_size=60))
def test_normalising_again_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


DECLARED = (KeyField("card", "[0-9]{4}"), KeyField("pin"))


@pytest.mark.parametrize(
    ("columns", "values", "wanted", "outcome"),
    [
        (["card", "pin"], ["１２３４", " x "], DECLARED, {"card": "1234", "pin": "x"}),
        (["pin", "card"], ["x", "1234"], DECLARED, {"card": "1234", "pin": "x"}),
        (["card", "pin"], ["12345", "x"], DECLARED, "bad_format:card"),
        (["card", "pin"], ["1234\n", "x"], DECLARED, {"card": "1234", "pin": "x"}),
        (["card", "pin"], ["1234", "\u200b"], DECLARED, "empty"),
        (["card", "pin"], ["1234"], DECLARED, "wrong_field_count"),
        (["card", "pin"], ["1234", "x", ""], DECLARED, "wrong_field_count"),
        (["card", "pin"], ["1234", "x" * 513], DECLARED, "too_long"),
        (["card", "pin"], ["1234", "x" * 512], DECLARED, {"card": "1234", "pin": "x" * 512}),
        (["code", "note"], ["A", ""], (), {"code": "A"}),
        (["code", "note"], ["", " "], (), "empty"),
        (["code"], ["ﷺ" * 100], (), "too_long"),
    ],
)
def test_a_line_is_a_key_or_refused_for_a_reason(columns, values, wanted, outcome):
    assert read_key(columns, values, wanted) == outcome


def test_no_declared_fields_means_any_fields():
    assert parse_format(None) == () == parse_format([])
    assert parse_format([{"name": "card", "pattern": "[0-9]{4}"}, {"name": "pin"}]) == DECLARED


def test_the_same_key_has_the_same_fingerprint_under_any_heading_and_order():
    one = fingerprint({"card": "A", "pin": "B"}, SECRET)
    assert fingerprint({"密码": "B", "卡号": "A"}, SECRET) == one
    assert fingerprint({"card": "A", "pin": "B", "note": ""}, SECRET) == one
    assert len(one) == 64


@pytest.mark.parametrize(
    "other", [{"a": "AB"}, {"a": "A", "b": "b"}, {"a": "A"}, {"a": "A1:B"}, {"a": "A", "b": "B", "c": "C"}]
)
def test_different_keys_have_different_fingerprints(other):
    assert fingerprint(other, SECRET) != fingerprint({"a": "A", "b": "B"}, SECRET)


def test_a_fingerprint_cannot_be_made_without_the_secret():
    assert fingerprint({"a": "A"}, b"x" * 64) != fingerprint({"a": "A"}, SECRET)


def test_plain_keys_hide_themselves_however_they_are_printed():
    fields = PlainFields(code="CANARY")
    key = PlainKey("lot_1.0", fields)
    for text in (
        repr(fields),
        str(fields),
        f"{fields}",
        f"{fields!r:>30}",
        repr([fields]),
        repr(key),
        str(key),
    ):
        assert "CANARY" not in text
    assert fields == {"code": "CANARY"}
