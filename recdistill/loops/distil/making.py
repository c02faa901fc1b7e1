"""The process that makes one bundle of a snapshot: `python -m recdistill.loops.distil.making FOLDER NICE`.

It reads the snapshot in the folder and makes the bundle beside it, as `FOLDER/bundle`. The folder belongs to nobody
else, so this process needs no lock, and it changes nothing of the student. It ends at once when the distiller that
started it is gone: the pipe of its input is closed then. A signal for the distiller's group does not reach it.

It knows nothing of logs, of torch, or of what becomes of a bundle.

Example:
    >>> main(["no/such/folder", "0"])
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such/folder: holds no snapshot of a student ([Errno 2] No such file or ...
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from recdistill.errors import RecdistillError
from recdistill.loops.distil.snapshot import Snapshot

BUNDLE: Final = "bundle"
"""Name of the bundle in the folder of its snapshot."""

REFUSED: Final = 3
"""Exit code when the bundle cannot be made; the last line of the errors says why."""


def main(words: Sequence[str]) -> None:
    """Makes the bundle.

    Args:
        words: The folder, and how nice the process is: 0 to 19.

    Raises:
        BundleError, DataError: It cannot be made.
    """
    folder, nice = words
    os.nice(int(nice))
    Snapshot.read(Path(folder)).make(Path(folder) / BUNDLE)


def _end_with_the_distiller() -> None:
    """Waits for the end of the input. The distiller writes nothing to it, so its end is the distiller's end."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_distiller, daemon=True).start()
    try:
        main(sys.argv[1:])
    except RecdistillError as e:
        sys.stderr.write(f"{e}\n")
        sys.stderr.flush()
        os._exit(REFUSED)
    os._exit(0)  # nothing is left to be done, and the thread waits for an input that does not come
