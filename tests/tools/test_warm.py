"""Processes out of one that is warm: they are like new ones to whoever starts, asks, kills and waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import wait_for

from tools import processes, warm

ROOT = Path(__file__).resolve().parents[2]

MODULE = """
import os, sys, time
print(os.environ["SAID"], os.getpid() == os.getpgid(0), __name__, len(sys.argv), flush=True)
print("RECDISTILL_NOT_GIVEN" in os.environ, "torch" in sys.modules, file=sys.stderr, flush=True)
time.sleep(float(os.environ["SECONDS"]))
sys.exit(3)
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (tmp_path / "sleeper.py").write_text(MODULE)
    monkeypatch.setenv("RECDISTILL_NOT_GIVEN", "1")
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "SAID": "hello", "SECONDS": "0"}


def runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.e2e
def test_its_environment_output_group_and_exit_code_are_its_own(tmp_path: Path, env: dict[str, str]) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        process = warm.start("sleeper", log=log, env=env)
        assert process.wait(60) == process.poll() == process.returncode == 3
    assert log.read_text() == "hello True __main__ 1\nFalse True\n" * 2


@pytest.mark.e2e
def test_it_is_paused_goes_on_and_is_killed_as_any_other(tmp_path: Path, env: dict[str, str]) -> None:
    process = warm.start("sleeper", log=tmp_path / "log", env={**env, "SECONDS": "600"})
    state = Path(f"/proc/{process.pid}/stat")
    processes.signal_group(process, signal.SIGSTOP)
    wait_for(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    assert process.poll() is None
    processes.signal_group(process, signal.SIGCONT)
    assert processes.end(process, patience_s=60) == -signal.SIGTERM
    assert processes.kill(process) == -signal.SIGTERM
    assert processes.kill(warm.start("sleeper", log=tmp_path / "log", env={**env, "SECONDS": "600"})) == -signal.SIGKILL


@pytest.mark.e2e
@pytest.mark.slow
def test_it_ends_with_whoever_started_it_also_when_that_is_killed(tmp_path: Path, env: dict[str, str]) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tools import warm; warm._server.set_forkserver_preload([]); "
        "print(warm.start('sleeper', log=Path(sys.argv[1]), env=dict(os.environ)).pid, flush=True); sys.stdin.read()"
    )
    theirs = {**os.environ, **env, "SECONDS": "600", "PYTHONPATH": f"{env['PYTHONPATH']}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=theirs, cwd=ROOT) as starter:
        assert starter.stdout is not None
        number = int(starter.stdout.readline())
        assert runs(number)
        starter.kill()
    wait_for(lambda: not runs(number), 60)
