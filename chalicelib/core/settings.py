"""Where this copy runs: read from the environment when asked, never at import.

STAGE       local, test, or the name of a deployed stage; part of every resource name
BASE_URL    public address of the HTTPS endpoints, without a trailing slash
"""

from __future__ import annotations

import os


def stage() -> str:
    return os.environ.get("STAGE", "local")


def base_url() -> str:
    """Public address used in links we hand out; a deployed stage without a domain falls back to the request's own
    host.
    """
    return os.environ.get("BASE_URL", "").rstrip("/")


def table_name() -> str:
    return f"kamiflow-{stage()}"


def queue_name(fact: str) -> str:
    """Queues are named by the fact they carry, so that no handler needs their address configured."""
    return f"kamiflow-{stage()}-{fact}"


def bucket_name() -> str:
    """The bucket for import files and reports; bucket names are global, hence the account in it when deployed."""
    return os.environ.get("BUCKET_NAME") or f"kamiflow-{stage()}-files"


def stream_arn_placeholder() -> str:
    """A stream address in the right form for the decorators; packaging puts the real one in its place."""
    return "arn:aws:dynamodb:us-east-1:000000000000:table/kamiflow/stream/placeholder"


def card_key_alias() -> str:
    """KMS key that seals card keys."""
    return f"alias/kamiflow-{stage()}-card-keys"


def has_sandbox() -> bool:
    """Whether the sandbox provider and its pages exist here: only on stages that can never take real money."""
    return os.environ.get("SANDBOX", "off") == "on"


def reveal_function() -> str:
    """Name of the function that may decrypt; empty where everything runs in one process."""
    return os.environ.get("REVEAL_FUNCTION", "")
