"""What a trainer keeps beside its weights, as a checkpoint holds it: average, older lists, counts, the scores' head.

A checkpoint of an older version, or of other settings, lacks some of it. Then it starts as with a fresh student. What
the settings of now have no use for is left out.

It knows nothing of files or of how a step learns.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from recdistill.train.average import AT, TOUCHED, Average
from recdistill.train.average import PREFIX as AVERAGE
from recdistill.train.copying import Take, at_once
from recdistill.train.head import PREFIX as HEAD
from recdistill.train.replay import PREFIX as REPLAY
from recdistill.train.rivals import POPULAR

if TYPE_CHECKING:
    from recdistill.train.state import TrainerState
    from recdistill.train.step import Trainer

HEADS = (AVERAGE, AT, TOUCHED, REPLAY, POPULAR, HEAD)
"""How the names of these arrays begin."""

BEGUN_ANEW = (AVERAGE, AT, TOUCHED, HEAD)
"""Of these, what a student that is made anew does not keep: what follows from weights."""


def state_beside(
    trainer: Trainer, heights: dict[str, int], take: Take = at_once
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Its arrays, copied by `take`, and its fields of `TrainerState`."""
    tensors: dict[str, np.ndarray] = {}
    fields: dict[str, Any] = {}
    if trainer.average is not None:
        values = trainer.student.weights(heights, trainer.average.values, partial(take, kind=AVERAGE))
        tensors |= {AVERAGE + key: value for key, value in values.items()} | trainer.average.beside(heights)
        fields |= {"averaged": trainer.average.taken, "average_level": trainer.average.level}
    if trainer.replay is not None:
        trainer.replay.follow(trainer.catalogue)
        kept, fields["replay"] = trainer.replay.state()
        tensors |= kept
    if trainer.popular is not None:
        tensors[POPULAR] = trainer.popular.counts(trainer.catalogue)
    if trainer.head is not None:
        tensors |= trainer.head.state()
    return tensors, fields


def taken_beside(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Takes these arrays out of those of a checkpoint."""
    return {name: tensors.pop(name) for name in list(tensors) if name.startswith(HEADS)}


def restore_beside(trainer: Trainer, tensors: dict[str, np.ndarray], said: TrainerState) -> None:
    """Gives a trainer, whose weights are restored, what `state_beside` saved.

    Raises:
        CheckpointError: It does not fit the student.
    """
    if trainer.replay is not None:
        trainer.replay.restore(tensors, said.replay, trainer.catalogue)
    if trainer.popular is not None:
        trainer.popular.restore(trainer.catalogue, tensors.get(POPULAR))
    if trainer.head is not None:
        trainer.head.restore(tensors)
    if trainer.average is not None:
        trainer.average = Average(trainer.student.live(), trainer.student.tables)
        if said.averaged is not None:
            trainer.average.restore(tensors, said.averaged, said.average_level)
