"""The product's source as guards read it, by the syntax tree and without running it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "chalicelib"


@cache
def modules() -> dict[str, Path]:
    """`orders.store` -> its file, for every module that is not an empty `__init__`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] != "__init__":
            found[".".join(parts)] = path
    return found


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text("utf-8"))


def own_imports(name: str, *, at_top: bool = False) -> set[str]:
    """The modules of ours that a module imports, anywhere in it or only when it is loaded."""
    return {
        inner for one in imports_in(tree_of(name), at_top=at_top) if (inner := _module_of(one)) and inner != name
    }  # fmt: skip


def foreign_imports(name: str) -> set[str]:
    """The top-level names of everything else it imports, e.g. {"json", "botocore"}."""
    return {one.partition(".")[0] for one in imports_in(tree_of(name)) if not one.startswith("chalicelib")}


def imports_in(tree: ast.Module, *, at_top: bool = False) -> set[str]:
    found: set[str] = set()
    for node in tree.body if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _module_of(imported: str) -> str | None:
    """`chalicelib.orders.store.find_order` -> `orders.store`; None when it is not ours."""
    name = imported.removeprefix("chalicelib.")
    if name == imported:
        return None
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name or None


def is_store(name: str) -> bool:
    return name.endswith((".store", "_store"))
