"""Expands a built SAM template into plain CloudFormation with AWS's own translator, as a deployment does.

Run by `lint.py` with the Python of the embedded backend, where the translator is installed; imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

from samtranslator.translator.transform import transform


class _NoManagedPolicies:
    """Asked for the addresses of AWS's ready-made policies; no function of ours has one."""

    def load(self) -> dict:
        return {}


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    for resource in given["Resources"].values():  # the translator takes code only where CloudFormation would find it
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/deployment.zip"
    parameters = {name: one.get("Default", "") for name, one in given["Parameters"].items()}
    Path(sys.argv[2]).write_text(json.dumps(transform(given, parameters, _NoManagedPolicies()), indent=1))
