"""How much error one look at one candidate may spend, so that a year of tries spends no more than the policy names.

The policy names the share of years in which a wrong promotion may happen. Each candidate gets a part of what the last
365 days have left of it: the part is one in as many tries as a year has at the pace of the last four weeks. So the sum
over any 365 days stays below what is named, at any pace, and it never runs out. The whole part is spent at the first
look. The looks at one candidate get a half, a quarter, an eighth of it, and so on: their sum is the part.

The part depends on how many tries there were, never on what they found. So the parts add up to a bound for the chance
that any of them goes wrong (the inequality of Boole), also where the tries share lists and are alike.

It knows nothing of figures, bounds or registries.

Example:
    >>> from datetime import UTC, datetime
    >>> first = allowed((), "a", datetime(2026, 1, 1, tzinfo=UTC), a_year=0.05, least=50)
    >>> first.level, first.allotted, first.look
    (0.0005, 0.001, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from msgspec import Struct

YEAR: Final = timedelta(days=365)
MONTH: Final = timedelta(days=28)
MONTHS: Final = 13
"""Of 28 days each in a year."""


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
        began: When the candidate was looked at first; now, if it was not before.
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
        least: The error is shared among so many tries a year at least.
    """
    since = [one for one in tries if now - one.at < YEAR]
    others = [one for one in since if one.content_hash != content_hash]
    mine = [one for one in since if one.content_hash == content_hash]
    look = 1 + max((one.looks for one in mine), default=0)
    allotted = max((one.allotted for one in mine), default=0.0)
    if not allotted:  # a try of an older version had no error of its own
        recent = 1 + sum(now - one.at < MONTH for one in others)
        left = max(0.0, a_year - sum(one.allotted for one in others))
        allotted = left / max(least, MONTHS * recent)
    began = min((one.at for one in mine), default=now)
    return Allowed(level=allotted / 2**look, allotted=allotted, look=look, tries=len(others), began=began)
