"""Builds what is deployed: `.build/<stage>/template.json`, `deployment.zip`, ready for `aws cloudformation` or `sam`.

    python -m infra.build --stage prod [--architecture x86_64]

Chalice makes the template from the app; this adds what its decorators cannot say (`infra/resources.yaml` and, per
function, name, environment, event source, log group, alarms), checks what Chalice lets pass, and makes the zip
byte-for-byte reproducible. It deploys nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.dependencies import NoWheel, dependencies_zip
from infra.zip import MAX_UNZIPPED_BYTES, rebuild_zip

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / ".build"
LOG_DAYS = 30
# Everything CloudFormation may be sent without a bucket. Ours is larger, so deploying always goes through one.
MAX_INLINE_TEMPLATE_BYTES = 51_200
MAX_TEMPLATE_BYTES = 1_000_000
API = "api_handler"


class BuildFailed(Exception):
    """Something that Chalice would have let pass, said in one line."""


def build(stage: str, architecture: str | None = None) -> Path:
    """Build a stage; the folder with template and zip.

    Raises: BuildFailed.
    """
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    if stage not in config["stages"]:
        raise BuildFailed(f"no stage '{stage}' in .chalice/config.json: {', '.join(sorted(config['stages']))}")
    target = BUILD / stage
    source = target / "source"
    shutil.rmtree(target, ignore_errors=True)
    _copy_source(source, config, architecture)
    # Queue names carry the stage and are read when the modules are imported.
    os.environ["STAGE"] = stage
    app = _load_app()
    check_app(app, config, stage)
    overlay = overlay_for(app, config, stage)
    (target / "overlay.json").write_text(json.dumps(overlay, indent=1))
    _package(source, target, stage)
    template = _finish_template(target, config, stage)
    try:
        dependencies = dependencies_zip(
            ROOT / "requirements.txt", architecture or config["lambda_architecture"], BUILD / "dependencies"
        )
    except NoWheel as error:
        raise BuildFailed(f"a dependency has no wheel for Lambda: {error}") from error
    zipped, unzipped = rebuild_zip(target / "deployment.zip", dependencies)
    if unzipped > MAX_UNZIPPED_BYTES:
        raise BuildFailed(f"the package is {unzipped:,} bytes unzipped; Lambda takes {MAX_UNZIPPED_BYTES:,}")
    shutil.rmtree(source)
    functions = sum(one["Type"] == "AWS::Serverless::Function" for one in template["Resources"].values())
    size = (target / "template.json").stat().st_size
    print(
        f"{target.relative_to(ROOT)}: {functions} functions, zip {zipped / 2**20:.1f} MiB "
        f"({unzipped / 2**20:.1f} unzipped), template {size / 1024:.0f} KiB"
    )
    return target


def check_app(app: Any, config: dict, stage: str) -> None:
    """What must hold between app and configuration. Raises: BuildFailed with the first thing that does not."""
    from chalice.config import Config
    from chalice.deploy.validate import validate_configuration

    try:
        validate_configuration(Config.create(chalice_app=app, chalice_stage=stage, project_dir=str(ROOT), **config))
    except ValueError as error:
        raise BuildFailed(str(error)) from error
    in_app = {name for name, _ in functions_of(app)}
    configured = set(config["lambda_functions"])
    if in_app != configured:
        raise BuildFailed(f"functions without configuration: {sorted(in_app - configured)}; "
                          f"configured but not in the app: {sorted(configured - in_app)}")  # fmt: skip
    used = {one["iam_policy_file"] for one in config["lambda_functions"].values()}
    there = {path.name for path in (ROOT / ".chalice").glob("policy-*.json")}
    if used != there:
        raise BuildFailed(f"policies missing: {sorted(used - there)}; policies of no function: {sorted(there - used)}")
    slashed = [path for path in app.routes if path != "/" and path.endswith("/")]
    if slashed:
        raise BuildFailed(f"routes with a trailing slash: {slashed}")


def functions_of(app: Any) -> list[tuple[str, Any]]:
    """Every function of the package by its Chalice name, with its event source (None: called directly)."""
    return [
        (API, None),
        *((one.name, None) for one in app.pure_lambda_functions),
        *((one.name, one) for one in app.event_sources),
    ]


def function_name(name: str) -> str:
    """The name of a function without its stage: `on_order_expiry` is deployed as `kamiflow-<stage>-on-order-expiry`."""
    return "api" if name == API else name.replace("_", "-")


def overlay_for(app: Any, config: dict, stage: str) -> dict:
    """What is united with Chalice's template: `resources.yaml` and what follows from each function."""
    from chalice.app import DynamoDBEventConfig, SQSEventConfig
    from chalice.package import YAMLTemplateSerializer, to_cfn_resource_name

    from infra.gateway import gateway_responses

    overlay = YAMLTemplateSerializer().load_template((ROOT / "infra" / "resources.yaml").read_text())
    overlay["Parameters"]["Stage"]["Default"] = stage
    resources = overlay["Resources"]
    resources["RestAPI"]["Properties"]["DefinitionBody"] = {
        "x-amazon-apigateway-gateway-responses": gateway_responses()
    }
    dead: set[str] = set()
    for name, source in functions_of(app):
        logical = "APIHandler" if name == API else to_cfn_resource_name(name)
        properties: dict[str, Any] = {
            "FunctionName": {"Fn::Sub": f"kamiflow-${{Stage}}-{function_name(name)}"},
            "Environment": {"Variables": _environment(name)},
        }
        if isinstance(source, SQSEventConfig):
            fact = source.queue.removeprefix(f"kamiflow-{stage}-")
            dead.add(f"{fact}-dead")
            properties["Events"] = {f"{logical}SqsEventSource": {"Properties": _queue_source(name)}}
        elif isinstance(source, DynamoDBEventConfig):
            fact = name.removeprefix("on_").replace("_", "-")
            dead.add(f"{fact}-dead")
            properties["Events"] = {f"{logical}DynamodbEventSource": {"Properties": _stream_source(fact)}}
            resources[f"{logical}Late"] = _alarm(
                "Change records wait too long; figures and messages are late.",
                "AWS/Lambda", "IteratorAge", "FunctionName", f"kamiflow-${{Stage}}-{function_name(name)}",
                statistic="Maximum", threshold=120_000,
            )  # fmt: skip
        resources[logical] = {"DependsOn": [f"{logical}Log"], "Properties": properties}
        resources[f"{logical}Log"] = {
            "Type": "AWS::Logs::LogGroup",
            "Properties": {
                "LogGroupName": {"Fn::Sub": f"/aws/lambda/kamiflow-${{Stage}}-{function_name(name)}"},
                "RetentionInDays": LOG_DAYS,
            },
        }
        for metric, text in (("Errors", "fails"), ("Throttles", "is throttled")):
            resources[f"{logical}{metric}"] = _alarm(
                f"{name} {text}.", "AWS/Lambda", metric, "FunctionName", f"kamiflow-${{Stage}}-{function_name(name)}"
            )
    for queue in sorted(dead):
        resources[to_cfn_resource_name(queue) + "Letters"] = _alarm(
            f"A message could not be handled; see queue {queue}.",
            "AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", f"kamiflow-${{Stage}}-{queue}",
            statistic="Maximum",
        )  # fmt: skip
    return overlay


def _environment(name: str) -> dict[str, Any]:
    variables: dict[str, Any] = {
        "STAGE": {"Ref": "Stage"},
        "BASE_URL": {"Ref": "BaseUrl"},
        "BUCKET_NAME": {"Fn::ImportValue": {"Fn::Sub": "kamiflow-${Stage}-FilesBucketName"}},
        "REVEAL_FUNCTION": "",
    }
    if name == API:
        variables["REVEAL_FUNCTION"] = {"Fn::Sub": f"kamiflow-${{Stage}}-{function_name('reveal_keys')}"}
    return variables


def _queue_source(name: str) -> dict[str, Any]:
    properties: dict[str, Any] = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
    if name == "on_import_chunk":  # an import must not crowd out the sales of the moment
        properties["ScalingConfig"] = {"MaximumConcurrency": 4}
    return properties


def _stream_source(fact: str) -> dict[str, Any]:
    from chalicelib.core.money import MINOR_DIGITS

    queue = f"kamiflow-${{Stage}}-{fact}-dead"
    keys = ["O", *MINOR_DIGITS] if fact == "order-changed" else ["O"]  # a balance's sort key is its currency
    return {
        "Stream": {"Fn::ImportValue": {"Fn::Sub": "kamiflow-${Stage}-StreamArn"}},
        "StartingPosition": "TRIM_HORIZON",
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": 10,
        "MaximumRecordAgeInSeconds": 21_600,
        "MaximumBatchingWindowInSeconds": 0,
        # Only orders and balances: most changes are of stock and keys, and each would start the function for nothing.
        "FilterCriteria": {"Filters": [{"Pattern": json.dumps({"dynamodb": {"Keys": {"sk": {"S": keys}}}})}]},
        "DestinationConfig": {
            "OnFailure": {
                "Destination": {"Fn::Sub": f"arn:${{AWS::Partition}}:sqs:${{AWS::Region}}:${{AWS::AccountId}}:{queue}"}
            }
        },
    }


def _alarm(
    text: str, namespace: str, metric: str, dimension: str, value: str, *, statistic: str = "Sum", threshold: int = 1
) -> dict:
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmDescription": text,
            "Namespace": namespace,
            "MetricName": metric,
            "Dimensions": [{"Name": dimension, "Value": {"Fn::Sub": value}}],
            "Statistic": statistic,
            "Period": 300,
            "EvaluationPeriods": 1,
            "Threshold": threshold,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "notBreaching",
            "AlarmActions": {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]},
        },
    }


def _copy_source(source: Path, config: dict, architecture: str | None) -> None:
    """Only what runs: nothing of the tests, tools or local data can end up in the zip."""
    source.mkdir(parents=True)
    shutil.copy(ROOT / "app.py", source)
    (source / "requirements.txt").touch()  # Chalice packs the app alone; see infra/dependencies.py
    shutil.copytree(ROOT / "chalicelib", source / "chalicelib", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    (source / ".chalice").mkdir()
    for policy in (ROOT / ".chalice").glob("policy-*.json"):
        shutil.copy(policy, source / ".chalice")
    built = {**config, **({"lambda_architecture": architecture} if architecture else {})}
    (source / ".chalice" / "config.json").write_text(json.dumps(built))


def _load_app() -> Any:
    import app

    return app.app


def _package(source: Path, target: Path, stage: str) -> None:
    output = subprocess.run(
        [sys.executable, "-c", "from chalice.cli import main; main()", "package", "--stage", stage,
         "--template-format", "json", "--merge-template", str(target / "overlay.json"), str(target)],
        cwd=source, env={**os.environ, "STAGE": stage, "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    text = output.stdout + output.stderr
    if output.returncode or not (target / "sam.json").exists():  # it answers 0 on many a failure
        raise BuildFailed(f"chalice package failed:\n{text}")


def _finish_template(target: Path, config: dict, stage: str) -> dict:
    path = target / "sam.json"
    template = json.loads(path.read_text())
    path.unlink()
    (target / "overlay.json").unlink()
    if config["stages"][stage]["environment_variables"].get("SANDBOX") != "on":
        _drop_function(template, "OnSandboxNoticeDue")
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "deployment.zip"
    text = json.dumps(template, indent=1)
    if len(text.encode()) > MAX_TEMPLATE_BYTES:
        raise BuildFailed(f"the template is {len(text):,} bytes; CloudFormation takes {MAX_TEMPLATE_BYTES:,}")
    (target / "template.json").write_text(text)
    return template


def _drop_function(template: dict, logical: str) -> None:
    """Take a function with all that belongs to it out of the template: it must not exist where real money is taken."""
    belongs = [name for name in template["Resources"] if name.startswith(logical)] + ["SandboxNoticeDueDeadLetters"]
    for name in belongs:
        del template["Resources"][name]
    for name in [name for name in template.get("Outputs", {}) if name.startswith(logical)]:
        del template["Outputs"][name]


def main() -> int:
    parser = argparse.ArgumentParser(description="Build what is deployed.")
    parser.add_argument("--stage", required=True)
    parser.add_argument(
        "--architecture", choices=("arm64", "x86_64"), help="instead of the one in .chalice/config.json"
    )
    options = parser.parse_args()
    try:
        build(options.stage, options.architecture)
    except BuildFailed as error:
        print(f"build failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
