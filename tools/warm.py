"""Starts modules as processes of their own, out of one process that has imported the heavy libraries already.

To import torch and torchrec takes a process some seconds of the processor. A storm starts dozens of processes, and on
two cores most of its time would go there. So one server (Python's own `forkserver`) imports them once, and each process
is a fork of it: it has its own memory, environment, group and exit code, and it is killed like any other. The server
holds no thread and has done no work.

It knows nothing of what the modules do. `processes.spawn` starts a whole new interpreter.

Example:
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     process = start("this", log=Path(folder, "log"), env=os.environ)
    ...     process.wait(60), Path(folder, "log").read_text().startswith("The Zen of Python")
    (0, True)
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Final

HEAVY: Final = ("torch", "torchrec", "recdistill.loops.wire", "recdistill.loops.trainers", "recdistill.loops.distil")
"""What the server imports before the first fork."""

_PARENT_DIES: Final = 1  # PR_SET_PDEATHSIG of prctl(2)
_PATIENCE_S: Final = 120.0

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(list(HEAVY))


class Warm:
    """A process of `start`, with what `tools.processes` asks of a `subprocess.Popen`."""

    def __init__(self, process: Any, name: str) -> None:
        self._process, self.args = process, [name]
        self.pid: int = process.pid

    @property
    def returncode(self) -> int | None:
        """As `poll`."""
        return self.poll()

    def poll(self) -> int | None:
        """Its exit code, minus the signal where one ended it; None while it runs."""
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end, and returns the exit code.

        Raises:
            TimeoutExpired: It still runs after `timeout` seconds.
        """
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code


def start(module: str, *, log: Path, env: Mapping[str, str]) -> Warm:
    """Starts `python -m module` in a process group of its own. Its output is appended to `log`.

    The process ends with this interpreter, also when that is killed. From the return on the log is there to read.
    """
    log.touch()
    process = _server.Process(target=_run, args=(module, str(log), dict(env)), daemon=True)
    process.start()
    started = Warm(process, module)
    deadline = time.monotonic() + _PATIENCE_S
    while started.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(started.pid) == started.pid:  # from now on a signal to the group reaches it
                break
        time.sleep(0.005)
    return started


def _run(module: str, log: str, env: dict[str, str]) -> None:
    """The process itself: it stands where a new interpreter would stand, then it runs the module."""
    os.setsid()
    # The server ends when nobody holds this pipe. This process does not, so it ends with whoever started it.
    os.close(forkserver._forkserver._forkserver_alive_fd)  # noqa: SLF001 - there is no other way to it
    with contextlib.suppress(OSError):
        ctypes.CDLL(None).prctl(_PARENT_DIES, signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for handle in (1, 2):
        os.dup2(output, handle)
    os.close(output)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [place for place in env.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
