"""The zip follows from what is in it and from nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra.zip import rebuild_zip, write_zip

APP = {
    "app.py": b"from chalicelib import shop\n",
    "chalicelib/__init__.py": b"",
    "chalicelib/shop.py": b"KEYS = {1, 2}\n",
}
PACKAGES = {"lib/__init__.py": b"x = 1\n", "lib/fast.so": b"\x7fELF", "lib-1.dist-info/METADATA": b"Name: lib\n"}


def zip_of(path: Path, files: dict[str, bytes], at: tuple) -> Path:
    """A zip as Chalice would make it at that moment, in the order in which the files came off the disk."""
    with zipfile.ZipFile(path, "w") as made:
        for name, content in files.items():
            made.writestr(zipfile.ZipInfo(name, at), content)
    return path


def build(folder: Path, app: dict[str, bytes], packages: dict[str, bytes], at: tuple) -> bytes:
    folder.mkdir()
    write_zip(folder / "packages.zip", packages)
    path = zip_of(folder / "deployment.zip", app, at)
    rebuild_zip(path, folder / "packages.zip")
    return path.read_bytes()


def turned(files: dict[str, bytes]) -> dict[str, bytes]:
    return dict(reversed(files.items()))


def test_the_same_files_at_another_time_in_another_order_give_the_same_bytes(tmp_path):
    first = build(tmp_path / "a", APP, PACKAGES, (2020, 1, 1, 0, 0, 0))
    second = build(tmp_path / "b", turned(APP), turned(PACKAGES), (2031, 12, 24, 8, 30, 2))
    assert first == second
    assert build(tmp_path / "c", {**APP, "app.py": b"pass\n"}, PACKAGES, (2020, 1, 1, 0, 0, 0)) != first


def test_the_same_files_give_the_same_bytes_in_a_process_that_hashes_names_differently(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.infra.test_zip import APP, PACKAGES, build; "
        "sys.stdout.buffer.write(build(Path(sys.argv[1]), APP, PACKAGES, (2020, 1, 1, 0, 0, 0)))"
    )
    made = [
        subprocess.run([sys.executable, "-c", code, str(tmp_path / seed)], check=True, capture_output=True,
                       env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert made[0] == made[1]
    assert len(made[0]) > 100


def test_what_a_build_leaves_behind_by_chance_stays_out(tmp_path):
    chance = {
        "lib-1.dist-info/RECORD": b"a path of the building machine",
        "lib/__pycache__/old.pyc": b"old",
        "lib/tests/test_lib.py": b"",
        "botocore/data/ec2/2016-11-15/service-2.json": b"{}",
    }
    assert build(tmp_path / "a", APP, {**PACKAGES, **chance}, (2020, 1, 1, 0, 0, 0)) == build(
        tmp_path / "b", APP, PACKAGES, (2020, 1, 1, 0, 0, 0)
    )


def test_every_module_is_compiled_for_the_place_where_it_runs_and_runs_without_its_source(tmp_path):
    build(tmp_path / "a", APP, PACKAGES, (2020, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(tmp_path / "a" / "deployment.zip") as made:
        assert made.testzip() is None
        tag = sys.implementation.cache_tag
        compiled = {name for name in made.namelist() if name.endswith(f".{tag}.pyc")}
        assert len(compiled) == sum(name.endswith(".py") for name in made.namelist()) == 4
        assert b"/var/task/chalicelib/shop.py" in made.read(f"chalicelib/__pycache__/shop.{tag}.pyc")
        assert made.getinfo("lib/fast.so").external_attr >> 16 == 0o755


def test_a_file_of_ours_that_would_hide_one_of_a_package_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"lib/__init__\.py"):
        build(tmp_path / "a", {**APP, "lib/__init__.py": b""}, PACKAGES, (2020, 1, 1, 0, 0, 0))
