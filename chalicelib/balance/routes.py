"""HTTP for balances: shops see, watch and top up their own; operators see all and adjust them."""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.balance.answers import (
    BalanceAnswer,
    BalanceChange,
    BalanceEntryAnswer,
    BalanceEntryPage,
    BalanceQuery,
    EntriesQuery,
    EventPage,
    EventsQuery,
    NewAdjustment,
    NewTopUp,
    TopUpAnswer,
    to_balance_answer,
    to_entry_answer,
    to_event_answer,
    to_top_up_answer,
)
from chalicelib.balance.errors import InsufficientBalance, NoSuchTopUp, PaysItself, UnknownShop
from chalicelib.core.errors import Busy, InvalidRequest
from chalicelib.core.ids import new_id
from chalicelib.edge.cursor import from_cursor, to_cursor
from chalicelib.edge.errors import BadCursor, IdempotencyMismatch, NotAllowed
from chalicelib.edge.http import Call, endpoint
from chalicelib.edge.idempotency import REPLAYED, resource_for
from chalicelib.payments.errors import (
    CurrencyNotTaken,
    ProviderRefused,
    ProviderUnavailable,
    UnknownMethod,
    UnknownProvider,
)

bp = Blueprint(__name__)


@endpoint(
    bp, "GET", "/v1/balance", scopes=("shop", "operator"), query=BalanceQuery, answer=BalanceAnswer,
    refusals=(NotAllowed,),
)  # fmt: skip
def get_balance(call: Call):
    """What a shop has paid in and not spent, per currency."""
    from chalicelib.balance import store

    shop_id = _shop_of(call)
    return to_balance_answer(shop_id, store.list_balances(shop_id))


@endpoint(bp, "PATCH", "/v1/balance", scopes=("shop",), body=BalanceChange, answer=BalanceAnswer, refusals=(Busy,))
def patch_balance(call: Call):
    """Name the amount below which an event tells you that the balance is low, or end that with null."""
    from chalicelib.balance import store

    store.set_low_balance(call.caller.shop_id, call.body.currency, call.body.low_balance_minor)
    return to_balance_answer(call.caller.shop_id, store.list_balances(call.caller.shop_id))


@endpoint(
    bp, "GET", "/v1/balance/entries", scopes=("shop", "operator"), query=EntriesQuery, answer=BalanceEntryPage,
    refusals=(BadCursor, NotAllowed),
)  # fmt: skip
def get_balance_entries(call: Call):
    """Every change of a balance in one currency, newest first. They add up to the balance."""
    from chalicelib.balance import store

    shop_id, query = _shop_of(call), call.query
    binding = f"balance:{shop_id}:{query.currency}"
    entries, last = store.list_entries(shop_id, query.currency, from_cursor(query.cursor, binding), query.limit)
    return BalanceEntryPage(
        entries=[to_entry_answer(one) for one in entries], next_cursor=to_cursor(last, binding) if last else None
    )


@endpoint(
    bp, "POST", "/v1/balance/adjustments", scopes=("operator",), body=NewAdjustment, answer=BalanceEntryAnswer,
    status=201, creates=True, refusals=(UnknownShop, InsufficientBalance, IdempotencyMismatch, Busy),
)  # fmt: skip
def post_adjustment(call: Call):
    """Put money onto a shop's balance by hand, or take it off; never below zero. Send an `Idempotency-Key`."""
    from chalicelib.balance.adjust import adjust

    adjustment_id, is_replayed = resource_for(call, new_id("adj", call.now))
    wanted = call.body
    entry = adjust(
        wanted.shop_id, wanted.currency, wanted.amount_minor, wanted.reference, adjustment_id=adjustment_id,
        by=call.caller.key_id, now=call.now,
    )  # fmt: skip
    return to_entry_answer(entry), REPLAYED if is_replayed else {}


@endpoint(
    bp, "POST", "/v1/balance/top-ups", scopes=("shop",), body=NewTopUp, answer=TopUpAnswer, status=201, creates=True,
    refusals=(
        PaysItself, UnknownProvider, UnknownMethod, CurrencyNotTaken, ProviderUnavailable, ProviderRefused,
        IdempotencyMismatch, Busy,
    ),
)  # fmt: skip
def post_top_up(call: Call):
    """Pay in through a provider. What really arrives is put onto the balance, each payment once; open for a day."""
    from chalicelib.balance.open_top_up import open_top_up

    top_up_id, is_replayed = resource_for(call, new_id("top", call.now))
    top_up, started = open_top_up(
        call.body.payment, call.body.amount_minor, call.body.currency, shop_id=call.caller.shop_id,
        top_up_id=top_up_id, base_url=call.base_url, now=call.now,
    )  # fmt: skip
    return to_top_up_answer(top_up, started), REPLAYED if is_replayed else {}


@endpoint(
    bp, "GET", "/v1/balance/top-ups/{top_up_id}", scopes=("shop", "operator"), answer=TopUpAnswer,
    refusals=(NoSuchTopUp,),
)  # fmt: skip
def get_top_up(call: Call, top_up_id: str):
    """Read one top-up. Another shop's is answered like one that does not exist."""
    from chalicelib.balance.open_top_up import show_payment
    from chalicelib.balance.top_up_store import get_top_up

    top_up = get_top_up(top_up_id)
    if call.caller.shop_id not in (None, top_up.shop_id):
        raise NoSuchTopUp()
    try:
        started = show_payment(top_up, call.base_url, call.now)
    except (ProviderUnavailable, ProviderRefused, UnknownProvider):
        started = None
    return to_top_up_answer(top_up, started)


@endpoint(
    bp, "GET", "/v1/events", scopes=("shop", "operator"), query=EventsQuery, answer=EventPage,
    refusals=(BadCursor, NotAllowed),
)  # fmt: skip
def get_events(call: Call):
    """What a shop may want to hear of, newest first. `balance.low`: the balance fell below the amount named for it."""
    from chalicelib.balance import event_store

    shop_id, query = _shop_of(call), call.query
    binding = f"events:{shop_id}"
    events, last = event_store.list_events(shop_id, from_cursor(query.cursor, binding), query.limit)
    return EventPage(
        events=[to_event_answer(one) for one in events], next_cursor=to_cursor(last, binding) if last else None
    )


def _shop_of(call: Call) -> str:
    """The shop a call is about: the caller's own, or the one an operator names."""
    if call.caller.shop_id is not None:
        if call.query.shop_id not in (None, call.caller.shop_id):
            raise NotAllowed("A shop sees its own balance only.")
        return call.caller.shop_id
    if call.query.shop_id is None:
        raise InvalidRequest("Operators name the shop.", field="shop_id")
    return call.query.shop_id
