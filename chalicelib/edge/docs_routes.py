"""HTTP for developers: the OpenAPI document and a page to read and try it.

The page's only script is OpenAPI Explorer, kept in `edge/static/` and served from here: no other host is asked for
anything. Nothing here needs a key, and nothing here knows one: a key typed into the page stays in the reader's browser.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from chalice import Blueprint, Response

from chalicelib.edge.assets import asset_response, version_of
from chalicelib.edge.http import ENDPOINTS, Call, endpoint

bp = Blueprint(__name__)

_STATIC = Path(__file__).parent / "static"
# The explorer writes style attributes and elements at run time, so styles may be inline; scripts may not.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Kamiflow API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/assets/docs.css?v={css}">
<script defer src="docs/assets/openapi-explorer.min.js?v={explorer}"></script>
</head>
<body>
<openapi-explorer spec-url="openapi.json" layout="column" collapse="true" hide-server-selection="true"
 schema-expand-level="2" default-schema-tab="body"></openapi-explorer>
<noscript><p>This page needs JavaScript. The document itself is <a href="openapi.json">openapi.json</a>.</p></noscript>
</body>
</html>
"""


@endpoint(bp, "GET", "/openapi.json", is_page=True)
def get_openapi(call: Call):
    """The OpenAPI 3.1 document."""
    return Response(
        _document_text(call.base_url), {"Content-Type": "application/json", "Cache-Control": "public, max-age=300"}, 200
    )


@lru_cache(maxsize=8)  # one per address this deployment is reached under; the routes never change while a process lives
def _document_text(base_url: str) -> str:
    from chalicelib.edge.openapi import build_document

    return json.dumps(build_document(ENDPOINTS, base_url), ensure_ascii=False, separators=(",", ":"))


@endpoint(bp, "GET", "/docs", is_page=True)
def get_docs(call: Call):
    """The interactive reference."""
    page = _PAGE.format(
        css=version_of(_STATIC, "docs.css"), explorer=version_of(_STATIC, "openapi-explorer.min.js")
    )  # fmt: skip
    return Response(
        page,
        {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"},
        200,
    )


@endpoint(bp, "GET", "/docs/assets/{name}", is_page=True)
def get_docs_asset(call: Call, name: str):
    """A file of the reference page."""
    return asset_response(_STATIC, name, (call.request.query_params or {}).get("v"))
