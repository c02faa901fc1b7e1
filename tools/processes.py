"""Starts child processes that always end: each has its own process group, which is killed when its parent ends.

It knows nothing of what the processes do.

Example:
    >>> port, other = free_ports(2)
    >>> port != other
    True
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_RUNNING: set[subprocess.Popen[bytes]] = set()


def free_ports(count: int) -> list[int]:
    """Loopback ports that were free a moment ago. All are held until the last is found, so they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


def spawn(command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Starts `command` in its own process group. Its output is appended to `log`.

    The group ends with this interpreter: at its normal exit and, on Linux, also when it is killed.
    """
    # setpriv makes the kernel send a signal to the child when its parent dies. An exit handler cannot promise that.
    guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*guard, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            start_new_session=True,
        )
    _RUNNING.add(process)
    return process


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Sends a signal to the whole group of a process that `spawn` started. Does nothing if the group is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def end(process: subprocess.Popen[bytes], *, patience_s: float) -> int:
    """Asks the group to end, kills it after `patience_s`, and returns the exit code."""
    signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=patience_s)
    return kill(process)


def kill(process: subprocess.Popen[bytes]) -> int:
    """Kills the whole group at once, and returns the exit code."""
    signal_group(process, signal.SIGKILL)
    code = process.wait()
    _RUNNING.discard(process)
    return code


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], *, what: str, log: Path, patience_s: float
) -> None:
    """Waits until `ready()`.

    Raises:
        RuntimeError: the process ended first, or `patience_s` passed; the message ends with the log's last lines.
    """
    deadline = time.monotonic() + patience_s
    while not ready():
        ended = process.poll()
        if ended is not None or time.monotonic() > deadline:
            why = f"took longer than {patience_s:.0f} s" if ended is None else f"ended with code {ended}"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            kill(process)
            raise RuntimeError(f"{what} did not start: it {why}. The end of {log}:\n{tail}")
        time.sleep(0.05)


@atexit.register
def _kill_all() -> None:
    for process in list(_RUNNING):
        kill(process)
