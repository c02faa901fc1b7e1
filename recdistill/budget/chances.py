"""With which probability each candidate of a list is put to the teacher, and which ones are drawn by it.

Whatever was expected wrongly, an estimate that weighs each candidate by 1 / p stays unbiased, as long as no p is 0.

It knows arrays only: nothing of records, logs, teachers or students.

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
    """A number in [0, 1) that looks random and depends on the key alone, so that a replay draws the same."""
    digest = hashlib.blake2b("\0".join(key).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2.0**53


def head_and_rest(expected_L: Floats, count: float, *, head: float = HEAD) -> Floats:
    """Inclusion probabilities of the candidates of one list, which sum to `count`.

    `head` of the count goes to the candidates expected to score best, for certain; the rest is shared evenly by all
    others, so that whatever was expected wrongly is found out. Ties at the edge of the head are broken by place.

    Args:
        expected_L: Expected scores; all equal where nothing is expected, and then there is no head.
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
    """Draws a sample of nearly fixed size: each member with its own probability, `Σ chances` rounded up or down in all.

    Madow's systematic sampling (1949): a grid of step 1 that begins at `start` is laid over the cumulated chances.
    Bring the members into a random order first, or neighbours are hardly ever drawn together.

    Args:
        chances_L: Probabilities.
        start: In [0, 1).
    """
    ends_L = np.cumsum(chances_L)
    # The last sum of a whole number may fall short of it by rounding, and would lose a member.
    ends_L = np.where(np.abs(ends_L - ends_L.round()) < 1e-9, ends_L.round(), ends_L)
    grid_L = np.floor(ends_L - start)
    drawn_L: npt.NDArray[np.bool_] = np.diff(grid_L, prepend=np.floor(-start)) > 0
    return drawn_L
