"""What makes a payment account complete and well-formed. Pure: the provider's own list of fields decides."""

from __future__ import annotations

import re

from chalicelib.payments.errors import BadAccount
from chalicelib.payments.model import AccountField, ProviderFacts

_KEY_TEXT = re.compile(r"[A-Za-z0-9+/=\s]+")
_FORMS = {
    "text": re.compile(r"[^\x00-\x1f\x7f]+"),
    "digits": re.compile(r"[0-9]+"),
    "url": re.compile(r"https?://[^\s\x00-\x1f]+"),
}


def check_fields(facts: ProviderFacts, settings: dict[str, str], secrets: dict[str, str]) -> None:
    """Every name is known and in its right place, every value of its form; gaps are allowed while an account is off.

    Raises: payments.bad_account
    """
    known = {field.name: field for field in facts.fields}
    for where, given in (("settings", settings), ("secrets", secrets)):
        for name, value in given.items():
            field = known.get(name)
            if field is None or field.is_secret != (where == "secrets"):
                raise BadAccount("The provider has no such field here.", field=f"{where}.{name}")
            if len(value) > field.max_length or not _has_form(field, value):
                raise BadAccount(f"The value is not of the form {field.form}.", field=f"{where}.{name}")


def check_complete(facts: ProviderFacts, settings: dict[str, str], secret_names: set[str]) -> None:
    """Everything the provider needs is there; asked before an account goes on.

    Raises: payments.bad_account
    """
    for field in facts.fields:
        if field.is_needed and field.name not in (secret_names if field.is_secret else settings.keys()):
            where = "secrets" if field.is_secret else "settings"
            raise BadAccount("This is needed before the account can be switched on.", field=f"{where}.{field.name}")
    filled = settings.keys() | secret_names
    if facts.one_of and not any(set(names) <= filled for names in facts.one_of):
        choices = "; or ".join(" with ".join(names) for names in facts.one_of)
        raise BadAccount(f"One of these is needed before the account can be switched on: {choices}.", field="settings")


def _has_form(field: AccountField, value: str) -> bool:
    """PEM texts may come without their armour, as some consoles show them; whether a key fits shows when it is used."""
    if field.form.startswith("pem_"):
        return "-----BEGIN " in value or _KEY_TEXT.fullmatch(value) is not None
    return _FORMS[field.form].fullmatch(value) is not None
