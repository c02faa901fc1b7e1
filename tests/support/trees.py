"""Syntax trees of this tree's own files, for the tests that read code. Each file is read once in a process."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def header(path: Path) -> str:
    """The docstring of a module. The rest of the file is not parsed, because this is asked before any test runs."""
    text = path.read_text(encoding="utf-8")
    begin = text.find('"""')
    end = text.find('"""', begin + 3)
    if text[:begin] in ("", "r") and end > 0:
        return ast.get_docstring(ast.parse(text[: end + 3])) or ""
    return ast.get_docstring(ast.parse(text)) or ""


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Every node of a file's tree."""
    return list(ast.walk(tree(path)))
