"""A process of the live demo. It has its own process group, and it never outlives the demo.

The demo holds the input of the process open. When the demo is gone, however it went, that input ends: the process then
stops as if it had been told to, and after some seconds its whole group is killed. When the demo ends in good order, it
does the same from outside.

It knows nothing of what the processes do.

    python -c START MODULE [ARGUMENT ...]   runs MODULE as `python -m` does

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     one = Member("zen", "this", log=Path(folder) / "log")
    ...     code = one.wait(60)
    ...     said = one.last_words()
    >>> code, said
    (0, "Namespaces are one honking great idea -- let's do more of those!")
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

START: Final = f"from {__name__} import main; main()"
GRACE_S: Final = 10.0
"""A process whose demo is gone may take so long to stop."""

WORDS: queue.Queue[str] = queue.Queue()
"""In the process: what the demo has said to it."""


class Member:
    """One process.

    Args:
        name: What it is called.
        module: The module that it runs.
        arguments: The arguments of that module.
        log: The file for its output.
        env: Its environment. None: that of the demo.
        folder: Where it runs, so that paths of its settings that are not whole begin there. None: where the demo runs.
    """

    def __init__(
        self,
        name: str,
        module: str,
        *arguments: str,
        log: Path,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name, self.log = name, log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, module, *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                start_new_session=True,
                cwd=folder,
            )

    @property
    def pid(self) -> int:
        """Its number, which is that of its group too."""
        return self._process.pid

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def say(self, word: str) -> None:
        """Sends it a word. If it is gone, nobody hears it."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ValueError):
                self._process.stdin.write(f"{word}\n".encode())
                self._process.stdin.flush()

    def worked_s(self) -> float | None:
        """Processor seconds that it has used so far, without its children; None where they are not known."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return None
        user, system = text.rpartition(")")[2].split()[11:13]  # proc(5): utime and stime, in ticks
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Asks the whole group to stop, and does not wait."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills its whole group at once, as a machine does that runs out of memory."""
        self._signal(signal.SIGKILL)
        self.wait(60.0)

    def wait(self, seconds: float) -> int:
        """Waits for its end, kills what is left of its group, and returns the exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self._signal(signal.SIGKILL)
        code = self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ValueError):
                self._process.stdin.close()
        return code

    def last_words(self) -> str:
        """The last line of its output. Of a line in JSON: its message."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if not lines:
            return "it said nothing"
        try:
            return str(json.loads(lines[-1])["message"])
        except (ValueError, KeyError, TypeError):
            return lines[-1]

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def main() -> None:
    """Listens to the demo, and runs the module that the command line names."""
    threading.Thread(target=_listen, daemon=True, name="listen").start()
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)


def _listen() -> None:
    # The file descriptor, not sys.stdin: its lock would be held at the end of the process.
    while said := os.read(0, 1000):
        for word in said.decode().splitlines():
            WORDS.put(word)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)
