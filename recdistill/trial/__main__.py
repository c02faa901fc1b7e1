"""The process of a trial: `python -m recdistill.trial JOB`. It limits itself, then asks the artefact.

It ends at once when its parent process has ended. It knows nothing of torch.

Example:
    >>> main([]) == REFUSED
    True
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from recdistill.errors import RecdistillError
from recdistill.trial.job import REFUSED, STEP, Bounds, Job

NICE: Final = 19


def main(words: Sequence[str]) -> int:
    """Runs one trial, and returns the exit code. The last line of the errors says what is wrong."""
    try:
        job = msgspec.json.decode(words[0] if words else "", type=Job)
    except msgspec.MsgspecError as e:
        sys.stderr.write(f"not the job of a trial: {e}\n")
        return REFUSED
    _bounded(job.bounds)
    try:
        for step, check in _steps(job):
            sys.stdout.write(f"{STEP}{step}\n")
            sys.stdout.flush()
            check()
    except RecdistillError as e:
        sys.stderr.write(" ".join(str(e).split()) + "\n")
        return REFUSED
    except MemoryError:
        sys.stderr.write(f"it takes more than {job.bounds.memory_mb} MB of memory (trial.memory_mb)\n")
        return REFUSED
    return 0


def _steps(job: Job) -> Iterator[tuple[str, Callable[[], None]]]:
    """The checks, in order. Each part is imported only when it is needed."""
    from recdistill.bundle import open_bundle
    from recdistill.errors import BundleError

    bundle = open_bundle(Path(job.bundle))
    if bundle.content_hash != job.content_hash:
        raise BundleError(f"{job.bundle}: is bundle {bundle.content_hash[:12]}, not {job.content_hash[:12]}")
    from recdistill.trial import answers, towers

    yield "the item tower", lambda: towers.check_items(bundle, job.bounds.rows)
    yield "the user tower", lambda: towers.check_users(bundle)
    yield "the index", lambda: answers.check_index(bundle)
    yield "requests", lambda: answers.check_requests(bundle)
    yield "requests with changed items", lambda: answers.check_overlay(bundle)
    if job.device:
        from recdistill.trial.device import check_device

        yield "the device file", lambda: check_device(bundle, Path(job.device))


def _bounded(bounds: Bounds) -> None:
    """Takes the lowest priority, and lets the system end this process when it uses too much."""
    with contextlib.suppress(OSError, AttributeError):  # not on Windows
        os.nice(NICE)
    with contextlib.suppress(OSError):
        # If the machine has no memory left, the system ends this process first. Only Linux has this file.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        import resource
    except ImportError:  # Windows has no such limits; there, only the limit of the clock ends this process
        return
    cpu_s = max(1, round(bounds.cpu_s))
    # RLIMIT_DATA counts memory that a process may write to. It does not count files that it only maps for reading.
    wanted = {
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 5),
        resource.RLIMIT_DATA: (bounds.memory_mb << 20, bounds.memory_mb << 20),
        resource.RLIMIT_CORE: (0, 0),
    }
    for which, both in wanted.items():
        with contextlib.suppress(OSError, ValueError):  # there is a lower limit already
            resource.setrlimit(which, both)


def _end_with_the_parent() -> None:
    """Waits for the end of the input. The parent writes nothing to it, so the input ends when the parent ends."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a normal exit could wait for the thread, which waits for input that never comes
