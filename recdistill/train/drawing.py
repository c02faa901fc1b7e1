"""Draws slots with chances in proportion to whole numbers, from a million slots in the time of a few thousand.

The numbers stand in blocks, and the sum of each block is kept. A draw finds the block first, and then the slot within
it. So a change costs one sum, and nothing passes over all slots. The numbers are whole, so the sums do not depend on
the order of the changes: a run that was stopped and restored draws the same slots.

It knows nothing of items, losses or torch.

Example:
    >>> drawing = Drawing()
    >>> drawing.set(np.array([0, 1, 5]), np.array([2, 0, 6]))
    >>> drawing.total, drawing.find(np.array([0.0, 0.2, 0.25, 0.99])).tolist()
    (8, [0, 0, 5, 5])
"""

from __future__ import annotations

from typing import Final

import numpy as np

BLOCK: Final = 16
"""A draw adds up the weights of one block, and the sums of all blocks: of a million slots 62,500."""


class Drawing:
    """Slots and their weights; a slot that was never set weighs 0."""

    def __init__(self) -> None:
        self.weights_N = np.zeros(0, np.int64)
        """By slot. There are more of them than slots: room for later ones, which weigh 0."""
        self.total = 0
        self._sums_K = np.zeros(0, np.int64)

    def set(self, slots: np.ndarray, weights: np.ndarray) -> None:
        """Gives slots their weights.

        Args:
            slots: `[M]`, each once.
            weights: int64 `[M]`, 0 or more. The sum of all weights must be below 2^63.
        """
        if not len(slots):
            return
        if (most := int(slots.max())) >= len(self.weights_N):
            blocks = max(most // BLOCK + 1, 2 * len(self._sums_K))
            self.weights_N = np.pad(self.weights_N, (0, blocks * BLOCK - len(self.weights_N)))
            self._sums_K = np.pad(self._sums_K, (0, blocks - len(self._sums_K)))
        more = weights - self.weights_N[slots]
        self.weights_N[slots] = weights
        np.add.at(self._sums_K, slots // BLOCK, more)
        self.total += int(more.sum())

    def find(self, numbers_S: np.ndarray) -> np.ndarray:
        """The slot for each number.

        Args:
            numbers_S: f64 `[S]`, in [0, 1). Uniform numbers give each slot its chance.

        Returns:
            int64 `[S]`. A slot of weight 0 is never among them; `total` must be above 0.
        """
        target_S = np.minimum((numbers_S * self.total).astype(np.int64), self.total - 1)
        upto_K = self._sums_K.cumsum()
        block_S = np.searchsorted(upto_K, target_S, side="right")
        left_S = target_S - (upto_K[block_S] - self._sums_K[block_S])
        within_SC = self.weights_N.reshape(-1, BLOCK)[block_S].cumsum(1)
        slots_S: np.ndarray = block_S * BLOCK + (within_SC <= left_S[:, None]).sum(1)
        return slots_S
