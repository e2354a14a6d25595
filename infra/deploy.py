"""`make deploy STAGE=… REGION=…`: data, queues, app and edge of a stage, in this order, through the AWS CLI.

Every step creates what is missing and changes what differs, so it may be repeated after a failure. What it needs and
does not find it names, and then does nothing. Parameters of the app and edge (domain, alarm topic) come from the
environment: BASE_URL, ALARM_TOPIC_ARN, DOMAIN_NAME, CERTIFICATE_ARN, REQUESTS_PER_IP.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys

from infra.build import BUILD, ROOT

CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")


class Missing(Exception):
    """Something that has to be there before anything is deployed."""


def deploy(stage: str, region: str) -> str:
    """Deploy all stacks of a stage; the address of its API.

    Raises: Missing; subprocess.CalledProcessError when AWS refuses.
    """
    account = check_ready(stage, region)
    print(f"==> stage {stage} in {region}, account {account}")
    _stack(region, "kamiflow-artifacts", str(ROOT / "infra" / "artifacts.yaml"), {})
    bucket = f"kamiflow-artifacts-{account}-{region}"
    _stack(region, f"kamiflow-{stage}-data", str(ROOT / "infra" / "data.yaml"), {"Stage": stage})
    _stack(region, f"kamiflow-{stage}-queues", str(ROOT / "infra" / "queues.yaml"), {"Stage": stage})
    # The template is larger than what CloudFormation takes directly: it goes through the bucket, like the code.
    packaged = BUILD / stage / "packaged.json"
    _aws(region, "cloudformation", "package", "--template-file", str(BUILD / stage / "template.json"), "--use-json",
         "--s3-bucket", bucket, "--s3-prefix", stage, "--output-template-file", str(packaged))  # fmt: skip
    app = {"Stage": stage, "BaseUrl": os.environ.get("BASE_URL"), "AlarmTopicArn": os.environ.get("ALARM_TOPIC_ARN")}
    _stack(region, f"kamiflow-{stage}-app", str(packaged), app, bucket=bucket)
    edge = {
        "Stage": stage,
        "DomainName": os.environ.get("DOMAIN_NAME"),
        "CertificateArn": os.environ.get("CERTIFICATE_ARN"),
        "RequestsPerIp": os.environ.get("REQUESTS_PER_IP"),
    }
    _stack(region, f"kamiflow-{stage}-edge", str(ROOT / "infra" / "edge.yaml"), edge)
    return _output(region, f"kamiflow-{stage}-app", "EndpointURL")


def check_ready(stage: str, region: str) -> str:
    """The account we are about to deploy to. Raises: Missing, with what to do about it."""
    if not region:
        raise Missing("say where: make deploy STAGE=… REGION=eu-central-1")
    if stage == "local":
        raise Missing("stage 'local' is this machine (make run); deploy test, prod or a stage of your own")
    if not (BUILD / stage / "template.json").exists():
        raise Missing(f"nothing is built: make package STAGE={stage}")
    if shutil.which("aws") is None:
        raise Missing("the AWS CLI is not installed (https://aws.amazon.com/cli/)")
    found = subprocess.run(
        ["aws", "sts", "get-caller-identity", "--output", "json", "--region", region],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise Missing(f"the AWS CLI has no working credentials: {found.stderr.strip() or 'run aws configure'}")
    return json.loads(found.stdout)["Account"]


def _stack(
    region: str, name: str, template: str, parameters: dict[str, str | None], *, bucket: str | None = None
) -> None:
    print(f"==> {name}", flush=True)
    given = [f"{key}={value}" for key, value in parameters.items() if value]
    _aws(
        region, "cloudformation", "deploy", "--stack-name", name, "--template-file", template,
        "--no-fail-on-empty-changeset", "--capabilities", *CAPABILITIES,
        *(["--parameter-overrides", *given] if given else []), *(["--s3-bucket", bucket] if bucket else []),
    )  # fmt: skip


def _aws(region: str, *arguments: str) -> None:
    subprocess.run(["aws", *arguments, "--region", region], check=True)


def _output(region: str, stack: str, key: str) -> str:
    query = f"Stacks[0].Outputs[?OutputKey=='{key}'].OutputValue"
    found = subprocess.run(
        ["aws", "cloudformation", "describe-stacks", "--stack-name", stack, "--query", query, "--output", "text",
         "--region", region],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return found.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description="Deploy a stage to AWS.")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--region", default="")
    options = parser.parse_args()
    try:
        print(f"\nThe API is at {deploy(options.stage, options.region)}")
        print(f"Next: make api-key STAGE={options.stage} REGION={options.region} SCOPE=operator")
    except Missing as missing:
        print(f"cannot deploy: {missing}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as failed:
        print(f"AWS refused: {' '.join(failed.cmd[:4])} ended with {failed.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
