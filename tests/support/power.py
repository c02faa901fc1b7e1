"""A power cut for the embedded log: what was flushed to the disk stays, the rest is gone.

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
"""The log, and the file beside it to which SQLite appends each commit."""


class Platter:
    """What of an embedded log is on the disk for good.

    SQLite flushes the log when it makes it, and again when it moves pages to it, which it does not do for a log as
    small as those of tests. Commits are appended to the file beside it, and only what is flushed of that file counts.

    Args:
        folder: Where the log lies, as `log.sqlite`.
        monkeypatch: To hear of each flush of this process.

    Attributes:
        flushed: How many bytes of the commits are on the disk for good.
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
        """Copies what is left into a new folder; returns the log there."""
        to.mkdir()
        for name in FILES:
            shutil.copy(self.folder / name, to)
        os.truncate(to / FILES[1], self.flushed)
        return to / FILES[0]
