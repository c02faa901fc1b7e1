"""The two files of a built-in teacher. They are written whole or not at all, and verified when read.

They hold data only. It knows nothing of torch.

Example:
    >>> import tempfile
    >>> saved = Saved(spec=FeatureSpec(), vocabulary={"id": ["a"]}, towers=[Shape(dim=2, layers=0)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     version = write(Path(folder) / "t", saved, {"x": np.zeros(9999, np.float32)})
    ...     read(Path(folder) / "t")[1] == version
    True
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from recdistill.errors import ConfigError, TeacherError
from recdistill.features import FeatureSpec
from recdistill.model import layout
from recdistill.sealed import FileEntry, Seal

FORMAT = 2
"""The format of a folder that holds a transformer. A folder without one has format 1, as earlier versions wrote it."""
DESCRIPTION = "teacher.json"
WEIGHTS = "weights.safetensors"
SEAL: Final = Seal(DESCRIPTION, most=1 << 30, error=TeacherError, again="`recdistill teach` trains a teacher")


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size and schedule of a training. docs/configuration.md says what each value means, under `[teacher_training]`."""

    kind: Literal["towers", "attention"] = "towers"
    dim: int = 64
    layers: int = 2
    heads: int = 2
    pooled_dim: int = 64
    dropout: float = 0.3
    epochs: int = 4
    patience: int = 10
    held_out: int = 1000
    batch: int = 10
    learning_rate: float = 2e-3
    table_learning_rate: float = 0.1
    seed: int = 0


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size of a tower. With `layers` 0 it pools the history, and has no attention."""

    dim: int
    layers: int
    heads: int = 2
    hidden: int = 128
    context_dim: int = 8
    widening: int = 4

    def floats(self, contexts: int) -> int:
        """The least number of floats in a tower of this size, with that many context fields."""
        told = self.context_dim * (2 + contexts)
        features = (2 + bool(self.layers)) * self.dim + told
        attending = self.layers * (4 + 2 * self.widening) * self.dim**2
        return attending + features**2 + features * (self.dim + self.hidden) + self.dim * self.hidden


class CausalShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size of a causal transformer over the whole history."""

    dim: int
    layers: int
    heads: int
    widening: int = 4
    context_dim: int = 8

    def floats(self, contexts: int) -> int:
        """The least number of floats in a transformer of this size, with that many context fields."""
        blocks = self.layers * (4 + 2 * self.widening) * self.dim**2
        return blocks + 2 * self.dim * (2 * self.dim + self.context_dim * (2 + contexts))


class Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `teacher.json` without its hashes."""

    spec: FeatureSpec
    vocabulary: dict[str, list[str | None]]
    towers: list[Shape] = []
    transformers: list[CausalShape] = []

    @property
    def every(self) -> list[Shape | CausalShape]:
        """All of them, in the order of their numbers in the names of the arrays."""
        return [*self.towers, *self.transformers]

    @property
    def format(self) -> int:
        """1 without a transformer: earlier versions can read that folder too."""
        return FORMAT if self.transformers else 1


class _Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    version: str
    weights_sha256: str
    spec: dict[str, Any]
    vocabulary: dict[str, list[str | None]]
    towers: list[Shape]
    transformers: list[CausalShape] = []


def write(out: Path, saved: Saved, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Writes a new folder, as a whole or not at all.

    Args:
        out: Must not exist.
        saved: What describes the arrays.
        arrays: Arrays by name. Their bytes and the description give the version.

    Returns:
        The version: the first 12 digits of the content's hash.

    Raises:
        TeacherError: The folder cannot be written.
    """
    data = save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})
    with SEAL.draft(out) as draft:
        weights_sha256 = draft.add(WEIGHTS, data).sha256
        version = _version(weights_sha256, saved)
        text = msgspec.json.encode(
            {
                "format": saved.format,
                "version": version,
                "weights_sha256": weights_sha256,
                "spec": saved.spec,
                "vocabulary": saved.vocabulary,
                "towers": saved.towers,
            }
            | ({"transformers": saved.transformers} if saved.transformers else {})
        )
        draft.close(text)
    return version


def read(path: Path) -> tuple[Saved, str, dict[str, npt.NDArray[Any]]]:
    """Reads a folder and verifies its hashes.

    Returns:
        The description, the version, and the arrays by name.

    Raises:
        TeacherError: A file is missing, changed, or not of this format.
    """
    text = SEAL.manifest_of(path)
    try:
        found = msgspec.json.decode(text, type=_Description)
        saved = Saved(FeatureSpec.from_dict(found.spec), found.vocabulary, found.towers, found.transformers)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ConfigError) as e:
        raise TeacherError(f"{path / DESCRIPTION}: does not describe a teacher: {e}") from e
    if found.format != saved.format:
        raise TeacherError(
            f"{path / DESCRIPTION}: format {found.format} is not known, this version reads 1 and {FORMAT}"
        )
    # This format holds no sizes, so any size is right if the digest is right.
    data = SEAL.read(path / WEIGHTS, FileEntry(SEAL.size(path / WEIGHTS), found.weights_sha256))
    if _version(found.weights_sha256, saved) != found.version:
        raise TeacherError(f"{path / DESCRIPTION}: has been changed; {SEAL.again}")
    _check_shapes(path, saved, len(data) // 4)
    try:
        arrays = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as e:
        raise TeacherError(f"{path / WEIGHTS}: is not a safetensors file: {e}") from e
    return saved, found.version, arrays


def _check_shapes(path: Path, saved: Saved, floats: int) -> None:
    """Refuses sizes that the weights cannot have, before memory for such sizes is taken."""
    where = path / DESCRIPTION
    if not 1 <= len(saved.every) <= 16:
        raise TeacherError(f"{where}: must have 1 to 16 towers, not {len(saved.every)}")
    for one in saved.transformers:
        sizes = (one.dim, one.layers, one.heads, one.widening, one.context_dim)
        if min(sizes) < 1 or one.dim % one.heads:
            raise TeacherError(f"{where}: there is no transformer of {one}")
    for shape in saved.towers:
        sizes = (shape.dim, shape.heads, shape.hidden, shape.context_dim, shape.widening)
        if min(sizes) < 1 or shape.layers < 0 or shape.dim % shape.heads:
            raise TeacherError(f"{where}: there is no tower of {shape}")
    text_rows = sum(saved.spec.rows(f"item.{n}") for n, field in saved.spec.item.items() if field.kind == "text")
    contexts = len(saved.spec.context)
    needed = sum(shape.floats(contexts) + text_rows * layout.width(shape.dim) for shape in saved.every)
    if needed > floats:
        raise TeacherError(f"{where}: the towers have at least {needed} numbers, {WEIGHTS} at most {floats}")


def _version(weights_sha256: str, saved: Saved) -> str:
    content = [saved.format, weights_sha256, saved.spec.hash, saved.vocabulary, saved.towers]
    if saved.transformers:
        content.append(saved.transformers)
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:12]
