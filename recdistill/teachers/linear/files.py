"""The files of a linear teacher. They are written whole or not at all, and verified when read. They hold data, no code.

| file | holds |
| --- | --- |
| `teacher.json` | format, version, settings, item ids, and for each array its shape and hash |
| `indptr.npy`, `indices.npy` | the interactions, users × items, in the manner of CSR; each counts 1 |
| `weights.npy` | EASE between items [N, N], float32 |
| `between.npy`, `after.npy` | instead of it, EASE through users: [U, U] and [N], float32 |

It knows nothing of what is done with the arrays.

Example:
    >>> import tempfile
    >>> arrays = {"indptr": np.array([0, 1]), "indices": np.zeros(1, np.int32), "weights": np.zeros((1, 1), np.float32)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     version = write(Path(folder) / "t", Blend(), ["a"], arrays)
    ...     read(Path(folder) / "t")[2]
    ['a']
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from recdistill.errors import TeacherError
from recdistill.sealed import FileEntry, Seal

FORMAT = 1
DESCRIPTION = "teacher.json"
SEAL: Final = Seal(DESCRIPTION, most=1 << 30, error=TeacherError, again="`recdistill teach` makes a teacher")
_KINDS: dict[str, np.dtype[Any]] = {
    "indptr": np.dtype(np.int64),
    "indices": np.dtype(np.int32),
    "weights": np.dtype(np.float32),
    "between": np.dtype(np.float32),
    "after": np.dtype(np.float32),
}


class Blend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is fitted, and how it scores. docs/configuration.md says what each value means, under `[teacher.linear]`."""

    l2: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    filter: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    popularity: Annotated[float, msgspec.Meta(ge=0)] = 0.1
    half_life: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    history: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50


class _Array(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    shape: list[int]
    sha256: str


class _Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    kind: str
    settings: Blend
    items: list[str]
    arrays: dict[str, _Array]
    version: str = ""

    def digest(self) -> str:
        """First 12 digits of the hash of all except the version."""
        rest = msgspec.structs.replace(self, version="")
        return hashlib.sha256(msgspec.json.encode(rest, order="deterministic")).hexdigest()[:12]


def write(out: Path, settings: Blend, ids: Sequence[str], arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Writes a new folder, as a whole or not at all.

    Args:
        out: Must not exist.
        settings: What was fitted.
        ids: The N items.
        arrays: Arrays by the names in the table above.

    Returns:
        The version.

    Raises:
        TeacherError: The folder cannot be written.
    """
    with SEAL.draft(out) as draft:
        told = {}
        for name, array in arrays.items():
            with draft.file(f"{name}.npy") as file:
                np.lib.format.write_array(
                    file, np.ascontiguousarray(array, _KINDS[name]), version=(1, 0), allow_pickle=False
                )
            told[name] = _Array(list(array.shape), draft.files[f"{name}.npy"].sha256)
        described = _Description(format=FORMAT, kind="linear", settings=settings, items=list(ids), arrays=told)
        described = msgspec.structs.replace(described, version=described.digest())
        draft.close(msgspec.json.encode(described))
    return described.version


def read(path: Path) -> tuple[str, Blend, list[str], dict[str, npt.NDArray[Any]]]:
    """Reads a folder: version, settings, items and arrays. It checks that they fit each other.

    Raises:
        TeacherError: A file is missing, changed, or not of this format.
    """
    where = path / DESCRIPTION
    text = SEAL.manifest_of(path)
    try:
        found = msgspec.json.decode(text, type=_Description)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise TeacherError(f"{where}: does not describe a linear teacher: {e}") from e
    if found.kind != "linear" or found.format != FORMAT:
        raise TeacherError(
            f"{where}: format {found.format} of {found.kind!r} is not known, this version reads {FORMAT}"
        )
    if found.digest() != found.version:
        raise TeacherError(f"{where}: has been changed; {SEAL.again}")
    arrays = {name: _array(path, name, told) for name, told in found.arrays.items()}
    if not _fits(arrays, found.items):
        raise TeacherError(f"{where}: the arrays do not fit each other; {SEAL.again}")
    return found.version, found.settings, found.items, arrays


def _array(path: Path, name: str, told: _Array) -> npt.NDArray[Any]:
    if name not in _KINDS:
        raise TeacherError(f"{path / DESCRIPTION}: a linear teacher has no array {name!r}")
    file = path / f"{name}.npy"
    # This format holds no sizes, so any size is right if the digest is right.
    return SEAL.array(file, FileEntry(SEAL.size(file), told.sha256), told.shape, _KINDS[name])


def _fits(arrays: Mapping[str, npt.NDArray[Any]], items: Sequence[str]) -> bool:
    if set(arrays) not in ({"indptr", "indices", "weights"}, {"indptr", "indices", "between", "after"}):
        return False
    indptr, indices, count = arrays["indptr"], arrays["indices"], len(items)
    if indptr.ndim != 1 or indices.ndim != 1 or len(indptr) < 2 or not len(indices) or len(set(items)) != count:
        return False
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        return False
    if indices.min() < 0 or indices.max() >= count:
        return False
    users = len(indptr) - 1
    shapes = {"weights": (count, count), "between": (users, users), "after": (count,)}
    return all(
        arrays[name].shape == shape and np.isfinite(arrays[name]).all()
        for name, shape in shapes.items()
        if name in arrays
    )
