"""A disk that loses everything that was not flushed: what a power cut leaves of a folder, at the worst.

Each flush (`os.fsync`) of a process is recorded: the bytes of a file, the names in a folder. A cut then leaves of the
folder only names that were flushed, and of each file only bytes that were flushed. This is the least that a disk may
keep. A real one often keeps more.

SQLite flushes files by itself, where Python does not see it. So its connections never move pages from `-wal` to the
file here (`wal_autocheckpoint = 0`). Then `-wal` only grows, and how much of it is safe is one number.

It knows nothing of recdistill. It is imported at the start of each process (`shim/sitecustomize.py`).

Example:
    >>> import tempfile
    >>> place = tempfile.TemporaryDirectory()
    >>> root, disk = Path(place.name, "root"), Disk(Path(place.name, "disk"))
    >>> root.mkdir(); _ = (root / "safe").write_text("1"); disk.flushed_all(root)
    >>> _ = (root / "lost").write_text("2")
    >>> disk.cut(root, Path(place.name, "left")); sorted(one.name for one in Path(place.name, "left").iterdir())
    ['safe']
    >>> place.cleanup()
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ENV: Final = "RECDISTILL_CRASH_DISK"
"""The folder in which flushes are recorded."""


class Disk:
    """What was flushed, by the number of the file.

    Args:
        folder: Where it is recorded; made when absent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def flushed(self, handle: int) -> None:
        """Records a flush of an open file or folder."""
        found = os.fstat(handle)
        place = Path(f"/proc/self/fd/{handle}").readlink()
        if stat.S_ISDIR(found.st_mode):
            self._names(place, found.st_ino)
        elif place.name.endswith("-wal"):
            self._put(f"w{found.st_ino}", str(found.st_size).encode())
        else:
            # It may be open for writing only. So it is opened again, by its number.
            self._put(f"f{found.st_ino}", Path(f"/proc/self/fd/{handle}").read_bytes())

    def flushed_all(self, root: Path) -> None:
        """Records a folder and everything in it, as after the flush of a whole disk."""
        for place in [root, *root.rglob("*")]:
            number = place.stat().st_ino
            if place.is_dir():
                self._names(place, number)
            elif place.name.endswith("-wal"):
                self._put(f"w{number}", str(place.stat().st_size).encode())
            elif place.is_file():
                self._put(f"f{number}", place.read_bytes())

    def cut(self, root: Path, to: Path) -> None:
        """Writes what a power cut leaves of a folder into a new one."""
        self._left(root.stat().st_ino, to, {one.stat().st_ino: one for one in root.rglob("*-wal")})

    def _left(self, number: int, to: Path, logs: dict[int, Path]) -> None:
        to.mkdir()
        names = self._get(f"d{number}")
        for name, (inner, kind) in json.loads(names or b"{}").items():
            if kind == "d":
                self._left(inner, to / name, logs)
            elif name.endswith("-wal"):  # by its name: the number of a file that went may be another file's now
                data = logs[inner].read_bytes() if inner in logs else b""
                (to / name).write_bytes(data[: int(self._get(f"w{inner}") or 0)])
            else:
                (to / name).write_bytes(self._get(f"f{inner}") or b"")

    def _names(self, place: Path, number: int) -> None:
        names = {}
        with os.scandir(place) as found:
            for one in found:
                with contextlib.suppress(FileNotFoundError):  # it went while we looked
                    if not one.name.endswith("-shm"):  # SQLite makes it anew
                        names[one.name] = one.inode(), "d" if one.is_dir(follow_symlinks=False) else "f"
        self._put(f"d{number}", json.dumps(names).encode())

    def _put(self, name: str, data: bytes) -> None:
        """Whole or not at all: a process may be killed here."""
        unfinished = self._folder / f"{name}.{os.getpid()}.{id(data)}"
        unfinished.write_bytes(data)
        unfinished.replace(self._folder / name)

    def _get(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None


def install(folder: str) -> Callable[[], None]:
    """Records the flushes of this process from now on. Returns what ends it."""
    disk, connect, before = Disk(Path(folder)), sqlite3.connect, (os.fsync, os.fdatasync)

    def fsync(handle: Any) -> None:
        disk.flushed(handle if isinstance(handle, int) else handle.fileno())

    def quiet(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    os.fsync = os.fdatasync = fsync  # type: ignore[assignment]
    sqlite3.connect = quiet  # type: ignore[assignment]

    def end() -> None:
        os.fsync, os.fdatasync = before
        sqlite3.connect = connect  # type: ignore[assignment]

    return end
