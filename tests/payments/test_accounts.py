"""Payment accounts as an operator fills them in and a shop sells with them: what goes in secret never comes out."""

from __future__ import annotations

import json

import pytest

from chalicelib.aws.secrets import forget_secrets
from chalicelib.payments import account_store
from chalicelib.payments.providers import account_with
from tests import shop
from tests.api import Api

SECRETS = {"secret_key": "sk_test_51CANARYkey", "webhook_secret": "whsec_CANARYone"}


@pytest.fixture
def api(stack, clock):
    return Api(clock.at)


def wanted(**members):
    return {"shop_id": shop.SHOP, "provider": "stripe", "mode": "test", "secrets": SECRETS, **members}


def made(api, **members):
    answer = api.operator.post("/v1/payment-accounts", wanted(**members))
    assert answer.status == 201, answer.body
    return answer.body


def test_an_account_is_filled_in_switched_on_and_offered_to_its_shop_only(api):
    account = made(api)
    assert account["status"] == "off"
    assert account["notice_url"].endswith(f"/v1/notices/stripe/{account['account_id']}")
    assert "stripe" not in {one["provider"] for one in api.shop.get("/v1/payment-methods").body["methods"]}

    path = f"/v1/payment-accounts/{account['account_id']}"
    assert api.operator.patch(path, {"status": "on"}).body["status"] == "on"
    account_store.forget_accounts()
    (method,) = [one for one in api.shop.get("/v1/payment-methods").body["methods"] if one["provider"] == "stripe"]
    assert (method["method"], method["shows"], method["mode"]) == ("checkout", "redirect", "test")
    assert "stripe" not in {one["provider"] for one in api.other_shop.get("/v1/payment-methods").body["methods"]}


def test_no_secret_is_ever_answered_logged_or_kept_in_the_table(api, capfd, stack):
    account = made(api)
    path = f"/v1/payment-accounts/{account['account_id']}"
    api.operator.patch(path, {"secrets": {"secret_key": "sk_test_51CANARYtwo"}})
    api.operator.post("/v1/payment-accounts", wanted(mode="live", secrets={"secret_key": "CANARY\nbad"}))
    api.operator.get(path)
    api.operator.get("/v1/payment-accounts")
    row = account_store.get_account_row(account["account_id"])
    told = json.dumps([one.body for one in api.operator.seen]) + json.dumps(row) + "".join(capfd.readouterr())
    assert "CANARY" not in told
    assert "CANARY" not in repr(account_with("stripe", account["account_id"]))


def test_new_secrets_are_used_at_once_and_the_old_ones_are_taken_until_the_overlap_ends(api, clock, monkeypatch):
    account_id = made(api)["account_id"]
    monkeypatch.setattr("chalicelib.payments.account_store.time.time", lambda: clock.at)
    change = {"secrets": {"webhook_secret": "whsec_CANARYtwo"}, "overlap_minutes": 30}
    assert api.operator.patch(f"/v1/payment-accounts/{account_id}", change).status == 200

    def good():
        forget_secrets()
        account = account_with("stripe", account_id)
        assert account.secrets["secret_key"] == SECRETS["secret_key"], "what was not changed stays"
        return account.each_secret("webhook_secret")

    assert good() == ["whsec_CANARYtwo", "whsec_CANARYone"]
    clock.advance(1_799)
    assert len(good()) == 2
    clock.advance(1)
    assert good() == ["whsec_CANARYtwo"]


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"provider": "nobody"}, "payment.provider"),
        ({"provider": "sandbox"}, "provider"),
        ({"settings": {"secret_key": "x"}}, "settings.secret_key"),
        ({"secrets": {"api_base": "https://x.example"}}, "secrets.api_base"),
        ({"settings": {"colour": "red"}}, "settings.colour"),
        ({"settings": {"api_base": "ftp://x"}}, "settings.api_base"),
        ({"shop_id": "no_such_shop"}, "shop_id"),
        ({"mode": "play"}, "mode"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_account_is_refused_by_the_name_of_its_fault_and_nothing_is_stored(api, members, field):
    answer = api.operator.post("/v1/payment-accounts", wanted(**members))
    assert (answer.status, answer.body["error"]["field"]) == (422, field)
    assert api.operator.get("/v1/payment-accounts").body["accounts"] == []


def test_a_shop_has_one_account_of_a_provider_in_a_mode(api):
    made(api)
    assert api.operator.post("/v1/payment-accounts", wanted()).code == "payments.account_exists"
    made(api, mode="live", secrets={"secret_key": "sk_live_1"})


def test_an_account_with_gaps_cannot_be_switched_on(api):
    account = made(api, secrets={"secret_key": "sk_test_1"})
    answer = api.operator.patch(f"/v1/payment-accounts/{account['account_id']}", {"status": "on"})
    assert (answer.code, answer.body["error"]["field"]) == ("payments.bad_account", "secrets.webhook_secret")


def test_an_account_needs_one_of_two_kinds_of_trust_whole(api):
    settings = {"app_id": "2021001", "seller_id": "2088001", "app_cert_sn": "a1"}
    account = made(api, provider="alipay", settings=settings, secrets={"private_key": "MIIE"})
    path = f"/v1/payment-accounts/{account['account_id']}"
    answer = api.operator.patch(path, {"status": "on"})
    assert (answer.code, answer.body["error"]["field"]) == ("payments.bad_account", "settings")
    assert "alipay_public_key" in answer.body["error"]["message"]
    assert api.operator.patch(path, {"status": "on", "settings": {"alipay_public_key": "MIIB"}}).status == 200


def test_a_stand_in_for_a_provider_exists_only_where_no_real_money_is_taken(api, monkeypatch):
    monkeypatch.setenv("SANDBOX", "off")
    answer = api.operator.post("/v1/payment-accounts", wanted(settings={"api_base": "https://evil.example"}))
    assert (answer.code, answer.body["error"]["field"]) == ("payments.bad_account", "settings.api_base")


def test_accounts_are_for_operators_alone(api):
    account_id = made(api)["account_id"]
    for caller, status in ((api.shop, 403), (api.nobody, 401)):
        assert caller.get("/v1/payment-accounts").status == status
        assert caller.get(f"/v1/payment-accounts/{account_id}").status == status
        assert caller.patch(f"/v1/payment-accounts/{account_id}", {"status": "off"}).status == status
    assert api.operator.get("/v1/payment-accounts/pac_0000000000000000000").code == "payments.account_not_found"


def test_every_provider_tells_what_its_account_wants(api):
    providers = {one["provider"]: one for one in api.operator.get("/v1/payment-providers").body["providers"]}
    assert {"stripe", "wechat_pay", "alipay", "paypal", "wechat_virtual", "balance", "sandbox"} <= set(providers)
    fields = {one["name"]: one for one in providers["stripe"]["fields"]}
    assert fields["secret_key"]["is_secret"] and fields["secret_key"]["is_needed"]


@pytest.mark.parametrize(
    ("payment", "code"),
    [
        ({"provider": "stripe"}, "payments.unknown_provider"),
        ({"provider": "sandbox", "method": "barter"}, "payments.unknown_method"),
        ({"provider": "wechat_pay", "method": "jsapi"}, "payments.unknown_method"),
        ({"provider": "alipay"}, "payments.currency_not_taken"),
    ],
)
def test_an_order_that_cannot_be_paid_that_way_is_refused_and_holds_no_keys(api, clock, payment, code):
    product_id = shop.make_product(
        clock.at, keys_in_stock=1, currency="USD" if payment["provider"] == "alipay" else "CNY"
    )
    for provider in ("wechat_pay", "alipay"):
        shop.open_account(provider)
    answer = api.shop.post(
        "/v1/orders",
        {"merchant_order_no": "A", "lines": [{"product_id": product_id, "quantity": 1}], "payment": payment},
    )
    assert answer.code == code, answer.body
    assert answer.body["error"]["field"].startswith("payment.")
    assert shop.stock_of(product_id, clock.at).available == 1
