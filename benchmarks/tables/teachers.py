"""Who teaches a table of users × items: the papers' factorisation, closed forms, their blend, and a part of each."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.tables.fit import Validation, fit
from benchmarks.tables.lists import UserScores
from benchmarks.tables.pairs import Pairs
from benchmarks.tables.recipes import table_recipe
from recdistill import linear
from recdistill.budget import head_and_rest, systematic


class Blend:
    """Scorers, each standardised over what the user has not had, in a weighted sum."""

    vectors = None

    def __init__(self, table_UN: Any, parts: list[tuple[UserScores, float]], size: int) -> None:
        self.table_UN, self.parts, self.size = table_UN, parts, size

    def scores(self, users: np.ndarray) -> np.ndarray:
        seen = self.table_UN[users]
        rows = np.repeat(np.arange(len(users)), np.diff(seen.indptr))
        total = np.zeros((len(users), self.table_UN.shape[1]), np.float32)
        for scores, weight in self.parts:
            part = np.array(scores(users), np.float32)
            part[rows, seen.indices] = np.nan
            with np.errstate(all="ignore"):
                part -= np.nanmean(part, 1, keepdims=True)
                part /= np.nanstd(part, 1, keepdims=True)
            total += weight * np.nan_to_num(part, nan=0.0, posinf=0.0, neginf=0.0)
        return total


class Plain:
    """One scorer as it is."""

    vectors = None

    def __init__(self, scores: UserScores, size: int) -> None:
        self.scores, self.size = scores, size


class Factors:
    """A factorisation that was learnt by the recipe `bpr`, kept in a folder for the next run."""

    def __init__(self, users_UD: np.ndarray, items_ND: np.ndarray) -> None:
        self.vectors = (users_UD, items_ND)
        self.size = users_UD.nbytes + items_ND.nbytes

    def scores(self, users: np.ndarray) -> np.ndarray:
        return self.vectors[0][users] @ self.vectors[1].T


class Partly:
    """A teacher that is asked about a share of each user's items: as the scorer chooses candidates under a budget.

    Expected to be good are those that a champion ranks first; without one all are alike.
    """

    vectors = None

    def __init__(self, teacher: Any, share: float, champion: UserScores | None) -> None:
        self.teacher, self.share, self.champion = teacher, share, champion

    def scores(self, users: np.ndarray) -> np.ndarray:
        scores_BN = np.array(self.teacher.scores(users), np.float32)
        expected_BN = np.zeros_like(scores_BN) if self.champion is None else self.champion(users)
        for row, user in enumerate(users):
            random = np.random.default_rng([7, int(user)])
            chances_N = head_and_rest(expected_BN[row], self.share * scores_BN.shape[1])
            order_N = random.permutation(len(chances_N))
            asked_N = np.zeros(len(chances_N), bool)
            asked_N[order_N] = systematic(chances_N[order_N], random.random())
            scores_BN[row, ~asked_N] = np.nan
        return scores_BN


def factors(table_UN: Any, chosen: argparse.Namespace, seed: int, key: str, validation: Validation) -> Factors:
    """The papers' teacher: BPR."""
    cache, dim = chosen.cache, chosen.teacher_dim
    file = cache / f"bpr-{key}-{chosen.protocol}-{dim}-{seed}.npz"
    if not file.is_file():
        student = fit(
            table_UN, table_recipe("bpr"), None, dim=dim, seed=seed, every=chosen.every, validation=validation
        )
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, users=student.rows_UD.detach().numpy(), items=student.items_ND.detach().numpy())
    with np.load(file, allow_pickle=False) as held:
        return Factors(held["users"], held["items"])


def linear_parts(table_UN: Any, l2: float) -> tuple[UserScores, UserScores, int]:
    """EASE and the graph filter as scorers of users, and their bytes."""
    ease, low_pass = linear.ease(table_UN, l2), linear.graph_filter(table_UN)
    size = 8 * table_UN.nnz + 4 * min(table_UN.shape) ** 2
    return (lambda users: ease(table_UN[users])), (lambda users: low_pass(table_UN[users])), size


def make_teacher(pairs: Pairs, chosen: argparse.Namespace, seed: int, key: str, validation: Validation) -> Any:
    """The teacher of one seed; `linear` is the same for all.

    Args:
        pairs: The table.
        chosen: The command line: which teacher, its dimension and weights, where it is kept.
        seed: Of what is learnt.
        key: Of the table's content.
        validation: What decides how long BPR learns.
    """
    table, name = pairs.train_UN, chosen.teacher
    if name == "bpr":
        return factors(table, chosen, seed, key, validation)
    if name == "builtin":
        from benchmarks.tables import builtin  # torchrec, which the others do without, takes seconds to import

        folder = chosen.cache / f"builtin-{key}-{builtin.kind(seed)}"
        return builtin.table_teacher(chosen.train, pairs, seed, folder)
    ease, low_pass, size = linear_parts(table, chosen.ease_l2)
    if name == "linear":
        return Blend(table, [(ease, 1.0), (low_pass, 0.25)], size)
    bpr = factors(table, chosen, seed, key, validation)
    weights = [float(weight) for weight in chosen.weights.split(",")]
    return Blend(table, list(zip((ease, low_pass, bpr.scores), weights, strict=True)), size + bpr.size)
