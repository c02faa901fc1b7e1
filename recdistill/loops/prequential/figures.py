"""Means of what lists gave, with intervals that treat the lists of one user as one thing.

A user belongs to one of `GROUPS` groups, by hash. Of each group only a count and a sum are kept. So memory has a bound,
and no user is named anywhere. All lists of a user are in one group, so the groups do not depend on each other, and an
interval over groups is an interval clustered by user.

The variance of a mean m = ΣS / ΣN over groups with sums S and counts N is G / (G − 1) · Σ(S − m N)² / (ΣN)² (Cameron
and Miller, "A practitioner's guide to cluster-robust inference", 2015). The interval uses Student's t with G − 1
degrees of freedom, G being the groups that have a list.

It knows nothing of records, models or logs.

Example:
    >>> sums = Sums()
    >>> for group, value in ((1, 0.2), (1, 0.4), (7, 0.6), (9, 0.8)):
    ...     sums.add("weights", group, value)
    >>> found = sums.figure("weights")
    >>> found.n, found.groups, round(found.mean, 3), round(found.low, 3), round(found.high, 3)
    (4, 3, 0.5, -0.172, 1.172)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

GROUPS: Final = 256
"""So many groups of users."""

DIGITS: Final = 6
"""Digits of a mean that are told."""


class Figure(Struct, frozen=True, kw_only=True):
    """A mean and its interval.

    Attributes:
        n: How many lists.
        groups: How many groups of users they are from.
        mean: Their mean.
        low: Lower end of the 95% interval; None: all lists are of one group.
        high: Its upper end.
    """

    n: int
    groups: int
    mean: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """As a person reads it: the mean and half of its interval."""
        about = "" if self.low is None or self.high is None else f" ± {(self.high - self.low) / 2:.3f}"
        return f"{self.mean:.3f}{about}"


class Sums(Struct):
    """Counts and sums by line and group.

    Attributes:
        of: Line -> group -> count and sum.
    """

    of: dict[str, dict[int, tuple[int, float]]] = {}

    def add(self, line: str, group: int, value: float) -> None:
        """Adds what one list gave."""
        groups = self.of.setdefault(line, {})
        count, total = groups.get(group, (0, 0.0))
        groups[group] = (count + 1, total + value)

    def figure(self, line: str) -> Figure | None:
        """The mean of a line; None while it has no list."""
        groups = self.of.get(line)
        if not groups:
            return None
        count, total = sum(n for n, _ in groups.values()), math.fsum(s for _, s in groups.values())
        mean, known = total / count, len(groups)
        if known < 2:
            return Figure(n=count, groups=known, mean=round(mean, DIGITS))
        squares = math.fsum((s - mean * n) ** 2 for n, s in groups.values())
        half = t_of(known - 1) * math.sqrt(known / (known - 1) * squares) / count
        low, high = round(mean - half, DIGITS), round(mean + half, DIGITS)
        return Figure(n=count, groups=known, mean=round(mean, DIGITS), low=low, high=high)

    def figures(self) -> dict[str, Figure]:
        """All lines that have a list."""
        return {line: found for line in self.of if (found := self.figure(line)) is not None}


def pooled(parts: Iterable[Sums]) -> Sums:
    """The lists of several, as one."""
    whole = Sums()
    for part in parts:
        for line, groups in part.of.items():
            into = whole.of.setdefault(line, {})
            for group, (count, total) in groups.items():
                n, s = into.get(group, (0, 0.0))
                into[group] = (n + count, s + total)
    return whole


def t_of(freedom: int) -> float:
    """The 97.5% point of Student's t: exact for one and two degrees of freedom, then a series, right within 0.02.

    The series is that of Abramowitz and Stegun, "Handbook of mathematical functions", 26.7.5.

    Example:
        >>> [round(t_of(freedom), 2) for freedom in (1, 2, 10, 200)]
        [12.71, 4.3, 2.23, 1.97]
    """
    if freedom == 1:
        return math.tan(math.pi * 0.475)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z, v = 1.959964, float(freedom)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160
    return z + first / v + second / v**2 + third / v**3 + fourth / v**4
