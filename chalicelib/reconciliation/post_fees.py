"""Hand the fees of a compared statement to the ledger: one set for each movement, some thousands a message.

All of a statement's fees stand at noon of the provider's day, so that the same fee has the same place in the ledger
whichever statement tells of it, file or API. Posting again changes nothing.
"""

from __future__ import annotations

from typing import Any

from chalicelib.aws.queues import send
from chalicelib.ledger import store as ledger
from chalicelib.ledger.model import EntrySet
from chalicelib.ledger.rules import fee_set
from chalicelib.payments.providers import adapter_named
from chalicelib.reconciliation import store
from chalicelib.reconciliation.gather_movements import in_parallel
from chalicelib.reconciliation.rules import day_of

PAGES_A_MESSAGE = 10  # 5,000 fees: some seconds of work


def post_fees(row: dict[str, Any], now: int) -> None:
    """Post the next pages; after the last one the reconciliation is complete."""
    reconciliation_id, first = row["reconciliation_id"], row["fees_done"]
    last = min(first + PAGES_A_MESSAGE, row["fee_pages"])
    offset_hours = adapter_named(row["provider"]).FACTS.day_offset_hours
    noon = day_of(row["day"], offset_hours).start + 43_200
    for page in range(first, last):
        sets = [
            fee_set(row["provider"], row.get("account_id"), fee.reference, fee.fee_minor, fee.currency, noon)
            for fee in store.list_fees(row, page)
        ]
        in_parallel(ledger.put_set, ledger.find_missing(sets))
    if last > first and not store.note_fees(reconciliation_id, first, last):
        return  # another copy is further, and goes on
    if last < row["fee_pages"]:
        send("reconciliation-due", {"reconciliation_id": reconciliation_id})
        return
    if row["fee_pages"]:
        # An event without entries that comes last of all: with it the ledger proves that day again.
        ledger.put_late_set(EntrySet(f"fees_posted:{reconciliation_id}", noon, ()))
    store.complete(reconciliation_id, now)
