"""The two islands, seen in fresh interpreters: what each module may and may not bring into a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from references.students import make_student

ROOT = Path(__file__).resolve().parents[1]
_TRAINING = ("torch", "torchrec", "fbgemm_gpu", "tensordict")
_SERVING = ("faiss", "uvicorn")
_WITHOUT_TORCH = (
    *("errors", "config", "sealed", "records", "features", "metrics", "linear", "model", "bundle", "device", "data"),
    *("stream",),
    *("serve", "judge", "registry", "loops"),
)
_BY_ROLE = (*_TRAINING, *_SERVING, "onnx", "onnxruntime", "kafka", "mlflow", "pyarrow", "prometheus_client")

# As if the packages named in FORBIDDEN were not installed.
_WALL = """
import importlib, os, sys
from importlib.machinery import PathFinder
forbidden = set(os.environ["FORBIDDEN"].split())
class Wall(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in forbidden else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Wall if finder is PathFinder else finder for finder in sys.meta_path]
"""
# Imports the modules given as arguments.
_IMPORT_WITHOUT = (
    _WALL
    + """
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sorted({name.split(".")[0] for name in sys.modules} & forbidden))
"""
)
# Runs the command given as arguments.
_RUN_WITHOUT = (
    _WALL
    + """
from recdistill.cli import main
code = main(sys.argv[1:])
loaded = {name.split(".")[0] for name in sys.modules} & forbidden
assert not loaded, loaded
sys.exit(code)
"""
)


def _modules(*rooms: str) -> list[str]:
    """Every module of these rooms, as the tree has them."""
    found = []
    for room in rooms:
        place = ROOT / "recdistill" / room
        files = [*place.rglob("*.py"), *([place.with_suffix(".py")] if place.with_suffix(".py").exists() else [])]
        for file in files:
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if not name.endswith(".__main__"):
                found.append(name)
    assert found, f"no modules in {rooms}"
    return sorted(found)


def _import_without(modules: list[str], forbidden: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_WITHOUT, *modules],
        env={**os.environ, "FORBIDDEN": " ".join(forbidden), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


ROOMS = (
    "errors",
    "config",
    "sealed",
    "records",
    "features",
    "metrics",
    "linear",
    "model",
    "bundle",
    "device",
    "data",
    "stream",
    "watch",
    "budget",
    "serve",
    "judge",
    "registry",
    "loops",
)
"""Those that work without torch. One process imports all their modules, and a traceback names the first that cannot."""


@pytest.mark.slow
def test_rooms_without_torch() -> None:
    _import_without([module for room in ROOMS for module in _modules(room)], _TRAINING)


@pytest.mark.slow
def test_a_device_file_is_written_and_read_without_torch(tmp_path: Path) -> None:
    """On a machine that serves, with the `serve` and `export` extras; what only reads needs no onnx either."""
    bundle, out = tmp_path / "bundle", tmp_path / "device.onnx"
    make_student(20).export(bundle)
    for command, forbidden in (
        (["export", bundle, "--out", out], _TRAINING),
        (["recommend", "--device", out, "item-1"], (*_TRAINING, "onnx", "faiss")),
    ):
        done = subprocess.run(
            [sys.executable, "-c", _RUN_WITHOUT, *map(str, command)],
            env={**os.environ, "FORBIDDEN": " ".join(forbidden), "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 1000


@pytest.mark.slow
def test_training_without_the_serving_island() -> None:
    _import_without(_modules("train", "teachers"), (*_SERVING, "onnxruntime", "mlflow", "kafka"))


def test_the_base_install_imports_the_shared_rooms() -> None:
    modules = _modules("errors", "config", "sealed", "checkpoint", "records", "features", "metrics", "linear")
    _import_without([*modules, "recdistill.stream", "recdistill.stream.embedded"], _BY_ROLE)


def test_a_request_is_read_without_a_server() -> None:
    """`recdistill recommend --device` reads its request as the endpoint does, with the extra of a device alone."""
    _import_without(["recdistill.serve.http"], (*_TRAINING, *_SERVING, "prometheus_client", "onnxruntime", "onnx"))


def test_the_command_line_imports_lazily() -> None:
    _import_without(["recdistill.cli"], _BY_ROLE)


def test_importing_the_package_is_instant() -> None:
    # In processor time, so that other work on the machine does not matter.
    command = [
        sys.executable,
        "-c",
        "import time; t = time.process_time(); import recdistill; print(time.process_time() - t)",
    ]
    times = [
        float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout) for _ in range(3)
    ]
    assert min(times) < 0.3


def test_help_is_instant() -> None:
    best = 9.0
    for _ in range(3):
        began = _spent_by_children()
        subprocess.run([sys.executable, "-m", "recdistill.cli", "--help"], cwd=ROOT, capture_output=True, check=True)
        best = min(best, _spent_by_children() - began)
    assert best < 1.0


def _spent_by_children() -> float:
    """Seconds of processor time of the processes that this one started and that have ended."""
    spent = os.times()
    return spent.children_user + spent.children_system
