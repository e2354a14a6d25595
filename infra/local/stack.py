"""Deploys the very templates of `infra/` to an embedded backend, through the CloudFormation API as on AWS.

Called by `make run` and the tests. Deploying again what is there changes nothing. It also sets what the embedded
backend leaves out of a template (expiry of rows), so that both ends behave alike.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

INFRA = Path(__file__).resolve().parents[1]
_DONE = ("CREATE_COMPLETE", "UPDATE_COMPLETE")


@cache
def client(service: str, url: str) -> Any:
    """A client of the embedded backend at `url`, whatever the environment says."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard"}),
    )


def deploy_data_and_queues(url: str, stage: str) -> None:
    """The table, key, secrets, bucket and queues of a stage."""
    cloudformation = client("cloudformation", url)
    files = f"kamiflow-{stage}-files"
    plain = {"PlainHttp": "allowed"}
    data = (INFRA / "data.yaml").read_text()
    queues = (INFRA / "queues.yaml").read_text()
    deploy(cloudformation, f"kamiflow-{stage}-data", data, {"Stage": stage, "FilesBucket": files, **plain})
    deploy(cloudformation, f"kamiflow-{stage}-queues", queues, {"Stage": stage, **plain})
    _expire_rows(client("dynamodb", url), f"kamiflow-{stage}")


def deploy(cloudformation: Any, name: str, template: str, parameters: dict[str, str]) -> None:
    """Create a stack or bring it up to date, and wait. `template` is its text, or the address of a larger one in S3.

    Raises: RuntimeError with the reasons CloudFormation gives.
    """
    request = {
        "StackName": name,
        ("TemplateURL" if template.startswith("http") else "TemplateBody"): template,
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    }
    try:
        if _status(cloudformation, name) is None:
            cloudformation.create_stack(**request)
        else:
            cloudformation.update_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise
    while (status := _status(cloudformation, name) or "").endswith("_IN_PROGRESS"):
        time.sleep(0.02)
    if status not in _DONE:
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        reasons = [f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
                   for event in events if event.get("ResourceStatusReason")]  # fmt: skip
        raise RuntimeError(f"stack {name} is {status}: {'; '.join(reasons)}")


def _status(cloudformation: Any, name: str) -> str | None:
    try:
        return cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def _expire_rows(dynamodb: Any, table: str) -> None:
    current = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]["TimeToLiveStatus"]
    if current not in ("ENABLED", "ENABLING"):
        dynamodb.update_time_to_live(
            TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl_at"}
        )
