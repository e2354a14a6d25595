"""The templates, and what the build adds to Chalice's: valid, least privilege, nothing forgotten. No backend needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import app
from infra.build import ROOT, BuildFailed, check_app, function_name, functions_of, overlay_for
from infra.gateway import gateway_responses

CONFIG = json.loads((ROOT / ".chalice" / "config.json").read_text())
FUNCTIONS = sorted(CONFIG["lambda_functions"])
# The only statements that may name every resource: these actions know no narrower one.
EVERYWHERE = {"dynamodb:ListStreams", "xray:PutTelemetryRecords", "xray:PutTraceSegments"}


def statements_of(function: str) -> list[dict]:
    text = (ROOT / ".chalice" / CONFIG["lambda_functions"][function]["iam_policy_file"]).read_text()
    return json.loads(text)["Statement"]


def actions_of(function: str) -> set[str]:
    return {action for statement in statements_of(function) for action in statement["Action"]}


def test_the_templates_are_clean():
    names = ("artifacts.yaml", "data.yaml", "queues.yaml", "edge.yaml")
    lint = Path(sys.executable).with_name("cfn-lint")
    found = subprocess.run(
        [lint, *(ROOT / "infra" / name for name in names)], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_every_function_of_the_app_has_its_configuration_and_its_policy():
    check_app(app.app, CONFIG, "local")
    assert {name for name, _ in functions_of(app.app)} == set(FUNCTIONS)


def test_a_function_without_configuration_is_refused():
    fewer = {**CONFIG, "lambda_functions": {k: v for k, v in CONFIG["lambda_functions"].items() if k != "reveal_keys"}}
    with pytest.raises(BuildFailed, match="reveal_keys"):
        check_app(app.app, fewer, "local")


def test_an_unknown_stage_is_refused():
    found = subprocess.run(
        [sys.executable, "-m", "infra.build", "--stage", "nowhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "nowhere" in found.stderr


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_policy_names_its_actions_and_its_resources(function):
    for statement in statements_of(function):
        assert statement["Effect"] == "Allow"
        assert not [action for action in statement["Action"] if "*" in action]
        if statement["Resource"] == "*":
            assert set(statement["Action"]) <= EVERYWHERE


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_function_may_scan_or_delete_rows(function):
    assert not actions_of(function) & {"dynamodb:Scan", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem"}


def test_one_function_opens_keys_and_another_seals_them():
    assert [name for name in FUNCTIONS if "kms:Decrypt" in actions_of(name)] == ["reveal_keys"]
    assert [name for name in FUNCTIONS if "kms:GenerateDataKey" in actions_of(name)] == ["on_import_chunk"]


def test_only_the_import_worker_reads_the_fingerprint_secret():
    readers = [name for name in FUNCTIONS if "/fingerprint-" in json.dumps(statements_of(name))]
    assert readers == ["on_import_chunk"]


def test_only_the_api_may_start_another_function_and_only_the_one_that_reveals():
    callers = {name: statement for name in FUNCTIONS for statement in statements_of(name)
               if "lambda:InvokeFunction" in statement["Action"]}  # fmt: skip
    assert list(callers) == ["api_handler"]
    assert json.dumps(callers["api_handler"]["Resource"]).count(":function:") == 1
    assert "kamiflow-${Stage}-reveal-keys" in json.dumps(callers["api_handler"]["Resource"])


@pytest.mark.parametrize("name,source", [(n, s) for n, s in functions_of(app.app) if getattr(s, "queue", None)])
def test_a_queue_reader_receives_from_its_own_queue_only_and_reports_single_failures(name, source):
    fact = source.queue.rpartition("local-")[2]
    receiving = [one for one in statements_of(name) if "sqs:ReceiveMessage" in one["Action"]]
    assert [json.dumps(one["Resource"]).count(f'kamiflow-${{Stage}}-{fact}"') for one in receiving] == [1]
    assert len(receiving[0]["Resource"]) == 1


@pytest.fixture(scope="module")
def overlay() -> dict:
    return overlay_for(app.app, CONFIG, "local")["Resources"]


def test_every_queue_and_stream_source_reports_partial_failures(overlay):
    sources = [event["Properties"] for one in overlay.values() if "Events" in one.get("Properties", {})
               for event in one["Properties"]["Events"].values()]  # fmt: skip
    assert len(sources) == sum(
        hasattr(source, "queue") or hasattr(source, "stream_arn") for _, source in functions_of(app.app)
    )
    assert all(source["FunctionResponseTypes"] == ["ReportBatchItemFailures"] for source in sources)


def test_a_stream_source_bisects_gives_up_in_the_end_and_keeps_what_it_gave_up(overlay):
    sources = [event["Properties"] for one in overlay.values() if "Events" in one.get("Properties", {})
               for event in one["Properties"]["Events"].values() if "Stream" in event["Properties"]]  # fmt: skip
    assert len(sources) == 2
    for source in sources:
        assert source["BisectBatchOnFunctionError"] is True
        assert source["MaximumRetryAttempts"] > 0
        assert source["DestinationConfig"]["OnFailure"]["Destination"]["Fn::Sub"].endswith("-dead")


def test_every_function_has_alarms_and_a_log_that_ends(overlay):
    alarms = json.dumps([one for one in overlay.values() if one.get("Type") == "AWS::CloudWatch::Alarm"])
    logs = json.dumps([one for one in overlay.values() if one.get("Type") == "AWS::Logs::LogGroup"])
    for name, _ in functions_of(app.app):
        assert alarms.count(f'kamiflow-${{Stage}}-{function_name(name)}"') >= 2
        assert logs.count(f'/aws/lambda/kamiflow-${{Stage}}-{function_name(name)}"') == 1
    assert logs.count("RetentionInDays") == len(FUNCTIONS)


def test_every_dead_letter_queue_of_the_template_has_an_alarm(overlay):
    queues = (ROOT / "infra" / "queues.yaml").read_text()
    watched = json.dumps([one for one in overlay.values() if one.get("Type") == "AWS::CloudWatch::Alarm"])
    names = [line.rpartition("kamiflow-${Stage}-")[2] for line in queues.splitlines() if line.endswith("-dead")]
    assert len(names) == 10
    assert [name for name in names if f'kamiflow-${{Stage}}-{name}"' not in watched] == []


def test_what_the_gateway_answers_by_itself_has_the_one_error_shape():
    for kind, answer in gateway_responses().items():
        error = json.loads(answer["responseTemplates"]["application/json"])["error"]
        assert list(error) == ["code", "message", "retry", "field", "request_id"], kind
        assert error["request_id"] == "$context.requestId"
    assert gateway_responses()["MISSING_AUTHENTICATION_TOKEN"]["statusCode"] == "404"
    assert gateway_responses()["THROTTLED"]["statusCode"] == "429"
