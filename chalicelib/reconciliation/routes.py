"""HTTP for reconciliations: operators only. A statement's file goes straight to S3."""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.core.errors import Busy
from chalicelib.core.ids import new_id
from chalicelib.edge.errors import BadCursor, IdempotencyMismatch
from chalicelib.edge.http import Call, endpoint
from chalicelib.edge.idempotency import REPLAYED, resource_for
from chalicelib.payments.errors import BadStatement, NoSuchAccount, UnknownProvider
from chalicelib.reconciliation.answers import (
    DifferenceAnswer,
    DifferencePage,
    DifferenceQuery,
    NewReconciliation,
    ReconciliationAnswer,
    ReconciliationPage,
    ReconciliationQuery,
    SettleDifference,
    StatementUpload,
    to_difference_answer,
    to_reconciliation_answer,
)
from chalicelib.reconciliation.errors import (
    AlreadySettled,
    BadAction,
    DayNotOver,
    NoSuchDifference,
    NoSuchReconciliation,
    NotUploaded,
    StatementTooLarge,
)

bp = Blueprint(__name__)


@endpoint(
    bp, "POST", "/v1/reconciliations", scopes=("operator",), body=NewReconciliation, answer=ReconciliationAnswer,
    status=201, creates=True, refusals=(UnknownProvider, NoSuchAccount, DayNotOver, IdempotencyMismatch),
)  # fmt: skip
def post_reconciliation(call: Call):
    """Compare our books with a provider's statement of a day. With `source` file the answer says where the file goes; a
    repeat gets a fresh address for it.
    """
    from chalicelib.aws.statement_files import statement_link
    from chalicelib.reconciliation.create_reconciliation import create_reconciliation

    reconciliation_id, is_replayed = resource_for(call, new_id("rec", call.now))
    wanted = call.body
    row = create_reconciliation(
        reconciliation_id, provider=wanted.provider, account_id=wanted.account_id, day=wanted.day,
        source=wanted.source, by=call.caller.key_id, now=call.now,
    )  # fmt: skip
    upload = StatementUpload(**statement_link(reconciliation_id)) if row["status"] == "awaiting_upload" else None
    return to_reconciliation_answer(row, upload), REPLAYED if is_replayed else {}


@endpoint(
    bp, "POST", "/v1/reconciliations/{reconciliation_id}/start", scopes=("operator",), answer=ReconciliationAnswer,
    status=202, refusals=(NoSuchReconciliation, NotUploaded, StatementTooLarge, BadStatement),
)  # fmt: skip
def post_start_reconciliation(call: Call, reconciliation_id: str):
    """Start a reconciliation whose file is uploaded. Repeating it is harmless: it answers how far it is."""
    from chalicelib.reconciliation.create_reconciliation import start_reconciliation

    return to_reconciliation_answer(start_reconciliation(reconciliation_id, call.now))


@endpoint(
    bp, "GET", "/v1/reconciliations", scopes=("operator",), query=ReconciliationQuery, answer=ReconciliationPage,
    refusals=(BadCursor,),
)  # fmt: skip
def get_reconciliations(call: Call):
    """List reconciliations, newest first."""
    from chalicelib.reconciliation.find_reconciliations import list_newest

    rows, next_cursor = list_newest(call.query.cursor, call.query.limit)
    return ReconciliationPage(reconciliations=[to_reconciliation_answer(row) for row in rows], next_cursor=next_cursor)


@endpoint(
    bp, "GET", "/v1/reconciliations/{reconciliation_id}", scopes=("operator",), answer=ReconciliationAnswer,
    refusals=(NoSuchReconciliation,),
)  # fmt: skip
def get_reconciliation(call: Call, reconciliation_id: str):
    """How far a reconciliation is, and what it came to."""
    from chalicelib.reconciliation import store

    return to_reconciliation_answer(store.get_reconciliation(reconciliation_id))


@endpoint(
    bp, "GET", "/v1/reconciliations/{reconciliation_id}/differences", scopes=("operator",), query=DifferenceQuery,
    answer=DifferencePage, refusals=(NoSuchReconciliation, BadCursor),
)  # fmt: skip
def get_differences(call: Call, reconciliation_id: str):
    """List what differs, with the action that settles it, what was done about it, and how its order stands now."""
    from chalicelib.reconciliation.find_reconciliations import list_differences

    query = call.query
    shown, next_cursor = list_differences(reconciliation_id, query.outcome, query.cursor, query.limit)
    return DifferencePage(differences=[to_difference_answer(*one) for one in shown], next_cursor=next_cursor)


@endpoint(
    bp, "POST", "/v1/reconciliations/{reconciliation_id}/differences/{number}/settle", scopes=("operator",),
    body=SettleDifference, answer=DifferenceAnswer,
    refusals=(NoSuchReconciliation, NoSuchDifference, BadAction, AlreadySettled, Busy),
)  # fmt: skip
def post_settle(call: Call, reconciliation_id: str, number: str):
    """Settle a difference by one of its `actions`, once. `ask` settles only what the provider confirms; its answer is
    in `asked`. `apply` and `record` take effect within about a minute: see `order` in the list of differences.
    """
    from chalicelib.reconciliation.find_reconciliations import find_difference
    from chalicelib.reconciliation.settle_difference import settle_difference

    if not (number.isascii() and number.isdigit() and len(number) <= 7):
        raise NoSuchDifference()
    settle_difference(
        reconciliation_id, int(number), call.body.action, call.body.note, by=call.caller.key_id, now=call.now
    )
    return to_difference_answer(*find_difference(reconciliation_id, int(number)))
