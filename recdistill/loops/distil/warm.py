"""A warm start: a new student takes over the weights of an older one, from a checkpoint or a bundle.

The older student may have learnt from another log, so its position means nothing here. What it is made of (weights,
vocabulary, catalogue) goes on; of a checkpoint the optimizer too. Where it came from is kept, and each bundle says it.

It knows nothing of how a student learns.

Example:
    >>> find(Path("no/such/folder"))
    Traceback (most recent call last):
    recdistill.errors.CheckpointError: no/such/folder: there is nothing to start from; name a bundle, a ...
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from recdistill import checkpoint
from recdistill.bundle import Bundle, open_bundle
from recdistill.errors import BundleError, CheckpointError, DataError
from recdistill.linear import TALLY, Tally
from recdistill.loops.distil.seen import Seen
from recdistill.stream import LanePosition

if TYPE_CHECKING:
    from recdistill.loops.distil.saved import Saved
    from recdistill.train import Trainer


class Restart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place where a student did not simply go on. It stands in the provenance of its bundles.

    Attributes:
        how: `from`: it was told where to go on. `warm-start`: it took the weights of an older one.
        step: Its step at that time.
        to: Where it went on.
        left: Where it, or the older one, had stood; None where that is not known.
        source: Of a warm start: the content hash of the bundle, or the SHA-256 of the checkpoint's manifest.
    """

    how: Literal["from", "warm-start"]
    step: int
    to: LanePosition
    left: LanePosition | None = None
    source: str = ""


class Older(msgspec.Struct):
    """An older student.

    Attributes:
        source: See `Restart`.
        step: Its step.
        tensors: Its arrays, as a checkpoint names them.
        trainer: What a checkpoint says of its trainer.
        seen: What it has seen of the stream.
        parent: Content hash of its last bundle.
        left: Where it stood.
        tally: What it has counted of the lists that it learnt from.
    """

    source: str
    step: int
    tensors: Mapping[str, np.ndarray]
    trainer: dict[str, Any]
    seen: Seen
    parent: str
    left: LanePosition | None
    tally: Tally


def find(path: Path) -> checkpoint.Checkpoint | Bundle:
    """What stands at a path: a bundle, a checkpoint, or the newest checkpoint of a student's folder.

    Raises:
        CheckpointError: Nothing of these does, or it does not verify.
        BundleError: The bundle does not verify.
    """
    if (path / "tensors.safetensors").exists():
        return checkpoint.load(path)
    if (path / "checkpoints").is_dir() and (newest := checkpoint.latest(path / "checkpoints")) is not None:
        return newest
    if (path / "manifest.json").exists():
        return open_bundle(path)
    raise CheckpointError(
        f"{path}: there is nothing to start from; name a bundle, a checkpoint, or the distil.directory of a student"
    )


def source_of(found: checkpoint.Checkpoint | Bundle) -> str:
    """The name of an older student's bytes; see `Restart`."""
    if isinstance(found, Bundle):
        return found.content_hash
    return hashlib.sha256((found.path / "manifest.json").read_bytes()).hexdigest()


def older(found: checkpoint.Checkpoint | Bundle, trainer: Trainer) -> Older:
    """The older student.

    Args:
        found: Where it is.
        trainer: The new one, fresh; its shape must be the same.

    Raises:
        CheckpointError: It cannot be used.
    """
    return _of_bundle(found, trainer) if isinstance(found, Bundle) else _of_checkpoint(found)


def take_over(path: Path, trainer: Trainer, saved: Saved) -> tuple[int, Tally]:
    """Puts the older student at a path into a fresh trainer and a fresh state. Returns its step, and what it counted.

    Raises:
        CheckpointError, BundleError: It cannot be used.
    """
    found = older(find(path), trainer)
    _, fresh = trainer.state()
    fresh.pop("tenure", None)  # that of the older one counts, if it has one
    trainer.restore(found.tensors, {**fresh, **found.trainer})
    saved.seen, saved.parent = found.seen, found.parent
    saved.restarts = [Restart(how="warm-start", step=found.step, to=saved.lanes, left=found.left, source=found.source)]
    return found.step, found.tally


def check_same(path: Path, restarts: Sequence[Restart], own: Path) -> None:
    """A process that is started again in the same way finds its own student, and goes on with it.

    Args:
        path: The older student.
        restarts: Of the student that is there.
        own: Its checkpoint, for the error.

    Raises:
        CheckpointError: The student that is there began otherwise.
    """
    if not restarts or restarts[0].source != source_of(find(path)):
        raise CheckpointError(
            f"{own}: there is a student already, and it did not start from {path}; leave --warm-start out to go on "
            "with it, or start the new one in another distil.directory"
        )


def _of_checkpoint(found: checkpoint.Checkpoint) -> Older:
    try:
        stream, trainer = found.state["stream"], found.state["trainer"]
        seen = msgspec.convert(stream, Seen)
        left = LanePosition.read(stream["lanes"])
    except (KeyError, msgspec.ValidationError) as e:
        raise CheckpointError(f"{found.path}: is no checkpoint of a distiller ({e}); name another one") from e
    return Older(
        source=source_of(found),
        step=found.step,
        tensors=found.tensors,
        trainer=trainer,
        seen=seen,
        parent=str(stream.get("parent", "")),
        left=left,
        tally=tally_of(found, seen.examples),
    )


def _of_bundle(bundle: Bundle, trainer: Trainer) -> Older:
    from recdistill.train import state_of_bundle

    about = bundle.manifest.provenance
    step = int(about.get("step", 0))
    tensors, said = state_of_bundle(bundle, trainer, step)
    lanes = about.get("positions", {}).get("lanes")
    try:
        tally = Tally.of(bundle.read(TALLY)) if TALLY in bundle.manifest.files else None
    except DataError as e:
        raise BundleError(f"{bundle.path / TALLY}: {e}; fetch or export the bundle again") from e
    seen = Seen(
        examples=int(about.get("examples", 0)),
        teachers=dict(about.get("teachers", {})),
        popular=dict(bundle.popular),
    )
    return Older(
        source=bundle.content_hash,
        step=step,
        tensors=tensors,
        trainer=said,
        seen=seen,
        parent=bundle.content_hash,
        left=None if lanes is None else LanePosition.read(lanes),
        tally=tally or Tally(seen.examples),
    )


def tally_of(found: checkpoint.Checkpoint, examples: int) -> Tally:
    """What a checkpoint has counted of the lists that its student learnt from. One of before begins to count now.

    Raises:
        CheckpointError: It cannot be read.
    """
    if TALLY not in found.files:
        return Tally(examples)
    try:
        return Tally.of(found.read(TALLY))
    except DataError as e:
        raise CheckpointError(f"{found.path / TALLY}: {e}; restore it from a copy, or go on from an older one") from e
