"""One kind of sealed folder: how it is written, and how its files are read.

Writing: the files go into a hidden folder, each flushed to the disk, the manifest last. Then the folder gets its name
by one rename, and the folders above it are flushed. So a process that is killed, or a machine that loses its power,
leaves the whole folder or none under that name.

Reading: only plain files are opened, never a link or a pipe. A file's size is compared before the file is read, so a
large one does no harm. The bytes that were hashed are the bytes that are handed out.

It knows nothing of what the files mean.

Example:
    >>> from recdistill.errors import DataError
    >>> Seal("manifest.json", most=1000, error=DataError, again="copy it again").manifest_of(Path("no/such/folder"))
    Traceback (most recent call last):
    recdistill.errors.DataError: no/such/folder/manifest.json: is missing; copy it again
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import stat
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from recdistill.errors import RecdistillError
from recdistill.sealed import hidden
from recdistill.sealed.entry import NAME, FileEntry
from recdistill.sealed.full import disk_is_full

_PIECE: Final = 1 << 20  # bytes hashed at a time


@dataclass(frozen=True)
class Seal:
    """A kind of folder.

    Args:
        manifest: Name of the file that names all others.
        most: Bytes that the manifest may have.
        error: What is raised about such a folder.
        again: What a person should do about a damaged folder, as the end of a sentence.
    """

    manifest: str
    most: int
    error: type[RecdistillError]
    again: str

    @contextlib.contextmanager
    def draft(self, out: Path) -> Iterator[Draft]:
        """A folder to be written. It is there after `Draft.close` has returned. Without `close` nothing is left.

        Leftovers of killed writers beside it are swept.

        Raises:
            RecdistillError: `error`, when the disk refuses it.
        """
        try:
            with Draft.begun(self, out) as draft:
                yield draft
        except OSError as e:
            advice = "free some disk space and start again" if disk_is_full(e) else "repair the disk, and start again"
            raise self.error(f"{out}: cannot be written ({e.strerror or e}); {advice}") from e

    def manifest_of(self, folder: Path) -> bytes:
        """The manifest's bytes. They are not verified yet."""
        path = folder / self.manifest
        with self._plain(path) as f, self._readable(path):
            data = f.read(self.most + 1)
        if len(data) > self.most:
            raise self.error(f"{path}: has more than the {self.most} bytes that it may have; {self.again}")
        return data

    def read(self, path: Path, entry: FileEntry) -> bytes:
        """A file's bytes, verified."""
        with self._plain(path) as f, self._readable(path):
            size = os.fstat(f.fileno()).st_size
            data = f.read() if size == entry.size else b""
        self._check(path, entry, size, hashlib.sha256(data).hexdigest())
        return data

    def opened(self, path: Path, entry: FileEntry) -> BinaryIO:
        """A verified file, open at its beginning. It is for a file that should not be in memory as a whole."""
        f = self._plain(path)
        try:
            with self._readable(path):
                size, found = os.fstat(f.fileno()).st_size, hashlib.sha256()
                while size == entry.size and (piece := f.read(_PIECE)):
                    found.update(piece)
            self._check(path, entry, size, found.hexdigest())
            f.seek(0)
        except BaseException:
            f.close()
            raise
        return f

    def array(self, path: Path, entry: FileEntry, shape: Sequence[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """A verified `.npy` file, mapped read-only."""
        with self.opened(path, entry) as f:
            return self.mapped(f, path, shape, dtype)

    def mapped(self, f: BinaryIO, path: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """An open `.npy` file, mapped read-only; the mapping stays when the file is closed."""
        try:
            if np.lib.format.read_magic(f) != (1, 0):
                raise ValueError("version")
            found = np.lib.format.read_array_header_1_0(f, max_header_size=1000)
        except (ValueError, SyntaxError, OverflowError, RecursionError, tokenize.TokenError) as e:
            raise self.error(f"{path}: is not an array file of version 1.0; {self.again}") from e
        start, count = f.tell(), math.prod(shape)
        size = os.fstat(f.fileno()).st_size
        if found != (tuple(shape), False, dtype) or min(shape, default=0) < 0 or start + count * dtype.itemsize != size:
            raise self.error(f"{path}: holds {found[2]} {found[0]}, expected {dtype} {tuple(shape)}; {self.again}")
        if not count:  # nothing can be mapped
            return np.zeros(tuple(shape), dtype)
        mapping = np.memmap(f, dtype=dtype, mode="r", offset=start, shape=tuple(shape))
        return mapping.view(np.ndarray)  # quicker to index

    def size(self, path: Path) -> int:
        """A plain file's size, for a manifest that does not name it."""
        with self._plain(path) as f:
            return os.fstat(f.fileno()).st_size

    def refuse_others(self, folder: Path, named: Iterable[str]) -> None:
        """Refuses a folder that holds anything but the manifest and the files that it names."""
        if extra := {entry.name for entry in folder.iterdir()} - set(named) - {self.manifest}:
            raise self.error(f"{folder / min(extra)}: is not named by {self.manifest}; remove it, or {self.again}")

    def _plain(self, path: Path) -> BinaryIO:
        """Opens a plain file, never through a link; it does not wait for a pipe."""
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError as e:
            raise self.error(f"{path}: is missing; {self.again}") from e
        except OSError as e:
            raise self.error(f"{path}: cannot be read, or is a link ({e.strerror}); {self.again}") from e
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise self.error(f"{path}: is not a plain file; {self.again}")
        return os.fdopen(handle, "rb")

    @contextlib.contextmanager
    def _readable(self, path: Path) -> Iterator[None]:
        """A disk can open a file and then fail to read it. That is damage, like a wrong digest."""
        try:
            yield
        except OSError as e:
            raise self.error(f"{path}: cannot be read ({e.strerror or e}); {self.again}") from e

    def _check(self, path: Path, entry: FileEntry, size: int, sha256: str) -> None:
        if size != entry.size:
            raise self.error(f"{path}: has {size} bytes, {self.manifest} says {entry.size}; {self.again}")
        if sha256 != entry.sha256:
            raise self.error(f"{path}: is not the file that {self.manifest} describes; {self.again}")


class Draft:
    """A folder that is being written, under a hidden name.

    Args:
        seal: What kind of folder.
        out: The name that it will have.
        path: Where it is until then.
        above: The folders whose entries have to be flushed at the end.
    """

    def __init__(self, seal: Seal, out: Path, path: Path, above: Sequence[Path]) -> None:
        self.path = path
        self.files: dict[str, FileEntry] = {}
        self._seal, self._out, self._above = seal, out, above

    @classmethod
    @contextlib.contextmanager
    def begun(cls, seal: Seal, out: Path) -> Iterator[Draft]:
        """A draft that is removed at the end, unless it was closed."""
        parent = out.parent.absolute()
        # Flush the parent's own entry too: the process that made the parent may have been killed before it flushed.
        above = [parent, *(each.parent for each in (parent, *parent.parents) if each == parent or not each.exists())]
        parent.mkdir(parents=True, exist_ok=True)
        hidden.sweep(out.parent, out.name)
        path, lock = hidden.make(out.parent, out.name)
        try:
            yield cls(seal, out, path, above)
        finally:
            try:
                hidden.remove(path)  # unless something failed, it has its final name now, and this does nothing
            finally:
                os.close(lock)

    def add(self, name: str, data: bytes) -> FileEntry:
        """Writes a file."""
        with self.file(name) as f:
            f.write(data)
        return self.files[name]

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Hashed]:
        """A file to be written piece by piece; its entry is in `files` afterwards."""
        if not NAME.fullmatch(name):
            raise self._seal.error(
                f"{self._out}: {name!r} cannot be the name of a file in it; use a-z, 0-9, _ and one dot"
            )
        handle = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as raw:
            hashed = Hashed(raw)
            yield hashed
            raw.flush()
            os.fsync(raw.fileno())
        self.files[name] = hashed.entry()

    def close(self, manifest: bytes, *, name: str | None = None) -> Path:
        """Writes the manifest and gives the folder its name, which nothing may have yet.

        Args:
            manifest: Its bytes.
            name: Another name than the draft was begun for.

        Returns:
            Where it is. When this returns, it survives a loss of power.
        """
        self.add(self._seal.manifest, manifest)
        hidden.flush(self.path)
        place = self._out if name is None else self._out.with_name(name)
        self.path.rename(place)
        for folder in self._above:
            with contextlib.suppress(PermissionError):  # a folder can allow writing and not reading
                hidden.flush(folder)
        return place


class Hashed:
    """A file that computes the digest of what is written to it."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._size, self._sha256 = raw, 0, hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        """Writes all of it."""
        self._sha256.update(data)
        self._size += len(data)
        return self._raw.write(data)

    def entry(self) -> FileEntry:
        """Size and digest of what was written."""
        return FileEntry(self._size, self._sha256.hexdigest())
