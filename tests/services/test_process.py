"""A worker as a process: where its port listens, and that all it says is JSON lines."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import psutil
import pytest
from support.waiting import wait_for

from recdistill.config import LogSettings
from recdistill.stream import open_log, standard_topics
from tools import processes

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ENDS_A_THREAD = """
import sys, threading, warnings
from recdistill.loops import wire
from services.process import main

def job(settings, stop, drain, counts, progress):
    def fails():
        raise KeyError("secret")
    threading.Thread(target=fails, name="helper").start()
    warnings.warn("old")
    stop.wait()
    return counts

wire.JOBS["joiner"] = job
sys.exit(main("joiner"))
"""


def environment(tmp_path: Path, port: int, **more: str) -> dict[str, str]:
    return {
        "RECDISTILL__LOG__PATH": str(tmp_path / "log.sqlite"),
        "RECDISTILL_HEALTH_PORT": str(port),
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        **more,
    }


def status(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()
    except OSError:
        return 0, ""


def test_the_port_is_for_this_machine_unless_told_and_the_log_is_json(tmp_path: Path) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    log.close()
    for host, wanted in (({}, "127.0.0.1"), ({"RECDISTILL_HEALTH_HOST": "0.0.0.0"}, "0.0.0.0")):
        (port,) = processes.free_ports(1)
        output = tmp_path / "joiner.log"
        process = processes.spawn(
            [sys.executable, "-m", "services.joiner"], log=output, env=environment(tmp_path, port, **host)
        )
        lives = partial(status, port, "/livez")
        processes.wait_until(lambda: lives()[0] == 200, process, what="the joiner", log=output, patience_s=60)  # noqa: B023
        listens = [
            c.laddr for c in psutil.Process(process.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN
        ]
        assert [(each.ip, each.port) for each in listens] == [(wanted, port)]
        for _ in range(20):  # a client that resets its connection in the middle
            with socket.create_connection(("127.0.0.1", port)) as rude:
                rude.sendall(b"GET /met")
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wait_for(lambda: status(port, "/readyz") == (200, "ok\n"), 60)  # noqa: B023
        assert processes.end(process, patience_s=30) == 0
        for line in output.read_text().splitlines():
            json.loads(line)


def test_a_thread_that_ends_is_said_in_json_and_at_readyz(tmp_path: Path) -> None:
    (port,) = processes.free_ports(1)
    output = tmp_path / "worker.log"
    process = processes.spawn(
        [sys.executable, "-c", ENDS_A_THREAD], log=output, env=environment(tmp_path, port, RECDISTILL_LOG_LEVEL="info")
    )
    processes.wait_until(
        lambda: status(port, "/livez")[0] == 200, process, what="the worker", log=output, patience_s=60
    )
    wait_for(lambda: "'helper'" in status(port, "/readyz")[1])  # before the loop begins it is not ready either
    assert status(port, "/readyz")[0] == 503
    assert processes.end(process, patience_s=30) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    [said] = [line for line in lines if line["level"] == "error"]
    assert "'helper'" in said["message"]
    assert "KeyError" in said["exception"]
    assert any("old" in line["message"] for line in lines)


@pytest.mark.parametrize("text", ["eight", "808²"])
def test_a_port_that_is_no_port(tmp_path: Path, text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.joiner"],
        env=environment(tmp_path, 0) | {"RECDISTILL_HEALTH_PORT": text},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "RECDISTILL_HEALTH_PORT: must be a port" in json.loads(line)["message"]


AT_A_BAD_MOMENT = """
import os, signal, sys
from recdistill.loops import wire
from services.process import main

def job(settings, stop, drain, counts, progress):
    release = stop._cond._release_save

    def interrupted():  # `wait` calls it with the lock in its hands
        os.kill(os.getpid(), signal.SIGTERM)
        return release()

    stop._cond._release_save = interrupted
    counts["told"] = int(stop.wait(60))
    return counts

wire.JOBS["joiner"] = job
sys.exit(main("joiner"))
"""


def test_it_stops_wherever_the_signal_finds_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_A_BAD_MOMENT],
        env=environment(tmp_path, 0),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["message"] == 'joiner stops: {"told": 1}'


def test_a_level_that_there_is_not_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.joiner"],
        env=environment(tmp_path, 0, RECDISTILL_LOG_LEVEL="loud"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    [line] = done.stderr.splitlines()
    said = "joiner: RECDISTILL_LOG_LEVEL: must be DEBUG, INFO, WARNING, ERROR or CRITICAL, not 'LOUD'"
    assert (done.returncode, json.loads(line)["message"]) == (2, said)
