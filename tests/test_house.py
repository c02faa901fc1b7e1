"""How the house is built: tests mirror the tree, classes are small, wide values are built by name, and so on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support.trees import tree

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
PLACES = ("recdistill", ".", "tests")
"""Where the module of a test may lie: a room, what stands beside the wheel, or what tests share (`tests/support`)."""

PROMISES = ("e2e", "deploy", "fixtures")
"""Folders whose tests hold what the whole promises, and not what one module does."""

PROMISED = {
    "test_beside_the_wheel",
    "test_dependencies",
    "test_docs",
    "test_headers",
    "test_house",
    "test_project",
    "test_walls",
    "test_wrong_inputs",
}
"""Tests beside this one that do the same."""

MOST_LINES = 200
TALLER = {"Trainer"}
"""Classes that are taller than they should be. None may be added; one that was cut is taken out."""

MOST_PLACES = 4
"""So many values may be told apart by their place."""

MODULES = sorted(path for path in (ROOT / "recdistill").rglob("*.py") if not path.name.endswith("_pb2.py"))
TEST_FILES = sorted(path for path in TESTS.rglob("test_*.py") if path.relative_to(TESTS).parts[0] not in PROMISES)


def _short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def has_module(test: Path) -> bool:
    """Whether a test has the module that it is named after: a file, a room, or the room that it lies in."""
    inside = test.relative_to(TESTS).parent
    name = test.stem.removeprefix("test_")
    rooms = [ROOT / place / inside for place in PLACES]
    named = [room / f"{name}.py" for room in rooms] + [room / name / "__init__.py" for room in rooms]
    own = [room / "__init__.py" for room in rooms if room.name == name]
    return any(path.is_file() for path in named + own)


def test_a_test_without_a_module_is_found() -> None:
    assert has_module(TESTS / "records" / "test_codec.py")
    assert has_module(TESTS / "records" / "test_records.py")
    assert has_module(TESTS / "loops" / "test_distil.py")
    assert has_module(TESTS / "tools" / "test_kafka_broker.py")
    assert not has_module(TESTS / "records" / "test_metrics.py")
    assert not has_module(TESTS / "records" / "test_nothing.py")


def test_tests_mirror_the_tree() -> None:
    promised = {TESTS / f"{name}.py" for name in PROMISED}
    lost = [_short(path) for path in TEST_FILES if path not in promised and not has_module(path)]
    assert lost == [], (
        "no module has such a name; name the test after what it tests, "
        f"or put a test of the whole into tests/{PROMISES[0]}/"
    )


def test_what_is_promised_is_there() -> None:
    assert {path.stem for path in TESTS.glob("test_*.py")} >= PROMISED


@cache
def _classes() -> list[tuple[Path, ast.ClassDef]]:
    return [(path, node) for path in MODULES for node in _inside(tree(path).body)]


def _inside(body: list[ast.stmt]) -> Iterator[ast.ClassDef]:
    """The classes of a body, also those inside of classes and functions. To look at all nodes takes twice as long."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.If):
            yield from _inside(node.body)


def _height(node: ast.ClassDef, lines: list[str]) -> int:
    """Lines of code of a class: without docstrings, comments and blank lines, so that words cost nothing.

    Of a class that is small with its words, all lines are counted.
    """
    if (node.end_lineno or 0) - node.lineno < MOST_LINES:
        return (node.end_lineno or 0) - node.lineno + 1  # small enough, with its words
    words: set[int] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant) and isinstance(inner.value.value, str):
            words |= set(range(inner.lineno, (inner.end_lineno or 0) + 1))
    span = range(node.lineno, (node.end_lineno or 0) + 1)
    return sum(n not in words and not lines[n - 1].strip().startswith("#") and lines[n - 1].strip() != "" for n in span)


def test_no_class_is_tall() -> None:
    tall = {
        node.name: f"{_short(path)}, {_height(node, path.read_text(encoding='utf-8').splitlines())} lines"
        for path, node in _classes()
        if _height(node, path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }
    assert {name: where for name, where in tall.items() if name not in TALLER} == {}
    assert set(tall) == TALLER  # one that was cut leaves the list


@pytest.mark.parametrize("name", ["Registry", "Distiller", "Watch", "App", "Recommender"])
def test_the_doors_of_the_rooms_are_no_rooms_of_their_own(name: str) -> None:
    heights = [
        _height(node, path.read_text(encoding="utf-8").splitlines()) for path, node in _classes() if node.name == name
    ]
    assert heights, f"no class has the name {name}"
    assert max(heights) < MOST_LINES


def _wide() -> set[str]:
    """Names of the classes that are values with more fields than can be told apart by their place."""
    wide = set()
    for _, node in _classes():
        bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        decorated = any("dataclass" in ast.unparse(one) for one in node.decorator_list)
        fields = sum(isinstance(line, ast.AnnAssign) for line in node.body)
        if (bases & {"NamedTuple", "Struct"} or decorated) and fields > MOST_PLACES:
            wide.add(node.name)
    return wide


def _called(node: ast.Call) -> str:
    """The last name of what is called: `Name` of `module.Name(...)`."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def by_place(code: ast.AST, wide: set[str]) -> list[int]:
    """Lines that build a wide value and leave more than four of its fields without a name.

    Example:
        >>> by_place(ast.parse("A(1, 2, 3, 4, 5)\\nA(1, 2, 3, 4, e=5)\\nB(1, 2, 3, 4, 5)\\nmodule.A(*fields)"), {"A"})
        [1, 4]
    """
    return sorted(
        node.lineno
        for node in ast.walk(code)
        if isinstance(node, ast.Call)
        and _called(node) in wide
        and (len(node.args) > MOST_PLACES or any(isinstance(one, ast.Starred) for one in node.args))
    )


def test_what_is_built_by_place_is_found() -> None:
    calls = "A(1, 2, 3, 4, 5)\nA(1, 2, 3, 4, e=5)\nB(1, 2, 3, 4, 5)\nmodule.A(*fields)"
    assert by_place(ast.parse(calls), {"A"}) == [1, 4]
    assert {"Impression", "Message", "Verb"} <= _wide()


def test_wide_values_are_built_by_name() -> None:
    wide = _wide()
    found = [f"{_short(path)}:{line}" for path in MODULES for line in by_place(tree(path), wide)]
    assert found == [], f"values of more than {MOST_PLACES} fields are built by keyword"


def test_a_logger_has_one_name() -> None:
    named = [
        (f"{_short(path)}:{node.lineno}", [ast.unparse(target) for target in node.targets])
        for path in MODULES
        for node in tree(path).body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value) == "logging.getLogger(__name__)"
    ]
    assert len(named) > 30
    assert [(where, names) for where, names in named if names != ["log_"]] == []
