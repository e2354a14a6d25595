"""Turns a template into an answer: escaped, in one language, under a policy that lets nothing run but our own files.

Called by `pages/routes.py`. It never reads an order: what a page shows is handed in, or fetched by the page's script.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalice import Response

from chalicelib.core.money import MINOR_DIGITS
from chalicelib.edge.assets import version_of
from chalicelib.edge.http import Call
from chalicelib.pages.language import choose_language
from chalicelib.pages.words import for_script, for_template

if TYPE_CHECKING:
    from jinja2 import Environment

STATIC = Path(__file__).parent / "static"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


def page(call: Call, template: str, *, status: int = 200, **facts: Any) -> Response:
    """One page. `facts` reach the template and are escaped there like everything else."""
    asked = (call.request.query_params or {}).get("lang")
    language = choose_language(asked, call.request.headers.get("accept-language"))
    text = _templates().get_template(template).render(
        language=language,
        html_language="zh-Hans" if language == "zh" else "en",
        words=for_template(language),
        for_script={"language": language, "words": for_script(language), "minor_digits": MINOR_DIGITS},
        version=lambda name: version_of(STATIC, name),
        **facts,
    )  # fmt: skip
    return Response(
        text,
        {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Language": "zh-Hans" if language == "zh" else "en",
            "Content-Security-Policy": _POLICY,
            "Vary": "Accept-Language",
            "X-Robots-Tag": "noindex, nofollow",
        },
        status,
    )


@cache
def _templates() -> Environment:
    """Imported on the first page only: no other call of the API pays for it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    return Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
