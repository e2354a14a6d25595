"""`make api-key` and `make revoke-key`, as the operator's own processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from chalicelib.accounts.api_keys import issue_api_key
from chalicelib.aws.clients import dynamodb
from chalicelib.core import settings
from infra.build import ROOT


def run(module: str, *arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if name != "KEY"}
    return subprocess.run(
        [sys.executable, "-m", module, "--stage", os.environ.get("STAGE", "prod"), *arguments],
        cwd=ROOT, env={**inherited, **environment}, input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip


def rows() -> list[tuple[str, str, str | None]]:
    """(pk, scope, status) of every key of the stage."""
    found = dynamodb().scan(TableName=settings.table_name())["Items"]
    return sorted((row["pk"]["S"], row["scope"]["S"], row["status"]["S"]) for row in found if row["sk"]["S"] == "KEY")


def states() -> list[str]:
    return [status for _, _, status in rows()]


def test_an_issued_key_is_printed_once_and_stored_as_a_digest(stack):
    made = run("infra.issue_key", "--scope", "shop", "--shop", "s1")
    assert made.stdout.startswith("kf_shop_"), made.stderr
    assert [(scope, status) for _, scope, status in rows()] == [("shop", "active")]
    assert made.stdout.strip() not in str(dynamodb().scan(TableName=settings.table_name())["Items"])


def test_a_key_piped_in_or_put_into_the_environment_is_revoked_and_no_other_and_never_printed(stack):
    first, second, third = (issue_api_key("operator", 1) for _ in range(3))
    for plain, done in (
        (first, run("infra.revoke_key", given=f"{first}\n")),
        (second, run("infra.revoke_key", KEY=second)),
    ):
        assert done.returncode == 0, done.stderr
        assert plain not in done.stdout + done.stderr
    assert sorted(states()) == ["active", "revoked", "revoked"]
    assert run("infra.revoke_key", given=third).returncode == 0
    assert set(states()) == {"revoked"}


@pytest.mark.parametrize("given,says", [("kf_operator_unknown", "no such key"), ("", "no key was given")])
def test_a_key_that_is_unknown_or_missing_revokes_nothing_and_is_said_to(stack, given, says):
    issue_api_key("operator", 1)
    done = run("infra.revoke_key", given=given)
    assert (done.returncode, says in done.stderr, "kf_" in done.stderr) == (1, True, False)
    assert states() == ["active"]


@pytest.mark.parametrize("command", [("infra.issue_key", "--scope", "operator"), ("infra.revoke_key",)])
def test_a_deployed_stage_without_a_region_is_refused_before_anything_is_read(command):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run([sys.executable, "-m", *command, "--stage", "prod"], cwd=ROOT, env=inherited, input="",
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, "REGION=" in done.stderr) == (1, True)
