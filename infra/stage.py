"""Points the product's AWS clients at a stage: one in AWS, or the one `make run` keeps on this machine.

Called by the operator's commands (`issue_key.py`, `revoke_key.py`) before the product is imported. It starts nothing.
"""

from __future__ import annotations

import argparse
import os

from infra.local.backend import Backend


class NoPlace(Exception):
    """Nobody said in which region the stage is."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stage", required=True)
    parser.add_argument("--region", default="")
    parser.add_argument("--backend-port", type=int, default=4566, help="of `make run`, for stage local")


def point_at(options: argparse.Namespace) -> None:
    """Set the environment that clients read.

    Raises: NoPlace.
    """
    os.environ["STAGE"] = options.stage
    if options.stage == "local":
        os.environ.update(Backend(options.backend_port).environment())
        os.environ.pop("AWS_PROFILE", None)
    elif options.region:
        os.environ["AWS_REGION"] = options.region
    elif not os.environ.get("AWS_REGION"):
        raise NoPlace("say where: STAGE=prod REGION=eu-central-1, or STAGE=local for a running `make run`")
