"""Files that pages load: scripts, styles, icons, each from a folder that ships with the code.

The routes of `edge/docs_routes.py` and `pages/routes.py` answer with it. Only names that are in the folder are opened,
so a path from a URL never reaches the file system. It never serves a file without its type.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from chalice import Response

from chalicelib.core.errors import NotFound

_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


@cache
def _names(folder: Path) -> frozenset[str]:
    return frozenset(one.name for one in folder.iterdir() if one.suffix in _TYPES)


@cache
def version_of(folder: Path, name: str) -> str:
    """Twelve hex characters that change with the file; pages put them in the address, so a change is fetched anew."""
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()[:12]


def asset_response(folder: Path, name: str, asked_version: str | None) -> Response:
    """The file, kept by browsers for a year when asked for by its present version, else checked each time."""
    if name not in _names(folder):
        raise NotFound()
    is_present = asked_version == version_of(folder, name)
    return Response(
        (folder / name).read_text("utf-8"),
        {
            "Content-Type": _TYPES[Path(name).suffix],
            "Cache-Control": "public, max-age=31536000, immutable" if is_present else "no-cache",
            "Cross-Origin-Resource-Policy": "same-origin",
        },
        200,
    )
