"""Copies of large tables, made on a thread of their own while the student learns on.

The arrays are handed out at once and are filled a moment later. Meanwhile steps change rows. Whoever is about to change
rows of a table says so first (`keep`). Rows that the thread has not reached yet are then copied at once. So an array
holds what the table was when it was taken, and no step waits until a whole table is copied.

The same memory is taken again for the next copies, because fresh memory costs more time than the copying itself. So
the arrays of the copies before must not be needed any more.

It knows nothing of students, files or steps.

Example:
    >>> copying = Copying()
    >>> table = torch.ones(3, 4)
    >>> taken = copying.take("id", rows_of(table), (2, 4), 3)
    >>> copying.keep("id", np.array([1]))
    >>> table[1] = 5.0
    >>> copying.begin()
    >>> copying.wait()
    >>> taken.sum()
    np.float32(6.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

BLOCK = 1 << 14
"""So many rows the thread copies at once."""

Rows = Callable[[slice | Tensor], Tensor]
"""What rows of a table are now, by a slice or by their places, int64."""


class Take(Protocol):
    """Has a table copied."""

    def __call__(self, key: str, now: Rows, shape: tuple[int, ...], width: int, kind: str = "") -> np.ndarray:
        """Returns the copy, float32.

        Args:
            key: The table's.
            now: Its rows.
            shape: How many rows are wanted, and how wide they are.
            width: How many of their columns are wanted.
            kind: What of the table it is, where more than one array belongs to it.
        """


def rows_of(table: Tensor) -> Rows:
    """The rows of a table as they are."""
    held = table.detach()
    return lambda rows: held[rows] if isinstance(rows, slice) else held.index_select(0, rows)


def at_once(key: str, now: Rows, shape: tuple[int, ...], width: int, kind: str = "") -> np.ndarray:
    """A copy that is whole when it is handed out, see `Take`."""
    del key, kind  # it needs no memory of theirs
    rows = now(slice(0, shape[0]))
    return np.asarray((rows[:, :width] if rows.ndim == 2 else rows).numpy().copy())


class _Copy:
    """One array that is being filled.

    There is no lock. A row is kept before it is changed, and the thread writes the kept rows last. So it does not
    matter what the thread reads of a row that changes at the same time.
    """

    def __init__(self, target: Tensor, now: Rows) -> None:
        self._target, self._now = target, now
        self._done = 0  # rows that the thread has copied
        self._is_kept_N = np.zeros(len(target), bool)
        self._kept: list[tuple[Tensor, Tensor]] = []

    def keep(self, rows: np.ndarray) -> None:
        """Copies rows that are about to change, if nobody has yet. −1 is none."""
        late = rows[(rows >= self._done) & (rows < len(self._is_kept_N))]
        late = late[~self._is_kept_N[late]]
        if len(late):
            late = np.unique(late).astype(np.int64)
            places = torch.from_numpy(late)
            self._kept.append((places, self._now(places)))
            self._is_kept_N[late] = True

    def fill(self) -> None:
        """Runs in the thread."""
        count = len(self._target)
        for begin in range(0, count, BLOCK):
            rows = slice(begin, min(begin + BLOCK, count))
            self._target[rows].copy_(self._now(rows))
            self._done = rows.stop
        for places, values in self._kept:
            self._target.index_copy_(0, places, values)


class Copying:
    """The copies of one moment. `wait` is for any thread, all else is for one."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "recdistill-copy")
        self._memory: dict[str, np.ndarray] = {}
        self._copies: list[tuple[str, _Copy]] = []
        self._job: Future[None] | None = None

    @torch.no_grad()
    def take(self, key: str, now: Rows, shape: tuple[int, ...], width: int, kind: str = "") -> np.ndarray:
        """Has rows copied from `begin` on, see `Take`. The copy is whole after `wait`.

        All columns are copied, since whole rows are copied faster.
        """
        self._end()
        size = math.prod(shape)
        memory = self._memory.get(kind + key)
        if memory is None or not size <= len(memory) <= 2 * size + 1024:
            memory = self._memory[kind + key] = np.empty(size + size // 8, np.float32)
        target = memory[:size].reshape(shape)
        self._copies.append((key, _Copy(torch.from_numpy(target), now)))
        return target[:, :width] if target.ndim == 2 else target

    def begin(self) -> None:
        """Begins to copy what was taken."""
        copies = [copy for _, copy in self._copies]

        def work() -> None:
            with torch.no_grad():
                for copy in copies:
                    copy.fill()

        self._job = self._thread.submit(work)

    @property
    def working(self) -> bool:
        """Whether there is a copy that is not whole yet."""
        if self._job is not None and self._job.done():
            self._end()
        return bool(self._copies)

    @torch.no_grad()
    def keep(self, key: str, rows: np.ndarray) -> None:
        """Must be called before rows of a table change, while it is `working`.

        Args:
            key: The table's.
            rows: Their numbers, any shape; −1 is none.
        """
        for name, copy in self._copies:
            if name == key:
                copy.keep(rows)

    def wait(self) -> None:
        """Waits until the copies are whole.

        Raises:
            BaseException: What went wrong in the thread.
        """
        job = self._job  # read once: the thread that takes copies may let it go between two looks
        if job is not None:
            job.result()

    def _end(self) -> None:
        """Lets the copies before go, when they are whole."""
        if self._job is not None:
            self._job.result()
            self._job, self._copies = None, []
