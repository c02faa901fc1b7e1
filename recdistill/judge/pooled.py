"""Compares the teacher with the student on pools: small parts of a catalogue that is too large for the teacher.

A pool holds the relevant items of a list, the first ten of each contender, and some other items. These are drawn at
random, all with the same known chance. The place of a relevant item in the whole catalogue is estimated from the pool:
1, plus the items above it. There a drawn item counts 1 / chance times, because it represents so many (Horvitz and
Thompson, 1952). The student's place is estimated from the same pool in the same way, so the two can be compared.

With few drawn items, a place is not exact. If no drawn item is above an item, its place looks better than it is, for
teacher and student alike. So pools only give the share that the student keeps. No other figure is taken from them.

It knows nothing of bundles, verdicts or of how a teacher is asked.

Example:
    >>> places(np.array([0.5]), np.array([0.9, 0.1]), np.array([1.0, 0.4]), 0.5).tolist()
    [4.0]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from recdistill.records import Candidate, Impression

Floats = NDArray[np.float64]

CUT: Final = 10
DRAWN: Final = 200
"""At most so many items are drawn for one list."""


@dataclass(frozen=True)
class Pool:
    """The items of one list that the teacher is asked about.

    Args:
        request: The request. Its candidates are the items of the pool.
        relevant: How many of them are relevant. These come first.
        certain: How many were not drawn, the relevant ones included. The drawn ones come after them.
        chance: The chance of each other item of the catalogue to be drawn.
    """

    request: Impression
    relevant: int
    certain: int
    chance: float


def make_pools(
    requests: Sequence[Impression],
    relevant: Sequence[Sequence[str]],
    tops: Mapping[str, Sequence[Sequence[str]]],
    open_items: Sequence[str],
    barred: Sequence[set[str]],
    *,
    scores: int,
    seed: int,
) -> list[Pool]:
    """The pools of some lists, the newest first, until the scores are used up.

    Args:
        requests: The requests.
        relevant: For each request, its relevant items that are in the catalogue.
        tops: For each contender, its first items for each request.
        open_items: The catalogue.
        barred: For each request, the items that no answer may hold. Some may be in no catalogue.
        scores: How many scores the teacher may be asked for, over all pools.
        seed: Seed of the draws.
    """
    random = np.random.default_rng(seed)
    catalogue = set(open_items)
    each = max(1, scores // max(1, len(requests)))
    pools: list[Pool] = []
    for row in range(len(requests) - 1, -1, -1):
        first = list(dict.fromkeys(relevant[row]))
        sure = list(dict.fromkeys([*first, *(item for of in tops.values() for item in of[row][:CUT])]))
        sure = [item for item in sure if item not in barred[row]]
        known, drawn = {*sure, *barred[row]}, dict[str, None]()
        others = len(catalogue) - len(catalogue & known)
        wanted = min(DRAWN, max(0, each - len(sure)), others)
        while len(drawn) < wanted:
            for n in random.integers(0, len(open_items), 2 * (wanted - len(drawn))).tolist():
                if (item := open_items[n]) not in known and len(drawn) < wanted:
                    drawn[item] = None
        asked = tuple(Candidate(item=item) for item in (*sure, *drawn))
        if len(asked) > scores:
            break
        scores -= len(asked)
        relevant_there = sum(item not in barred[row] for item in first)
        pools.append(
            Pool(
                request=msgspec.structs.replace(requests[row], candidates=asked),
                relevant=relevant_there,
                certain=len(sure),
                chance=wanted / others if others else 1.0,
            )
        )
    return pools[::-1]


def places(own: Floats, certain: Floats, drawn: Floats, chance: float) -> Floats:
    """Estimated places of relevant items in the whole catalogue, from 1.

    Args:
        own: Scores of the relevant items.
        certain: Scores of the other items of the pool that were not drawn.
        drawn: Scores of the drawn items.
        chance: The chance of each other item of the catalogue to be drawn.
    """
    above = (certain[None] > own[:, None]).sum(1) + (drawn[None] > own[:, None]).sum(1) / max(chance, 1e-12)
    return 1.0 + np.asarray(above, np.float64)


def ndcg(pool: Pool, scores: Floats, labels: Floats) -> float:
    """NDCG@10 of the estimated places, for scores of the pool's candidates; NaN counts as the last place.

    Args:
        pool: The pool.
        scores: The score of each candidate.
        labels: The labels of all relevant items of the list, those of the pool first.
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    found = 0.0
    for n in range(pool.relevant):
        rest = np.delete(known[: pool.certain], n)
        [place] = places(known[n : n + 1], rest, known[pool.certain :], pool.chance)
        found += labels[n] / np.log2(place + 1.0) if place <= CUT and np.isfinite(known[n]) else 0.0
    best = -np.sort(-labels)[:CUT]
    ideal = float((best / np.log2(np.arange(len(best)) + 2.0)).sum())
    return found / ideal if ideal else 0.0
