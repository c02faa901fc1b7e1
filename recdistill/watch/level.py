"""The mean of a quantity of the stream, and whether it has moved: a CUSUM over the means of blocks.

The means of blocks of 50 values are nearly normal, whatever the values are. The first blocks say what is usual, and
later ones count in it as long as nothing is suspicious. `Figure` watches them: two CUSUMs (Page, 1954), one for a fall
and one for a rise. They look for a shift of 1.5 deviations of a block's mean, or of `least` where that is more. For
independent blocks a false alarm comes on average after 10⁸ blocks (Lorden, 1971).

It knows nothing of what the values are.

Example:
    >>> random, level = np.random.default_rng(0), Level()
    >>> calm, low = random.normal(0.5, 0.2, 5000), random.normal(0.3, 0.2, 1000)
    >>> level.add(calm, np.arange(5000), least=0.05) is None
    True
    >>> level.add(low, np.arange(5000, 6000), least=0.05)
    Shifted(usual=0.5, now=0.32, since=5000)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

from recdistill.watch.cells import BLOCK
from recdistill.watch.figures import THRESHOLD, Figure

ENOUGH = 30
"""Blocks after which a mean is a reference."""

HALF_LIFE = 400
"""After so many blocks a block counts half as much in the reference."""

RUN = 2
"""An alarm needs at least so many blocks in a row."""

SHIFT = 1.5
"""The shift that is looked for, in deviations of a block's mean."""

LATE = 5
"""Over so many of the newest blocks the mean of now is taken."""


@dataclass(frozen=True)
class Shifted:
    """A mean that has moved."""

    usual: float
    now: float
    since: int
    """Number of the list where it began."""


class Level(Struct):
    """The usual mean of one quantity, and the newest blocks."""

    figure: Figure = field(default_factory=Figure)
    total: float = 0.0
    held: int = 0
    first: int = 0
    """Number of the open block's first list."""
    late: list[float] = []
    """Means of the newest blocks, oldest first."""

    @property
    def now(self) -> float:
        """The mean of the newest blocks; 0 while there is none."""
        return sum(self.late) / len(self.late) if self.late else 0.0

    @property
    def known(self) -> bool:
        """Whether there are enough blocks to say what is usual."""
        return self.figure.weight >= ENOUGH

    def add(
        self,
        values_E: npt.NDArray[np.float64],
        at_E: npt.NDArray[np.int64],
        *,
        least: float,
        rises: bool = True,
        block: int = BLOCK,
    ) -> Shifted | None:
        """Adds values; those that are not finite are left out. Returns a shift, the first time that one is sure.

        Args:
            values_E: The values, in the order of the stream.
            at_E: Number of the list of each.
            least: The smallest shift that matters.
            rises: Whether a rise is told; else only a fall is.
            block: Values of a block.
        """
        real_E = np.isfinite(values_E)
        found: Shifted | None = None
        for value, at in zip(values_E[real_E].tolist(), at_E[real_E].tolist(), strict=True):
            self.first = at if not self.held else self.first
            self.total, self.held = self.total + value, self.held + 1
            if self.held >= block:
                shifted = self._close(least, rises=rises)
                found = found or shifted
        return found

    def _close(self, least: float, *, rises: bool) -> Shifted | None:
        mean, at = np.array([self.total / self.held]), np.array([self.first])
        self.total, self.held = 0.0, 0
        self.late = [*self.late[1 - LATE :], float(mean[0])]
        figure = self.figure
        if self.known:
            sd = max(figure.sd, least / SHIFT)
            fell = figure.falls(mean, SHIFT * sd, sd, at, RUN)
            rose = figure.rises(mean, SHIFT * sd, sd, at, RUN) and rises
            if fell or rose:
                onset = figure.low_onset if fell else figure.high_onset
                run = min(figure.low_run if fell else figure.high_run, LATE)
                now = float(np.mean(self.late[-run:]))
                found = Shifted(round(figure.mean, 2), round(now, 2), onset)
                self.figure = Figure()
                return found
            if not rises:
                figure.high, figure.high_run = 0.0, 0
        if max(figure.low, figure.high) < THRESHOLD / 4:
            figure.add(mean, HALF_LIFE)
        return None
