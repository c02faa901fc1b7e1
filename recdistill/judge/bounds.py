"""Turns a figure and its error into one of three verdicts: passed, refused, or more lists are needed.

The figure passes when its lower bound reaches what is asked. That bound is one-sided, at the error that this look may
spend. The figure is refused when its upper bound at 97.5% stays below what is asked. Otherwise more lists are needed.
The bounds use Student's t. Lists of one user are alike, so users count and not lists: the degrees of freedom are the
number of users less one.

It knows nothing of policies, sentences or of where figures come from.

Example:
    >>> lead = Lead(student=0.1, other=0.1, var_student=1e-8, var_other=1e-8, covariance=0.0, users=500, lists=9000)
    >>> share(lead, 0.95, 1e-3).verdict, share(lead, 1.05, 1e-3).verdict
    ('passed', 'refused')
"""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

from recdistill.judge.judgement import Lead
from recdistill.metrics import Interval

Verdict = Literal["passed", "refused", "more"]

AGAINST: Final = 0.025
"""A figure is refused at this error. Its bound is then the upper end of a 95% interval."""

_Z: Final = 1.959964
_HALVINGS: Final = 40


class Shown(NamedTuple):
    """What a figure shows.

    Attributes:
        verdict: `passed`, `refused`, or `more`: more lists are needed.
        gap: How far the figure lies above what is asked.
        error: The standard error of `gap`.
        lists: About how many lists the next look would need for a verdict, if the figure stays as it is. None: there is
            a verdict already, or no number of lists would give one.
    """

    verdict: Verdict
    gap: float
    error: float
    lists: int | None = None


def quantile(level: float, users: int) -> float:
    """How many standard errors lie between the figure and its one-sided bound. Infinite where there is one user."""
    from scipy import special

    return math.inf if users < 2 or level <= 0 else float(-special.stdtrit(users - 1, level))


def share(lead: Lead, asked: float, level: float) -> Shown:
    """Whether the student keeps a share of the other's lead over chance.

    The gap is student − share · other. Its error follows from both variances and the covariance. So nothing is divided
    by the other's lead. A ratio would have no usable interval where that lead is small (Fieller, 1954).

    Args:
        lead: Both leads.
        asked: The share that must be kept.
        level: The error of this look.
    """
    gap, error = _gap(lead, asked)
    if lead.users < 2:
        return Shown("more", gap, error)
    if gap >= quantile(level, lead.users) * error:
        return Shown("passed", gap, error)
    if gap <= -quantile(AGAINST, lead.users) * error:
        return Shown("refused", gap, error)
    steps = quantile(level / 2 if gap > 0 else AGAINST, lead.users)
    needed = lead.lists * (steps * error / gap) ** 2 if gap else math.inf
    return Shown("more", gap, error, math.ceil(needed) if math.isfinite(needed) else None)


def proved(lead: Lead, level: float) -> float:
    """The largest share that would pass, from −1 to 2. It is −1 also where no such share passes."""
    low, high = -1.0, 2.0
    if share(lead, low, level).verdict != "passed":
        return low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if share(lead, middle, level).verdict == "passed" else (low, middle)
    return low


def of_interval(interval: Interval, other: float = 0.0) -> Lead:
    """Writes a difference as a lead. `share` then asks whether it is above `asked` times `other`.

    Older versions of recdistill wrote intervals without a standard error. Then the error is computed from the width of
    the interval, as for a normal distribution.
    """
    error = (interval.high - interval.low) / (2 * _Z) if interval.se is None else interval.se
    return Lead(
        student=interval.mean,
        other=other,
        var_student=error**2,
        var_other=0.0,
        covariance=0.0,
        users=interval.users or interval.n,
        lists=interval.n,
    )


def _gap(lead: Lead, asked: float) -> tuple[float, float]:
    variance = lead.var_student - 2 * asked * lead.covariance + asked**2 * lead.var_other
    return lead.student - asked * lead.other, math.sqrt(max(0.0, variance))
