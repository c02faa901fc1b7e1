"""The live demo as a person starts it: real processes, a page in a real browser, and nothing left behind."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from recdistill.config import load_settings
from recdistill.stream import open_log

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]

LOOK = (Path(__file__).parent / "look.js").read_text(encoding="utf-8")


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running demo, and the address of its page. It is killed at the end, if it still runs."""
    command = [sys.executable, "-m", "recdistill", "demo", "--live", "--output", str(folder), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found is not None, line + process.stderr.read()
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def members(folder: Path) -> list[psutil.Process]:
    """The processes that work for the demo of this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RECDISTILL_CONFIG") == str(folder / "settings.toml"):
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def wait_until(done: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def number(text: str) -> float:
    return float(text.replace(",", "").split()[0])


@pytest.mark.browser
@pytest.mark.alone
def test_a_person_sees_a_student_that_learns(tmp_path: Path, browser: Callable[..., Any]) -> None:
    """One seed on a compressed script; how far the student comes back is shown by the full runs, `make soak-live`."""
    folder = tmp_path / "demo"
    with demo(folder, "--seconds", "90", "--by-hand", "--json", "--price", "3.6") as (process, url):
        seen = browser(LOOK, url=url, patience=500, timeout_s=550)
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert seen["errors"] == []
    assert [f"line-{name}" for name in ("teacher", "live", "frozen", "control", "popularity")] == seen["lines"], seen
    summary = json.loads(out)
    assert summary == json.loads((folder / "summary.json").read_text())
    assert not members(folder)
    with socket.socket() as again:  # the port is free
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2])))

    # A phone, and both colour schemes: nothing is wider than the screen, every text has the contrast of WCAG's AA.
    assert seen["overflow"] <= 0
    assert seen["schemes"]["light"]["paper"] != seen["schemes"]["dark"]["paper"]
    assert min(one["least"] for one in seen["schemes"].values()) >= 4.5

    # The sentences of the page are those of the summary. No stream of a minute can show how far a student comes back.
    for name, (holds, _) in seen["facts"].items():
        assert (holds == "true") is (summary["showed"][name] is True), name
    assert {name for name, (holds, _) in seen["facts"].items() if holds == "true"} >= {"versions", "failed", "cost"}
    counts = re.findall(r"(\d+) (?:judged|promoted|refused)", seen["facts"]["versions"][1])
    judged, promoted, refused = map(int, counts[3:])  # the first three are what is asked for
    assert judged >= 3
    assert promoted >= 2
    assert refused >= 1
    assert {"judged": judged, "promoted": promoted, "refused": refused} == summary["versions"]
    assert number(seen["now"]["failures"]) == summary["failures"] == 0  # through kill, push, rollback and every swap
    assert summary["requests"] >= number(seen["now"]["requests"]) > 0

    # Costs: the ratio is that of the seconds, and money is seconds at the price, here a thousandth for each second.
    cost = summary["cost"]
    assert cost["ratio"] == pytest.approx(cost["teacher_s"] / cost["student_s"], rel=0.01)
    assert cost["ratio"] >= 10
    assert cost["student_money"] == pytest.approx(cost["student_s"] / 1000, rel=1e-3)
    assert number(seen["cost"]["ratio"]) == pytest.approx(cost["ratio"], abs=0.06)
    assert seen["cost"]["p99"] == seen["now"]["p99"] == f"{summary['p99_ms']:,} ms".replace(".0 ms", " ms")

    # Freshness of every hop; an event cannot be served before it is promoted, and so on back to its score.
    hops = [number(seen["hops"][name]) for name in ("scored", "learnt", "exported", "judged", "promoted")]
    assert all(0 <= earlier <= later + 3 for earlier, later in pairwise(hops))  # read within seconds of each other
    assert 0 <= number(seen["hops"]["served"]) < 60

    assert 0 < number(seen["values"]["live"]) < number(seen["values"]["teacher"]) <= 1
    acts = "\n".join(seen["acts"])
    assert re.search(r"was killed with SIGKILL; it had learnt", acts)
    assert re.search(r"a new distiller has learnt each of them once", acts)
    assert re.search(r"It was not promoted\. .*refused", acts)
    assert re.search(r"version \d+ is the champion again, before it was version \d+", acts)
    assert any("serves" in row for row in seen["versions"])
    assert any("refused" in row for row in seen["versions"])
    assert len(seen["answer"]) == 5
    assert "with the network off" in seen["device"]


@pytest.mark.alone
@pytest.mark.kafka
def test_it_ends_by_itself_and_runs_on_a_broker(tmp_path: Path, kafka_brokers: str) -> None:
    folder = tmp_path / "demo"
    with demo(folder, "--seconds", "20", "--rate", "20", "--kafka", kafka_brokers) as (process, _):
        out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "NDCG@10 on what came next" in out
    assert "Showed: back no" in out
    assert f"The summary: {folder / 'summary.json'}" in out
    assert json.loads((folder / "summary.json").read_text())["lists"] > 300  # of 800, half of them in the past
    assert not members(folder)
    settings = load_settings(folder / "settings.toml", env={})
    assert settings.log.prefix.startswith("demo-")
    assert not (folder / "log.sqlite").exists()
    log = open_log(settings.log)
    with closing(log), closing(log.source(["rankings"])) as source:
        assert sum(source.bounds(tp)[1] for tp in source.position()) > 300  # the scorer's, on the broker


def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with demo(folder, "--seconds", "600", "--rate", "1") as (process, _):
        wait_until(lambda: len(members(folder)) >= 5, "its processes have not started")
        process.kill()
        process.wait(60)
    wait_until(lambda: not members(folder), "processes are left", 60)


def test_a_process_that_ends_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with demo(folder, "--seconds", "600", "--rate", "1") as (process, _):
        joiner: list[psutil.Process] = []

        def started() -> bool:
            joiner[:] = [one for one in members(folder) if "services.joiner" in one.cmdline()]
            return bool(joiner)

        wait_until(started, "the joiner has not started")
        joiner[0].kill()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.search(r"error: demo --live: the joiner ended with code -9", errors)
    assert "Traceback" not in errors
    wait_until(lambda: not members(folder), "processes are left", 60)


def test_options_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from recdistill.cli import main

    for line, said in (
        ("demo --seconds 30", "--seconds: is only for --live"),
        ("demo --live --impressions 200", "--impressions: is not for --live"),
        ("demo --live --dataset ml-100k", "--dataset: the live demo plays a simulated world"),
        ("demo --by-hand", "--by-hand: is only for --live"),
        ("demo --kafka 127.0.0.1:9092", "--kafka: is only for --live"),
        ("demo --live --price -1", "--price -1: must be a number from 0 on"),
        ("demo --act kill", "--act: needs --port N"),
        ("demo --live --seconds 3", "--seconds: must be a whole number from 20"),
    ):
        assert main(line.split()) == 2
        assert said in capsys.readouterr().err
