"""The folder of one student: its checkpoints and its bundles, written by one distiller at a time.

Before anything there is renamed or deleted, the process makes sure that the folder is still its own. Old checkpoints
and bundles are deleted as new ones come. A bundle that somebody reads stays until nobody reads it.

It knows nothing of logs or of how a student learns.

Example:
    >>> import tempfile
    >>> place = tempfile.TemporaryDirectory()
    >>> folder = StudentFolder(Path(place.name), keep=2)
    >>> for step in (1, 2, 3):
    ...     _ = folder.save(step, {}, {"step": step})
    >>> found = folder.latest()
    >>> found.step, sorted(path.name for path in (Path(place.name) / "checkpoints").iterdir())
    (3, ['step-2', 'step-3'])
    >>> folder.close(); place.cleanup()
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recdistill import checkpoint
from recdistill.bundle import Bundle, BundleFolder, bundle_folder, made, path_of, prune
from recdistill.errors import BundleError, CheckpointError
from recdistill.loops.distil.owner import Owner
from recdistill.sealed import discard, flush

log_ = logging.getLogger(__name__)


class StudentFolder:
    """A folder that this process owns.

    Args:
        directory: The folder; made when absent.
        keep: Checkpoints and bundles kept.

    Raises:
        CheckpointError: Another process owns it, or it cannot be written.
    """

    def __init__(self, directory: Path, *, keep: int) -> None:
        self.root, self.checkpoints, self.bundles = directory, directory / "checkpoints", directory / "bundles"
        self._keep = keep
        self._work = directory / "exporting"
        self._owner = Owner(directory)
        shutil.rmtree(self._work, ignore_errors=True)  # what a killed process left
        self._exported, self._newest = -1, ""  # the step whose bundle is known to be whole, and its content

    @property
    def keep(self) -> int:
        """Checkpoints and bundles kept."""
        return self._keep

    @property
    def student(self) -> str:
        """Name of the student, the same for all who ever own the folder."""
        return self._owner.student

    def check(self) -> None:
        """Makes sure that the folder is still ours.

        Raises:
            Fenced: Another process has taken it over.
        """
        self._owner.check()

    def latest(self) -> checkpoint.Checkpoint | None:
        """The newest checkpoint that verifies; see `checkpoint.latest`."""
        return checkpoint.latest(self.checkpoints)

    def save(
        self,
        step: int,
        tensors: Mapping[str, np.ndarray],
        state: Mapping[str, Any],
        *,
        others: Mapping[str, bytes] | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> Path:
        """Writes a checkpoint, and deletes the old ones.

        Args:
            step: Its step.
            tensors: Its arrays.
            state: What is said beside them.
            others: More files, by name.
            ready: Called first: it waits until the arrays are filled.

        Raises:
            Fenced: Another process has taken the folder over.
            CheckpointError: It cannot be written.
        """
        ready()
        self.check()
        try:
            path = checkpoint.save(self.checkpoints, step, tensors, state, others=others, check=self.check)
            checkpoint.prune(self.checkpoints, self._keep, good=path, check=self.check)
        except (CheckpointError, OSError):
            self.check()  # it may be the other process that was in the way
            raise
        return path

    def export(self, step: int, write: Callable[[Path], Bundle]) -> Bundle | None:
        """Has a bundle written, and deletes the old ones; None when this step's is there already, and whole.

        Args:
            step: Whose bundle it is.
            write: Writes it into a folder that does not exist yet.

        Raises:
            Fenced: Another process has taken the folder over.
            BundleError: It cannot be written.
        """
        self.check()
        out = path_of(self.bundles, step)
        try:
            bundle = None if self.holds(step) else write(out)
            if bundle is not None:
                self._exported, self._newest = step, bundle.content_hash
            prune(self.bundles, self._keep, check=self.check)
        except (BundleError, OSError):
            self.check()
            raise
        if bundle is not None:
            log_.info("exported %s, content %s", out, bundle.content_hash[:12])
        return bundle

    @contextlib.contextmanager
    def workplace(self, step: int) -> Iterator[Path]:
        """A folder for what a bundle is made of, and for the bundle until it is whole. It is deleted in the end."""
        place = self._work / f"step-{step}-{secrets.token_hex(4)}"
        place.mkdir(parents=True)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def put(self, step: int, path: Path) -> BundleFolder:
        """Puts a bundle that was made elsewhere in this folder into its place, and deletes the old ones.

        Raises:
            Fenced: Another process has taken the folder over.
            BundleError: It is not whole.
        """
        self.check()
        out = path_of(self.bundles, step)
        try:
            bundle = bundle_folder(path)
            self.bundles.mkdir(parents=True, exist_ok=True)
            self.check()
            path.rename(out)
            flush(self.bundles)
            flush(self.bundles.parent)
            self._exported, self._newest = step, bundle.content_hash
            prune(self.bundles, self._keep, check=self.check)
        except (BundleError, OSError):
            self.check()
            raise
        log_.info("exported %s, content %s", out, bundle.content_hash[:12])
        return BundleFolder(out, bundle.manifest)

    def holds(self, step: int) -> bool:
        """Whether this step's bundle is there and whole. A damaged one is deleted, so that it is made again."""
        self.check()
        return self._exported == step or self._stands(path_of(self.bundles, step), step)

    def _stands(self, out: Path, step: int) -> bool:
        if not out.exists():
            return False
        try:
            self._exported, self._newest = step, bundle_folder(out).content_hash
        except BundleError as e:
            log_.warning("the bundle of step %d is made again: %s", step, e)
            discard(out)
            return False
        return True

    def newest(self) -> str:
        """Content hash of the newest bundle; empty when there is none that is whole."""
        for path in reversed(made(self.bundles)) if not self._newest else ():
            try:
                self._newest = bundle_folder(path).content_hash
                break
            except BundleError as e:
                log_.warning("%s", e)
        return self._newest

    def close(self) -> None:
        """Gives the folder back."""
        self._owner.close()
