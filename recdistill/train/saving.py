"""All that the next step depends on: taken from a trainer for a checkpoint, and given back to one.

It knows nothing of files or of how a step learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from recdistill.errors import CheckpointError, DataError
from recdistill.features import Catalogue, Tenure, Vocabulary
from recdistill.train.beside import restore_beside, state_beside, taken_beside
from recdistill.train.copying import Take
from recdistill.train.previous import PREFIX
from recdistill.train.state import FORMAT, FORMAT_WITH_HOLES, TrainerState, fill, tensors_of

if TYPE_CHECKING:
    from recdistill.train.step import Trainer

_CATALOGUE = "catalogue/"


def state_of(trainer: Trainer, take: Take) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name, and plain data for JSON.

    Args:
        trainer: Its fresh rows are begun.
        take: Copies the rows of a table, see `copying`.
    """
    tensors = tensors_of(trainer.student, trainer.adam, trainer.heights(), take)
    tensors |= {f"{_CATALOGUE}{name}": value for name, value in trainer.catalogue.snapshot().items()}
    tensors |= trainer.tenure.arrays()
    copy = trainer.previous
    if copy is not None:
        tensors |= copy.tensors(trainer.catalogue)
    beside, fields = state_beside(trainer, trainer.heights(), take)
    tensors |= beside
    holes = trainer.vocabulary.holes or trainer.catalogue.holes or (copy is not None and copy.unknown)
    said = TrainerState(
        format=FORMAT_WITH_HOLES if holes else FORMAT,
        step=trainer.step,
        seed=trainer.seed,
        spec=trainer.spec.hash,
        threads=torch.get_num_threads(),
        sizes=trainer.shape.sizes(),
        vocabulary=trainer.vocabulary.snapshot(),
        watch=None if trainer.watch is None else trainer.watch.state(),
        previous=None if copy is None else copy.items,
        previous_unknown=[] if copy is None else copy.unknown,
        tenure=trainer.tenure.plain(),
        **fields,
    )
    return tensors, said.plain()


def restore_into(trainer: Trainer, tensors: Mapping[str, np.ndarray], plain: Mapping[str, Any]) -> None:
    """Gives a trainer what `state_of` took of another one, or of itself.

    Raises:
        CheckpointError: It is the state of another student. Do not use the trainer after this.
    """
    try:
        said = TrainerState.read(plain)
        said.check(spec=trainer.spec.hash, sizes=trainer.shape.sizes(), seed=trainer.seed)
        vocabulary = Vocabulary.restore(trainer.spec, said.vocabulary)
        left = dict(tensors)
        snapshot = {name.removeprefix(_CATALOGUE): left.pop(name) for name in tensors if name.startswith(_CATALOGUE)}
        catalogue = Catalogue.restore(trainer.spec, vocabulary, snapshot)
        tenure = Tenure(catalogue)
        tenure.restore({name: left.pop(name) for name in tensors if name.startswith(Tenure.PREFIX)}, said.tenure)
        trainer.stand_on(vocabulary, catalogue, tenure, step=said.step)
        if trainer.watch is not None:
            trainer.watch.restore(said.watch if said.watch is not None else plain["watch"])
        copy = {name: left.pop(name) for name in tensors if name.startswith(PREFIX)}
        beside = taken_beside(left)
        fill(trainer.student, trainer.adam, trainer.heights(), left)
        restore_beside(trainer, beside, said)
        if trainer.previous is not None:
            # Without a copy so far, the first one is taken at the next multiple of its steps.
            items = said.previous or 0
            trainer.previous.restore(copy, items, said.previous_unknown, trainer.weights(), trainer.catalogue)
    except KeyError as e:
        raise CheckpointError(f"checkpoint: lacks {e}; it was written by another version") from e
    except DataError as e:
        raise CheckpointError(f"checkpoint: {e}") from e
