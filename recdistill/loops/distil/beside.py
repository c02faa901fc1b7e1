"""Starts the process that makes a bundle of a snapshot, waits for it, and ends it with the distiller.

It knows nothing of what is in the folder.

Example:
    >>> COMMAND[1:]  # behind the interpreter; the folder follows, and how nice it is
    ('-m', 'recdistill.loops.distil.making')
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from recdistill.errors import BundleError

COMMAND: Final = (sys.executable, "-m", "recdistill.loops.distil.making")

_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Maker:
    """The process. It has a process group of its own, so Ctrl-C in a terminal reaches the distiller alone.

    It has no session of its own: where Linux shares out processor time by sessions first (autogroup), niceness counts
    only within a session, and the process would get as much as the whole distiller.

    Args:
        folder: The folder of the snapshot.
        nice: How nice the process is to others, 0 to 19.
    """

    def __init__(self, folder: Path, *, nice: int) -> None:
        self.folder = folder
        # One thread: the other cores belong to the learning.
        env = {**os.environ, **dict.fromkeys(_THREADS, "1")}
        # The pipe of its input is never written to. Its end tells the process that the distiller is gone.
        self._process = subprocess.Popen(
            [*COMMAND, str(folder), str(nice)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=env,
            process_group=0,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait(self) -> None:
        """Waits until the bundle is made.

        Raises:
            BundleError: It was not.
        """
        # Not communicate(): it closes the input of the process, which then ends, as if the distiller were gone.
        with self._process:
            said = self._process.stderr.read() if self._process.stderr else ""
            code = self._process.wait()
        if code < 0:
            raise BundleError(f"the process that made it was ended by {signal.Signals(-code).name}")
        if code:
            raise BundleError((said.strip().splitlines() or [f"the process that made it ended with code {code}"])[-1])

    def end(self) -> None:
        """Kills it, if it still runs."""
        self._process.kill()
