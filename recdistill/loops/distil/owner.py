"""Who works in a folder: one process at a time. A process that lost the folder finds it out.

There are two guards.

- A lock on `owner.json`. The system keeps it as long as the process lives, also while the process is paused. A second
  process is refused, and it is told who the first one is. A killed process has no lock, so the next one takes over at
  once.
- A token in that file. Some shared disks do not keep a lock between machines; there the later process wins. So a
  process reads the token before it changes something in the folder. If the token is not its own, the process stops.

It knows nothing of what is in the folder.

Example:
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> owner = Owner(Path(folder.name))
    >>> owner.check()
    >>> Owner(Path(folder.name))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    recdistill.errors.CheckpointError: ...: another distiller works in this folder (process ... on ..., since ...); ...
    >>> owner.close(); folder.cleanup()
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from recdistill.errors import CheckpointError, Fenced

log_ = logging.getLogger(__name__)

NAME: Final = "owner.json"

_SIZE: Final = 1024
"""Bytes of the file. It is written in one piece and never cut, so that nobody reads a part of it."""

_NO_LOCKS: Final = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""What a disk says that has no locks."""

_PATIENCE_S: Final = 2.0
"""How long a process that has just taken the lock is given to write who it is."""


class Note(msgspec.Struct, frozen=True):
    """What `owner.json` says.

    Attributes:
        student: Name of the folder's student, the same for all who ever own it.
        inode: Of the file, so that a copy of the folder becomes a student of its own.
        token: Of the process that owns the folder now.
        pid: Its number.
        host: Its machine.
        since: When it began.
    """

    student: str
    inode: int
    token: str
    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def owner_of(folder: Path) -> Note | None:
    """Who has a student's folder, or had it last; None where nobody ever had. It takes no lock."""
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=Note)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


class Owner:
    """Takes a folder, and holds it until it is closed or the process ends.

    Args:
        folder: The folder; made when absent.

    Raises:
        CheckpointError: Another process holds it, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise CheckpointError(
                f"{self._path}: cannot be written ({e.strerror}); give distil.directory a folder that can"
            ) from e
        try:
            self._note = self._take(folder)
        except BaseException:
            self.close()
            raise

    @property
    def student(self) -> str:
        """Name of the folder's student."""
        return self._note.student

    def check(self) -> None:
        """Makes sure that the folder is still ours. Call it before anything in the folder is renamed or deleted.

        Raises:
            Fenced: Another process has taken over, or the file is gone.
        """
        found = self._read()
        if found is None or found.token != self._note.token:
            who = "somebody has removed the file" if found is None else f"{found} has taken the folder over"
            raise Fenced(f"{self._path}: {who}, so this process stops; it has changed nothing there since")

    def close(self) -> None:
        """Gives the folder back; closing twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self, folder: Path) -> Note:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            if e.errno not in _NO_LOCKS:
                raise CheckpointError(
                    f"{folder}: another distiller works in this folder ({self._holder()}); "
                    "end it (it may be paused), or choose another distil.directory"
                ) from e
            log_.warning("%s: this disk has no locks, so make sure that only one distiller works there", folder)
        before, inode = self._read(), os.fstat(self._file).st_ino
        ours = before is not None and before.inode == inode
        student = before.student if before is not None and ours else uuid.uuid4().hex[:12]
        since = datetime.now(UTC).isoformat(timespec="seconds")
        note = Note(
            student=student,
            inode=inode,
            token=uuid.uuid4().hex,
            pid=os.getpid(),
            host=socket.gethostname(),
            since=since,
        )
        try:
            os.pwrite(self._file, msgspec.json.encode(note).ljust(_SIZE - 1) + b"\n", 0)
            os.ftruncate(self._file, _SIZE)  # what a stranger left behind it
            os.fsync(self._file)
        except OSError as e:
            raise CheckpointError(
                f"{self._path}: cannot be written ({e.strerror}); free some disk space or repair the disk, and start "
                "again"
            ) from e
        return note

    def _holder(self) -> str:
        """Who has the lock; it may be about to write its name."""
        deadline = time.monotonic() + _PATIENCE_S
        while (note := self._read()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return "nobody knows which process" if note is None else str(note)

    def _read(self) -> Note | None:
        """What stands in the file under its name now; None when there is nothing to read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Note)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
