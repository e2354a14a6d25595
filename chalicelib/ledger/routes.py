"""HTTP for the ledger: operators read what was posted, and what each day came to."""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.edge.errors import BadCursor
from chalicelib.edge.http import Call, endpoint
from chalicelib.ledger.answers import (
    EntrySetPage,
    LedgerQuery,
    TrialBalance,
    TrialBalanceQuery,
    to_set_answer,
    to_trial_balance,
)
from chalicelib.ledger.errors import DayNotProved
from chalicelib.orders.errors import NoSuchOrder

bp = Blueprint(__name__)


@endpoint(
    bp, "GET", "/v1/ledger/trial-balance", scopes=("operator",), query=TrialBalanceQuery, answer=TrialBalance,
    refusals=(DayNotProved,),
)  # fmt: skip
def get_trial_balance(call: Call):
    """What every account came to at the end of a day, as proved in the night after it; with whatever did not fit."""
    from chalicelib.ledger import store

    closing = store.find_day(call.query.day.replace("-", ""))
    if closing is None:
        raise DayNotProved(field="day")
    return to_trial_balance(closing)


@endpoint(
    bp, "GET", "/v1/ledger/entries", scopes=("operator",), query=LedgerQuery, answer=EntrySetPage,
    refusals=(BadCursor, NoSuchOrder),
)  # fmt: skip
def get_ledger_entries(call: Call):
    """Entry sets of a day (in no order of time, paged) or of one order (all, oldest first)."""
    from chalicelib.ledger.find_entries import find_sets_of_order, list_sets_of_day

    query, next_cursor = call.query, None
    if query.order_id:
        sets = find_sets_of_order(query.order_id)
    else:
        sets, next_cursor = list_sets_of_day(query.day, query.cursor, query.limit)
    return EntrySetPage(sets=[to_set_answer(one) for one in sets], next_cursor=next_cursor)
