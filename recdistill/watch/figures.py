"""Running figures of a stream, and the test that says when one of them has broken off.

A `Figure` is the mean and spread of one quantity, the recent counting more. Against a fall or a rise of its mean it
holds a CUSUM (Page, 1954) of log-likelihood ratios: each value adds `δ d / sd − δ² / 2` for its departure d from the
mean and `δ = shift / sd`, and the sum never falls below 0. So it grows once the mean has gone more than half of
`shift`. Under independent normal values the mean number of them to a false alarm is at least e^threshold (Lorden,
1971), here 10^8.

It knows nothing of teachers: plain arithmetic on numbers, whose state JSON can hold without loss.

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
"""Of a CUSUM: a sound teacher is wrongly accused once in so many lists, or less often."""

RUN, LONG_RUN = 64, 128
"""Fewest lists of a teacher that an alarm rests on: a few of one odd user are no change. The long one is for labels and
scales: those of one long visit are of one kind."""

ENOUGH = 100
"""Lists in a figure before it is a reference."""

WITNESSES = 50
"""Lists in a window before their mean says anything."""

HALF_LIFE = 2_000
"""Lists of a teacher after which one counts half as much for its reference."""

FAINTEST = 0.2
"""A reference so few standard deviations above chance cannot be watched: a break might show after 2,000 lists only."""


class Figure(Struct):
    """Running mean and spread of one quantity over a teacher's lists, and the sums that watch it."""

    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    low: float = 0.0
    """CUSUM against a lower mean."""
    low_run: int = 0
    low_onset: int = 0
    high: float = 0.0
    high_run: int = 0
    high_onset: int = 0

    @property
    def mean(self) -> float:
        """Weighted mean; 0 while there is none."""
        return self.total / self.weight if self.weight else 0.0

    @property
    def sd(self) -> float:
        """Weighted standard deviation."""
        return math.sqrt(max(self.squares / self.weight - self.mean**2, 0.0)) if self.weight else 0.0

    def add(self, values: npt.NDArray[np.float64], half_life: float) -> None:
        """Takes values in, all older ones counting for less."""
        keep = 0.5 ** (len(values) / half_life)
        self.weight = keep * self.weight + len(values)
        self.total = keep * self.total + float(values.sum())
        self.squares = keep * self.squares + float((values**2).sum())

    def falls(
        self, values: npt.NDArray[np.float64], shift: float, sd: float, at: npt.NDArray[np.int64], least: int = RUN
    ) -> bool:
        """Whether the mean has fallen by `shift`, in the light of these values too, and of `least` or more in a row."""
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
    """A CUSUM's sum, the lists since it was last 0, where that was, and whether it alarmed.

    Each departure d adds the log-likelihood ratio of N(shift, sd) against N(0, sd).
    """
    delta = shift / sd
    for i, departure in enumerate(departures.tolist()):
        if math.isfinite(departure):
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
    """How far a reference is above chance, in standard deviations, which count at least as half the distance.

    That bound keeps few lists from deciding where a teacher agrees nearly always.
    """
    lift = figure.mean - chance
    return lift / max(figure.sd, lift / 2) if lift > 0 else 0.0


def watched(figure: Figure, chance: float) -> bool:
    """Whether a figure is a reference whose loss can be noticed."""
    lift = lift_of(figure, chance)
    return figure.weight >= ENOUGH and lift >= FAINTEST and lift > 4 / math.sqrt(figure.weight)


def breaks(
    figure: Figure, values_B: npt.NDArray[np.float64], chance: float, at: npt.NDArray[np.int64], least: int = RUN
) -> bool:
    """Whether a teacher has lost its agreement; as long as nothing speaks for that, its reference moves on."""
    real_B = np.isfinite(values_B)
    if watched(figure, chance):
        lift = figure.mean - chance
        if figure.falls(values_B[real_B], lift, max(figure.sd, lift / 2), at[real_B], least):
            return True
    if figure.low < THRESHOLD / 4:
        figure.add(values_B[real_B], HALF_LIFE)
    return False


def learns(figure: Figure, values_B: npt.NDArray[np.float64]) -> None:
    """Takes a teacher's agreement in without judging it, and drops what spoke against it."""
    figure.low = 0.0
    figure.add(values_B[np.isfinite(values_B)], HALF_LIFE)


def verdict(figure: Figure, chance: float, bar: float) -> tuple[bool, bool]:
    """Whether a window's mean is above a bar for sure, and whether it is below it for sure (two standard errors)."""
    if figure.weight < WITNESSES:
        return False, False
    margin = 2 * figure.sd / math.sqrt(figure.weight)
    lift = figure.mean - chance
    return lift - margin >= bar, lift + margin < bar


def hopeless(figure: Figure, chance: float, bar: float) -> bool:
    """Whether a mean is surely below a bar: by three standard errors, because it is asked again and again."""
    return figure.weight >= ENOUGH and figure.mean - chance + 3 * figure.sd / math.sqrt(figure.weight) < bar
