"""The folder of bundles that one distiller makes: their names, who reads one, and which are deleted.

Bundles are folders `step-N`. Whoever reads one may hold it meanwhile: a shared lock on its manifest. Pruning takes that
lock for itself alone, and passes over what it cannot have. The system gives a lock back when its process ends, so a
reader that was killed holds nothing.

It knows nothing of what a bundle holds.

Example:
    >>> path_of(Path("bundles"), 42)
    PosixPath('bundles/step-0000000042')
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from recdistill.bundle.files import MANIFEST
from recdistill.errors import BundleError

log_ = logging.getLogger(__name__)


def path_of(directory: Path, step: int) -> Path:
    """Where the bundle of a step is."""
    return directory / f"step-{step:010d}"


def made(directory: Path) -> list[Path]:
    """The bundles of a folder, oldest first."""
    return sorted(directory.glob("step-*"))


class Hold:
    """Keeps a bundle from being pruned until it is closed or the process ends.

    Args:
        path: The bundle's folder.

    Raises:
        BundleError: It is not there.
    """

    def __init__(self, path: Path) -> None:
        manifest = path / MANIFEST
        try:
            self._file = os.open(manifest, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise BundleError(f"{path}: there is no bundle here; give the folder that holds {MANIFEST}") from e
        with suppress(OSError):  # a disk without locks; there nothing is pruned either
            _lock(self._file, alone=False)
        try:
            # It may have been pruned while we waited for the lock.
            there = os.path.samestat(manifest.stat(), os.fstat(self._file))
        except OSError:
            there = False
        if not there:
            self.close()
            raise BundleError(f"{path}: was deleted just now (distil.keep); take a newer bundle")

    def close(self) -> None:
        """Lets it go; closing twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


@contextmanager
def reading(path: Path) -> Generator[Path]:
    """Holds a bundle for as long as the block runs; see `Hold`."""
    hold = Hold(path)
    try:
        yield path
    finally:
        hold.close()


def prune(directory: Path, keep: int, *, check: Callable[[], None] = lambda: None) -> list[Path]:
    """Deletes all but the newest bundles, and leaves those that somebody reads for the next time.

    Args:
        directory: The folder of bundles.
        keep: How many stay at least.
        check: Called before each one is deleted; it raises when this process may not.

    Returns:
        What was deleted.
    """
    gone = []
    # What an export or a prune left that was killed. Who prunes is who exports, so nobody is at work on it.
    for leftover in directory.glob(".step-*"):
        check()
        shutil.rmtree(leftover, ignore_errors=True)
    for path in made(directory)[:-keep]:
        check()
        if _remove(path):
            gone.append(path)
    return gone


def _remove(path: Path) -> bool:
    """Deletes a bundle unless somebody reads it, or nobody can know."""
    try:
        file = os.open(path / MANIFEST, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        file = -1  # no bundle that anybody could read
    except OSError as e:
        log_.warning("%s: is not deleted (%s), so there are more bundles than distil.keep says", path, e.strerror)
        return False
    try:
        if file >= 0:
            _lock(file, alone=True)
        # Out of sight first: nobody must find a bundle of which a part is deleted.
        hidden = path.with_name(f".{path.name}.old")
        path.rename(hidden)
    except BlockingIOError:
        log_.info("%s: somebody reads it, so it is deleted later", path)
        return False
    except OSError as e:
        log_.warning("%s: is not deleted (%s), so there are more bundles than distil.keep says", path, e.strerror)
        return False
    finally:
        if file >= 0:
            os.close(file)
    shutil.rmtree(hidden, ignore_errors=True)
    return True


def _lock(file: int, *, alone: bool) -> None:
    """Takes the lock of an open file; one for itself alone is taken at once or not at all.

    Windows has no such lock, and trains no students: there nothing is pruned.
    """
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
