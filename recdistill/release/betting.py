"""A statistical test that may be read at any time: bets against "the candidate is worse", and against "it is not".

Each figure is compared in pairs. A pair is one user of the candidate, and the mean of the champion's users who came
since the last pair. A gambler begins with a capital of 1 and bets a part of it on each difference. The gambler bets
against a hypothesis. If the hypothesis is true, no strategy makes the capital grow on average. So the capital ever
reaches 1 / α with a chance of at most α (Ville, 1939), however often somebody looks.

Each bet is made before its difference is known. It is the mean of the differences so far, divided by the mean of their
squares (aGRAPA, Waudby-Smith and Ramdas, JRSS B 2024). It is at most half of what could lose everything.

All this needs differences that do not depend on earlier ones. So each user counts once.

It knows nothing of logs, of registries, or of what a figure means.

Example:
    >>> bet = Bet(alpha=0.05, low=-1.0, high=1.0)
    >>> for _ in range(40):
    ...     bet.add(0.5)
    >>> bet.sure, bet.chance < 0.001
    (True, True)
    >>> fair = Bet(alpha=0.05, low=-1.0, high=1.0)
    >>> for turn in range(400):
    ...     fair.add((-1.0) ** turn)
    >>> fair.sure
    False
"""

from __future__ import annotations

import math
from typing import Final, Literal

from msgspec import Struct

from recdistill.errors import ConfigError

SHARE: Final = 0.5
"""One difference can take at most this share of the capital."""

Say = Literal["better", "worse", "open"]


class Bet:
    """Bets that the mean of some numbers is above zero.

    Args:
        alpha: The chance that the bet ever becomes sure although the mean is zero or below.
        low: The smallest possible number. It is below zero.
        high: The largest possible number.
    """

    def __init__(self, *, alpha: float, low: float, high: float) -> None:
        if not 0 < alpha < 1 or not low < 0 < high:
            raise ConfigError(f"a bet needs 0 < alpha < 1 and low < 0 < high, not {alpha}, {low} and {high}")
        self._limit = -math.log(alpha)
        self._most = SHARE / -low
        self._low, self._high = low, high
        self._capital = self._peak = 0.0  # logarithms
        # The sums begin as if one number had come before. It counts as 0 in the sum. In the sum of squares it counts as
        # the square of a quarter of the range.
        self._count, self._sum, self._squares = 1, 0.0, ((high - low) / 4) ** 2

    @property
    def sure(self) -> bool:
        """Whether the capital has ever reached 1 / alpha."""
        return self._peak >= self._limit

    @property
    def chance(self) -> float:
        """The smallest alpha at which the bet would be sure by now. It is a p-value that may be read at any time."""
        return math.exp(-self._peak)

    @property
    def capital(self) -> float:
        """log10 of what the gambler has now. It began with 0."""
        return self._capital / math.log(10)

    @property
    def limit(self) -> float:
        """log10 of the capital at which the bet is sure."""
        return self._limit / math.log(10)

    def add(self, number: float) -> None:
        """Takes the next number. The size of the bet follows from the numbers before it.

        Raises:
            ConfigError: The number is outside of its bounds.
        """
        if not self._low - 1e-9 <= number <= self._high + 1e-9:
            raise ConfigError(f"a bet on numbers from {self._low:g} to {self._high:g} was given {number:g}")
        mean, square = self._sum / self._count, self._squares / self._count
        stake = min(self._most, max(0.0, mean / square))
        self._capital += math.log1p(stake * number)
        self._peak = max(self._peak, self._capital)
        self._count += 1
        self._sum += number
        self._squares += number * number


class Figure(Struct, frozen=True, kw_only=True):
    """A figure that each user has, between 0 and 1. Two sides are compared by it.

    Attributes:
        name: Its name.
        margin: The candidate may be worse by so much and still be well enough.
        more: Whether a larger figure is better.
        guard: Whether it is a guard: a figure that must not become worse. The other figures say whether the candidate
            is good.
    """

    name: str
    margin: float
    more: bool = True
    guard: bool = False


class Compared:
    """Compares one figure of candidate and champion. It may be read after each user.

    Args:
        figure: The figure.
        alpha: The chance to say `better` of a candidate that is worse by the margin. It is also the chance to say
            `worse` of a candidate that is as good as the champion.
    """

    def __init__(self, figure: Figure, *, alpha: float) -> None:
        self.figure = figure
        self.better = Bet(alpha=alpha, low=figure.margin - 1, high=1 + figure.margin)
        self.worse = Bet(alpha=alpha, low=-1.0, high=1.0)
        self._since = [0.0, 0]  # sum and number of the champion's users since the last pair
        self._waiting: list[float] = []
        self.pairs = 0
        self.sums = {"champion": 0.0, "candidate": 0.0}
        self.counts = {"champion": 0, "candidate": 0}

    def champion(self, value: float) -> None:
        """Takes the figure of a user of the champion."""
        self._note("champion", value)
        self._since = [self._since[0] + value, self._since[1] + 1]
        if self._waiting:
            self._pair(self._waiting.pop(0))

    def candidate(self, value: float) -> None:
        """Takes the figure of a user of the candidate."""
        self._note("candidate", value)
        if self._since[1]:
            self._pair(value)
        else:
            self._waiting.append(value)

    @property
    def says(self) -> Say:
        """What is sure by now. What is sure once stays sure."""
        if self.worse.sure:
            return "worse"
        return "better" if self.better.sure else "open"

    def mean(self, side: Literal["champion", "candidate"]) -> float | None:
        """The mean of the figure on one side; None: nobody was there."""
        return self.sums[side] / self.counts[side] if self.counts[side] else None

    def _note(self, side: str, value: float) -> None:
        self.sums[side] += value
        self.counts[side] += 1

    def _pair(self, value: float) -> None:
        difference = value - self._since[0] / self._since[1]
        self._since = [0.0, 0]
        gain = difference if self.figure.more else -difference
        self.better.add(gain + self.figure.margin)
        self.worse.add(-gain)
        self.pairs += 1
