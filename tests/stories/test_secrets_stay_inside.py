"""Canaries: known keys, phones and credentials go through a whole sale, then are looked for where they must not be."""

from __future__ import annotations

import json
import logging

import pytest

from chalicelib.aws.clients import dynamodb, sqs
from chalicelib.aws.rows import from_row
from chalicelib.core import settings
from chalicelib.fulfilment.workers import deliver_message, every_minute_deliver_due, reveal_keys
from chalicelib.inventory.workers import every_minute_recount_held, every_minute_sweep_takes
from chalicelib.orders.workers import every_minute_release_unpaid, forward_changes
from chalicelib.refunds.workers import every_minute_finish_refunds
from tests import shop
from tests.api import Api, order_body

_TICK = {
    name: "" for name in ("version", "account", "region", "detail", "detail-type", "source", "time", "id", "resources")
}
BUYER = {"phone": "+8613800138000", "email": "canary@buyer.example", "device_id": "device-canary-77"}


@pytest.fixture
def logged():
    """Everything any logger of the product writes, as text, formatted the way it is shipped."""
    lines: list[str] = []
    log = logging.getLogger("kamiflow")

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(log.handlers[0].format(record) if log.handlers else record.getMessage())

    keep = Keep()
    log.addHandler(keep)
    logging.getLogger().addHandler(keep)
    yield lines
    log.removeHandler(keep)
    logging.getLogger().removeHandler(keep)


def test_no_key_phone_or_credential_reaches_a_log_a_message_a_row_or_an_error(stack, clock, monkeypatch, logged, capfd):
    monkeypatch.setenv("BASE_URL", "https://api.test")
    api = Api(clock.at)
    product_id = shop.make_product(clock.at, keys_in_stock=6)
    first = api.shop.post("/v1/orders", order_body(product_id, 2, buyer=BUYER)).body
    second = api.shop.post("/v1/orders", order_body(product_id, 1, number="A-2", buyer=BUYER)).body
    late = api.shop.post("/v1/orders", order_body(product_id, 1, number="A-3", buyer=BUYER)).body
    from chalicelib.orders.store import get_order

    shop.pay(get_order(first["order_id"]), clock.at)
    shop.pay(get_order(second["order_id"]), clock.at)
    token = first["order_url"].rpartition("/")[2]
    keys = api.shop.post(f"/v1/orders/{first['order_id']}/reveal").body["keys"]
    canaries = [key["fields"]["code"] for key in keys]
    assert len(canaries) == 2
    assert api.nobody.post(f"/v1/buyer/orders/{token}/reveal").body["keys"] == keys
    assert api.shop.post(f"/v1/orders/{first['order_id']}/refunds").code == "refunds.revealed"
    assert api.shop.post(f"/v1/orders/{second['order_id']}/refunds").status == 201

    # An outage in the middle of a reveal: the failure is logged, without what it failed on.
    with monkeypatch.context() as broken:
        broken.setattr("chalicelib.fulfilment.reveal.unseal", lambda *_: (_ for _ in ()).throw(ValueError(canaries[0])))
        assert api.shop.post(f"/v1/orders/{first['order_id']}/reveal").status == 503
    assert "keys" in reveal_keys({"order_id": first["order_id"], "by": "t", "source_ip": "", "user_agent": ""}, None)

    clock.advance(3_600)
    shop.pay(get_order(late["order_id"]), clock.at)
    deliver_message({"order_id": late["order_id"]})
    for timer in (
        every_minute_release_unpaid, every_minute_deliver_due, every_minute_finish_refunds, every_minute_sweep_takes,
        every_minute_recount_held,
    ):  # fmt: skip
        timer(_TICK, None)
    records = _change_records()
    assert records
    forward_changes(records, clock.at)

    answers = "".join(
        json.dumps(answer.body) for who in (api.operator, api.shop, api.nobody) for answer in who.seen
        if not (isinstance(answer.body, dict) and "keys" in answer.body)
    )  # fmt: skip
    messages = "".join(_messages("delivery-due") + _messages("order-expiry") + _messages("refund-due"))
    rows = "".join(repr(from_row(row)) for row in dynamodb().scan(TableName=settings.table_name())["Items"])
    shipped = "".join(logged) + "".join(capfd.readouterr())
    assert "answered" in shipped
    assert messages
    for canary in canaries:
        for place in (shipped, messages, answers, rows):
            assert canary not in place
    for secret in (*BUYER.values(), api.shop.key, api.operator.key, token):
        for place in (shipped, messages):
            assert secret not in place
    for secret in (api.shop.key, api.operator.key, token):
        assert secret not in rows


def _messages(fact: str) -> list[str]:
    url = sqs().get_queue_url(QueueName=settings.queue_name(fact))["QueueUrl"]
    got = sqs().receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0)
    return [message["Body"] for message in got.get("Messages", [])]


def _change_records() -> list[dict]:
    import boto3

    streams = boto3.client("dynamodbstreams", region_name="us-east-1")
    records = []
    arn = dynamodb().describe_table(TableName=settings.table_name())["Table"]["LatestStreamArn"]
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]  # fmt: skip
        records += streams.get_records(ShardIterator=iterator)["Records"]
    return records


@pytest.mark.parametrize(
    ("path", "scope", "body"),
    [
        ("/v1/orders", "shop", {"buyer": {"phone": "CANARY" + "1" * 40}}),
        ("/v1/orders", "shop", {"buyer": {"email": ["CANARY"]}}),
        ("/v1/orders", "shop", {"payment": {"provider": "sandbox", "payer_session": {"x": "CANARY"}}}),
        ("/v1/payment-accounts", "operator", {"secrets": {"secret_key": ["CANARY"]}}),
        ("/v1/payment-accounts", "operator", {"secrets": {"secret_key": "CANARY\n" * 2_000}}),
        ("/v1/payment-accounts", "operator", {"secrets": {"not_a_field": "CANARY"}}),
    ],
)
def test_what_is_refused_is_named_by_its_field_and_never_repeated(stack, clock, logged, capfd, path, scope, body):
    api = Api(clock.at)
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    whole = (
        order_body(product_id, 1) if scope == "shop" else {"shop_id": shop.SHOP, "provider": "stripe", "mode": "test"}
    )
    answer = getattr(api, scope).post(path, whole | body)
    assert answer.status == 422
    assert answer.body["error"]["field"]
    assert "CANARY" not in json.dumps(answer.body) + "".join(logged) + "".join(capfd.readouterr())
