"""Resumable training state on disk: written whole or not at all, and read only when every byte is as it was written.

A checkpoint is a folder `step-N/` of three files: `tensors.safetensors`, `state.json`, and `manifest.json` with the
size and SHA-256 of the other two. It is written under a name that nothing reads (`.step-N.tmp`), each file flushed to
the disk, the manifest last, and then renamed; then the parent's entry is flushed. So a process that is killed, or a
machine that loses its power, at any moment leaves the older checkpoints as they were and at most a folder that the next
`save` or `prune` sweeps away.

It knows nothing of torch or of what the state means. Who writes is alone: a folder has one distiller.

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
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
from msgspec import Struct

from recdistill.errors import CheckpointError

log = logging.getLogger(__name__)

FORMAT = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_NAME = re.compile(r"step-(0|[1-9][0-9]*)")
_MAX_MANIFEST = 65_536  # bytes; ours has some four hundred


class Checkpoint(Struct, frozen=True):
    """A checkpoint that has been verified and read."""

    path: Path
    step: int
    tensors: dict[str, np.ndarray]
    state: dict[str, Any]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    size: int
    sha256: str


class _Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    step: int
    files: dict[str, _File]


def save(
    directory: Path,
    step: int,
    tensors: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
    *,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Writes `step-N/`; when it returns, the checkpoint survives a loss of power.

    A checkpoint of the same step is left as it is when it verifies and has the same content, as after a resume it has;
    another one is replaced.

    Args:
        directory: Where the checkpoints are; made when absent.
        step: N, at least 0.
        tensors: Arrays by name, of any of numpy's fixed-width kinds.
        state: Anything JSON can say without loss: no NaN, no non-string keys.
        check: Called before the folder gets its name; it raises when this process may not.

    Raises:
        CheckpointError: The state is not JSON, or the disk does not take it.
    """
    if step < 0:
        raise CheckpointError(f"{directory}: step {step} is below 0")
    try:
        text = json.dumps(state, allow_nan=False, ensure_ascii=False, sort_keys=True).encode()
    except (TypeError, ValueError) as e:
        raise CheckpointError(f"{directory}: state of step {step} is not JSON ({e}); keep arrays in tensors") from e
    body = safetensors.numpy.save({name: np.asarray(value, order="C") for name, value in tensors.items()})
    contents = {TENSORS: body, STATE: text}
    files = {name: _File(len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()}
    contents[MANIFEST] = msgspec.json.encode(_Manifest(FORMAT, step, files))  # the last, by insertion order

    final, temporary = directory / f"step-{step}", directory / f".step-{step}.tmp"
    if final.exists() and _verifies(final) and (final / MANIFEST).read_bytes() == contents[MANIFEST]:
        return final
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        temporary.mkdir()
        for name, data in contents.items():
            _write(temporary / name, data)
        _flush_folder(temporary)
        check()
        if final.exists():
            # A folder cannot be renamed over a full one. Between the two renames the older checkpoints still stand.
            doomed = directory / f".step-{step}.old"
            _remove(doomed)
            os.rename(final, doomed)  # noqa: PTH104 -- the tests stand between these calls
        os.rename(temporary, final)  # noqa: PTH104
        _flush_folder(directory)
        _flush_folder(directory.parent)
        _remove(directory / f".step-{step}.old")
    except OSError as e:
        raise CheckpointError(
            f"{final}: cannot be written ({e.strerror or e}); free or mend the disk and start again"
        ) from e
    return final


def load(path: Path) -> Checkpoint:
    """Reads one checkpoint and verifies every byte of it.

    Raises:
        CheckpointError: Something is missing, has another size or hash, or is not what a checkpoint holds.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path}: is not named step-N")
    manifest_path = path / MANIFEST
    raw = _read(manifest_path, _MAX_MANIFEST)
    try:
        manifest = msgspec.json.decode(raw, type=_Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise CheckpointError(f"{manifest_path}: is not a checkpoint's manifest ({e})") from e
    if raw != msgspec.json.encode(manifest):
        # Nothing else guards the manifest's own bytes: it has to be exactly what `save` writes.
        raise CheckpointError(f"{manifest_path}: was changed after it was written")
    if manifest.format != FORMAT:
        raise CheckpointError(
            f"{manifest_path}: format {manifest.format} is not {FORMAT}; resume with the version that wrote it"
        )
    if manifest.step != int(match[1]) or set(manifest.files) != {TENSORS, STATE}:
        raise CheckpointError(f"{manifest_path}: speaks of another checkpoint than {path.name}")
    data = {name: _verified(path / name, file) for name, file in manifest.files.items()}
    try:
        state = json.loads(data[STATE])
        tensors = safetensors.numpy.load(data[TENSORS])
    except (ValueError, safetensors.SafetensorError) as e:
        raise CheckpointError(f"{path}: does not hold a checkpoint's content ({e})") from e
    if not isinstance(state, dict):
        raise CheckpointError(f"{path / STATE}: is not an object")
    return Checkpoint(path=path, step=manifest.step, tensors=tensors, state=state)


def latest(directory: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies; None when the folder holds none at all.

    One that does not verify is skipped, with a warning that says which and why.

    Raises:
        CheckpointError: There are checkpoints, and not one of them verifies: to start anew must be a person's choice.
    """
    found = _steps(directory)
    for _, path in reversed(found):
        try:
            return load(path)
        except CheckpointError as e:
            log.warning("skipped a checkpoint: %s", e)
    if found:
        raise CheckpointError(
            f"{directory}: none of {len(found)} checkpoints verifies; restore one, or start in another folder"
        )
    return None


def prune(directory: Path, keep: int, *, check: Callable[[], None] = lambda: None) -> list[Path]:
    """Deletes all but the newest `keep` checkpoints, and what killed writers left behind. Returns what it deleted.

    The newest one that verifies is never deleted, so broken newer ones cannot push out the last good one. `check` is
    called before each is deleted; it raises when this process may not.
    """
    if keep < 1:
        raise CheckpointError(f"{directory}: keep is {keep}; at least one checkpoint has to stay")
    found = _steps(directory)
    older, kept = found[:-keep], found[-keep:]
    if older and not any(_verifies(path) for _, path in reversed(kept)):
        good = next((path for _, path in reversed(older) if _verifies(path)), None)
        older = [(step, path) for step, path in older if path != good]
    gone = [path for _, path in older]
    leftovers = [path for suffix in ("tmp", "old") for path in sorted(directory.glob(f".step-*.{suffix}"))]
    for path in gone + leftovers:
        check()
        if path in gone:
            # Out of sight first: a kill between the files must not leave a folder that looks like a broken checkpoint.
            hidden = path.with_name(f".{path.name}.old")
            _remove(hidden)
            path.rename(hidden)
            path = hidden
        _remove(path)
    return gone + leftovers


def _verifies(path: Path) -> bool:
    try:
        load(path)
    except CheckpointError:
        return False
    return True


def _steps(directory: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders, oldest first, verified or not."""
    if not directory.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in directory.iterdir() if path.is_dir())
    return sorted((int(match[1]), path) for match, path in matches if match)


def _read(path: Path, limit: int) -> bytes:
    """The whole file; an error when it cannot be read or is longer than `limit` bytes."""
    try:
        if path.stat().st_size > limit:
            raise CheckpointError(f"{path}: has {path.stat().st_size} bytes where at most {limit} are right")
        return path.read_bytes()
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read ({e.strerror or e})") from e


def _verified(path: Path, file: _File) -> bytes:
    data = _read(path, file.size)
    if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
        raise CheckpointError(f"{path}: is not the {file.size} bytes that the manifest names")
    return data


def _write(path: Path, data: bytes) -> None:
    """Writes a new file and flushes it to the disk."""
    with path.open("xb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def _flush_folder(path: Path) -> None:
    """Flushes a folder's entries: without it a file that is safe may have no name after a loss of power."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    """Deletes a folder if it is there."""
    if path.exists():
        shutil.rmtree(path)
