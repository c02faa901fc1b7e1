"""Runs a verb in its own process, on the second core. The process is started before it is needed.

Starting Python and importing torch takes seconds on one core. A process that is started early does this while the demo
uses the other core. Then it waits for the signal to begin.

It knows nothing of what the verbs do.

    python -c START MODULE VERB [OPTION ...]   imports MODULE, waits for a line, runs the verb
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from recdistill.errors import RecdistillError

START: Final = f"from {__name__} import main; main()"


class Beside:
    """A process that will run one verb.

    Args:
        verb: Name of the verb.
        config: The file of its settings.
        options: The other options of its command line.
        needs: The module whose import takes the longest.
    """

    def __init__(self, verb: str, config: Path, *options: str, needs: str) -> None:
        self._verb = verb
        command = [sys.executable, "-c", START, needs, verb, "--config", str(config), "--quiet", *options]
        # One core each. Two processes with two threads each would wait for each other most of the time.
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env
        )

    def begin(self) -> None:
        """Tells the process to begin. If it has died already, `wait` says why."""
        if (word := self._process.stdin) is not None:
            with suppress(BrokenPipeError):
                word.write("\n")
                word.flush()

    def wait(self) -> None:
        """Waits for its end.

        Raises:
            RecdistillError: It failed. The error has its last line.
        """
        # Not communicate(): it closes the input of the process, and then the process stops, as if the demo were gone.
        with self._process:
            errors = self._process.stderr.read() if self._process.stderr else ""
            self._process.wait()
        if self._process.returncode:
            said = errors.strip().splitlines() or ["ended without a message"]
            raise RecdistillError(f"recdistill {self._verb}: {said[-1]}")

    def end(self) -> None:
        """Tells it to stop, if it still runs."""
        self._process.terminate()


def main() -> None:
    """Imports the module, waits for the signal, and runs the verb. If the demo is gone, no signal comes, and it ends.

    If the demo is killed later, the input of this process ends. Then it stops as if it had been told to.
    """
    importlib.import_module(sys.argv.pop(1))
    if sys.stdin.readline():
        threading.Thread(target=_stop_when_alone, daemon=True).start()
        runpy.run_module("recdistill", run_name="__main__", alter_sys=True)  # as `python -m recdistill` does


def _stop_when_alone() -> None:
    # The file descriptor, not sys.stdin: its lock would be held at the end of the process.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
