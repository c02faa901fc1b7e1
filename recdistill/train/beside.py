"""What a trainer keeps beside its weights, as a checkpoint holds it: the average, the lists to look at again, counts.

A checkpoint of an older version, or of other settings, lacks some of it. Then it starts as with a fresh student. What
the settings of now have no use for is left out.

It knows nothing of files or of how a step learns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recdistill.train.average import PREFIX as AVERAGE
from recdistill.train.average import Average
from recdistill.train.copying import Take, at_once
from recdistill.train.replay import PREFIX as REPLAY
from recdistill.train.rivals import POPULAR

if TYPE_CHECKING:
    from recdistill.train.state import TrainerState
    from recdistill.train.step import Trainer


def state_beside(
    trainer: Trainer, heights: dict[str, int], take: Take = at_once
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Its arrays, copied by `take`, and its fields of `TrainerState`."""
    tensors: dict[str, np.ndarray] = {}
    fields: dict[str, Any] = {}
    if trainer.average is not None:
        own: Take = lambda name, rows, width: take(AVERAGE + name, rows, width)  # noqa: E731
        values = trainer.student.weights(heights, trainer.average.values, own)
        tensors |= {AVERAGE + key: value for key, value in values.items()}
        fields["averaged"] = trainer.average.taken
    if trainer.replay is not None:
        trainer.replay.follow(trainer.catalogue)
        kept, fields["replay"] = trainer.replay.state()
        tensors |= kept
    if trainer.popular is not None:
        tensors[POPULAR] = trainer.popular.counts(trainer.catalogue)
    return tensors, fields


def taken_beside(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Takes these arrays out of those of a checkpoint."""
    return {name: tensors.pop(name) for name in list(tensors) if name.startswith((AVERAGE, REPLAY, POPULAR))}


def restore_beside(trainer: Trainer, tensors: dict[str, np.ndarray], said: TrainerState) -> None:
    """Gives a trainer, whose weights are restored, what `state_beside` saved.

    Raises:
        CheckpointError: It does not fit the student.
    """
    if trainer.replay is not None:
        trainer.replay.restore(tensors, said.replay, trainer.catalogue)
    if trainer.popular is not None:
        trainer.popular.restore(trainer.catalogue, tensors.get(POPULAR))
    if trainer.average is not None:
        trainer.average = Average(trainer.student.live())
        if said.averaged is not None:
            own = {name.removeprefix(AVERAGE): value for name, value in tensors.items() if name.startswith(AVERAGE)}
            trainer.average.restore(own, said.averaged)
