"""What the headers say is so: "It knows nothing of X" holds for a module's imports, and rooms keep their files private.

A header's sentence names things ("torch", "logs") or says a clause ("how a teacher works"). Each thing has an entry in
`THINGS`: the modules that a module which does not know it must not import. A clause cannot be checked and is let be.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support.trees import header, nodes

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "recdistill"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not path.name.endswith("_pb2.py"))

SENTENCE = re.compile(
    r"\b(?:It|They|This room|This module) (?:knows?|needs?) nothing of (.+?)(?=[:;(]|\.(?:\s|$))", re.DOTALL
)

_TORCH = ("torch", "torchrec", "fbgemm_gpu", "tensordict")
_HTTP = ("httpx", "httptools", "uvicorn", "requests", "recdistill.serve.http", "recdistill.teachers.http")
_LOGS = ("recdistill.stream", "kafka")
_FEATURES = ("recdistill.features",)
THINGS: dict[str, tuple[str, ...]] = {
    "torch": _TORCH,
    "HTTP": _HTTP,
    "HTTP servers": ("uvicorn", "recdistill.serve.http.server"),
    "the network": _HTTP,
    "connections": _HTTP,
    "ONNX": ("onnx", "onnxruntime"),
    "onnxruntime": ("onnxruntime",),
    "SQLite": ("sqlite3",),
    "Kafka": ("kafka",),
    "MLflow": ("mlflow",),
    "protobuf": ("google", "recdistill._wire"),
    "the wire": ("google", "recdistill._wire"),
    "faiss": ("faiss",),
    "processes": ("subprocess", "multiprocessing", "services"),
    "signals": ("signal",),
    "threads": ("threading", "concurrent"),
    "terminals": ("shutil", "tqdm", "sys"),
    "the environment": ("os",),
    "settings": ("recdistill.config",),
    "config": ("recdistill.config",),
    "records": ("recdistill.records",),
    "features": _FEATURES,
    "the vocabulary": (*_FEATURES, "recdistill.features.vocabulary"),
    "logs": _LOGS,
    "topics": ("recdistill.stream",),
    "streams": ("recdistill.stream",),
    "positions": ("recdistill.stream",),
    "stages": ("recdistill.stream",),
    "bundles": ("recdistill.bundle",),
    "indexes": ("recdistill.serve.index", "recdistill.bundle.index", "faiss"),
    "recommenders": ("recdistill.serve",),
    "serving": ("recdistill.serve",),
    "training": ("recdistill.train", "recdistill.losses", *_TORCH),
    "the trainer": ("recdistill.train",),
    "students": ("recdistill.train", "recdistill.model"),
    "losses": ("recdistill.losses",),
    "metrics": ("recdistill.metrics",),
    "models": ("recdistill.model", "recdistill.train", "onnx", "onnxruntime", *_TORCH),
    "teachers": ("recdistill.teachers",),
    "the registry": ("recdistill.registry", "mlflow"),
    "registries": ("recdistill.registry", "mlflow"),
    "judgements": ("recdistill.judge",),
    "the judge": ("recdistill.judge",),
    "loops": ("recdistill.loops",),
    "checkpoints": ("recdistill.checkpoint",),
    "device files": ("recdistill.device",),
    "services": ("services",),
}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def _imports(path: Path) -> list[tuple[str, int]]:
    """Every module that a file imports by name, also inside functions and for types, with its line."""
    return list(_found(path))


def _found(path: Path) -> Iterator[tuple[str, int]]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            for alias in node.names:  # `from recdistill.loops import join` is an import of recdistill.loops.join
                yield f"{node.module}.{alias.name}", node.lineno


def unknown_to(words: str) -> list[str]:
    """The things of which a header says that its module knows nothing.

    Example:
        >>> unknown_to("Adds. It knows nothing of torch, of logs or of how a teacher works: it adds.")
        ['torch', 'logs', 'how a teacher works']
    """
    said = []
    for sentence in SENTENCE.findall(words):
        phrases = re.split(r",\s*|\bn?or\b|\band\b", " ".join(sentence.split()))
        said += [re.sub(r"^(?:of\s+)?(?:(?:any|a|an)\s+)?", "", phrase.strip()) for phrase in phrases]
    return [phrase for phrase in said if phrase]


def _contracts() -> list[tuple[Path, str]]:
    return [(path, thing) for path in MODULES for thing in unknown_to(header(path)) if thing in THINGS]


def test_a_sentence_is_read() -> None:
    assert unknown_to("It knows nothing of torch, of logs,\nor of any settings. More.") == ["torch", "logs", "settings"]
    assert unknown_to("It knows nothing of how a teacher works; it asks.") == ["how a teacher works"]
    assert unknown_to("Sums up.") == []


def test_there_are_contracts() -> None:
    assert len(_contracts()) >= 60


def _within(module: str, rooms: tuple[str, ...]) -> bool:
    return module.startswith(tuple(f"{room}." for room in rooms)) or module in rooms


def test_a_module_does_not_import_what_its_header_does_not_know() -> None:
    broken = []
    for path, thing in _contracts():
        own = _name(path)
        forbidden = tuple(one for one in THINGS[thing] if not _within(own, (one,)))  # a room may use its own files
        broken += [
            f"{path.relative_to(ROOT)}:{line} imports {module}; its header says it knows nothing of {thing}"
            for module, line in _imports(path)
            if _within(module, forbidden)
        ]
    assert broken == []


def _room(module: str) -> str:
    """The room of a module: its package under recdistill, or the sub-package that it belongs to."""
    place = PACKAGE.joinpath(*module.split(".")[1:])
    return module if place.is_dir() else module.rpartition(".")[0]


@pytest.mark.slow
def test_callers_import_from_a_room_not_from_its_files() -> None:
    broken, seen = [], 0
    for path in MODULES:
        own = _name(path)
        mine = own if path.name == "__init__.py" else own.rpartition(".")[0]
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("recdistill."):
                seen += 1
                room = _room(node.module)
                inside = mine == room or room.startswith(f"{mine}.") or mine.startswith(f"{room}.")
                single = room == "recdistill"  # a room of one file, such as recdistill.errors
                if not (node.module == room or single or inside):
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    broken.append(f"{where} imports from {node.module}, a file of the room {room}")
    assert seen > 500
    assert broken == []
