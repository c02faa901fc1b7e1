"""The live demo as a person starts it: real processes, a page in a real browser, and nothing left behind."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]

LOOK = """
const wide = { width: 360, height: 740 };
await page.setViewportSize(wide);
const errors = [];
page.on("pageerror", (error) => errors.push(String(error)));
page.on("console", (line) => { if (line.type() === "error") errors.push(line.text()); });
await page.goto(args.url);
await page.waitForFunction(() => ["teacher", "live", "popularity"].every((name) => {
  const line = document.getElementById("line-" + name);
  return line && line.getAttribute("points").split(" ").length > 2;
}) && document.querySelector("#versions li[data-passed]"), undefined, { timeout: args.patience * 1000 });
const text = async (id) => (await page.locator("#" + id).textContent()).trim();
const long = { timeout: args.patience * 1000 };
const said = (act, count) => page.waitForFunction(([act, count]) =>
  document.querySelectorAll("#acts li[data-act=" + act + "]").length >= count, [act, count], long);
for (const act of ["kill", "worse", "back"]) {
  await page.focus("button[data-act=" + act + "]");
  await page.keyboard.press("Enter");  // no mouse is needed
  await said(act, 2);
}
const failed = await text("now-failures");
done({
  failed, acts: await page.locator("#acts li").allTextContents(),
  errors,
  state: await text("state"),
  values: { live: await text("value-live"), popularity: await text("value-popularity") },
  lists: await text("now-lists"), learnt: await text("now-learnt"), lag: await text("now-lag"),
  requests: await text("now-requests"), failures: await text("now-failures"),
  versions: await page.locator("#versions li").allTextContents(),
  overflow: await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth),
});
"""


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
    folder = tmp_path / "demo"
    # On a busy machine it takes long until a champion serves. So the demo runs until the page shows one. With few lists
    # a second, it is soon there: as much as the stream will bring has to be learnt before it.
    with demo(folder, "--seconds", "900", "--rate", "4", "--by-hand", "--json") as (process, url):
        seen = browser(LOOK, url=url, patience=600, timeout_s=850)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert seen["errors"] == []
    assert seen["overflow"] <= 0  # nothing is wider than a phone
    assert 0 < number(seen["values"]["live"]) <= 1
    assert 0 < number(seen["values"]["popularity"]) <= 1
    assert number(seen["requests"]) > 0
    assert number(seen["failures"]) == 0
    assert any(re.match(r"Version \d+ (serves|served|passed|refused) at -?\d+ s\. ", row) for row in seen["versions"])
    assert any(re.search(r"was killed with SIGKILL; it had learnt \d[\d,]* examples", row) for row in seen["acts"])
    assert any("a new distiller has learnt each of them once, and goes on" in row for row in seen["acts"])
    assert any(re.search(r"It was not promoted\. .*refused", row) for row in seen["acts"])
    assert any(re.search(r"is the champion again|error: ", row) for row in seen["acts"])
    assert number(seen["failed"]) == 0  # through the kill, the push, the rollback and every swap
    summary = json.loads(out)
    assert summary == json.loads((folder / "summary.json").read_text())
    assert summary["lists"] >= number(seen["lists"])
    assert summary["learnt"] is None or summary["learnt"] > 0
    assert summary["versions"]["judged"] >= summary["versions"]["promoted"] >= 1
    assert summary["failures"] == 0
    assert summary["requests"] > 0
    assert summary["lag_s"] is None or 0 < summary["lag_s"]["p50"] <= summary["lag_s"]["p99"]
    assert {"teacher", "popularity", "live"} <= set(summary["ndcg@10"]["end"])
    assert summary["ndcg@10"]["end"]["teacher"] > summary["ndcg@10"]["end"]["popularity"]
    wait_until(lambda: not members(folder), "processes are left")
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2])))


@pytest.mark.alone
def test_it_ends_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with demo(folder, "--seconds", "20", "--rate", "20") as (process, _):
        out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "NDCG@10 on what came next" in out
    assert f"The summary: {folder / 'summary.json'}" in out
    assert json.loads((folder / "summary.json").read_text())["lists"] > 300  # of 400
    assert not members(folder)


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
        ("demo --act kill", "--act: needs --port N"),
        ("demo --live --seconds 3", "--seconds: must be a whole number from 20"),
    ):
        assert main(line.split()) == 2
        assert said in capsys.readouterr().err
