"""A power cut for the embedded log: flushed data stays, all other data is lost.

It knows nothing of what a log holds.

Example:
    >>> FILES
    ('log.sqlite', 'log.sqlite-wal')
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

FILES = ("log.sqlite", "log.sqlite-wal")
"""The log, and the second file, to which SQLite appends each commit."""


class Platter:
    """The part of an embedded log that a power cut cannot destroy.

    SQLite flushes the log when it makes it, and when it moves pages to it. The logs of tests are too small for the
    second. Commits are appended to a second file, and only the flushed part of that file counts.

    Args:
        folder: The folder that holds `log.sqlite`.
        monkeypatch: Used to see each flush of this process.

    Attributes:
        flushed: How many bytes of the commits are safe on the disk.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.flushed = folder, 0
        flush = os.fsync

        def fsync(handle: int) -> None:
            flush(handle)
            if Path(f"/proc/self/fd/{handle}").readlink() == folder / FILES[1]:
                self.flushed = os.fstat(handle).st_size

        monkeypatch.setattr(os, "fsync", fsync)

    def after_a_power_cut(self, to: Path) -> Path:
        """Copies the part that is left into a new folder, and returns the log there."""
        to.mkdir()
        for name in FILES:
            shutil.copy(self.folder / name, to)
        os.truncate(to / FILES[1], self.flushed)
        return to / FILES[0]
