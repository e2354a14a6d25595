"""Plug folders: one file per vendor or product kind, found by its file name.

A name that comes from a URL or a row is checked against the files of the folder before anything is imported.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType


def plug_names(folder: ModuleType) -> list[str]:
    """The names of all plugs in a package, sorted."""
    return sorted(found.name for found in pkgutil.iter_modules(folder.__path__))


def load_plug(folder: ModuleType, name: str) -> ModuleType | None:
    """The plug of that name, or None. Only the asked-for file is imported: cold start stays flat as plugs are added."""
    # What is loaded needs no look at the folder. It is still imported: another thread may be in mid-loading.
    is_known = name.isidentifier() and f"{folder.__name__}.{name}" in sys.modules
    if not is_known and name not in plug_names(folder):
        return None
    return importlib.import_module(f"{folder.__name__}.{name}")
