"""Starts the process of a trial, waits for it, ends it if it takes too long, and says what it found.

The process has the lowest priority and one thread, so a process that answers requests beside it goes first. It stays in
the session of its parent: Linux first shares the processors among sessions, and only then looks at priorities. The
system limits its processor time and its memory. If it only waits, this module ends it.

It knows nothing of what a trial asks.

Example:
    >>> why(-9, [], [], late="", bounds=Bounds())
    'the system ended its process (SIGKILL) at its start; the machine may have too little memory'
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

import recdistill
from recdistill.errors import BundleError, Interrupted
from recdistill.trial.job import REFUSED, STEP, Bounds, Job

COMMAND: Final = (sys.executable, "-P", "-m", "recdistill.trial")
LOOK_S: Final = 0.1
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_HOME: Final = Path(recdistill.__file__).parents[1]
_MANIFEST: Final = "manifest.json"


def tried(
    bundle: Path,
    *,
    content_hash: str,
    device: Path | None = None,
    bounds: Bounds | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Tries a bundle in a separate process. It returns only if every check passed.

    Args:
        bundle: The bundle's folder.
        content_hash: The content hash that it must have.
        device: Its device file. None: it is not tried.
        bounds: How much the process may use.
        stop: Asked again and again. When it returns True, the process is ended.

    Raises:
        BundleError: The bundle or the device file does not run as it should, or a limit was reached.
        Interrupted: `stop` returned True.
    """
    if not (bundle / _MANIFEST).is_file():  # no process is needed to see this
        raise BundleError(f"{bundle}: there is no bundle here; give the folder that holds {_MANIFEST}")
    bounds = bounds or Bounds()
    job = Job(
        bundle=str(bundle.absolute()),
        content_hash=content_hash,
        device="" if device is None else str(device.absolute()),
        bounds=bounds,
    )
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code, late = _run(job, out, err, stop)
        said, errors = _lines(out), _lines(err)
    if code or late:
        raise BundleError(
            f"bundle {content_hash[:12]} was tried in a separate process: "
            f"{why(code, said, errors, late=late, bounds=bounds)}"
        )


def why(code: int, said: Sequence[str], errors: Sequence[str], *, late: str, bounds: Bounds) -> str:
    """Why the process ended. The words are the end of a sentence, after a colon.

    Args:
        code: Its exit code. A negative number is the signal that ended it.
        said: Lines of its output.
        errors: Lines of its errors.
        late: Why this module ended it. Empty: it did not.
        bounds: How much it might use.
    """
    steps = [line.removeprefix(STEP) for line in said if line.startswith(STEP)]
    where = f"in this step: {steps[-1]}" if steps else "at its start"
    if late:
        return f"{late}, {where}"
    if code == REFUSED:
        return (errors or ["it is wrong, and does not say how"])[-1]
    if code == -getattr(signal, "SIGXCPU", 0):
        return f"it did not end within {bounds.cpu_s:g} s of processor time (trial.cpu_s), {where}"
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; the machine may have too little memory" if code == -signal.SIGKILL else ""
        return f"the system ended its process ({name}) {where}{hint}"
    last = (errors or [f"exit code {code}"])[-1][:300]
    return f"its process failed {where} ({last})"


def _run(job: Job, out: IO[bytes], err: IO[bytes], stop: Callable[[], bool]) -> tuple[int, str]:
    """Runs the process. Returns its exit code, and why this module ended it (empty: it did not)."""
    # The process must find this very package. It gets one thread, because the other cores have other work.
    path = os.pathsep.join([str(_HOME), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    env = {**os.environ, **dict.fromkeys(_THREADS, "1"), "PYTHONPATH": path}
    # Nothing is written to the pipe of its input. When the pipe ends, the process knows that its parent has ended.
    process = subprocess.Popen(
        [*COMMAND, msgspec.json.encode(job).decode()], stdin=subprocess.PIPE, stdout=out, stderr=err, env=env
    )
    ends_s, late = time.monotonic() + job.bounds.wall_s, ""
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(LOOK_S), late
            if stop():
                raise Interrupted(f"the trial of bundle {job.content_hash[:12]} was stopped; it is tried again")
            if not late and time.monotonic() >= ends_s:
                late = f"it did not end within {job.bounds.wall_s:g} s (trial.wall_s)"
                process.kill()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _lines(file: IO[bytes]) -> list[str]:
    """The last lines of a file. A process with a fault may have written very many."""
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 65_536))
    return [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
