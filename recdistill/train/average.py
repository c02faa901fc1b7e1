"""An average of the weights, for what goes out: the last steps of a stream leave noise in the weights themselves.

The student learns on from its own weights. The average is renewed every few steps. A row that no step changes between
two moments keeps its weights, and the average moves towards them. So all these renewals are done at once, just before
the row changes next, and when the average is read. A table of a million rows costs no more than the rows that steps
look up, and the average is what it would be if all rows were renewed each time.

A fresh row starts at its first value here too. A row that was given back is zero.

It knows nothing of losses, files or steps that are made elsewhere.

Example:
    >>> weights = {"w": torch.zeros(2)}
    >>> average = Average(weights, tables=())
    >>> weights["w"] += 1.0
    >>> average.take(weights, keep=0.5)  # in the beginning 2 / 11 of the old one are left, not a half
    >>> average.settled(weights)["w"].numpy().round(4).tolist() == [np.float32(0.8182)] * 2
    True
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from recdistill.errors import CheckpointError
from recdistill.train.copying import Rows

PREFIX = "average/"
AT = "average.at/"
TOUCHED = "average.rows/"
"""Of checkpoints of older versions: the rows that had changed since they were moved last. Nobody needs to know them."""

EVERY = 4
"""Steps from one renewal to the next, once the student has begun."""

BEGINNING = 128
"""In so many first steps it is renewed in each, so that a short run exports what it has learnt."""


def steps_since(step: int) -> int:
    """How many steps a renewal after this step stands for; 0: there is none.

    Example:
        >>> [steps_since(step) for step in (1, 128, 129, 132)]
        [1, 1, 0, 4]
    """
    if step <= BEGINNING:
        return 1
    return EVERY if step % EVERY == 0 else 0


class Average:
    """A second set of weights, which starts as the first one is.

    Args:
        weights: The student's, by name; of a table all rows, as in `Student.live`.
        tables: Names of those that are tables.
    """

    @torch.no_grad()
    def __init__(self, weights: Mapping[str, Tensor], tables: Collection[str]) -> None:
        self.taken = 0
        """How often it was renewed."""
        self.level = 0.0
        """Logarithm of what is left of the first weights."""
        # Memory of numpy's: it asks the kernel for large pages, and rows of a large table are then found twice as fast.
        self.values = {name: torch.from_numpy(value.detach().numpy().copy()) for name, value in weights.items()}
        self._at = {name: np.zeros(len(weights[name])) for name in tables}  # `level` when each row was moved last

    @torch.no_grad()
    def touch(self, name: str, rows: np.ndarray, table: Tensor) -> None:
        """Catches rows of a table up that a step is about to change.

        Args:
            name: The table.
            rows: The rows; −1 is none.
            table: What they are before the step.
        """
        flat, at = rows.ravel(), self._at[name]
        # Row −1 reads the last level. It is taken out after that, when few rows are left.
        late = flat[at[flat] != self.level]
        late = late[late >= 0]
        if len(late):
            self._move(name, np.unique(late), table.detach())

    @torch.no_grad()
    def take(self, weights: Mapping[str, Tensor], keep: float) -> None:
        """Renews it: the dense weights. The rows of tables are moved when they change next, or when they are read.

        Args:
            weights: The student's of now.
            keep: What is left of the old average. In the beginning less is left, so the first weights are soon gone.
        """
        self.taken += 1
        left = min(keep, (1 + self.taken) / (10 + self.taken))
        self.level += math.log(left)
        for name, value in weights.items():
            if name not in self._at:
                self.values[name].lerp_(value.detach(), 1 - left)

    def _move(self, name: str, rows: np.ndarray, table: Tensor) -> None:
        """Moves rows towards what they are in the student, by the time since they were moved last."""
        places = torch.from_numpy(rows.astype(np.int64))
        self.values[name].index_copy_(0, places, self._moved(name, table, self.level, places))
        self._at[name][rows] = self.level

    def _moved(self, name: str, table: Tensor, level: float, rows: slice | Tensor) -> Tensor:
        """What rows of a table are at a level, moved towards what they are now."""
        if isinstance(rows, slice):
            values, now, at = self.values[name][rows].clone(), table[rows], self._at[name][rows]
        else:
            values, now = self.values[name].index_select(0, rows), table.index_select(0, rows)
            at = self._at[name][rows.numpy()]
        left = torch.from_numpy(np.exp(level - at).astype(np.float32))
        return values.sub_(now).mul_(left[:, None]).add_(now)

    def settled(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor | Rows]:
        """The average of now. Of a table these are rows to ask for, while they do not change: see `copying`.

        Args:
            weights: The student's of now.
        """
        found: dict[str, Tensor | Rows] = dict(self.values)
        for name in self._at:
            found[name] = partial(self._moved, name, weights[name].detach(), self.level)
        return found

    @torch.no_grad()
    def set_rows(self, name: str, rows: Sequence[int], table: Tensor) -> None:
        """Gives rows of a table the values that they have in the student."""
        if len(rows):
            self.values[name][list(rows)] = table.detach()[list(rows)]
            self._at[name][list(rows)] = self.level

    def beside(self, heights: Mapping[str, int]) -> dict[str, np.ndarray]:
        """For a checkpoint: `level` when each row was moved last, f64, by the names of the tables.

        Args:
            heights: How many rows of a table are in use.
        """
        return {AT + name: at[: heights[name]].copy() for name, at in self._at.items()}

    @torch.no_grad()
    def restore(self, arrays: Mapping[str, np.ndarray], taken: int, level: float) -> None:
        """Takes what a checkpoint holds of it. One of a version that renewed all rows at once has no levels of rows.

        Raises:
            CheckpointError: It does not fit the student.
        """
        own = {name.removeprefix(PREFIX): value for name, value in arrays.items() if name.startswith(PREFIX)}
        if own.keys() != self.values.keys():
            raise CheckpointError("checkpoint: the average of the weights is not whole")
        for name, array in own.items():
            value = self.values[name]
            rows = value[: len(array), : array.shape[1]] if array.ndim == 2 and value.ndim == 2 else value
            if rows.shape != array.shape or array.dtype != np.float32:
                raise CheckpointError(f"checkpoint: {PREFIX}{name} is not of this student")
            rows.copy_(torch.from_numpy(np.array(array)))
        self.taken, self.level = taken, level
        for name, at in self._at.items():
            at[:] = level
            saved = arrays.get(AT + name)
            if saved is not None:
                if saved.shape != (len(own[name]),):
                    raise CheckpointError(f"checkpoint: {AT}{name} is not of this student")
                at[: len(saved)] = saved
