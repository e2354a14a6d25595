"""What callers get wrong: each mistake has its answer, and changes nothing."""

from __future__ import annotations

import json

import pytest

from tests import shop
from tests.api import Api, order_body

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def api(stack, clock, monkeypatch):
    monkeypatch.setenv("BASE_URL", "https://api.test")
    return Api(clock.at)


@pytest.fixture
def product_id(api, clock):
    return shop.make_product(clock.at, keys_in_stock=10)


@pytest.mark.parametrize("quantity", [0, -1, 1.5, "1", True, 10**9, 2**63, None, [1], {}])
def test_a_quantity_that_is_none_is_refused_with_its_field(api, product_id, clock, quantity):
    answer = api.shop.post("/v1/orders", order_body(product_id, quantity))
    assert (answer.status, answer.code, answer.body["error"]["field"]) == (422, "request.invalid", "lines.0.quantity")
    assert shop.stock_of(product_id, clock.at).available == 10


def test_the_lines_together_may_not_exceed_the_limit_of_one_order(api, product_id, clock):
    lines = [{"product_id": product_id, "quantity": 6_000}] * 2
    answer = api.shop.post("/v1/orders", {**order_body(product_id), "lines": lines})
    assert (answer.status, answer.body["error"]["field"]) == (422, "lines")
    assert shop.stock_of(product_id, clock.at).available == 10


@pytest.mark.parametrize(
    "raw",
    [
        b"{", b"[]", b"1", b'"x"', b"null", b'{"a":1,"a":2}', b'{"a": NaN}', b'{"a": Infinity}', b"\xff\xfe{}",
        b"[" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    ],
)  # fmt: skip
def test_a_body_that_is_not_one_json_object_is_refused(api, raw):
    answer = api.shop.call("POST", "/v1/orders", raw=raw)
    assert (answer.status, answer.code) == (400, "request.malformed_body")


def test_a_huge_body_is_refused_before_it_is_read(api):
    answer = api.shop.call("POST", "/v1/orders", raw=b'{"a":"' + b"x" * 300_000 + b'"}')
    assert (answer.status, answer.code) == (413, "request.body_too_large")


@pytest.mark.parametrize("headers", [{"Content_Type": "text/plain"}, {"Content_Encoding": "gzip"}])
def test_another_content_type_is_refused(api, product_id, headers):
    answer = api.shop.call("POST", "/v1/orders", order_body(product_id), **headers)
    assert (answer.status, answer.code) == (415, "request.wrong_content_type")


@pytest.mark.parametrize("member", ["status", "role", "shop_id", "total_minor", "price_minor", "currency", "paid_at"])
def test_a_member_the_caller_may_not_set_is_refused_by_name(api, product_id, clock, member):
    answer = api.shop.post("/v1/orders", {**order_body(product_id), member: 1})
    assert (answer.status, answer.body["error"]["field"]) == (422, member)
    assert shop.stock_of(product_id, clock.at).available == 10


def test_an_unknown_product_is_named_by_its_place_in_the_body(api, product_id):
    body = order_body(product_id)
    body["lines"].append({"product_id": "prd_nothing", "quantity": 1})
    answer = api.shop.post("/v1/orders", body)
    assert (answer.status, answer.code, answer.body["error"]["field"]) == (
        422, "catalog.unknown_product", "lines.1.product_id",
    )  # fmt: skip


def test_products_of_two_currencies_do_not_mix(api, product_id, clock):
    dollars = shop.make_product(clock.at, keys_in_stock=1, currency="USD")
    body = {**order_body(product_id), "lines": [{"product_id": one, "quantity": 1} for one in (product_id, dollars)]}
    assert api.shop.post("/v1/orders", body).code == "orders.mixed_currencies"
    assert shop.stock_of(dollars, clock.at).available == 1


def test_a_total_beyond_exact_integers_is_refused(api, clock):
    product_id = shop.make_product(clock.at, keys_in_stock=2, price_minor=2**53 - 1)
    answer = api.shop.post("/v1/orders", order_body(product_id, 2))
    assert (answer.status, answer.code) == (422, "orders.total_too_large")


def test_a_changed_price_is_a_conflict_and_takes_nothing(api, product_id, clock):
    answer = api.shop.post("/v1/orders", order_body(product_id, 2, expected_total_minor=1))
    assert (answer.status, answer.code) == (409, "orders.total_changed")
    assert shop.stock_of(product_id, clock.at).available == 10


def test_a_draft_is_not_for_sale(api, clock):
    draft = api.operator.post("/v1/products", {"name": "x", "price_minor": 1, "currency": "CNY"}).body["product_id"]
    assert api.shop.post("/v1/orders", order_body(draft)).code == "catalog.not_on_sale"
    assert api.shop.get(f"/v1/products/{draft}").status == 404


def test_another_shops_order_is_answered_like_none(api, product_id):
    order_id = api.shop.post("/v1/orders", order_body(product_id)).body["order_id"]
    unknown_id = "ord_" + "0" * 16
    for method, path in [
        ("GET", ""), ("POST", "/cancel"), ("POST", "/reveal"), ("POST", "/refunds"), ("GET", "/refunds"),
    ]:  # fmt: skip
        body = {} if method == "POST" else None
        theirs = api.other_shop.call(method, f"/v1/orders/{order_id}{path}", body)
        nothing = api.other_shop.call(method, f"/v1/orders/{unknown_id}{path}", body)
        assert theirs.status == nothing.status == 404
        theirs.body["error"].pop("request_id"), nothing.body["error"].pop("request_id")
        assert theirs.body == nothing.body
    assert api.other_shop.get("/v1/orders?merchant_order_no=A-1").body["orders"] == []
    assert api.other_shop.get(f"/v1/orders?order_id={order_id}").body["orders"] == []


@pytest.mark.parametrize(
    ("who", "method", "path", "status"),
    [
        ("nobody", "GET", "/v1/products", 401),
        ("nobody", "POST", "/v1/orders", 401),
        ("shop", "POST", "/v1/products", 403),
        ("shop", "GET", "/v1/products/prd_x/stock", 403),
        ("shop", "POST", "/v1/imports", 403),
        ("shop", "GET", "/v1/orders/ord_x/history", 403),
        ("shop", "POST", "/v1/orders/ord_x/deliver", 403),
        ("shop", "GET", "/v1/orders", 403),
        ("operator", "POST", "/v1/orders", 403),
        ("operator", "POST", "/v1/orders/ord_x/reveal", 403),
    ],
)
def test_a_caller_without_the_scope_is_refused(api, who, method, path, status):
    answer = getattr(api, who).call(method, path, {} if method == "POST" else None)
    assert (answer.status, answer.body["error"]["retry"]) == (status, "never")


@pytest.mark.parametrize("key", ["", "x", "kf_shop_" + "a" * 32, "汉字" * 20, "a" * 5_000])
def test_a_made_up_api_key_is_nobody(api, key):
    api.nobody.key = key
    assert api.nobody.get("/v1/products").status in (400, 401)


@pytest.mark.parametrize("query", ["limit=0", "limit=1000000000", "limit=x", "nonsense=1", "limit=1&limit=2"])
def test_a_query_that_a_list_does_not_take_is_refused(api, query):
    assert api.operator.get(f"/v1/orders?{query}").status == 422


@pytest.mark.parametrize("cursor", ["x", "AAAA", "e30", "a" * 400])
def test_a_forged_cursor_is_refused(api, cursor):
    assert api.operator.get(f"/v1/orders?cursor={cursor}").code == "request.bad_cursor"
    assert api.shop.get(f"/v1/products?cursor={cursor}").code == "request.bad_cursor"


def test_a_cursor_does_not_work_for_another_list(api, clock):
    for _ in range(3):
        shop.make_product(clock.at)
    cursor = api.operator.get("/v1/products?limit=1").body["next_cursor"]
    assert api.operator.get(f"/v1/products?limit=1&cursor={cursor}").status == 200
    assert api.shop.get(f"/v1/products?cursor={cursor}").code == "request.bad_cursor"
    assert api.operator.get(f"/v1/orders?cursor={cursor}").code == "request.bad_cursor"


def test_the_same_key_and_body_replay_and_another_body_is_refused(api, product_id, clock):
    first = api.shop.post("/v1/orders", order_body(product_id), Idempotency_Key="k1")
    again = api.shop.post("/v1/orders", order_body(product_id), Idempotency_Key="k1")
    assert (first.status, again.status, again.headers.get("Idempotent-Replayed")) == (201, 201, "true")
    assert first.body == again.body
    other = api.shop.post("/v1/orders", order_body(product_id, 2, number="A-2"), Idempotency_Key="k1")
    assert (other.status, other.code) == (409, "request.idempotency_mismatch")
    assert shop.stock_of(product_id, clock.at).available == 9


def test_a_merchant_order_no_belongs_to_one_purchase_for_ever(api, product_id, clock):
    first = api.shop.post("/v1/orders", order_body(product_id))
    assert api.shop.post("/v1/orders", order_body(product_id)).body == first.body
    other = api.shop.post("/v1/orders", order_body(product_id, 2))
    assert (other.status, other.code) == (409, "orders.merchant_order_no_used")
    assert api.other_shop.post("/v1/orders", order_body(product_id)).status == 201
    assert shop.stock_of(product_id, clock.at).available == 8


def test_the_first_answer_is_replayed_although_the_stock_is_gone(api, clock):
    product_id = shop.make_product(clock.at, keys_in_stock=1)
    first = api.shop.post("/v1/orders", order_body(product_id))
    again = api.shop.post("/v1/orders", order_body(product_id))
    assert (again.status, again.body) == (201, first.body)
    assert api.shop.post("/v1/orders", order_body(product_id, number="B")).code == "inventory.out_of_stock"


def test_creating_a_product_twice_under_one_key_makes_one(api):
    body = {"name": "<script>alert(1)</script>", "price_minor": 1, "currency": "CNY"}
    first = api.operator.post("/v1/products", body, Idempotency_Key="p")
    again = api.operator.post("/v1/products", body, Idempotency_Key="p")
    assert first.body == again.body
    assert len(api.operator.get("/v1/products").body["products"]) == 1


@pytest.mark.parametrize("token", ["", "x", "0" * 42, "é" * 42])
def test_a_made_up_order_token_opens_nothing(api, product_id, token):
    assert api.nobody.get(f"/v1/buyer/orders/{token or '-'}").status == 404
    assert api.nobody.post(f"/v1/buyer/orders/{token or '-'}/reveal").status == 404


def test_the_order_number_alone_opens_nothing_for_a_buyer(api, product_id):
    order = api.shop.post("/v1/orders", order_body(product_id)).body
    for guess in (order["order_id"], order["order_id"][4:], order["order_id"][4:] + "0" * 26):
        assert api.nobody.get(f"/v1/buyer/orders/{guess}").status == 404
    token = order["order_url"].rpartition("/")[2]
    assert api.nobody.get(f"/v1/buyer/orders/{token}").body["order_id"] == order["order_id"]


def test_a_forged_notice_changes_nothing(api, product_id):
    order = api.shop.post("/v1/orders", order_body(product_id)).body
    body = json.dumps({"payment_id": order["payment"]["payment_id"], "amount_minor": 990}).encode()
    for provider in ("sandbox", "stripe"):
        answer = api.nobody.call("POST", f"/v1/notices/{provider}", raw=body, Sandbox_Signature="t=1,v1=00")
        assert answer.status in (400, 404)
    assert api.nobody.call("POST", "/v1/notices/nobody", raw=body).status == 404
    assert api.shop.get(f"/v1/orders/{order['order_id']}").body["status"] == "pending_payment"


def test_a_price_below_one_or_an_unknown_currency_is_refused(api):
    good = {"name": "x", "price_minor": 1, "currency": "CNY"}
    for member, value in [
        ("price_minor", 0),
        ("price_minor", -1),
        ("price_minor", 1.5),
        ("currency", "XXX"),
        ("currency", "cny"),
    ]:
        answer = api.operator.post("/v1/products", {**good, member: value})
        assert (answer.status, answer.body["error"]["field"]) == (422, member)
    late = {**good, "delivery": {"mode": "delayed", "delay_minutes": 129_601}}
    assert api.operator.post("/v1/products", late).body["error"]["field"] == "delivery.delay_minutes"
