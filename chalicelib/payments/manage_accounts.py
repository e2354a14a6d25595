"""Create and change payment accounts: settings in the table, secrets in Secrets Manager, the secrets first.

So an account that is on always has its secrets, whenever a process dies in between. Every change is audited.
"""

from __future__ import annotations

from typing import Any

from chalicelib.accounts import store as shops
from chalicelib.core import settings as environment
from chalicelib.payments import account_store as store
from chalicelib.payments.account_rules import check_complete, check_fields
from chalicelib.payments.answers import AccountChange, NewAccount
from chalicelib.payments.errors import AccountExists, BadAccount, UnknownProvider
from chalicelib.payments.providers import adapter_named


def create_account(wanted: NewAccount, *, by: str, now: int) -> dict[str, Any]:
    """A new account, switched off. Repeating the very request answers the account it made.

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
    store.put_secrets(account_id, dict(wanted.secrets), [])
    row = {
        "account_id": account_id, "shop_id": wanted.shop_id, "provider": wanted.provider, "mode": wanted.mode,
        "status": "off", "settings": dict(wanted.settings), "secret_names": sorted(wanted.secrets), "v": 1,
        "created_at": now, "updated_at": now, "changes": [[now, by, "created"]],
    }  # fmt: skip
    store.put_account(row)
    return row


def change_account(account_id: str, change: AccountChange, *, by: str, now: int) -> dict[str, Any]:
    """The account after a change. New secrets are used at once; what the old ones sign is taken until the overlap ends.

    Raises: payments.account_not_found, payments.bad_account, payments.account_changed
    """
    before = store.get_account_row(account_id)
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
        stored = store.read_secrets(account_id)
        earlier = [one for one in stored["earlier"] if one["until"] > now]
        replaced = {name: value for name, value in stored["current"].items() if name in change.secrets}
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


def _facts(provider: str) -> Any:
    facts = adapter_named(provider).FACTS
    if not facts.fields:
        raise UnknownProvider("This provider needs no account.", field="provider")
    return facts


def _check_stand_in(settings: dict[str, str]) -> None:
    """A stand-in for a provider is a way to be told that money arrived: only where no real money is taken."""
    if settings.get("api_base") and not environment.has_sandbox():
        raise BadAccount("api_base is for stages with a sandbox only.", field="settings.api_base")
