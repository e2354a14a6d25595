"""Deploys the built package (`infra/build.py`) to an embedded backend: API Gateway, functions with their roles,
queues, stream.

Used by the test that sells a key through the very package that goes to AWS. The backend expands the SAM template with
AWS's own translator.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra.local.stack import client, deploy

ARTIFACTS = "kamiflow-artifacts"


def with_code_at(template: dict, address: str) -> dict:
    """The template with the code of every function at an `s3://` address."""
    copy = json.loads(json.dumps(template))
    for resource in copy["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = address
    return copy


def in_the_backends_words(template: dict) -> dict:
    """Role policies put so that the embedded backend understands them; what they allow stays the same.

    Sending many messages is an action of its own there (on AWS it is sqs:SendMessage), a KMS key named by its alias is
    looked up under the alias, and KMS's condition on the encryption context is unknown (our sealing binds it besides).
    """
    alias = "arn:${AWS::Partition}:kms:${AWS::Region}:${AWS::AccountId}:alias/kamiflow-${Stage}-card-keys"
    for resource in template["Resources"].values():
        for policy in resource["Properties"].get("Policies", []) if resource["Type"] == "AWS::IAM::Role" else []:
            for statement in policy["PolicyDocument"]["Statement"]:
                if "sqs:SendMessage" in statement["Action"]:
                    statement["Action"].append("sqs:SendMessageBatch")
                if statement["Sid"] in ("Seal", "Unseal"):
                    statement["Resource"].append({"Fn::Sub": alias})
                    del statement["Condition"]
    return template


def deploy_package(url: str, stage: str, folder: Path) -> str:
    """Deploy; the address of the API at the backend, which the functions know as their own."""
    s3 = client("s3", url)
    s3.create_bucket(Bucket=ARTIFACTS)
    s3.upload_file(str(folder / "deployment.zip"), ARTIFACTS, "deployment.zip")
    template = json.loads((folder / "template.json").read_text())
    text = json.dumps(in_the_backends_words(with_code_at(template, f"s3://{ARTIFACTS}/deployment.zip")))
    s3.put_object(Bucket=ARTIFACTS, Key="template.json", Body=text.encode())
    cloudformation = client("cloudformation", url)
    name = f"kamiflow-{stage}-app"
    text_at = f"{url}/{ARTIFACTS}/template.json"  # too large to be sent along
    deploy(cloudformation, name, text_at, {"Stage": stage})
    address = f"{url}/restapis/{_output(cloudformation, name, 'ApiId')}/api/_user_request_"
    deploy(cloudformation, name, text_at, {"Stage": stage, "BaseUrl": address})
    return address


def _output(cloudformation: Any, stack: str, key: str) -> str:
    outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    return next(one["OutputValue"] for one in outputs if one["OutputKey"] == key)
