"""Queue handlers: one bad message is one bad message."""

from __future__ import annotations

import json

import pytest

from chalicelib.core.errors import Busy
from chalicelib.edge.worker import each_due, each_message


def records(*bodies):
    return [{"messageId": f"m{number}", "body": body} for number, body in enumerate(bodies)]


def test_only_the_message_that_failed_is_reported_and_the_others_are_done_once():
    done = []

    def handle(message):
        if message["n"] == 3:
            raise Busy()
        done.append(message["n"])

    answer = each_message(records(*(json.dumps({"n": number}) for number in range(10))), handle, "test")

    assert answer == {"batchItemFailures": [{"itemIdentifier": "m3"}]}
    assert done == [0, 1, 2, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("body", ["", "{", "[]", "1", "null", '"x"'])
def test_a_message_that_is_no_object_goes_to_the_dead_letters_without_being_handled(body):
    handled = []
    answer = each_message(records(body, '{"n": 1}'), handled.append, "test")
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    assert handled == [{"n": 1}]


def test_a_due_row_that_fails_does_not_keep_the_others_waiting():
    def handle(row):
        if row["pk"] == "b":
            raise ValueError("no")

    assert each_due([{"pk": "a"}, {"pk": "b"}, {"pk": "c"}], handle) == (2, 1)
