"""The embedded backend and the fixtures every other test stands on."""

from __future__ import annotations

import time

from chalicelib.aws import queues, secrets
from chalicelib.aws.clients import dynamodb, kms, s3, sqs
from chalicelib.aws.due import list_due
from chalicelib.aws.rows import to_row
from chalicelib.core import settings
from chalicelib.core.due import due_attributes
from infra.local import stack as templates
from infra.local.backend import Backend

FACTS = (
    "delivery-due",
    "order-expiry",
    "refund-due",
    "import-started",
    "import-chunk",
    "payment-close",
    "reconciliation-due",
    "sandbox-notice-due",
)


def test_a_stage_has_its_table_with_indexes_stream_and_expiry(stack):
    table = dynamodb().describe_table(TableName=settings.table_name())["Table"]
    assert {index["IndexName"] for index in table["GlobalSecondaryIndexes"]} == {"due", "timeline"}
    assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["DeletionProtectionEnabled"] is True
    expiry = dynamodb().describe_time_to_live(TableName=settings.table_name())["TimeToLiveDescription"]
    assert (expiry["TimeToLiveStatus"], expiry["AttributeName"]) == ("ENABLED", "ttl_at")


def test_every_queue_hands_its_dead_messages_to_its_own_dead_letter_queue(stack):
    for fact in FACTS:
        url = sqs().get_queue_url(QueueName=settings.queue_name(fact))["QueueUrl"]
        policy = sqs().get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"][
            "RedrivePolicy"
        ]
        assert settings.queue_name(f"{fact}-dead") in policy


def test_what_the_product_needs_of_a_stage_answers(stack):
    queues.send("delivery-due", {"order_id": "ord_1"})
    assert len(secrets.read_secret("root")) == 64
    assert secrets.read_secret("root") != secrets.read_secret("fingerprint")
    assert len(kms().generate_data_key(KeyId=settings.card_key_alias(), KeySpec="AES_256")["Plaintext"]) == 32
    s3().put_object(Bucket=settings.bucket_name(), Key="a", Body=b"b")
    row = {"pk": "O#1", "sk": "O", **due_attributes("expiry", 100, "1")}
    dynamodb().put_item(TableName=settings.table_name(), Item=to_row(row))
    assert [found["pk"] for found in list_due("expiry", 100)] == ["O#1"]
    assert list(list_due("expiry", 99)) == []


def test_tests_do_not_see_each_others_stage(stack):
    found = dynamodb().get_item(TableName=settings.table_name(), Key=to_row({"pk": "O#1", "sk": "O"}))
    assert "Item" not in found


def test_the_clock_stands_still_until_it_is_moved(clock):
    from chalicelib.core import clock as product_clock

    assert product_clock.now() == clock.at
    assert clock.advance(60) == product_clock.now()


def test_a_power_cut_loses_nothing_that_was_written_a_moment_before_and_deploying_again_changes_nothing(tmp_path):
    kept = Backend(state=tmp_path / "state").start()
    try:
        templates.deploy_data_and_queues(kept.url, "keep")
        secret = templates.client("secretsmanager", kept.url).get_secret_value(SecretId="kamiflow/keep/root")[
            "SecretString"
        ]
        table = templates.client("dynamodb", kept.url)
        table.put_item(TableName="kamiflow-keep", Item=to_row({"pk": "A", "sk": "B"}))
        time.sleep(3)
        kept.kill()
        kept.start()
        templates.deploy_data_and_queues(kept.url, "keep")
        assert "Item" in table.get_item(TableName="kamiflow-keep", Key=to_row({"pk": "A", "sk": "B"}))
        found = templates.client("secretsmanager", kept.url).get_secret_value(SecretId="kamiflow/keep/root")
        assert found["SecretString"] == secret
    finally:
        kept.stop()
