"""A verb in a process of its own, for the second core, made ready before its turn comes.

To start Python and to import torch takes a process seconds in which it uses one core and waits for nobody. A process
that is made early does that while the demo uses the other core, and then waits for the word.

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
        verb: Which one.
        config: The file of its settings.
        options: What else is on its command line.
        needs: The module whose import is the long part of its start.
    """

    def __init__(self, verb: str, config: Path, *options: str, needs: str) -> None:
        self._verb = verb
        command = [sys.executable, "-c", START, needs, verb, "--config", str(config), "--quiet", *options]
        # One core each: two processes that both compute with two threads wait for each other most of the time.
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env
        )

    def begin(self) -> None:
        """Gives the word. That it has died meanwhile is for `wait` to tell, with its reason."""
        if (word := self._process.stdin) is not None:
            with suppress(BrokenPipeError):
                word.write("\n")
                word.flush()

    def wait(self) -> None:
        """Waits for its end.

        Raises:
            RecdistillError: It failed; the sentence is its own.
        """
        # Not communicate(): that closes its input, and to it that says that nobody is here any more.
        with self._process:
            errors = self._process.stderr.read() if self._process.stderr else ""
            self._process.wait()
        if self._process.returncode:
            said = errors.strip().splitlines() or ["ended without a word"]
            raise RecdistillError(f"recdistill {self._verb}: {said[-1]}")

    def end(self) -> None:
        """Tells it to stop, if it is still there."""
        self._process.terminate()


def main() -> None:
    """Imports, waits for the word, and runs the verb; without a word, because the demo is gone, it only ends.

    A demo that is killed later takes it along: its input ends, and it stops as if told to.
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
