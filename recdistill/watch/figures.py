"""Running figures of a stream, and a test that tells when the mean of one has changed.

A `Figure` is the mean and spread of one quantity. Recent values count more. Two CUSUMs (Page, 1954) of log-likelihood
ratios watch its mean, one for a fall and one for a rise. Each value adds `δ d / sd − δ² / 2` to the sum. Here d is how
far the value is from the mean, and `δ = shift / sd`. The sum never falls below 0. So it grows when the mean has moved
by more than half of `shift`. For independent normal values, a false alarm comes on average after at least e^threshold
values (Lorden, 1971). Values of a real stream are not independent: stories come and go. There a sum of this height is
reached more often. `benchmarks/bench_watch.py` counts how often.

It knows nothing of teachers. It is plain arithmetic on numbers, and JSON can hold its state without loss.

Example:
    >>> figure = Figure()
    >>> figure.add(np.array([0.5, 0.7] * 100), HALF_LIFE)
    >>> round(figure.mean, 3), round(figure.sd, 3)
    (0.6, 0.1)
    >>> breaks(figure, np.full(100, 0.5), 0.0, np.arange(100)), breaks(figure, np.full(100, 0.1), 0.0, np.arange(100))
    (False, True)
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from msgspec import Struct

THRESHOLD = math.log(1e8)
"""Where a CUSUM alarms."""

RUN, LONG_RUN = 64, 128
"""An alarm needs at least so many lists of a teacher: a few lists of one odd user are no change. The long run is for
labels and scales, because all lists of one long visit are alike.
"""

ENOUGH = 100
"""A figure needs so many lists before it is a reference."""

WITNESSES = 50
"""A window needs so many lists before its mean is used."""

HALF_LIFE = 2_000
"""After so many lists of a teacher, a list counts half as much in its reference."""

FAINTEST = 0.2
"""A reference this few standard deviations above chance, or fewer, is not watched: a break could take 2,000
lists to show.
"""


class Figure(Struct):
    """Running mean and spread of one quantity over a teacher's lists, and the CUSUMs that watch it."""

    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    low: float = 0.0
    """The CUSUM for a lower mean."""
    low_run: int = 0
    low_onset: int = 0
    high: float = 0.0
    high_run: int = 0
    high_onset: int = 0

    @property
    def mean(self) -> float:
        """Weighted mean; 0 while there is no value."""
        return self.total / self.weight if self.weight else 0.0

    @property
    def sd(self) -> float:
        """Weighted standard deviation."""
        return math.sqrt(max(self.squares / self.weight - self.mean**2, 0.0)) if self.weight else 0.0

    def add(self, values: npt.NDArray[np.float64], half_life: float) -> None:
        """Adds values. All older ones count less from then on."""
        keep = 0.5 ** (len(values) / half_life)
        self.weight = keep * self.weight + len(values)
        self.total = keep * self.total + float(values.sum())
        self.squares = keep * self.squares + float((values**2).sum())

    def drop(self) -> None:
        """Forgets what its CUSUMs hold: both the sums and the counts of values in a row."""
        self.low = self.high = 0.0
        self.low_run = self.high_run = 0

    def falls(
        self, values: npt.NDArray[np.float64], shift: float, sd: float, at: npt.NDArray[np.int64], least: int = RUN
    ) -> bool:
        """Whether the mean has fallen by `shift`. An alarm needs `least` or more values since the sum was last 0."""
        self.low, self.low_run, self.low_onset, alarm = _charge(
            self.low, self.low_run, self.low_onset, self.mean - values, shift, sd, at, least
        )
        return alarm

    def rises(
        self, values: npt.NDArray[np.float64], shift: float, sd: float, at: npt.NDArray[np.int64], least: int = RUN
    ) -> bool:
        """Whether the mean has risen by `shift`."""
        self.high, self.high_run, self.high_onset, alarm = _charge(
            self.high, self.high_run, self.high_onset, values - self.mean, shift, sd, at, least
        )
        return alarm


def _charge(
    charge: float,
    run: int,
    onset: int,
    departures: npt.NDArray[np.float64],
    shift: float,
    sd: float,
    at: npt.NDArray[np.int64],
    least: int,
) -> tuple[float, int, int, bool]:
    """Adds values to a CUSUM.

    Returns its sum, the lists since it was last 0, the first of these lists, and whether it alarmed.

    Each departure d adds the log-likelihood ratio of N(shift, sd) against N(0, sd).
    """
    delta = shift / sd
    if charge == 0:  # an older version dropped the sum, but kept the count
        run = 0
    for i, departure in enumerate(departures.tolist()):
        if math.isfinite(departure):
            # d is positive in the bad direction. The sum grows while d is above shift / 2, and falls back to 0 else.
            charge = max(0.0, charge + delta * departure / sd - delta * delta / 2)
            if charge == 0:
                run = 0
            else:
                onset = int(at[i]) if run == 0 else onset
                run += 1
                if charge > THRESHOLD and run >= least:
                    return charge, run, onset, True
    return charge, run, onset, False


def lift_of(figure: Figure, chance: float) -> float:
    """How far a reference is above chance, in standard deviations.

    The standard deviation counts as at least half the distance. Without this bound, a teacher that nearly always agrees
    could be judged by very few lists.
    """
    lift = figure.mean - chance
    return lift / max(figure.sd, lift / 2) if lift > 0 else 0.0


def watched(figure: Figure, chance: float) -> bool:
    """Whether a figure is a reference, and is so far above chance that a fall can be noticed."""
    lift = lift_of(figure, chance)
    return figure.weight >= ENOUGH and lift >= FAINTEST and lift > 4 / math.sqrt(figure.weight)


def breaks(
    figure: Figure, values_B: npt.NDArray[np.float64], chance: float, at: npt.NDArray[np.int64], least: int = RUN
) -> bool:
    """Whether a teacher no longer agrees. While nothing points to that, the values are added to its reference."""
    real_B = np.isfinite(values_B)
    if watched(figure, chance):
        lift = figure.mean - chance
        if figure.falls(values_B[real_B], lift, max(figure.sd, lift / 2), at[real_B], least):
            return True
    if figure.low < THRESHOLD / 4:
        figure.add(values_B[real_B], HALF_LIFE)
    return False


def learns(figure: Figure, values_B: npt.NDArray[np.float64]) -> None:
    """Adds a teacher's agreement without judging it, and resets the CUSUM for a fall."""
    figure.drop()
    figure.add(values_B[np.isfinite(values_B)], HALF_LIFE)


def verdict(figure: Figure, chance: float, bar: float) -> tuple[bool, bool]:
    """Whether a window's mean is surely above a bar, and whether it is surely below it (two standard errors)."""
    if figure.weight < WITNESSES:
        return False, False
    margin = 2 * figure.sd / math.sqrt(figure.weight)
    lift = figure.mean - chance
    return lift - margin >= bar, lift + margin < bar


def hopeless(figure: Figure, chance: float, bar: float) -> bool:
    """Whether a mean is surely below a bar: by three standard errors, because the question is asked many times."""
    return figure.weight >= ENOUGH and figure.mean - chance + 3 * figure.sd / math.sqrt(figure.weight) < bar
