"""The project's own promises: what an install brings, bounded dependencies, and no test skipped."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.expression import Expression

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _requirements(project: dict[str, Any]) -> list[str]:
    return [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_dependency_is_bounded_and_pinned(project: dict[str, Any]) -> None:
    pins = _pins()
    for requirement in _requirements(project):
        name, bounds = re.fullmatch(r"([a-z0-9-]+)([^;]*)(?:;.*)?", requirement).groups()  # type: ignore[union-attr]
        assert re.fullmatch(r">=[\d.]+,<[\d.]+|==[\d.]+", bounds), f"{requirement} has no lower and upper bound"
        assert name in pins, f"{name} is not in constraints.txt"


def test_what_cannot_be_listed_is_pinned() -> None:
    assert {"torchrec", "fbgemm-gpu-cpu"} <= _pins().keys()


def test_serving_and_devices_ask_for_no_torch(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    for role in ("serve", "kafka", "registry", "device", "data"):
        assert not [line for line in extras[role] if "torch" in line]
    assert [line.split(">")[0] for line in extras["device"]] == ["onnxruntime"]


def test_no_registry_host_is_written_down() -> None:
    for name in ("pyproject.toml", "constraints.txt", "Makefile", ".ci/run", *map(str, ROOT.glob("tools/*.sh"))):
        assert not re.search(r"https?://|--index-url|--extra-index", (ROOT / name).read_text()), name


@pytest.mark.slow
def test_an_install_brings_recdistill_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for folder in ("recdistill", "services"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("recdistill-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"recdistill"}
    assert "recdistill/py.typed" in names


def _pytest(folder: Path, *words: str, ci: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the tests in `folder`, under the conftest.py at the root of the project."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "conftest",
            "-p",
            "no:cacheprovider",
            *words,
            "--rootdir",
            folder,
            folder,
        ],
        env={**os.environ, "CI": ci, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


SOME = """
import pytest
from support.shared import AbsentData
def test_skips(): pytest.skip('no part')
@pytest.mark.skipif(True, reason='no other part')
def test_marked(): pass
@pytest.fixture
def data(): raise AbsentData('no data sets in /nowhere')
def test_of_data(data): pass
@pytest.mark.xfail(strict=True)
def test_known(): assert False
def test_passes(): pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "ci", "outcome"),
    [
        (["--no-skip"], "", "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error"),
        ([], "true", "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error"),
        ([], "", "1 passed, 3 skipped, 1 xfailed"),
    ],
)
def test_nothing_but_absent_data_is_skipped(words: list[str], ci: str, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(SOME)
    said = _pytest(tmp_path, "-rs", *words, ci=ci).stdout
    assert outcome in said, said
    assert ("nothing may be skipped here: Skipped: no part" in said) == bool(words or ci)
    assert "no data sets in /nowhere" in said


@pytest.mark.slow
def test_a_module_that_skips_itself_fails_too(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("import pytest\npytest.importorskip('no_such_module')\ndef test(): pass\n")
    done = _pytest(tmp_path, "--no-skip")
    assert done.returncode != 0
    assert "nothing may be skipped here" in done.stdout


def _make(*words: str) -> str:
    """What make would run, as a person types it: nothing of a make that runs this test."""
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "ARGS") and "MAKE" not in name}
    command = ["make", "-n", "--no-print-directory", *words]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


def _marks(goal: str) -> list[str]:
    """What each pytest of a goal is told to choose by mark."""
    return [quoted or word for quoted, word in re.findall(r'-m pytest .*?-m (?:"(.*?)"|(\w+))', _make(goal))]


@pytest.mark.parametrize("words", [[], ["ARGS=tests/stream -x"]])
def test_make_test_sets_up_everything_and_skips_nothing(words: list[str]) -> None:
    said = _make("test", *words)
    first = said.index("-m pytest")
    for part in ("kafka", "browser", "deploy"):
        assert 0 <= said.find(f"tools/setup-{part}.sh\n") < first, part
    assert said.count("-m pytest") == said.count("-m pytest --no-skip") == (1 if words else 3)


def test_each_test_is_run_once_by_make_test_and_fast_ones_start_no_process() -> None:
    parts = [Expression.compile(words) for words in _marks("test")]
    [fast] = [Expression.compile(words) for words in _marks("test-fast")]
    assert len(parts) == 3
    names = ("slow", "kafka", "mlflow", "browser", "e2e", "alone")
    for marks in itertools.chain.from_iterable(itertools.combinations(names, n) for n in range(len(names) + 1)):
        assert sum(part.evaluate(lambda name, marks=marks: name in marks) for part in parts) == 1, marks
        assert fast.evaluate(lambda name, marks=marks: name in marks) == (not marks)


def test_ci_says_so_itself(tmp_path: Path) -> None:
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "make $* with CI=$CI"\n')
    make.chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name != "CI"}
    env["PATH"] = f"{tmp_path}{os.pathsep}{env['PATH']}"
    said = subprocess.run([ROOT / ".ci/run"], env=env, capture_output=True, text=True, check=True).stdout
    assert re.findall("^make .*", said, re.M) == [f"make {goal} with CI=true" for goal in ("install", "lint", "test")]
