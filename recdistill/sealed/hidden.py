"""Folders under names that nothing reads: those that are being written, and those that are being deleted.

A writer holds a lock on its hidden folder as long as it lives. A killed process loses its locks, so a hidden folder
without a lock is a leftover. The next writer of such a folder deletes it, and says so in the log. The folder of a
living writer is never touched.

It knows nothing of what the folders hold.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     left, lock = make(Path(folder), "step-7")
    ...     alive = sweep(Path(folder), "step-8")
    ...     os.close(lock)  # as a kill does
    ...     [path == left for path in alive], [path == left for path in sweep(Path(folder), "step-8")]
    ([], [True])
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Final

log_ = logging.getLogger(__name__)

_PART: Final = r"\.[0-9a-f]+\.part"
_OLD: Final = r"-[a-z0-9_]{8}|\.tmp"
"""What earlier versions put behind `.step-N`. Behind another name it may be a person's own folder."""


def make(parent: Path, name: str) -> tuple[Path, int]:
    """Makes a hidden folder and takes its lock.

    Returns:
        The folder, and the open handle that holds the lock: close it when the folder has its final name or is gone.
    """
    while True:
        path = _hidden(parent / name)
        path.mkdir()
        # Between `mkdir` and the lock another writer may take the folder for a leftover. Then a new one is made.
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        if _lock(handle) is not False and path.exists():
            return path, handle
        os.close(handle)


def sweep(parent: Path, name: str) -> list[Path]:
    """Deletes the leftovers of killed writers; returns what it deleted.

    Args:
        parent: Where to look.
        name: A folder's name. Numbers at its end do not count: `step-7` stands for every step.
    """
    family = re.sub("[0-9]+$", "[0-9]+", re.escape(name))
    ends = f"{_PART}|{_OLD}" if re.fullmatch("step-[0-9]+", name) else _PART
    leftover = re.compile(rf"\.{family}({ends})")
    if not parent.is_dir():
        return []
    gone = []
    for path in sorted(path for path in parent.iterdir() if leftover.fullmatch(path.name)):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # gone by now, or no folder
            continue
        try:
            if _lock(handle):
                log_.warning("%s: swept; a process was killed while it wrote or deleted this folder", path)
                remove(path)
                gone.append(path)
        finally:
            os.close(handle)
    return gone


def discard(path: Path) -> None:
    """Deletes a folder. It is hidden first, so after a kill there is never half a folder under its name."""
    hidden = _hidden(path)
    path.rename(hidden)
    flush(path.parent)
    remove(hidden)


def remove(path: Path) -> None:
    """Deletes a folder that nothing reads, if it is there."""
    while path.is_dir():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:  # another process sweeps the same folder: see what is left
            continue


def flush(folder: Path) -> None:
    """Flushes a folder's entries to the disk: without it a file may have no name after a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _lock(handle: int) -> bool | None:
    """Takes the lock of a folder: False when a living writer has it, None where the file system has no locks."""
    import fcntl  # not on Windows, where folders are read and never written

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
