"""The only place where AWS clients are made: on first use, once per process, with explicit time-outs.

Clients are thread-safe. Tests attach fault hooks to `client.meta.events` of what these functions return.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any

_making = threading.Lock()


@cache
def _session() -> Any:
    # Imported here: botocore is most of a cold start, and a few requests (health, pages, docs) need no AWS at all.
    # boto3 would only put another layer around the same clients, at a fifth more.
    from botocore.session import Session

    return Session()


@cache
def _client(service: str, read_timeout_seconds: float = 5) -> Any:
    from botocore.config import Config

    with _making:  # a session may not make two clients at the same moment
        return _session().create_client(
            service,
            region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            config=Config(
                connect_timeout=2,
                read_timeout=read_timeout_seconds,
                max_pool_connections=64,
                retries={"mode": "standard", "max_attempts": 3},
                # Local backends answer on one address: a bucket must not become part of the host name there.
                s3={"addressing_style": "path"} if os.environ.get("AWS_ENDPOINT_URL") else {},
                signature_version="s3v4" if service == "s3" else None,
            ),
        )


def dynamodb() -> Any:
    return _client("dynamodb")


def sqs() -> Any:
    return _client("sqs")


def kms() -> Any:
    return _client("kms")


def s3() -> Any:
    return _client("s3", 30)


def secretsmanager() -> Any:
    return _client("secretsmanager")


def lambda_() -> Any:
    return _client("lambda", 30)
