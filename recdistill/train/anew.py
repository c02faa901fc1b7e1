"""What a trainer's state would be, had it learnt nothing yet: first weights and fresh optimizers.

A student that is made anew keeps its catalogue, its vocabulary, its counts and what its watch knows. Its rows start as
they did once, from the seed and their own keys. So it is the student that would have begun here.

It knows nothing of logs, or of why a student is made anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recdistill.train.beside import BEGUN_ANEW
from recdistill.train.previous import PREFIX as PREVIOUS

if TYPE_CHECKING:
    from recdistill.train.step import Trainer


def state_anew(trainer: Trainer, fresh: Trainer) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and plain data as `Trainer.restore` takes them.

    Args:
        trainer: The student that has learnt. It stays as it is.
        fresh: A student of the same settings that has learnt nothing: its dense weights are the first ones.
    """
    tensors, said = trainer.state()
    snapshot = trainer.vocabulary.snapshot()
    found: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        kind, _, key = name.partition("/")
        if kind.startswith("adam.") or name.startswith((*BEGUN_ANEW, PREVIOUS)):
            continue
        if kind == "adagrad":
            found[name] = np.zeros_like(array)
        elif kind == "weights" and key in fresh.student.dense:
            found[name] = fresh.student.dense[key].detach().numpy().copy()
        elif kind == "weights":
            found[name] = _first_rows(fresh, key, array, snapshot.get(key, []))
        else:
            found[name] = array
    gone = ("previous", "previous_unknown", "averaged", "average_level")
    return found, {field: value for field, value in said.items() if field not in gone}


def _first_rows(fresh: Trainer, key: str, array: np.ndarray, values: list[str | None]) -> np.ndarray:
    """The first values of a table's rows: shared ones first, then those of the vocabulary's values; free ones are 0."""
    rows, width = array.shape
    shared = rows - len(values)
    names = [*(f"row {row}" for row in range(shared)), *values]
    owned = [row for row, name in enumerate(names) if name is not None]
    first = np.zeros_like(array)
    first[owned] = fresh.student.fresh(key, [str(names[row]) for row in owned], width).numpy()
    return first
