"""The folder of bundles that one distiller makes: their names, who reads one, and which are deleted.

Bundles are folders `step-N`. A reader can hold a bundle with a shared lock on its manifest. Pruning needs an exclusive
lock, and leaves a bundle that it cannot lock. The system releases the locks of a process that ends, so a killed reader
holds nothing.

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
    """The folder of the bundle of a step."""
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
        with suppress(OSError):  # a disk without locks; nothing is pruned there
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
        """Lets the bundle go. Closing twice does no harm."""
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
    """Deletes all bundles except the newest. A bundle that somebody reads stays until the next time.

    Args:
        directory: The folder of bundles.
        keep: How many stay at least.
        check: Called before each deletion. It raises when this process may not delete.

    Returns:
        The bundles that were deleted.
    """
    gone = []
    # Leftovers of an export or a prune that was killed. Only this process exports and prunes, so nobody uses them.
    for leftover in directory.glob(".step-*"):
        check()
        shutil.rmtree(leftover, ignore_errors=True)
    for path in made(directory)[:-keep]:
        check()
        if _remove(path):
            gone.append(path)
    return gone


def _remove(path: Path) -> bool:
    """Deletes a bundle. It stays when somebody reads it, or when that cannot be known."""
    try:
        file = os.open(path / MANIFEST, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        file = -1  # without a manifest nobody can read it
    except OSError as e:
        log_.warning("%s: is not deleted (%s), so there are more bundles than distil.keep says", path, e.strerror)
        return False
    try:
        if file >= 0:
            _lock(file, alone=True)
        # It is renamed first, so that nobody finds a bundle of which a part is deleted.
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
    """Takes the lock of an open file. An exclusive lock (`alone`) is not waited for: it fails when somebody has one.

    Windows has no such lock, and no student is trained there. Nothing is pruned there.
    """
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
