"""The reference page brings its own files, runs no foreign script, and its files are typed and kept by browsers."""

import json
import re

import pytest
from chalice import Chalice
from chalice.test import Client

from chalicelib.edge import docs_routes


@pytest.fixture(scope="module")
def client():
    app = Chalice("docs")
    app.register_blueprint(docs_routes.bp)
    with Client(app) as found:
        yield found


def test_the_document_is_openapi_3_1_and_names_this_deployment(client, monkeypatch):
    monkeypatch.setenv("BASE_URL", "https://shop.example/")
    answer = client.http.get("/openapi.json")
    document = json.loads(answer.body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": "https://shop.example"}]


def test_the_page_asks_no_other_host_for_anything_and_runs_no_inline_script(client):
    answer = client.http.get("/docs")
    page = answer.body.decode()
    assert "http:" not in page and "https:" not in page and "//" not in re.sub(r"<!.*?>", "", page)
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "connect-src 'self'" in policy


def test_each_file_the_page_names_is_served_with_its_type_and_kept_for_a_year(client):
    page = client.http.get("/docs").body.decode()
    addresses = re.findall(r'(?:href|src)="(docs/[^"]+)"', page)
    assert len(addresses) == 2
    for address in addresses:
        answer = client.http.get(f"/{address}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/javascript" if ".js" in address else "text/css")
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert len(answer.body) < 5_000_000


def test_a_file_asked_for_without_its_version_is_checked_each_time(client):
    assert client.http.get("/docs/assets/docs.css").headers["Cache-Control"] == "no-cache"
    assert client.http.get("/docs/assets/docs.css?v=000000000000").headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "name", ["README.md", "openapi-explorer.LICENSE.txt", "..%2Fhttp.py", "none.js", ".", "%00.js"]
)
def test_nothing_else_of_the_folder_or_outside_it_is_served(client, name):
    answer = client.http.get(f"/docs/assets/{name}")
    assert answer.status_code == 404
    assert b"chalice" not in answer.body
