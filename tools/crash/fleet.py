"""The processes of the product under the storm: started as an image starts them, watched by their metrics.

A process has begun when its own counts say that it has done something. Only then is it killed or paused. So each kill
hits a process at work.

It knows nothing of what is compared.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tools import processes, warm
from tools.crash.disk import ENV

ROOT: Final = Path(__file__).resolve().parents[2]

PATIENCE_S: Final = 180.0
"""The machine may be busy, and a broker may just start again."""

WORK: Final[Mapping[str, tuple[str, ...]]] = {
    "scorer": ("rankings",),
    "joiner": ("examples",),
    "distiller": ("steps",),
}
"""The counts that show that a stage has worked."""


def work_of(metrics: str, stage: str) -> int:
    r"""How much a process of a stage has done, by what it tells Prometheus. A value of a label may hold spaces.

    Example:
        >>> lines = ['recdistill_drift{kind="history lengths"} 1.0', "recdistill_joiner_examples_total 7.0"]
        >>> work_of("\n".join(lines), "joiner")
        7
    """
    counts = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line and line[0] != "#")
    return sum(int(float(counts.get(f"recdistill_{stage}_{name}_total", 0))) for name in WORK[stage])


class Failed(Exception):
    """The storm has found something. The message says what."""


class Process:
    """One process of a stage.

    Args:
        stage: Its name.
        folder: Where its output goes.
        env: Its settings.
        number: Of the process within its stage, for the name of its output.
        key: Which process of the stage it is, where there are several: (worker, workers).
    """

    def __init__(
        self, stage: str, folder: Path, env: Mapping[str, str], number: int, key: tuple[int, int] = (0, 1)
    ) -> None:
        self.stage, self.key, self.name = stage, key, f"{stage}-{number}"
        self.output = folder / f"{self.name}.txt"
        [self._port] = processes.free_ports(1)
        env = {**env, "RECDISTILL_HEALTH_PORT": str(self._port)}
        module = f"services.{stage}"
        self.child: subprocess.Popen[bytes] | warm.Warm
        if ENV in env:  # flushes are recorded from the start of an interpreter on
            self.child = processes.spawn([sys.executable, "-m", module], log=self.output, env=env)
        else:
            self.child = warm.start(module, log=self.output, env=env)

    def worked(self) -> int:
        """How much this process has done since it was started; 0 where it does not answer yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return 0
        return work_of(text, self.stage)

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.child.poll()

    def signal(self, number: int) -> None:
        """Sends a signal to it and its children."""
        processes.signal_group(self.child, number)

    def kill(self) -> None:
        """SIGKILL: it can neither finish nor clean up."""
        processes.kill(self.child)

    def wait(self) -> int:
        """Waits for its end after a SIGTERM; its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(timeout=PATIENCE_S)
        return processes.kill(self.child)

    def said(self, most: int = 2500) -> str:
        """The end of its output."""
        return self.output.read_text(errors="replace")[-most:] if self.output.exists() else ""


class Fleet:
    """All processes that should run now.

    Args:
        folder: Where their output goes.
        env: Their settings.
    """

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder, self.env = folder, dict(env)
        self.running: dict[tuple[str, tuple[int, int]], Process] = {}
        self._numbers = 0
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, stage: str, key: tuple[int, int] = (0, 1)) -> Process:
        """Starts a process, in the place of one that is gone."""
        self._numbers += 1
        env = {
            **self.env,
            "RECDISTILL__SCORE__WORKER": str(key[0]),
            "RECDISTILL__SCORE__WORKERS": str(key[1]),
            "PYTHONUNBUFFERED": "1",
        }
        self.running[stage, key] = process = Process(stage, self.folder, env, self._numbers, key)
        return process

    def of(self, stage: str) -> list[Process]:
        """The processes of a stage."""
        return [one for (name, _), one in self.running.items() if name == stage]

    def forget(self, process: Process) -> None:
        """Takes a process off the list of those that should run."""
        self.running = {place: one for place, one in self.running.items() if one is not process}

    def check(self) -> None:
        """Makes sure that all of them run.

        Raises:
            Failed: One has ended by itself.
        """
        for process in self.running.values():
            if (code := process.ended()) is not None:
                raise Failed(f"{process.name} ended by itself with code {code}:\n{process.said()}")

    def wait(self, done: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Waits for something while all of them run."""
        deadline = time.monotonic() + patience_s
        while not done():
            self.check()
            if time.monotonic() > deadline:
                said = "\n".join(f"--- {one.name}\n{one.said(1200)}" for one in self.running.values())
                raise Failed(f"{what} took longer than {patience_s:.0f} s\n{said}")
            time.sleep(0.05)

    def begun(self, process: Process, more: int = 1) -> None:
        """Waits until a process has worked."""
        start = process.worked()
        self.wait(lambda: process.worked() >= start + more, f"the first work of {process.name}")

    def kill_all(self) -> None:
        """SIGKILL to all of them, as fast as it can be sent."""
        for process in self.running.values():
            process.signal(signal.SIGKILL)
        for process in self.running.values():
            process.kill()
        self.running.clear()

    def end_all(self) -> None:
        """SIGTERM to all of them.

        Raises:
            Failed: One does not end with 0.
        """
        for process in self.running.values():
            process.signal(signal.SIGTERM)
        codes = {process: process.wait() for process in self.running.values()}
        self.running.clear()
        for process, code in codes.items():
            if code != 0:
                raise Failed(f"{process.name} ended with code {code} on SIGTERM:\n{process.said()}")


def environment(config: Path, *, disk: Path | None = None) -> dict[str, str]:
    """The environment of a process."""
    shim = [str(Path(__file__).parent / "shim")] if disk is not None else []
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RECDISTILL_")},
        "RECDISTILL_CONFIG": str(config),
        "PYTHONPATH": os.pathsep.join([*shim, str(ROOT)]),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **({} if disk is None else {ENV: str(disk)}),
    }
