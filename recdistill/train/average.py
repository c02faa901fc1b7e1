"""The average of a student's weights over its last steps: what is exported, judged and served.

The weights of a student that learns with a steady rate go on trembling around what it has found. Their running average
trembles less (Polyak and Juditsky, 1992; the exponential form, as Tarvainen and Valpola, NeurIPS 2017, use it). The
student itself goes on from its own weights. The average is renewed every few steps, so that a large table costs little.

A fresh row starts at its first value here too. A row that was given back is zero.

It knows nothing of losses, files or steps that are made elsewhere.

Example:
    >>> weights = {"w": torch.zeros(2)}
    >>> average = Average(weights)
    >>> weights["w"] += 1.0
    >>> average.take(weights, {}, keep=0.5)  # in the beginning 2 / 11 of the old one are left, not a half
    >>> average.values["w"].numpy().round(4).tolist() == [np.float32(0.8182)] * 2
    True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from recdistill.errors import CheckpointError

PREFIX = "average/"

EVERY = 16
"""Steps from one renewal to the next, once the student has begun."""

BEGINNING = 128
"""In so many first steps it is renewed in each, so that a short run exports what it has learnt."""


def steps_since(step: int) -> int:
    """How many steps a renewal after this step stands for; 0: there is none.

    Example:
        >>> [steps_since(step) for step in (1, 128, 129, 144)]
        [1, 1, 0, 16]
    """
    if step <= BEGINNING:
        return 1
    return EVERY if step % EVERY == 0 else 0


class Average:
    """A second set of weights, which starts as the first one is.

    Args:
        weights: The student's, by name; of a table all rows, as in `Student.live`.
    """

    @torch.no_grad()
    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.taken = 0
        """How often it was renewed."""
        self.values = {name: value.detach().clone() for name, value in weights.items()}

    @torch.no_grad()
    def take(self, weights: Mapping[str, Tensor], heights: Mapping[str, int], keep: float) -> None:
        """Renews it.

        Args:
            weights: The student's of now.
            heights: How many rows of a table are in use.
            keep: What is left of the old average. In the beginning less is left, so the first weights are soon gone.
        """
        self.taken += 1
        share = 1 - min(keep, (1 + self.taken) / (10 + self.taken))
        for name, value in weights.items():
            rows = heights.get(name, len(value))
            self.values[name][:rows].lerp_(value.detach()[:rows], share)

    @torch.no_grad()
    def set_rows(self, name: str, rows: Sequence[int], table: Tensor) -> None:
        """Gives rows of a table the values that they have in the student."""
        if len(rows):
            self.values[name][list(rows)] = table.detach()[list(rows)]

    @torch.no_grad()
    def restore(self, arrays: Mapping[str, np.ndarray], taken: int) -> None:
        """Takes what a checkpoint holds of it.

        Raises:
            CheckpointError: It does not fit the student.
        """
        if arrays.keys() != self.values.keys():
            raise CheckpointError("checkpoint: the average of the weights is not whole")
        for name, array in arrays.items():
            value = self.values[name]
            rows = value[: len(array), : array.shape[1]] if array.ndim == 2 and value.ndim == 2 else value
            if rows.shape != array.shape or array.dtype != np.float32:
                raise CheckpointError(f"checkpoint: {PREFIX}{name} is not of this student")
            rows.copy_(torch.from_numpy(np.array(array)))
        self.taken = taken
