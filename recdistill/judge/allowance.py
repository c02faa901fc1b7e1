"""Computes how much error one look at one candidate may spend.

The policy names a yearly error: the share of years in which a wrong promotion may happen. Each candidate gets a part of
it. First, what the candidates of the last 365 days got is taken away; the rest is divided by the number of tries in a
year. That number is an estimate from the last four weeks. So the sum over any 365 days stays below the yearly error,
however quickly candidates come, and something is always left. A candidate's whole part counts as spent at its first
look. Its looks get a half, a quarter, an eighth of the part, and so on. Together they get no more than the part.

The part depends on how many tries there were, never on their results. So the sum of the parts is a bound for the chance
that any promotion is wrong (Boole's inequality). This holds also where tries use the same lists or alike students.

It knows nothing of figures, bounds or registries.

Example:
    >>> from datetime import UTC, datetime
    >>> first = allowed((), "a", datetime(2026, 1, 1, tzinfo=UTC), a_year=0.05, least=50)
    >>> first.level, first.allotted, first.look
    (0.0005, 0.001, 1)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from msgspec import Struct

YEAR: Final = timedelta(days=365)
MONTH: Final = timedelta(days=28)
MONTHS: Final = 13
"""How many months of 28 days a year has."""

_MOST_HALVINGS: Final = 2000  # any number is 0 by then, and a larger power of two does not fit into one


class Try(Struct, frozen=True, kw_only=True):
    """A candidate that was judged before: when first, the error that it was given, and how often it was looked at."""

    content_hash: str
    at: datetime
    allotted: float
    looks: int = 1


class Allowed(NamedTuple):
    """What one look may spend.

    Attributes:
        level: The error of this look: a bound may be wrong in this share of cases.
        allotted: The error that the candidate has for all of its looks together.
        look: Which look at it this is, from 1.
        tries: How many other candidates the last 365 days had.
        began: When the candidate was first looked at. If this is the first look: now.
    """

    level: float
    allotted: float
    look: int
    tries: int
    began: datetime


def allowed(tries: Sequence[Try], content_hash: str, now: datetime, *, a_year: float, least: int) -> Allowed:
    """What this look may spend.

    Args:
        tries: The candidates that were judged before, in any order.
        content_hash: The candidate that is judged now.
        now: The time now.
        a_year: The share of years in which a wrong promotion is allowed.
        least: The yearly error is divided by at least this number of tries.
    """
    since = [one for one in tries if now - one.at < YEAR]
    others = [one for one in since if one.content_hash != content_hash]
    mine = [one for one in since if one.content_hash == content_hash]
    look = 1 + max((one.looks for one in mine), default=0)
    allotted = max((one.allotted for one in mine), default=0.0)
    if not allotted:  # older versions of recdistill wrote no error for a try
        recent = 1 + sum(now - one.at < MONTH for one in others)
        left = max(0.0, a_year - sum(one.allotted for one in others))
        allotted = left / max(least, MONTHS * recent)
    began = min((one.at for one in mine), default=now)
    level = math.ldexp(allotted, -min(look, _MOST_HALVINGS))
    return Allowed(level=level, allotted=allotted, look=look, tries=len(others), began=began)
