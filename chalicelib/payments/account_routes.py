"""HTTP for payment accounts (operators), for what a shop can offer, and for disputes."""

from __future__ import annotations

from typing import Any

from chalice import Blueprint

from chalicelib.core.clock import iso
from chalicelib.core.errors import Busy
from chalicelib.edge.errors import BadCursor
from chalicelib.edge.http import Call, endpoint
from chalicelib.orders.errors import NoSuchOrder, OrderChanged
from chalicelib.payments import account_store
from chalicelib.payments.answers import (
    AccountAnswer,
    AccountChange,
    AccountList,
    AccountQuery,
    DisputePage,
    DisputeRow,
    FieldAnswer,
    MethodAnswer,
    MethodList,
    NewAccount,
    PageQuery,
    ProviderAnswer,
    ProviderList,
    SettleDispute,
)
from chalicelib.payments.errors import (
    AccountChanged,
    AccountExists,
    BadAccount,
    NoSuchAccount,
    NoSuchDispute,
    UnknownProvider,
)

bp = Blueprint(__name__)


@endpoint(
    bp, "POST", "/v1/payment-accounts", scopes=("operator",), body=NewAccount, answer=AccountAnswer, status=201,
    refusals=(UnknownProvider, BadAccount, AccountExists, Busy),
)  # fmt: skip
def post_payment_account(call: Call):
    """Fill in a shop's account with a provider. It is off until it is switched on by PATCH."""
    from chalicelib.payments.manage_accounts import create_account

    return _answer(call, create_account(call.body, by=call.caller.key_id, now=call.now))


@endpoint(bp, "GET", "/v1/payment-accounts", scopes=("operator",), query=AccountQuery, answer=AccountList)
def get_payment_accounts(call: Call):
    """List payment accounts, of one shop if wanted. Secrets are named, never shown."""
    rows = account_store.list_account_rows(call.query.shop_id)
    return AccountList(accounts=[_answer(call, row) for row in rows])


@endpoint(
    bp, "GET", "/v1/payment-accounts/{account_id}", scopes=("operator",), answer=AccountAnswer,
    refusals=(NoSuchAccount,),
)  # fmt: skip
def get_payment_account(call: Call, account_id: str):
    """Read one payment account."""
    return _answer(call, account_store.get_account_row(account_id))


@endpoint(
    bp, "PATCH", "/v1/payment-accounts/{account_id}", scopes=("operator",), body=AccountChange, answer=AccountAnswer,
    refusals=(NoSuchAccount, BadAccount, AccountChanged, Busy),
)  # fmt: skip
def patch_payment_account(call: Call, account_id: str):
    """Switch an account on or off, change settings, or rotate secrets: notices under the old ones are taken until
    `overlap_minutes` have passed. Orders already placed keep their account, on or off.
    """
    from chalicelib.payments.manage_accounts import change_account

    return _answer(call, change_account(account_id, call.body, by=call.caller.key_id, now=call.now))


@endpoint(bp, "GET", "/v1/payment-providers", scopes=("operator",), answer=ProviderList)
def get_payment_providers(call: Call):
    """List every provider with what its account wants filled in, and where that is found."""
    from chalicelib.payments.providers import adapter_named, provider_names

    providers = []
    for name in provider_names():
        facts = adapter_named(name).FACTS
        fields = [
            FieldAnswer(name=one.name, where=one.where, is_secret=one.is_secret, is_needed=one.is_needed, form=one.form)
            for one in facts.fields
        ]
        currencies = sorted(facts.currencies) if facts.currencies else None
        providers.append(
            ProviderAnswer(
                provider=name, title=facts.title, methods=list(facts.methods), currencies=currencies, fields=fields
            )
        )
    return ProviderList(providers=providers)


@endpoint(bp, "GET", "/v1/payment-methods", scopes=("shop",), answer=MethodList)
def get_payment_methods(call: Call):
    """List the ways to pay this shop can offer at present, with what each needs."""
    from chalicelib.payments.providers import adapter_named, open_account, provider_names

    methods = []
    for name in provider_names():
        try:
            account = open_account(call.caller.shop_id, name)
        except UnknownProvider:
            continue
        facts = adapter_named(name).FACTS
        for method, what in facts.methods.items():
            methods.append(
                MethodAnswer(
                    provider=name, title=facts.title, method=method, mode=account.mode, shows=what.shows,
                    meaning=what.meaning, needs=list(what.needs),
                    currencies=sorted(facts.currencies) if facts.currencies else None,
                )
            )  # fmt: skip
    return MethodList(methods=methods)


@endpoint(
    bp, "GET", "/v1/disputes", scopes=("operator",), query=PageQuery, answer=DisputePage, refusals=(BadCursor,)
)  # fmt: skip
def get_disputes(call: Call):
    """List disputes (chargebacks, complaints), newest first, with deadline and outcome."""
    from chalicelib.edge.cursor import from_cursor, to_cursor
    from chalicelib.payments import dispute_store

    position = from_cursor(call.query.cursor, "disputes")
    rows, position = dispute_store.list_labels(position, call.query.limit)
    return DisputePage(
        disputes=[_dispute(row) for row in rows], next_cursor=to_cursor(position, "disputes") if position else None
    )


@endpoint(
    bp, "POST", "/v1/orders/{order_id}/disputes/{dispute_id}/settle", scopes=("operator",), body=SettleDispute,
    answer=DisputeRow, refusals=(NoSuchOrder, NoSuchDispute, OrderChanged, Busy),
)  # fmt: skip
def post_settle_dispute(call: Call, order_id: str, dispute_id: str):
    """Record the end of a dispute by hand, where the provider does not tell it. Settled before is a success; what was
    decided first stays.
    """
    from chalicelib.payments.receive_notice import settle_dispute

    row = settle_dispute(
        order_id, dispute_id, call.body.outcome, by=call.caller.key_id, note=call.body.note, now=call.now
    )  # fmt: skip
    return _dispute(row)


def _dispute(row: dict[str, Any]) -> DisputeRow:
    return DisputeRow(
        dispute_id=row["dispute_id"], provider=row["provider"], order_id=row["order_id"], shop_id=row["shop_id"],
        state=row["state"], amount_minor=row["amount_minor"], currency=row.get("currency"),
        reason=row.get("reason", ""), was_revealed=row["was_revealed"], opened_at=iso(row["opened_at"]),
        due_at=iso(row.get("evidence_due_at")), closed_at=iso(row.get("closed_at")),
    )  # fmt: skip


def _answer(call: Call, row: dict[str, Any]) -> AccountAnswer:
    return AccountAnswer(
        account_id=row["account_id"], shop_id=row["shop_id"], provider=row["provider"], mode=row["mode"],
        status=row["status"], settings=row.get("settings", {}), secret_names=row.get("secret_names", []),
        notice_url=f"{call.base_url}/v1/notices/{row['provider']}/{row['account_id']}",
        created_at=iso(row["created_at"]), updated_at=iso(row["updated_at"]),
    )  # fmt: skip
