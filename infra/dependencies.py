"""The packages of `requirements.txt` as Lambda runs them, in one zip. Called by `build.py` only.

Chalice's own builder chooses the wheels. The zip is kept in `.build/dependencies` under a name made of everything it
follows from, so that a change of our code fetches nothing again; `make clean` forgets it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from infra import zip as zips


class NoWheel(Exception):
    """Packages that Lambda could not run: there is no wheel of them for its system and architecture."""


def dependencies_zip(requirements: Path, architecture: str, kept: Path) -> Path:
    """The zip, from `kept` if it is there.

    Raises: NoWheel.
    """
    path = kept / f"{_fingerprint(requirements, architecture)}.zip"
    if path.exists():
        return path
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "site-packages"
        _fetch(requirements, architecture, target)
        files = {str(one.relative_to(target)): one.read_bytes() for one in target.rglob("*") if one.is_file()}
    half = path.with_suffix(f".{os.getpid()}")  # two builds at once, or a break in the middle, leave no half zip
    zips.write_zip(half, files)
    half.replace(path)
    return path


def _fingerprint(requirements: Path, architecture: str) -> str:
    follows_from = [requirements.read_bytes(), Path(zips.__file__).read_bytes(), architecture.encode(),
                    sys.version.encode(), version("chalice").encode()]  # fmt: skip
    return hashlib.sha256(b"\0".join(follows_from)).hexdigest()[:32]


def _fetch(requirements: Path, architecture: str, target: Path) -> None:
    from chalice.deploy.packager import DependencyBuilder, MissingDependencyError
    from chalice.utils import OSUtils

    abi = f"cp{sys.version_info.major}{sys.version_info.minor}"
    try:
        DependencyBuilder(OSUtils(), architecture=architecture).build_site_packages(abi, str(requirements), str(target))
    except MissingDependencyError as error:
        raise NoWheel(", ".join(sorted(one.identifier for one in error.missing))) from error
