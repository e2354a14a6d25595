"""Every route says who may call it: by scopes, or by a place on the list of what is open to all."""

import importlib

import pytest

from tests.guards.source import modules

OPEN_TO_ALL = {
    ("GET", "/openapi.json"): "the reference",
    ("GET", "/docs"): "the reference",
    ("GET", "/docs/assets/{name}"): "the reference",
    ("GET", "/assets/{name}"): "files of the buyer's pages",
    ("GET", "/o/{token}"): "opened by an unguessable token",
    ("GET", "/v1/buyer/orders/{token}"): "opened by an unguessable token",
    ("POST", "/v1/buyer/orders/{token}/reveal"): "opened by an unguessable token",
    ("POST", "/v1/buyer/orders/{token}/refunds"): "opened by an unguessable token",
    ("POST", "/v1/notices/{provider}"): "signed by the provider",
    ("POST", "/v1/notices/{provider}/{account_id}"): "signed by the provider",
    ("GET", "/v1/notices/{provider}/{account_id}"): "signed by the provider; answers what it was sent",
    ("GET", "/o/{token}/qr.svg"): "opened by an unguessable token",
    ("GET", "/sandbox/pay/{payment_id}"): "absent where real money is taken",
    ("POST", "/sandbox/payments/{payment_id}"): "absent where real money is taken",
}


@pytest.fixture(scope="module")
def endpoints():
    importlib.import_module("app")
    from chalicelib.edge.http import ENDPOINTS

    return [one for one in ENDPOINTS if one.view.__module__.startswith("chalicelib.")]


def test_a_route_without_scopes_is_on_the_list_and_the_list_holds_nothing_else(endpoints):
    assert {(one.method, one.path) for one in endpoints if not one.scopes} == set(OPEN_TO_ALL)


def test_scopes_are_ones_that_exist(endpoints):
    assert {scope for one in endpoints for scope in one.scopes} == {"operator", "shop"}


def test_every_route_is_registered_through_the_one_decorator(endpoints):
    """A route of the app that `endpoint` does not know would skip keys, validation, the error shape and the log."""
    from app import app

    known = {(one.method, one.path) for one in endpoints}
    assert {(method, path) for path, methods in app.routes.items() for method in methods} == known


def test_every_view_is_described_and_named_once(endpoints):
    assert [one.path for one in endpoints if not one.view.__doc__] == []
    names = [one.view.__name__ for one in endpoints if not one.is_page]
    assert sorted(names) == sorted(set(names))


def test_a_get_takes_no_body_and_creates_nothing(endpoints):
    assert [one.path for one in endpoints if one.method == "GET" and (one.body or one.creates)] == []


def test_every_module_with_routes_is_found_by_the_app(endpoints):
    with_routes = {name for name in modules() if name.endswith((".routes", "_routes"))}
    assert {one.view.__module__.removeprefix("chalicelib.") for one in endpoints} == with_routes
