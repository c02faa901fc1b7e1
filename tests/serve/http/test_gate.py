"""Who may connect: the number of open files, and what the log says of refusals."""

from __future__ import annotations

import logging
import socket
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest
from support.waiting import wait_for

from recdistill.bundle import Bundle
from recdistill.serve.http.gate import AT_ONCE, SAY_S, Gate
from tools import processes

FEW = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); from recdistill.cli import main; "


@pytest.mark.slow
def test_with_few_open_files_it_says_so_once_and_goes_on_answering(bundle: Bundle, tmp_path: Path) -> None:
    """300 connections on a process that may open 200 files: no newcomer is reset, and the log has a few lines."""
    (port,) = processes.free_ports(1)
    log = tmp_path / "serve.log"
    verb = ["serve", "--bundle", str(bundle.path), "--set", f"rank.port={port}", "--set", "rank.drain_s=0"]
    command = [sys.executable, "-c", f"{FEW}sys.exit(main({[*verb, '--set', f'log.path={tmp_path}/log.sqlite']!r}))"]
    process = processes.spawn(command, log=log)

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    processes.wait_until(ready, process, what="the endpoint", log=log, patience_s=60)
    held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(300)]
    for _ in range(20):
        wait_for(ready)
    for one in held:
        one.close()
    assert processes.end(process, patience_s=30) == 0
    said = log.read_text()
    assert said.count("this process may open 200 files") == 1
    assert "Traceback" not in said
    assert len(said.splitlines()) < 12


class Line:
    served, waiting, since, until, address = False, True, 0.0, 5.0, "10.0.0.1"

    def end(self, *, late: bool) -> None:
        self.ended = late


def test_a_storm_of_refusals_is_one_line_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counter[str]()
    gate = Gate(most=1, per_address=0, counts=counts)
    busy = Line()
    busy.waiting = False
    assert gate.enter(busy, 0.0) == ""
    with caplog.at_level(logging.WARNING):
        for turn in range(1000):
            assert "1 connections" in gate.enter(Line(), turn * 0.02)
            gate.sweep(turn * 0.02)
    assert counts["refused_connections"] == 1000
    assert len(caplog.records) == 20 / SAY_S
    gate.leave(busy)
    assert gate.enter(Line(), 30.0) == ""


def test_who_asked_before_goes_last() -> None:
    gate = Gate(most=3, per_address=0, counts=Counter())
    lines = [Line(), Line(), Line()]
    for at, line in enumerate(lines):
        line.since, line.until = float(at), 100.0
        gate.enter(line, float(at))
    lines[0].served = True
    assert gate.enter(Line(), 50.0) == ""
    assert [hasattr(line, "ended") for line in lines] == [False, True, False]


def test_many_that_are_late_are_ended_in_parts() -> None:
    gate = Gate(most=1000, per_address=0, counts=Counter())
    lines = [Line() for _ in range(2 * AT_ONCE + 3)]
    for line in lines:
        line.until = 5.0
        gate.enter(line, 0.0)
    more, left = True, len(lines)
    while more:
        more = gate.sweep(6.0)
        for line in [one for one in gate.connections if hasattr(one, "ended")]:
            gate.leave(line)
        assert left - len(gate) <= AT_ONCE
        left = len(gate)
    assert left == 0
