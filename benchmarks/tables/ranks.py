"""Scores of users -> the ranks of the items that were asked about, and the metrics of those ranks.

It knows nothing of who scores.

Example:
    >>> {name: values.tolist() for name, values in figures([np.array([1, 3])], {"recall": (2,)}).items()}
    {'recall@2': [0.5]}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.tables.lists import UserScores
from recdistill.errors import DataError

BLOCK = 512
LAST = float(np.finfo(np.float32).min)


def place(above: Any, alike: Any, random: np.random.Generator) -> Any:
    """The rank (from 1) behind those above, and among those of the same score wherever chance puts it.

    First among its like it would flatter whoever scores most items alike, as neighbours do with 0.
    """
    return 1 + above + random.integers(0, alike + 1)


def ranks_full(scores: UserScores, seen_UN: Any, asked_UN: Any) -> Iterator[np.ndarray]:
    """For each user who is asked, the ranks (from 1) of the asked items among all but the seen ones.

    What is not a number is last.
    """
    random = np.random.default_rng(0)
    users = np.flatnonzero(np.diff(asked_UN.indptr))
    for block in np.array_split(users, -(-len(users) // BLOCK)):
        scores_BN = torch.from_numpy(np.array(scores(block), np.float32)).nan_to_num(nan=LAST)
        seen, asked = seen_UN[block], asked_UN[block]
        rows = np.repeat(np.arange(len(block)), np.diff(seen.indptr))
        scores_BN[rows, seen.indices] = -torch.inf
        lengths = np.diff(asked.indptr)
        places_BM = np.full((len(block), lengths.max()), -1)
        places_BM[np.repeat(np.arange(len(block)), lengths), np.concatenate([np.arange(n) for n in lengths])] = (
            asked.indices
        )
        columns = []
        for column in places_BM.T:
            own_B1 = scores_BN.gather(1, torch.from_numpy(column)[:, None].clamp_min(0))
            above_B, same_B = (scores_BN > own_B1).sum(1).numpy(), (scores_BN == own_B1).sum(1).numpy()
            columns.append(place(above_B, same_B - 1, random))
        for ranks, places in zip(np.stack(columns, 1), places_BM, strict=True):
            yield ranks[places >= 0]


def rivals_of(known_UN: Any, asked_UN: Any, count: int, seed: int) -> np.ndarray:
    """For each user who is asked, items that it never had, drawn alike without replacement, `[A, count]`."""
    random = np.random.default_rng(seed)
    users = np.flatnonzero(np.diff(asked_UN.indptr))
    most = int((np.diff(known_UN.indptr) + np.diff(asked_UN.indptr)).max())
    if known_UN.shape[1] < count + most:
        raise DataError(
            f"{known_UN.shape[1]:,} items are too few for {count} that a user never had; take --protocol full"
        )
    found_AR = np.empty((len(users), count), np.int64)
    for row, user in enumerate(users):
        had = np.concatenate([known_UN[user].indices, asked_UN[user].indices])
        drawn = random.choice(known_UN.shape[1], count + len(had), replace=False)
        found_AR[row] = drawn[~np.isin(drawn, had)][:count]
    return found_AR


def ranks_sampled(scores: UserScores, asked_UN: Any, rivals_AR: np.ndarray) -> Iterator[np.ndarray]:
    """The rank of each asked item among the rivals of its user; what is not a number is last."""
    random = np.random.default_rng(0)
    users = np.flatnonzero(np.diff(asked_UN.indptr))
    blocks = -(-len(users) // BLOCK)
    for block, rivals_BR in zip(np.array_split(users, blocks), np.array_split(rivals_AR, blocks), strict=True):
        scores_BN = np.nan_to_num(np.asarray(scores(block), np.float32), nan=LAST)
        theirs_BR = np.take_along_axis(scores_BN, rivals_BR, 1)
        for row, user in enumerate(block):
            for item in asked_UN[user].indices:
                theirs_R, own = theirs_BR[row], scores_BN[row, item]
                yield np.array([place((theirs_R > own).sum(), (theirs_R == own).sum(), random)])


def figures(ranks: list[np.ndarray], cuts: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The metrics of each user: recall (hit, for one item) and NDCG at each cut."""
    found: dict[str, np.ndarray] = {}
    for name, at in cuts.items():
        for k in at:
            if name == "ndcg":
                values = [
                    (1 / np.log2(1 + r[r <= k])).sum() / (1 / np.log2(1 + np.arange(1, min(k, len(r)) + 1))).sum()
                    for r in ranks
                ]
            else:
                values = [(r <= k).mean() for r in ranks]
            found[f"{name}@{k}"] = np.array(values)
    return found
