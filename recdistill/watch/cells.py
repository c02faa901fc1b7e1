"""Which share of a quantity lies in which cell: a window of the stream against a reference window.

The distance is the population stability index (Siddiqi, "Credit risk scorecards", 2006),
`Σ_c (q_c − p_c) ln(q_c / p_c)`, with p the shares of the reference and q those of the window. By the usual rule a value
below .1 is calm, and one above .25 is a shift. Two conditions must hold before a shift is told:

- the index is at least `LEAST`, so a change that is sure and too small to matter is not told;
- chance does not explain it. Without a shift, `PSI ≈ (1/n + 1/m) χ²` with one degree of freedom less than there are
  cells (Yurdakul, 2018). Lists of one user are alike, so the true spread is wider: it is divided by how much the blocks
  of the reference differ from each other (Rao and Scott, 1981; never below 1).

The question is asked again with each window. The k-th question of a reference may be wrong with probability
`α / (k (k + 1))`. These add up to α, so α bounds the chance of a false alarm over the whole life of a reference.

All counts are of entries in the order of the stream, in blocks of fixed size. So the answer does not depend on how the
stream is cut into batches.

It knows nothing of what the cells mean.

Example:
    >>> random, cells = np.random.default_rng(0), Cells()
    >>> cells.add(random.integers(0, 4, 4000), np.arange(4000), alpha=0.01) is None, round(cells.index, 3) < 0.05
    (True, True)
    >>> found = cells.add(random.integers(0, 2, 1000), np.arange(4000, 5000), alpha=0.01)
    >>> found.index > 0.25, found.since
    (True, 4000)
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from msgspec import Struct

BLOCK = 50
"""Entries of a block, unless it is told otherwise."""

REFERENCE = 40
"""Blocks of the reference window: 2,000 entries in blocks of 50."""

WINDOW = 10
"""Blocks of each window that is compared with it."""

LEAST = 0.2
"""An index below this is not told."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Moved:
    """A shift that was found."""

    index: float
    """The population stability index."""
    reference: tuple[int, int]
    """Numbers of the first and the last list of the reference."""
    since: int
    """Number of the first list of the window that differs."""


class Cells(Struct):
    """Counts of one quantity: the reference, the window that is being filled, and the block that is being filled."""

    base: list[int] = []
    """Entries of each cell in the reference."""
    squares: list[int] = []
    """Over the blocks of the reference, the sum of the squared counts of each cell."""
    blocks: int = 0
    """Blocks in the reference."""
    first: int = -1
    last: int = -1
    """Numbers of the first and the last list of the reference; −1: there is none yet."""
    window: list[int] = []
    filled: int = 0
    """Blocks in the window."""
    since: int = -1
    """Number of the window's first list."""
    open: list[int] = []
    held: int = 0
    """Entries of the open block."""
    asked: int = 0
    """How often this reference was compared."""
    index: float = 0.0
    """The index of the newest whole window."""

    def add(self, cells_E: Ints, at_E: Ints, *, alpha: float, block: int = BLOCK) -> Moved | None:
        """Adds entries. Returns a shift, the first time that one is sure; then a new reference begins.

        Args:
            cells_E: Cell of each entry, from 0.
            at_E: Number of the list of each entry, ascending.
            alpha: Chance of a false alarm over the life of a reference.
            block: Entries of a block.
        """
        found: Moved | None = None
        at = 0
        while at < len(cells_E):
            part = slice(at, at + max(1, block - self.held))
            counts = np.bincount(cells_E[part])
            if not self.held:
                self.open = []
                if self.blocks < REFERENCE:
                    self.first = int(at_E[at]) if not self.blocks else self.first
                elif not self.filled:
                    self.since = int(at_E[at])
            self.open = _sum(self.open, counts)
            taken = len(cells_E[part])
            self.held, at = self.held + taken, at + taken
            if self.held >= block:
                moved = self._close(int(at_E[at - 1]), alpha)
                found = found or moved
        return found

    def _close(self, last: int, alpha: float) -> Moved | None:
        """Puts the open block where it belongs, and compares a window that is whole."""
        self.held = 0
        if self.blocks < REFERENCE:
            self.base = _sum(self.base, np.array(self.open))
            self.squares = _sum(self.squares, np.array(self.open) ** 2)
            self.blocks, self.last = self.blocks + 1, last
            return None
        self.window, self.filled = _sum(self.window, np.array(self.open)), self.filled + 1
        if self.filled < WINDOW:
            return None
        self.asked += 1
        self.index, limit = self.compared(alpha / (self.asked * (self.asked + 1)))
        moved = None
        if self.index >= limit:
            moved = Moved(self.index, (self.first, self.last), self.since)
            self.base, self.squares, self.blocks, self.first, self.last, self.asked = [], [], 0, -1, -1, 0
        self.window, self.filled, self.since = [], 0, -1
        return moved

    def compared(self, alpha: float) -> tuple[float, float]:
        """The index of the window, and what it must reach so that it is told."""
        size = max(len(self.base), len(self.window))
        base_C, window_C = (np.array([*counts, *[0] * (size - len(counts))]) for counts in (self.base, self.window))
        used_C = (base_C + window_C) > 0
        base_C, window_C = base_C[used_C].astype(np.float64), window_C[used_C].astype(np.float64)
        cells, m, n = len(base_C), base_C.sum(), window_C.sum()
        if cells < 2:
            return 0.0, LEAST
        # Half an entry in each cell, so that a cell that is new has a finite share.
        p_C, q_C = ((counts_C + 0.5) / (counts_C.sum() + 0.5 * cells) for counts_C in (base_C, window_C))
        index = float(((q_C - p_C) * np.log(q_C / p_C)).sum())
        limit = (1 / n + 1 / m) * self._spread() * chi_squared(cells - 1, alpha)
        return index, max(LEAST, limit)

    def _spread(self) -> float:
        """How much wider the blocks of the reference spread than independent entries would; at least 1.

        It is Pearson's statistic of the blocks over its degrees of freedom.
        """
        base_C = np.array(self.base, np.float64)
        squares_C = np.array(self.squares, np.float64)[base_C > 0]
        base_C = base_C[base_C > 0]
        if self.blocks < 2 or len(base_C) < 2:
            return 1.0
        expected_C = base_C / self.blocks
        statistic = float(((squares_C - self.blocks * expected_C**2) / expected_C).sum())
        return max(1.0, statistic / ((self.blocks - 1) * (len(base_C) - 1)))


def chi_squared(degrees: int, alpha: float) -> float:
    """What a χ² exceeds with probability α, by the approximation of Wilson and Hilferty (1931).

    Example:
        >>> round(chi_squared(10, 0.01), 1)  # exact: 23.2
        23.2
    """
    part = 2 / (9 * degrees)
    return float(degrees * (1 - part - NormalDist().inv_cdf(alpha) * part**0.5) ** 3)


def _sum(counts: list[int], more_C: npt.NDArray[np.integer]) -> list[int]:
    """Two lists of counts added up; the shorter one counts as 0 behind its end."""
    total_C = np.zeros(max(len(counts), len(more_C)), np.int64)
    total_C[: len(counts)] += np.array(counts, np.int64)
    total_C[: len(more_C)] += more_C
    found: list[int] = total_C.tolist()
    return found
