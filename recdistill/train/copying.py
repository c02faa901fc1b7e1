"""Copies of large tables, made on a thread of their own while the student reads its next batch.

The arrays are handed out at once, and are filled a moment later. Whoever changes a table calls `wait` first, and so
does whoever reads the arrays. The same memory is taken again for the next copies, because fresh memory costs more time
than the copying itself. So the arrays of the copies before must not be needed any more.

It knows nothing of students, files or steps.

Example:
    >>> copying = Copying()
    >>> table = torch.ones(3, 4)
    >>> taken = copying.take("id", table[:2], 3)
    >>> copying.begin()
    >>> copying.wait(); table.zero_()[0, 0].item(), taken.sum()
    (0.0, np.float32(6.0))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

Take = Callable[[str, Tensor, int], np.ndarray]
"""Gives a name, rows of a table and how many columns are wanted, and gets a copy of them."""


def at_once(_name: str, rows: Tensor, width: int) -> np.ndarray:
    """A copy that is whole when it is handed out."""
    return np.asarray((rows[:, :width] if rows.ndim == 2 else rows).numpy().copy())


class Copying:
    """The copies of one moment. `take` and `begin` are for one thread, `wait` is for any."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "recdistill-copy")
        self._memory: dict[str, np.ndarray] = {}
        self._left: list[Callable[[], object]] = []
        self._job: Future[None] | None = None

    def take(self, name: str, rows: Tensor, width: int) -> np.ndarray:
        """Has rows copied when `begin` is called. Returns the copy, which is filled after `wait`.

        Args:
            name: For the memory that is used again; one copy of a moment has it.
            rows: Rows of a table, float32.
            width: How many of its columns are wanted. All are copied, since whole rows are copied faster.
        """
        size = math.prod(rows.shape)
        memory = self._memory.get(name)
        if memory is None or not size <= len(memory) <= 2 * size + 1024:
            memory = self._memory[name] = np.empty(size + size // 8, np.float32)
        target = memory[:size].reshape(tuple(rows.shape))
        self._left.append(partial(torch.from_numpy(target).copy_, rows.detach()))
        return target[:, :width] if target.ndim == 2 else target

    def begin(self) -> None:
        """Begins to copy what was taken."""
        left, self._left = self._left, []

        def work() -> None:
            for copy in left:
                copy()

        self._job = self._thread.submit(work)

    def wait(self) -> None:
        """Waits until the copies are whole."""
        if self._job is not None:
            self._job.result()
