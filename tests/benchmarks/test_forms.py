"""Benchmarks as a whole: every command of the pages can be typed, and what is missing is one sentence."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import forms, inputs
from benchmarks.tables.recipes import table_recipe

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("bench_*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *BENCHMARKS]


def bench(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Module and words of each `python -m benchmarks.…`, in blocks and within lines.

    Example:
        >>> block = "```bash\\npython -m benchmarks.bench_a --b \\\\\\n  3  # c\\n```\\n"
        >>> commands(block + "Or `python -m\\nbenchmarks.bench_d`.")
        [('bench_a', ['--b', '3']), ('bench_d', [])]
    """
    # A command within a line may be broken where the line is.
    text = re.sub(r"`[^`]+`", lambda code: code[0].replace("\n", " "), re.sub(r"\\+\n", " ", text.replace("```", "")))
    found = re.findall(r"python -m benchmarks\.(\w+)([^`#|&;\n]*)", text)
    return [(name, shlex.split(rest)) for name, rest in found]


COMMANDS = [
    pytest.param(name, words, id=f"{page.name}: {name} {' '.join(words)}")
    for page in PAGES
    for name, words in commands(page.read_text(encoding="utf-8"))
]


def test_the_pages_hold_commands() -> None:
    """As many as there were when this was written, or more: the pattern must not stop matching in silence."""
    assert len(COMMANDS) >= 40
    assert {f"{name}.py" for parameters in COMMANDS for name in parameters.values[:1]} == {f.name for f in BENCHMARKS}


@pytest.mark.parametrize(("name", "words"), COMMANDS)
def test_a_command_of_a_page_can_be_typed(name: str, words: list[str]) -> None:
    told = bench(name).options().parse_args(words)
    assert not told.short


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    for name in re.findall(r"`((?:benchmarks|references|tools)/[\w./]+)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_recipes_that_a_page_names_are_there() -> None:
    named = [
        name
        for page in PAGES
        for option in re.findall(r"--recipe\s+([\w./,-]+)", page.read_text(encoding="utf-8"))
        for name in option.split(",")
    ]
    assert len(named) >= 15
    for name in named:
        table_recipe(str(ROOT / name) if name.endswith(".toml") else name)


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(SystemExit) as refused:
        bench("bench_log").options().parse_args(["--mesages", "3"])
    assert refused.value.code == 2


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.stem)
def test_each_has_a_short_form_of_its_own_options(file: Path) -> None:
    options = bench(file.stem).options()
    long, short = options.parse_args([]), bench(file.stem).options().parse_args(["--short"])
    assert options.short
    for name, value in options.short.items():
        assert hasattr(long, name), name
        assert getattr(short, name) == value != getattr(long, name)


@pytest.mark.parametrize("name", ["bench_builtin", "bench_distillation", "bench_unseen"])
def test_without_its_data_a_benchmark_says_so_in_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECDISTILL_SHARED", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [name])
    with pytest.raises(SystemExit) as ended:
        bench(name).main()
    assert ended.value.code == forms.ABSENT
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"not measured: {tmp_path}/data/")


def _bench(folder: Path, *bodies: str) -> subprocess.CompletedProcess[str]:
    """`make bench` in a folder whose benchmarks are these, and whose Python is this one."""
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").touch()
    for number, body in enumerate(bodies):
        (folder / "benchmarks" / f"bench_{number}.py").write_text(f"import sys\n{body}\n")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    (folder / "tools").mkdir()
    for name in ("setup-python.sh", "common.sh", "setup-kafka.sh"):
        (folder / "tools" / name).write_text("#!/bin/sh\n")
        (folder / "tools" / name).chmod(0o755)
    (folder / ".venv" / ".installed").touch()
    command = ["make", "--no-print-directory", "-f", ROOT / "Makefile", "bench"]
    # Nothing of a make that runs this test.
    env = {name: value for name, value in os.environ.items() if name != "ARGS" and "MAKE" not in name}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_one_that_lacks_something_stops_nobody_and_one_that_fails_is_named(tmp_path: Path) -> None:
    short = "assert sys.argv[1:] == ['--short']; print('ran')"
    absent = f"sys.exit({forms.ABSENT})"
    (tmp_path / "a").mkdir()
    done = _bench(tmp_path / "a", short, absent, short)
    assert (done.returncode, done.stdout.split()) == (0, ["==", "0", "ran", "==", "1", "==", "2", "ran"]), done.stderr
    (tmp_path / "b").mkdir()
    done = _bench(tmp_path / "b", "raise ValueError", short)
    assert done.returncode != 0
    assert "recdistill: these benchmarks failed: 0\n" in done.stderr
    assert done.stdout.split()[-1] == "ran"


def test_a_demo_is_taken_unless_the_code_is_newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        made.append(command)
        (tmp_path / "summary.json").write_text("{}")
        return subprocess.CompletedProcess(command, inputs.REFUSED, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        assert inputs.small_demo(tmp_path) == tmp_path
    assert len(made) == 1
    os.utime(tmp_path / "summary.json", (0, 0))
    inputs.small_demo(tmp_path)
    assert len(made) == 2
    assert inputs.demo_or(tmp_path / "mine") == tmp_path / "mine"
