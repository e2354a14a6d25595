"""Rows of sealed keys and of the duplicate guard. Both are written once and never changed.

    K#<lot_id>#<page>/P      keys (up to 16 blobs, numbers from page * 16), wrapped (the data key that opens them)
    F#<fingerprint>/F        lot, line: who first imported this key. Kept for ever: a key sold once is never sold again

Never sees a key in clear.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from chalicelib.aws import sealing
from chalicelib.aws.clients import dynamodb
from chalicelib.aws.rows import from_row, to_row
from chalicelib.aws.transact import put_if_absent, retry_busy
from chalicelib.core.errors import Busy
from chalicelib.core.settings import table_name
from chalicelib.keys.model import PAGE_KEYS, Guard, SealedKey

T = TypeVar("T")
R = TypeVar("R")

WRITERS = 16
_BATCH = 100
_TRIES = 8


def claim_fingerprints(lot_id: str, wanted: Sequence[tuple[int, str]]) -> dict[int, Guard]:
    """Claim keys for lines of a lot's file, given (line, fingerprint). Answers the lines that lost, and to whom.

    Final: a claim once won is won for ever, so repeating the call gives the same answer.
    Access:  put F#<fingerprint>/F, 1 write a key, sixteen at a time.
    Only if: nobody claimed the key; a claim of the same lot and line is this very claim, repeated.
    """

    def claim(one: tuple[int, str]) -> Guard | None:
        line, fingerprint = one
        before = put_if_absent({"pk": f"F#{fingerprint}", "sk": "F", "lot": lot_id, "line": line})
        guard = Guard(before["lot"], before["line"]) if before else None
        return None if guard == Guard(lot_id, line) else guard

    losers = zip(wanted, _in_parallel(claim, wanted), strict=True)
    return {line: guard for (line, _), guard in losers if guard is not None}


def find_by_fingerprint(fingerprint: str) -> Guard | None:
    """Who first imported a key, or None.

    Access: get F#<fingerprint>/F, strongly consistent, 1 read unit.
    """
    found = dynamodb().get_item(
        TableName=table_name(), Key=to_row({"pk": f"F#{fingerprint}", "sk": "F"}), ConsistentRead=True
    )
    if "Item" not in found:
        return None
    row = from_row(found["Item"])
    return Guard(row["lot"], row["line"])


def put_pages(lot_id: str, pages: Sequence[tuple[int, list[bytes]]], wrapped_key: bytes) -> None:
    """Store sealed pages, given (page, blobs).

    A page that is already there was written by an earlier or simultaneous delivery of the same chunk: it holds the
    same keys under another data key, and stays.
    Access:  put K#<lot>#<page>/P, 1 write per started KB, sixteen at a time.
    Only if: the page is new.
    Raises:  RuntimeError when the page there holds another number of keys: the chunk must be looked at by a person.
    """

    def put(one: tuple[int, list[bytes]]) -> None:
        page, blobs = one
        before = put_if_absent({"pk": f"K#{lot_id}#{page}", "sk": "P", "keys": blobs, "wrapped": wrapped_key})
        if before and len(before["keys"]) != len(blobs):
            raise RuntimeError(f"page {page} of {lot_id} holds {len(before['keys'])} keys, not {len(blobs)}")

    _in_parallel(put, pages)


def read_pages(extents: Iterable[tuple[str, int, int]]) -> list[SealedKey]:
    """The sealed keys of extents (lot, start, count), in their order.

    Access: batch get K#<lot>#<page>/P, strongly consistent, about 2 read units a page of 16 keys; a hundred pages a
      request.
    Raises: keys.unsealing_failed when one is not there (counted); service.busy when the table keeps leaving pages out.
    """
    wanted = [(lot_id, number) for lot_id, start, count in extents for number in range(start, start + count)]
    names = dict.fromkeys(f"K#{lot_id}#{number // PAGE_KEYS}" for lot_id, number in wanted)
    pages = _read_rows([{"pk": name, "sk": "P"} for name in names])
    keys = []
    for lot_id, number in wanted:
        page = pages.get(f"K#{lot_id}#{number // PAGE_KEYS}")
        if page is None or number % PAGE_KEYS >= len(page["keys"]):
            raise sealing.failed()
        keys.append(SealedKey(lot_id, number, page["keys"][number % PAGE_KEYS], page["wrapped"]))
    return keys


def _read_rows(keys: list[dict[str, str]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(keys), _BATCH):
        left = [to_row(key) for key in keys[start : start + _BATCH]]
        for attempt in range(_TRIES):
            request = {table_name(): {"Keys": left, "ConsistentRead": True}}
            answer = retry_busy(lambda request=request: dynamodb().batch_get_item(RequestItems=request))
            found |= {row["pk"]: row for row in map(from_row, answer["Responses"].get(table_name(), []))}
            left = answer.get("UnprocessedKeys", {}).get(table_name(), {}).get("Keys", [])
            if not left:
                break
            time.sleep(random.uniform(0, 0.02 * 2**attempt))
        else:
            raise Busy()
    return found


def _in_parallel(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The results in order. The first failure ends it: what has not begun is not begun."""
    with ThreadPoolExecutor(WRITERS) as pool:
        pending = [pool.submit(work, item) for item in items]
        try:
            return [one.result() for one in pending]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
