"""The conventions of the command line: help, exit codes, streams, signals, and what is imported when."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from recdistill import __version__
from recdistill.cli import GROUPS, VERBS, main
from recdistill.commands import verb as verb_room
from recdistill.errors import RecdistillError
from recdistill.installed import how_to_install

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RECDISTILL")]:
        monkeypatch.delenv(name)


def _command(*argv: str, code: str = "") -> list[str]:
    return [sys.executable, *(("-c", code) if code else ("-m", "recdistill")), *argv]


def _run(*argv: str, code: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(_command(*argv, code=code), env=env, capture_output=True, text=True, timeout=120, **options)


# Help


def test_help_is_instant_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; began = time.process_time()\n"
        "from recdistill.cli import main; main(['--help'])\n"
        "print(time.process_time() - began, *sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    best = 9.0
    for _ in range(3):
        seconds, *modules = _run(code=code).stderr.split()
        best = min(best, float(seconds))
        assert not {"numpy", "torch", "mlflow", "msgspec", "tqdm", "google", "kafka", "uvicorn"} & set(modules)
    assert best < 0.3


def test_the_overview_names_every_verb_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(VERBS)
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, verb in VERBS.items():
        assert f"\n  {name:12} {verb.purpose}\n" in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("name", VERBS)
def test_help_of_a_verb_teaches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb = VERBS[name]
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert verb.purpose in out
    assert 1 <= len(verb.examples) <= 6
    for example in verb.examples:
        assert f"  recdistill {example}" in out
    assert ("--config" in out) == ("--set" in out) == verb.settings
    assert ("--json" in out) == verb.machine
    assert "--debug" in out
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("name", VERBS)
def test_the_examples_can_be_typed(name: str) -> None:
    import shlex

    for example in VERBS[name].examples:
        words = shlex.split(example.partition(" | ")[0].partition(" > ")[0])
        assert words[0] == name
        VERBS[name].parser().read(words[1:])


def test_every_option_says_what_it_is() -> None:
    for verb in VERBS.values():
        for action in verb.parser()._actions:
            assert action.help, f"{verb.name} {action.option_strings or action.dest}"


def test_version_and_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"recdistill {__version__}\n"
    assert main([]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("usage: recdistill VERB")


def test_the_other_spelling(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "--help"]) == 0
    assert VERBS["distil"].purpose in capsys.readouterr().out


# Errors


def _failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise error

    import dataclasses

    monkeypatch.setitem(VERBS, "versions", dataclasses.replace(VERBS["versions"], run=fail))


def _all_errors(kind: type[RecdistillError] = RecdistillError) -> list[type[RecdistillError]]:
    return [kind, *(one for sub in kind.__subclasses__() for one in _all_errors(sub))]


@pytest.mark.parametrize("kind", [kind for kind in _all_errors() if kind.__module__ == "recdistill.errors"])
def test_each_error_has_its_exit_code(
    kind: type[RecdistillError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, "the\nthing \x1b[2J is wrong")
    _failing(error, monkeypatch)
    assert main(["versions"]) == kind.exit_code
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors == "error: the thing \N{REPLACEMENT CHARACTER}[2J is wrong\n"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _failing(RecdistillError("no"), monkeypatch)
    assert main(["versions", "--debug"]) == 1
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert errors.endswith("error: no\n")


def test_the_unexpected(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _failing(ZeroDivisionError("division by zero"), monkeypatch)
    assert main(["versions"]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ZeroDivisionError: division by zero; ")
    assert "--debug" in errors
    assert "Traceback" not in errors
    _failing(KeyboardInterrupt(), monkeypatch)
    assert main(["versions"]) == 130


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("torch", how_to_install("train")),
        ("onnxruntime", how_to_install("device")),
        ("onnx", how_to_install("export")),
        ("faiss", how_to_install("serve")),
        ("mlflow", how_to_install("registry")),
        ("kafka", how_to_install("kafka")),
        ("torchrec", "make install"),
    ],
)
def test_what_is_not_installed_comes_with_the_line_that_gets_it(
    module: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _failing(ModuleNotFoundError(f"No module named '{module}'", name=f"{module}.deep"), monkeypatch)
    assert main(["versions"]) == 1
    errors = capsys.readouterr().err
    assert f"this needs {module}, which is not installed; {line}" in errors


def test_the_extras_are_those_of_the_project() -> None:
    import tomllib

    from recdistill.commands.doctor import EXTRAS

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, modules in EXTRAS.items():
        named = {re.match(r"[a-z0-9-]+", line)[0] for line in extras[extra]}  # type: ignore[index]
        # onnxruntime answers for serving, too; uvloop is not everywhere.
        assert set(modules.values()) <= named, extra
        assert named - set(modules.values()) <= {"uvloop"}, extra


# Streams


def test_a_reader_that_leaves_is_no_error() -> None:
    assert main(["topics", "create"]) == 0
    rows = "".join(json.dumps({"id": f"item-{n}"}) + "\n" for n in range(3000))
    Path("items.jsonl").write_text(rows)
    assert main(["import", "items.jsonl", "--kind", "items"]) == 0
    line = f"{sys.executable} -m recdistill inspect items --json -n 3000 | head -n 1"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["record"]["id"] == "item-0"
    assert done.stderr == ""


@pytest.mark.parametrize("output", [">&-", ">/dev/full", ">&- <&- "])
def test_an_output_that_cannot_be_written_is_one_sentence_and_the_work_is_done(output: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {shlex.join(_command('topics', 'create'))} {output}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output ")
    assert "what the verb did is done" in done.stderr
    assert done.stderr.count("\n") == 1
    assert Path("recdistill-data/log.sqlite").read_bytes()[:6] == b"SQLite"  # nothing was printed into it


@pytest.mark.slow
def test_results_go_to_stdout_and_the_rest_to_stderr() -> None:
    done = _run("topics", "create", "--json")
    assert json.loads(done.stdout)["made"]
    assert done.stderr == ""
    done = _run("simulate", "--impressions", "20", "--users", "5", "--items", "220", "--days", "9", "--json")
    assert json.loads(done.stdout)["impressions"] == 20
    assert "\r" not in done.stderr, "no bar where nobody watches"
    done = _run("inspect", "nonsense", "--json")
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")


def test_a_bar_is_drawn_on_a_terminal_only_unless_quiet() -> None:
    code = (
        "import argparse, sys\n"
        "from recdistill.commands.verb import Bar\n"
        "with Bar('score', argparse.Namespace(quiet=len(sys.argv) > 1)) as bar:\n"
        "    for n in range(5): bar(n, 5)\n"
    )
    for argv, drawn in (((), True), (("--quiet",), False)):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(_command(*argv, code=code), env=env, stderr=theirs, check=True, timeout=60)
        os.set_blocking(ours, False)
        try:
            said = os.read(ours, 100_000)
        except BlockingIOError:  # nothing was written
            said = b""
        os.close(ours)
        os.close(theirs)
        assert (b"score" in said) == drawn


# Signals

TEACHER = "def score(impressions):\n    return [[1.0 for c in i.candidates] for i in impressions]\n"


def _scoring(*more: str) -> subprocess.Popen[str]:
    """A scorer that goes on until it is stopped."""
    Path("tea.py").write_text(TEACHER)
    assert _run("topics", "create").returncode == 0
    rows = "".join(
        json.dumps({"id": f"r{n}", "time_us": n + 1, "candidates": [{"item": "a"}, {"item": "b"}]}) + "\n"
        for n in range(50)
    )
    Path("lists.jsonl").write_text(rows)
    assert _run("import", "lists.jsonl", "--kind", "impressions").returncode == 0
    change = ("--set", "teacher.kind=callable", "--set", "teacher.function=tea:score", "--set", "score.wait_s=0.1")
    process = subprocess.Popen(
        _command("score", "--json", *change, *more),
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{Path.cwd()}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if _run("inspect", "rankings", "-n", "100", "--json").stdout.count("\n") == 50:
            return process
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
    process.kill()
    raise AssertionError("nothing was scored")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_batch_and_says_what_was_done(number: signal.Signals) -> None:
    process = _scoring()
    process.send_signal(number)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert json.loads(out)["rankings"] == 50
    assert json.loads(out)["stopped"] is True
    assert ("Ctrl-C again stops at once" in errors) == (number == signal.SIGINT)
    assert "Traceback" not in errors


def test_the_second_ctrl_c_stops_at_once() -> None:
    code = (
        "import signal, sys, time\n"
        "from recdistill import cli\n"
        "from recdistill.commands.verb import Parser, Verb, stopping\n"
        "def run(args):\n"
        "    with stopping() as stop:\n"
        "        print('ready', flush=True)\n"
        "        stop.wait()\n"
        "        print('stopping', flush=True)\n"
        "        time.sleep(60)\n"
        "    return 0\n"
        "cli.VERBS['wait'] = Verb('wait', '', '', (), lambda parser: None, run)\n"
        "sys.exit(cli.main(['wait']))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        _command(code=code), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for word in ("ready", "stopping"):
            assert process.stdout.readline().strip() == word
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.endswith("error: interrupted\n")
    assert "Traceback" not in errors


def test_the_handlers_of_signals_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with verb_room.stopping() as stop:
        assert not stop.is_set()
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# Doctor


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--role", "device"]) == 0
    assert "this machine can be a device" in capsys.readouterr().out
    assert main(["doctor", "--role", "distiller", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["role"] == "distiller"
    assert not found["ok"]
    (features,) = [check for check in found["checks"] if check["name"] == "features"]
    assert features["state"] == "missing"
    assert "features.toml" in features["found"]
    assert features["fix"]
    assert not Path("recdistill-data").exists(), "it changes nothing"


def test_doctor_says_what_is_wrong_with_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--set", "student.dmi=3"]) == 1
    out = capsys.readouterr().out
    assert "did you mean 'dim'?" in out


def test_doctor_finds_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["doctor", "--role", "ranker", "--set", f"rank.port={port}"]) == 1
    assert f"127.0.0.1:{port} cannot be used" in capsys.readouterr().out


def test_doctor_without_what_a_role_needs() -> None:
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "gone = ('torch', 'faiss', 'torchrec')\n"
        "importlib.util.find_spec = lambda name, *a: None if name in gone else find(name, *a)\n"
        "from recdistill.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = _run("doctor", "--role", "demo", code=code)
    assert done.returncode == 1
    assert how_to_install("train") in done.stdout
    assert how_to_install("serve") in done.stdout
    assert "--no-deps torchrec fbgemm-gpu-cpu" in done.stdout
    assert "torch" not in _run("doctor", "--role", "joiner", code=code).stdout
