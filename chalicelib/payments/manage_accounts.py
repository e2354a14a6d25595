"""Create and change payment accounts: settings in the table, secrets in Secrets Manager. Every change is audited.

Secrets are written before the row that names them, so an account that is on always has them, whenever a process dies in
between. Secrets Manager knows no conditions, so whoever writes secrets first takes hold of the row, and nobody else
changes the account meanwhile: of two changes at once one is refused before it has touched anything. A hold outlives
every request, and ends by itself.
"""

from __future__ import annotations

import secrets
from typing import Any

from chalicelib.accounts import store as shops
from chalicelib.core import settings as environment
from chalicelib.payments import account_store as store
from chalicelib.payments.account_rules import check_complete, check_fields
from chalicelib.payments.answers import AccountChange, NewAccount
from chalicelib.payments.errors import AccountChanged, AccountExists, BadAccount, UnknownProvider
from chalicelib.payments.providers import adapter_named

HOLD_SECONDS = 60  # longer than a request can run


def create_account(wanted: NewAccount, *, by: str, now: int) -> dict[str, Any]:
    """A new account, switched off. One whose making broke off stands there without secrets, to be changed.

    Raises: payments.unknown_provider, payments.bad_account, payments.account_exists
    """
    facts = _facts(wanted.provider)
    _check_stand_in(wanted.settings)
    check_fields(facts, wanted.settings, wanted.secrets)
    if wanted.shop_id not in shops.list_shop_ids():
        raise BadAccount("There is no such shop; a shop exists from its first API key on.", field="shop_id")
    account_id = store.account_id_for(wanted.shop_id, wanted.provider, wanted.mode)
    if store.find_account(account_id) is not None:
        raise AccountExists()
    row = {
        "account_id": account_id, "shop_id": wanted.shop_id, "provider": wanted.provider, "mode": wanted.mode,
        "status": "off", "settings": dict(wanted.settings), "secret_names": [], "v": 1,
        "created_at": now, "updated_at": now, "changes": [[now, by, "created"]],
    }  # fmt: skip
    begun = {**row, **_hold(now)}
    store.put_account(begun)
    store.put_secrets(account_id, dict(wanted.secrets), [])
    made = {**row, "secret_names": sorted(wanted.secrets), "v": 2}
    store.save_account(begun, made)
    return made


def change_account(account_id: str, change: AccountChange, *, by: str, now: int) -> dict[str, Any]:
    """The account after a change. New secrets are used at once; what the old ones sign is taken until the overlap ends.

    Raises: payments.account_not_found, payments.bad_account, payments.account_changed
    """
    before = store.get_account_row(account_id)
    if before.get("held_until", 0) > now:
        raise AccountChanged()
    before = {name: value for name, value in before.items() if name not in ("held_by", "held_until")}
    facts = _facts(before["provider"])
    changed = {**before["settings"], **(change.settings or {})}
    settings = {name: value for name, value in changed.items() if value}
    _check_stand_in(settings)
    check_fields(facts, settings, change.secrets or {})
    names = set(before["secret_names"]) | set(change.secrets or {})
    status = change.status or before["status"]
    if status == "on":
        check_complete(facts, settings, names)
    if change.secrets:
        held = {**before, "v": before["v"] + 1, **_hold(now)}
        store.save_account(before, held)
        before = {**before, "v": held["v"]}
        stored = store.read_secrets(account_id, is_fresh=True)
        earlier = [one for one in stored["earlier"] if one["until"] > now]
        # A change sent again replaces nothing: its own secrets would push out those that are still good.
        replaced = {
            name: value for name, value in stored["current"].items() if change.secrets.get(name, value) != value
        }
        if replaced and change.overlap_minutes:
            earlier = [{"secrets": replaced, "until": now + change.overlap_minutes * 60}, *earlier][:3]
        store.put_secrets(account_id, {**stored["current"], **change.secrets}, earlier)
    what = ", ".join(
        [name for name, value in (("status " + status, change.status), ("settings", change.settings)) if value]
        + (["secrets " + " ".join(sorted(change.secrets))] if change.secrets else [])
    )
    after = {
        **before, "status": status, "settings": settings, "secret_names": sorted(names), "v": before["v"] + 1,
        "updated_at": now, "changes": [*before["changes"], [now, by, what or "nothing"]][-50:],
    }  # fmt: skip
    store.save_account(before, after)
    return after


def _hold(now: int) -> dict[str, Any]:
    return {"held_by": secrets.token_hex(8), "held_until": now + HOLD_SECONDS}


def _facts(provider: str) -> Any:
    facts = adapter_named(provider).FACTS
    if not facts.fields:
        raise UnknownProvider("This provider needs no account.", field="provider")
    return facts


def _check_stand_in(settings: dict[str, str]) -> None:
    """A stand-in for a provider is a way to be told that money arrived: only where no real money is taken."""
    if settings.get("api_base") and not environment.has_sandbox():
        raise BadAccount("api_base is for stages with a sandbox only.", field="settings.api_base")
