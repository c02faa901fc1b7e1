"""What a trainer's state would be, had it come from a bundle: its weights and its catalogue, and fresh optimizers.

A bundle holds all weights of a student, as the constants of its two graphs, and the rows that its vocabulary gave. The
new student may have room for more values, or for fewer.

It knows nothing of logs or of where the bundle came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recdistill.bundle import Bundle
from recdistill.errors import CheckpointError
from recdistill.features import Catalogue, Vocabulary
from recdistill.model import graphs

if TYPE_CHECKING:
    from recdistill.train.step import Trainer


def state_of_bundle(bundle: Bundle, trainer: Trainer, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and plain data as `Trainer.restore` takes them.

    Args:
        bundle: The bundle.
        trainer: The trainer that will take them, fresh: what a bundle does not hold is as it is there.
        step: The step of the student.

    Raises:
        CheckpointError: The bundle was made with another feature specification, or lacks a weight.
    """
    spec = trainer.spec
    if bundle.spec.shape != spec.shape:
        raise CheckpointError(
            f"{bundle.path}: was made with another feature specification; set features.file to the one it was made "
            "with. Only the capacity of ids and categories, min_seen and [vocabulary] may differ"
        )
    # Where there is less room now, the values in the highest rows lose theirs.
    kept = {key: values[: spec.reserved(key)[1]] for key, values in bundle.vocabulary.snapshot().items()}
    vocabulary = Vocabulary.restore(spec, kept)
    weights = graphs.tower_weights(bundle.user_tower) | graphs.tower_weights(bundle.item_tower)
    weights |= {key: weights[key][: vocabulary.size(key)] for key in vocabulary.keys if key in weights}
    catalogue = Catalogue(spec, vocabulary)
    for item in bundle.items:
        catalogue.apply(item, admit=False)
    fresh, said = trainer.state()
    tensors = {f"catalogue/{name}": value for name, value in catalogue.snapshot().items()}
    for name in fresh:
        kind, _, key = name.partition("/")
        if kind in ("weights", "average"):
            if key not in weights:
                raise CheckpointError(f"{bundle.path}: its towers lack {key}; set [student] as the bundle was made")
            tensors[name] = np.asarray(weights[key], dtype=np.float32)
        elif kind == "adagrad":
            sums = fresh[name]
            tensors[name] = np.zeros((len(weights[key]), *sums.shape[1:]), dtype=np.float32)
    said = {name: value for name, value in said.items() if name != "tenure"}  # a bundle knows no uses
    return tensors, {**said, "step": step, "vocabulary": vocabulary.snapshot()}
