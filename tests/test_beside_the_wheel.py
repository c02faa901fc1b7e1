"""What lies beside the wheel: who imports whom. `.importlinter` holds the rooms of the wheel itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.trees import nodes

ROOT = Path(__file__).resolve().parents[1]
MAY = {
    "recdistill": set(),
    "services": {"recdistill"},
    "tools": {"recdistill", "references"},
    "references": {"recdistill"},
    "benchmarks": {"recdistill", "references", "tools"},
    "tests": {"recdistill", "services", "references", "tools", "support"},
}
"""Folder -> what of this tree it imports, beside itself."""
OURS = {*MAY, "support", "conftest"}


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each absolute import, in code that a file holds as a text as well."""
    for node in nodes(file):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
            yield from ((node.lineno, name) for name in re.findall(r"^(?:from|import) ([\w.]+)", node.value, re.M))


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.slow
@pytest.mark.parametrize("folder", sorted(MAY))
def test_a_folder_imports_what_it_may(folder: str) -> None:
    for file in files(folder):
        place = file.relative_to(ROOT)
        may = MAY[folder] | {folder} | ({"benchmarks"} if place.parts[:2] == ("tests", "benchmarks") else set())
        for line, name in imports(file):
            top = name.split(".")[0]
            assert top not in OURS - may, f"{place}:{line} imports {name}"


FORKED = ROOT / "tools" / "warm.py"
"""A fork has to do itself what a new interpreter does with PYTHONPATH."""


@pytest.mark.parametrize("folder", ["recdistill", "services", "tools", "references", "benchmarks"])
def test_nobody_bends_the_path_of_modules(folder: str) -> None:
    for file in files(folder):
        if file == FORKED:
            continue
        if not re.search(r"sys\s*\.\s*path", file.read_text(encoding="utf-8")):  # to parse all files takes seconds
            continue
        for node in nodes(file):
            bent = isinstance(node, ast.Attribute) and node.attr == "path" and ast.unparse(node) == "sys.path"
            assert not bent, f"{file.relative_to(ROOT)}:{node.lineno}"
