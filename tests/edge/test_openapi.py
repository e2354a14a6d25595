"""The OpenAPI document says what the routes do, deterministically, and nothing of the pages."""

import json
from typing import Annotated

import pytest
from chalice import Blueprint
from pydantic import BaseModel, ConfigDict, Field

from chalicelib.core.errors import Conflict, NotFound
from chalicelib.edge.http import ENDPOINTS, endpoint
from chalicelib.edge.openapi import build_document


class SoldOut(Conflict):
    code = "test.sold_out"
    sentence = "None is left."


class NoSuchThing(NotFound):
    code = "test.no_such_thing"
    sentence = "There is no such thing."


class NewThing(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(min_length=1, description="shown to buyers")]
    price_minor: Annotated[int, Field(ge=1, description="minor unit")] | None = None


class Thing(BaseModel):
    thing_id: str
    price_minor: int = 7


class ThingQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str, Field(max_length=9, description="from the page before")] | None = None


@pytest.fixture
def routes():
    """Three routes as the product writes them; the product's own list of routes is left as it was."""
    before = list(ENDPOINTS)
    ENDPOINTS.clear()
    bp = Blueprint(__name__)

    @endpoint(bp, "GET", "/v1/things/{thing_id}", scopes=("shop",), answer=Thing, refusals=(NoSuchThing,))
    def get_thing(call, thing_id):
        """Read one `thing`: only shops may. It costs nothing."""

    @endpoint(bp, "GET", "/v1/things", scopes=("operator", "shop"), query=ThingQuery, answer=Thing)
    def get_things(call):
        """List things."""

    @endpoint(
        bp,
        "POST",
        "/v1/things",
        scopes=("shop",),
        body=NewThing,
        answer=Thing,
        status=201,
        creates=True,
        refusals=(SoldOut,),
    )
    def post_thing(call):
        """Make a thing."""

    @endpoint(bp, "POST", "/v1/raw", raw_body="anything, signed")
    def post_raw(call):
        """Take anything."""

    @endpoint(bp, "GET", "/page", is_page=True)
    def get_page(call):
        """A page."""

    yield list(ENDPOINTS)
    ENDPOINTS[:] = before


def test_the_order_of_registration_does_not_change_the_text(routes):
    forwards = json.dumps(build_document(routes, "http://x"))
    assert forwards == json.dumps(build_document(routes[::-1], "http://x"))


def test_a_page_for_people_is_not_an_api_call(routes):
    assert sorted(build_document(routes, "http://x")["paths"]) == ["/v1/raw", "/v1/things", "/v1/things/{thing_id}"]


def test_the_docstring_becomes_summary_and_description(routes):
    read = build_document(routes, "http://x")["paths"]["/v1/things/{thing_id}"]["get"]
    assert read["summary"] == "Read one thing"
    assert read["description"] == "Read one `thing`: only shops may. It costs nothing.\n\nNeeds a shop key."


def test_every_refusal_a_create_can_meet_is_documented(routes):
    create = build_document(routes, "http://x")["paths"]["/v1/things"]["post"]
    assert sorted(create["responses"]) == ["201", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503"]
    assert create["responses"]["409"]["description"] == (
        "- `request.idempotency_mismatch`: This Idempotency-Key was used before with another request.\n"
        "- `test.sold_out`: None is left."
    )
    assert "Retry-After" in create["responses"]["503"]["headers"]
    assert [one["name"] for one in create["parameters"]] == ["Idempotency-Key"]


def test_a_call_without_scopes_asks_for_no_key_and_promises_no_401(routes):
    raw = build_document(routes, "http://x")["paths"]["/v1/raw"]["post"]
    assert raw["security"] == []
    assert sorted(raw["responses"]) == ["200", "429", "500", "503"]
    assert raw["requestBody"]["description"] == "anything, signed"


def test_query_members_become_parameters_that_cannot_be_null(routes):
    document = build_document(routes, "http://x")
    assert document["paths"]["/v1/things"]["get"]["parameters"] == [
        {
            "name": "limit",
            "in": "query",
            "required": False,
            "schema": {"default": 50, "maximum": 100, "minimum": 1, "type": "integer"},
        },
        {
            "name": "cursor",
            "in": "query",
            "required": False,
            "schema": {"maxLength": 9, "type": "string"},
            "description": "from the page before",
        },
    ]
    assert "ThingQuery" not in document["components"]["schemas"]


def test_an_answer_lists_members_with_defaults_as_always_present(routes):
    schemas = build_document(routes, "http://x")["components"]["schemas"]
    assert schemas["Thing"]["required"] == ["thing_id", "price_minor"]
    assert schemas["NewThing"]["required"] == ["name"]
    assert schemas["NewThing"]["additionalProperties"] is False


def test_a_number_whose_name_ends_in_a_unit_is_described_by_it(routes):
    schemas = build_document(routes, "http://x")["components"]["schemas"]
    assert schemas["Thing"]["properties"]["price_minor"]["description"] == "in the currency's minor unit"
    assert schemas["NewThing"]["properties"]["name"]["description"] == "shown to buyers"


def test_every_reference_leads_somewhere(routes):
    document = build_document(routes, "http://x")
    text = json.dumps(document)
    references = {part.split('"')[0] for part in text.split('"$ref": "')[1:]}
    assert references, "the document refers to components"
    for reference in references:
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
