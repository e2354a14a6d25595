"""Makes the deployment zip small, quick to start and reproducible. Called by `build.py` and `dependencies.py`.

Compiled modules go in beside their sources (half of a cold start is compiling otherwise), data of AWS services we never
call goes out, and order and times are fixed, so that the same sources give the same bytes.
"""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from importlib._bootstrap_external import _code_to_hash_pyc
from pathlib import Path

MAX_UNZIPPED_BYTES = 250 * 2**20
_TIME = (2026, 1, 1, 0, 0, 0)
_LAMBDA_ROOT = "/var/task"
# The services of chalicelib/aws/clients.py, and what the client of every service loads.
SERVICES = ("dynamodb", "kms", "lambda", "s3", "secretsmanager", "sqs", "sso", "sso-oidc", "sts", "signin")
_SERVICE_DATA = "botocore/data/"
_NEVER_NEEDED = ("boto3/data/", "boto3/examples/", "bin/")


def write_zip(path: Path, files: dict[str, bytes], *, after: Path | None = None) -> tuple[int, int]:
    """A zip of the files that are needed, behind all that another such zip holds; its size and that of its content.

    Raises: ValueError when a file is in both.
    """
    files = {name: content for name, content in files.items() if _is_needed(name)}
    for name in [name for name in files if name.endswith(".py")]:
        files[_compiled_name(name)] = _compiled(files[name], name)
    if after:
        shutil.copyfile(after, path)
    with zipfile.ZipFile(path, "a" if after else "w", zipfile.ZIP_DEFLATED) as new:
        if both := sorted(set(new.namelist()) & set(files)):
            raise ValueError(f"both in the app and in a dependency: {both}")
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = (0o755 if name.endswith(".so") else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, files[name])
        unzipped = sum(one.file_size for one in new.infolist())
    return path.stat().st_size, unzipped


def rebuild_zip(path: Path, dependencies: Path) -> tuple[int, int]:
    """Rewrite Chalice's zip of the app in place, with the dependencies; its size and the size of its content."""
    with zipfile.ZipFile(path) as old:
        files = {one.filename: old.read(one) for one in old.infolist() if not one.is_dir()}
    return write_zip(path, files, after=dependencies)


def _is_needed(name: str) -> bool:
    if name.endswith(".pyc") or name.startswith(_NEVER_NEEDED) or "/tests/" in name:
        return False
    if name.startswith(_SERVICE_DATA) and name.count("/") > 2:
        return name.split("/")[2] in SERVICES
    # Written at install time: they name the installing machine's paths or change from run to run.
    return not name.endswith(
        (".dist-info/RECORD", ".dist-info/direct_url.json", ".dist-info/INSTALLER", ".dist-info/REQUESTED")
    )


def _compiled_name(name: str) -> str:
    return importlib.util.cache_from_source(f"/{name}").removeprefix("/")


def _compiled(source: bytes, name: str) -> bytes:
    """Byte code that is used without looking at its source, so that no file time matters."""
    code = compile(source, f"{_LAMBDA_ROOT}/{name}", "exec", dont_inherit=True, optimize=0)
    return bytes(_code_to_hash_pyc(code, importlib.util.source_hash(source), checked=False))
