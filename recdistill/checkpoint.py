"""Training state on disk, to resume from. It is written whole or not at all, and verified before it is used.

A checkpoint is a folder `step-N/`: `tensors.safetensors`, `state.json`, and `manifest.json` with the size and SHA-256
of each other file. There may be more files, for example a shard; the manifest names them. `sealed` writes the folder.
So it is there whole or not at all, also after a kill or a loss of power.

A step that is saved again is first written as `step-N.new`. Then the old one is deleted, and the new one gets its name.
So at each moment one of the two is there, and `latest` reads it.

It knows nothing of torch or of what the state means. Only one process may write: a folder has one distiller.

Example:
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save(Path(folder), 5, {"w": np.zeros(2, np.float32)}, {"turn": 0})
    ...     found = latest(Path(folder))
    ...     (found.step, found.state, found.tensors["w"].shape)
    (5, {'turn': 0}, (2,))
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
from msgspec import Struct

from recdistill.errors import CheckpointError
from recdistill.sealed import FileEntry, FileName, Seal, discard, entry_of, flush, pieces, remove, sweep

log_ = logging.getLogger(__name__)

FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"
SEAL: Final = Seal(
    "manifest.json",
    most=1 << 20,
    error=CheckpointError,
    again="restore it from a copy, or go on from an older checkpoint",
)
_NEW: Final = ".new"
_NAME = re.compile(r"step-(0|[1-9][0-9]*)(\.new)?")
_OLD = re.compile(r"\.step-(0|[1-9][0-9]*)\.old")
"""Earlier versions moved the old checkpoint here while they saved a step again. After a kill it may be the
only good one.
"""


class Checkpoint(Struct, frozen=True):
    """A checkpoint that has been verified and read."""

    path: Path
    step: int
    tensors: dict[str, np.ndarray]
    state: dict[str, Any]
    files: dict[str, FileEntry] = {}

    def read(self, name: str) -> bytes:
        """The bytes of a further file: one that not every checkpoint has.

        Raises:
            CheckpointError: The manifest names no such file, or the file has changed since.
        """
        if (entry := self.files.get(name)) is None:
            raise CheckpointError(f"{self.path / SEAL.manifest}: names no file {name!r}")
        return SEAL.read(self.path / name, entry)


class _Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    step: int
    files: dict[FileName, FileEntry]


def save(
    directory: Path,
    step: int,
    tensors: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
    *,
    others: Mapping[str, bytes] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Writes `step-N/`. When it returns, the checkpoint survives a loss of power.

    If there is a checkpoint of the same step that verifies and has the same content, it stays as it is. This happens
    after a resume. Any other one of this step is replaced.

    Args:
        directory: Where the checkpoints are. It is made if it does not exist.
        step: N, at least 0.
        tensors: Arrays by name, of any fixed-width type of numpy.
        state: Data that JSON can hold without loss: no NaN, and only text as keys.
        others: More files by name.
        check: Called before the folder gets its name. It raises if this process may not write.

    Raises:
        CheckpointError: The state is not JSON, or the disk refuses it.
    """
    if step < 0:
        raise CheckpointError(f"{directory}: step {step} is below 0")
    try:
        text = b"".join(pieces.text(state))
    except (TypeError, ValueError) as e:
        raise CheckpointError(f"{directory}: state of step {step} is not JSON ({e}); keep arrays in tensors") from e
    contents = {STATE: text, **(others or {})}
    final = directory / f"step-{step}"
    try:
        _settle(directory)
        if final.exists():
            try:
                entries = {TENSORS: _entry(pieces.arrays(tensors))}
                if load(final).files == entries | {name: entry_of(data) for name, data in contents.items()}:
                    return final
            except CheckpointError as e:
                log_.warning("step %d is written again: %s", step, e)
        with SEAL.draft(final) as draft:
            with draft.file(TENSORS) as file:
                for piece in pieces.arrays(tensors):
                    file.write(piece)
            for name, data in contents.items():
                draft.add(name, data)
            manifest = msgspec.json.encode(_Manifest(FORMAT, step, dict(draft.files)))
            check()
            draft.close(manifest, name=f"{final.name}{_NEW}" if final.exists() else None)
        _settle(directory, trusted=final.name)
    except OSError as e:
        raise CheckpointError(
            f"{final}: cannot be written ({e.strerror or e}); free space or repair the disk, and start again"
        ) from e
    return final


def load(path: Path) -> Checkpoint:
    """Reads one checkpoint and verifies every byte of it.

    Raises:
        CheckpointError: Something is missing, has another size or hash, or does not belong in a checkpoint.
    """
    match = _NAME.fullmatch(path.name) or _OLD.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path}: is not named step-N")
    manifest_path = path / SEAL.manifest
    raw = SEAL.manifest_of(path)
    try:
        manifest = msgspec.json.decode(raw, type=_Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise CheckpointError(f"{manifest_path}: is not a checkpoint's manifest ({e}); {SEAL.again}") from e
    if raw != msgspec.json.encode(manifest):
        # No hash covers the manifest itself. So its bytes must be exactly those that `save` writes.
        raise CheckpointError(f"{manifest_path}: was changed after it was written; {SEAL.again}")
    if manifest.format != FORMAT:
        raise CheckpointError(
            f"{manifest_path}: format {manifest.format} is not {FORMAT}; resume with the version that wrote it"
        )
    if manifest.step != int(match[1]) or not {TENSORS, STATE} <= manifest.files.keys():
        raise CheckpointError(f"{manifest_path}: describes another checkpoint than {path.name}; {SEAL.again}")
    data = {name: SEAL.read(path / name, manifest.files[name]) for name in (TENSORS, STATE)}
    for name in manifest.files.keys() - data.keys():
        SEAL.opened(path / name, manifest.files[name]).close()
    try:
        state = json.loads(data[STATE])
        tensors = safetensors.numpy.load(data[TENSORS])
    except (ValueError, RecursionError, safetensors.SafetensorError) as e:
        raise CheckpointError(f"{path}: does not hold a checkpoint's content ({e})") from e
    if not isinstance(state, dict):
        raise CheckpointError(f"{path / STATE}: is not an object")
    return Checkpoint(path=path, step=manifest.step, tensors=tensors, state=state, files=manifest.files)


def latest(directory: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies; None if the folder holds no checkpoint.

    One that does not verify is skipped, with a warning that says which and why.

    Raises:
        CheckpointError: There are checkpoints, and none of them verifies. Only a person may decide to start again.
    """
    found = _steps(directory)
    for _, path in sorted(found + _left(directory), reverse=True):
        try:
            checkpoint = load(path)
        except CheckpointError as e:
            log_.warning("skipped a checkpoint: %s", e)
            continue
        if path.name.startswith("."):
            log_.warning("%s: is used; an earlier version was killed while it saved this step again", path)
        return checkpoint
    if found:
        raise CheckpointError(
            f"{directory}: none of {len(found)} checkpoints verifies; restore one, or start in another folder"
        )
    return None


class Looked(Struct, frozen=True):
    """A checkpoint as its folder shows it, not verified.

    Attributes:
        path: The folder.
        step: Its step.
        size: Bytes of its files.
        saved_us: When it was written, in microseconds.
    """

    path: Path
    step: int
    size: int
    saved_us: int

    def state(self) -> dict[str, Any]:
        """Its state alone. This one file is verified; the tensors are not read.

        Raises:
            CheckpointError: It cannot be read, or has changed.
        """
        try:
            manifest = msgspec.json.decode(SEAL.manifest_of(self.path), type=_Manifest)
            state = json.loads(SEAL.read(self.path / STATE, manifest.files[STATE]))
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, ValueError, RecursionError) as e:
            raise CheckpointError(f"{self.path}: does not hold a checkpoint's state ({e}); {SEAL.again}") from e
        if not isinstance(state, dict):
            raise CheckpointError(f"{self.path / STATE}: is not an object")
        return state


def looked(directory: Path) -> list[Looked]:
    """The checkpoints of a folder, oldest first, verified or not. One that is deleted meanwhile is left out."""
    found = []
    for step, path in _steps(directory):
        try:
            size = sum(file.stat().st_size for file in path.iterdir())
            found.append(Looked(path, step, size, (path / SEAL.manifest).stat().st_mtime_ns // 1000))
        except OSError:
            continue
    return found


def prune(
    directory: Path, keep: int, *, good: Path | None = None, check: Callable[[], None] = lambda: None
) -> list[Path]:
    """Deletes all except the newest `keep` checkpoints, and what killed writers left. Returns what it deleted.

    The newest one that verifies is never deleted. So the last good one stays, even if there are newer broken ones.

    Args:
        directory: Where the checkpoints are.
        keep: How many.
        good: A checkpoint that the caller has just written, so it need not be verified again.
        check: Called before each one is deleted. It raises if this process may not delete.

    Raises:
        CheckpointError: `keep` is below 1, or something cannot be deleted.
    """
    if keep < 1:
        raise CheckpointError(f"{directory}: keep is {keep}; at least one checkpoint has to stay")
    try:
        _settle(directory)
        found, left = _steps(directory), _left(directory)
        older, kept = found[:-keep], found[-keep:]
        if (older or left) and not any(path == good or _verifies(path) for _, path in reversed(kept)):
            last = next((path for _, path in sorted(older + left, reverse=True) if _verifies(path)), None)
            older, left = ([one for one in some if one[1] != last] for some in (older, left))
        for _, path in older:
            check()
            discard(path)
        for _, path in left:
            check()
            log_.warning("%s: deleted; an earlier version was killed while it saved or deleted this step", path)
            remove(path)
        return [path for _, path in older + left] + sweep(directory, "step-0")
    except OSError as e:
        raise CheckpointError(f"{directory}: cannot be pruned ({e.strerror or e}); repair the disk") from e


def _settle(directory: Path, *, trusted: str = "") -> None:
    """Renames each `step-N.new` to `step-N`. A folder that already has that name is older, and is deleted.

    Args:
        directory: Where the checkpoints are.
        trusted: Name of a step that was just saved. Other `.new` folders are from a killed process, and
            are verified first.
    """
    for _, path in _steps(directory):
        if path.suffix != _NEW:
            continue
        final = path.with_suffix("")
        if final.name != trusted:
            log_.warning("%s: a process was killed while it saved this step again", path)
        if final.exists() and final.name != trusted and not _verifies(path):
            log_.warning("%s: does not verify; %s stays", path, final.name)
            discard(path)
            continue
        if final.exists():
            discard(final)
        path.rename(final)
        flush(directory)


def _entry(content: Iterable[bytes | memoryview]) -> FileEntry:
    """The entry of a file that would have these pieces."""
    size, found = 0, hashlib.sha256()
    for piece in content:
        size += len(piece)
        found.update(piece)
    return FileEntry(size, found.hexdigest())


def _verifies(path: Path) -> bool:
    try:
        load(path)
    except CheckpointError:
        return False
    return True


def _steps(directory: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders, oldest first, verified or not; of one step, `.new` comes last."""
    return _named(directory, _NAME)


def _left(directory: Path) -> list[tuple[int, Path]]:
    """Hidden folders that a killed earlier version may have left, oldest first."""
    return _named(directory, _OLD)


def _named(directory: Path, name: re.Pattern[str]) -> list[tuple[int, Path]]:
    if not directory.is_dir():
        return []
    matches = ((name.fullmatch(path.name), path) for path in directory.iterdir() if path.is_dir())
    return sorted((int(match[1]), path) for match, path in matches if match)
