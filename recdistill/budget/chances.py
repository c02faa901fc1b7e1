"""The probability of each candidate to be scored by the teacher, and a draw by these probabilities.

An estimate that weighs each candidate by 1 / p is unbiased, also if the expected scores were wrong. Only p = 0 is not
allowed.

It knows only arrays. It knows nothing of records, logs, teachers or students.

Example:
    >>> head_and_rest(np.array([4.0, 1.0, 3.0, 2.0]), 2).round(3).tolist()
    [1.0, 0.333, 0.333, 0.333]
    >>> systematic(np.array([1.0, 0.5, 0.5]), 0.7).tolist()
    [True, False, True]
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

HEAD: Final = 0.5
"""Share of a list's budget that goes to the candidates expected to be best; the rest is drawn from all others."""


def unit(*key: str) -> float:
    """A number in [0, 1) that looks random and depends only on the key. So a replay draws the same."""
    digest = hashlib.blake2b("\0".join(key).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2.0**53


def head_and_rest(expected_L: Floats, count: float, *, head: float = HEAD) -> Floats:
    """Inclusion probabilities of the candidates of one list, which sum to `count`.

    A share `head` of the count goes to the candidates that should score best: their probability is 1. All others share
    the rest equally, so wrong expectations are found. Of equal scores at the edge of the head, the earlier place
    counts.

    Args:
        expected_L: Expected scores. They are all equal if nothing is known, and then there is no head.
        count: How many candidates may be scored, at most L.
        head: Share of the count that is certain.
    """
    length = len(expected_L)
    if count >= length:
        return np.ones(length)
    certain = int(head * count) if np.ptp(expected_L) > 0 else 0
    chances_L = np.full(length, (count - certain) / (length - certain))
    chances_L[np.argsort(-expected_L, kind="stable")[:certain]] = 1.0
    return chances_L


def systematic(chances_L: Floats, start: float) -> npt.NDArray[np.bool_]:
    """Draws each member with its own probability. The size is always `Σ chances`, rounded up or down.

    It is Madow's systematic sampling (1949). Member i takes the interval between running sum i − 1 and running sum i of
    the chances. The member is drawn if one of the points start, start + 1, start + 2, … is in its interval. Shuffle the
    members first: otherwise neighbours are seldom drawn together.

    Args:
        chances_L: Probabilities.
        start: In [0, 1).
    """
    ends_L = np.cumsum(chances_L)
    # A sum that should be a whole number may be a little less by rounding, and would lose a member.
    ends_L = np.where(np.abs(ends_L - ends_L.round()) < 1e-9, ends_L.round(), ends_L)
    grid_L = np.floor(ends_L - start)
    drawn_L: npt.NDArray[np.bool_] = np.diff(grid_L, prepend=np.floor(-start)) > 0
    return drawn_L
