"""What a term of a table's recipe is asked about: for each user (or item) a list, drawn from the teacher's ranking.

`Rankings` holds what the teacher says of a whole table, as far as it is needed: the best unseen items of each user,
with their scores. `draw` makes the lists of one epoch from it. The item side is the same, transposed: the best users of
each item.

It knows nothing of losses or optimizers.

Example:
    >>> from scipy import sparse
    >>> table = sparse.csr_matrix(np.array([[1.0, 0.0, 0.0, 0.0]], np.float32))
    >>> rankings = Rankings.of(lambda users: np.array([[9.0, 1.0, 3.0, 2.0]], np.float32), table, pool=2)
    >>> rankings.places_UP
    tensor([[2, 3]])
    >>> lists = draw(Pick("ranked", count=2, others=1), rankings, None, generator=torch.Generator().manual_seed(0))
    >>> lists.places_UL[0, :2].tolist(), lists.marks["ranked"][0].tolist()
    ([2, 3], [True, True, False])
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.tables import sampling
from benchmarks.tables.recipes import Pick

UserScores = Callable[[np.ndarray], np.ndarray]
"""Users of the table to scores of all items, f32 `[B, N]`."""

BLOCK = 512
"""Users at a time whose scores of all items are in memory."""


@dataclass(frozen=True)
class Rankings:
    """The teacher's best unseen items of each user.

    Args:
        places_UP: int64 `[U, P]`, best first, −1 where fewer are unseen.
        scores_UP: f32 `[U, P]`.
        table_UN: The scipy CSR matrix that says what was seen.
        unasked_UN: Bits, uint8 `[U, ⌈N / 8⌉]`, of what the teacher was not asked about; None: of all it was.
    """

    places_UP: Tensor
    scores_UP: Tensor
    table_UN: Any
    unasked_UN: np.ndarray | None = None

    @classmethod
    def of(cls, scores: UserScores, table_UN: Any, *, pool: int, standard: bool = False) -> Rankings:
        """Asks the teacher about everything, a block of users at a time.

        Args:
            scores: The teacher; NaN is what it was not asked about, and is left out too.
            table_UN: What was seen: it is left out.
            pool: P.
            standard: Whether each user's scores, over what is not left out, are brought to mean 0 and deviation 1.
        """
        users, items = table_UN.shape
        pool = min(pool, items)
        places_UP, scores_UP = torch.empty(users, pool, dtype=torch.int64), torch.empty(users, pool)
        unasked = []
        for block in np.array_split(np.arange(users), -(-users // BLOCK)):
            scores_BN = torch.from_numpy(np.array(scores(block), np.float32))
            out_BN = scores_BN.isnan()
            unasked.append(np.packbits(out_BN.numpy(), axis=1))
            out_BN[_seen(table_UN, block)] = True
            if standard:
                scores_BN = standardised(scores_BN, out_BN)
            scores_BN.masked_fill_(out_BN, -torch.inf)
            best, places = scores_BN.topk(pool, 1)
            places_UP[block] = places.masked_fill(best == -torch.inf, -1)
            scores_UP[block] = best.masked_fill(best == -torch.inf, 0.0)
        unasked_UN = np.concatenate(unasked)
        return cls(places_UP, scores_UP, table_UN, unasked_UN if unasked_UN.any() else None)

    def unasked(self, users: Tensor) -> Tensor | None:
        """What the teacher was not asked about of some users, bool `[B, N]`; None: of all it was."""
        if self.unasked_UN is None:
            return None
        bits_BN = np.unpackbits(self.unasked_UN[users.numpy()], axis=1, count=self.table_UN.shape[1])
        return torch.from_numpy(bits_BN.view(bool))

    @functools.cached_property
    def by_place(self) -> tuple[Tensor, Tensor]:
        """Each user's places in ascending order, and where each stands in the ranking: to look scores up by."""
        sorted_UP, order_UP = self.places_UP.sort(1)
        return sorted_UP, order_UP

    def transposed(self, scores: UserScores, pool: int, *, standard: bool = False) -> Rankings:
        """The item side: the best users of each item among those who have not had it.

        All scores, U × N float32, are in memory while it is made: who is best for an item, only all users can tell.

        Args:
            scores: The teacher.
            pool: P.
            standard: Whether each user's scores are brought to mean 0 and deviation 1 first, as in `of`.
        """
        table_NU = self.table_UN.T.tocsr()
        table_NU.sort_indices()
        blocks = []
        for block in np.array_split(np.arange(self.table_UN.shape[0]), -(-self.table_UN.shape[0] // BLOCK)):
            scores_BN = torch.from_numpy(np.array(scores(block), np.float32))
            if standard:
                out_BN = scores_BN.isnan()
                out_BN[_seen(self.table_UN, block)] = True
                scores_BN = standardised(scores_BN, out_BN)
            blocks.append(scores_BN.numpy())
        whole_UN = np.concatenate(blocks)
        return Rankings.of(lambda chosen: whole_UN[:, chosen].T, table_NU, pool=pool)


def standardised(scores_BN: Tensor, out_BN: Tensor) -> Tensor:
    """Each row at mean 0 and deviation 1 over what is not left out; a row without spread is 0."""
    count_B1 = (~out_BN).sum(1, keepdim=True).clamp_min(1)
    centred_BN = scores_BN - scores_BN.masked_fill(out_BN, 0.0).sum(1, keepdim=True) / count_B1
    deviation_B1 = (centred_BN.masked_fill(out_BN, 0.0).square_().sum(1, keepdim=True) / count_B1).sqrt()
    # Equal scores differ from their mean by rounding: that is no spread.
    most_B1 = scores_BN.masked_fill(out_BN, 0.0).abs().amax(1, keepdim=True)
    flat_B1 = deviation_B1 <= 1e-6 * most_B1
    return (centred_BN / deviation_B1.masked_fill(flat_B1, 1.0)).masked_fill(flat_B1 & ~out_BN, 0.0)


def temperature_for(scores_UL: Tensor, perplexity: float, *, where: Tensor) -> float:
    """The temperature at which the softmax of the median list has a given perplexity.

    Teachers score on scales of their own, and a temperature means something on one scale only; how many items a list
    is spread over means the same for all. Found by bisection: the perplexity `e^{−Σ p log p}` rises with the
    temperature.

    Args:
        scores_UL: `[U, L]`.
        perplexity: More than 1, less than L.
        where: bool `[U, L]`; lists with fewer than two entries are passed over.

    Example:
        >>> scores = torch.tensor([[5.0, 0.0, 0.0]])
        >>> t = temperature_for(scores, 2.0, where=scores >= 0)
        >>> p = torch.softmax(scores / t, 1)
        >>> round(float(torch.exp(-(p * p.log()).sum())), 3)
        2.0
    """
    scores_UL, where = scores_UL[where.sum(1) >= 2], where[where.sum(1) >= 2]
    if not len(scores_UL):
        return 1.0
    hidden_UL = scores_UL.to(torch.float64).masked_fill(~where, -torch.inf)

    def reached(temperature: float) -> float:
        log_p_UL = (hidden_UL / temperature).log_softmax(1)
        entropy_U = -(log_p_UL.exp() * log_p_UL.masked_fill(~where, 0.0)).sum(1)
        return float(entropy_U.exp().median())

    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if reached(middle) < perplexity else (low, middle)
    return math.sqrt(low * high)


class DrawnLists(NamedTuple):
    """A list for each user (or item).

    `places_UL` int64 `[U, L]` (or `[U, P, 2]` for pairs), −1 is none; `scores_UL` the teacher's; `marks` the masks that
    the loss takes beside them, by the name of its argument.
    """

    places_UL: Tensor
    scores_UL: Tensor
    marks: dict[str, Tensor]


def depends_on_student(pick: Pick) -> bool:
    """Whether the lists are drawn by what the student ranks, so that they have to be drawn anew."""
    return pick.kind in ("hard", "student", "disagreement", "tops", "compared")


def draw(
    pick: Pick,
    rankings: Rankings,
    student: UserScores | None,
    *,
    generator: torch.Generator,
    groups_N: Tensor | None = None,
) -> DrawnLists:
    """The lists of one epoch for every user.

    Args:
        pick: What is wanted.
        rankings: The teacher's, of users, or of items for the item side.
        student: The student's scores; for the picks that depend on it.
        generator: What is drawn with.
        groups_N: Popularity group of each item; for `groups`.
    """
    pool_UP = rankings.places_UP
    if pick.kind in ("catalogue", "top"):
        return _of_pool(rankings, pool_UP[:, : pick.count], {})
    if pick.kind == "ranked":
        best_UK = _by_rank(pool_UP, pick, generator)
        others_UO = _unseen(rankings, pick.others, generator)
        places_UL, (ranked_UL, _) = sampling.merge(best_UK, others_UO)
        return _of_pool(rankings, places_UL, {"ranked": ranked_UL})
    if pick.kind == "positives":
        positives_UL = _padded(rankings.table_UN)
        best_UK, others_UO = pool_UP[:, : pick.count], _unseen(rankings, pick.others, generator)
        places_UL, (first_UL, second_UL, _) = sampling.merge(positives_UL, best_UK, others_UO)
        lists = _of_pool(rankings, places_UL, {"ranked": first_UL | second_UL})
        # A positive stands above whatever the teacher thinks of it.
        return lists._replace(scores_UL=torch.where(first_UL, lists.scores_UL.amax() + 1.0, lists.scores_UL))
    if pick.kind == "groups":
        if groups_N is None:
            raise ValueError("groups: needs the popularity groups of the items")
        return _pairs(pick, rankings, groups_N, generator)
    if student is None:
        raise ValueError(f"{pick.kind}: needs the student's scores")
    parts = [
        _by_student(pick, rankings, block, student, generator)
        for block in np.array_split(np.arange(len(pool_UP)), -(-len(pool_UP) // BLOCK))
    ]
    places_UL = torch.cat([part[0] for part in parts])
    marks = {name: torch.cat([part[1][name] for part in parts]) for name in parts[0][1]}
    return _of_pool(rankings, places_UL, marks)


def _by_student(
    pick: Pick, rankings: Rankings, block: np.ndarray, student: UserScores, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Lists of a block of users that depend on the student's ranking."""
    scores_BN = torch.from_numpy(student(block))
    scores_BN[_seen(rankings.table_UN, block)] = -torch.inf
    teacher_BP = rankings.places_UP[block]
    if pick.kind == "compared":
        places_BK = teacher_BP[:, : pick.count]
        if not pick.others:
            return places_BK, {"student_ranks": sampling.ranks_of(scores_BN, places_BK)}
        drawn_BE = torch.randint(scores_BN.shape[1], (len(scores_BN), pick.others), generator=generator)
        own_BK = scores_BN.gather(1, places_BK.clamp_min(0))
        ranks_BK = sampling.estimated_ranks(own_BK, scores_BN.gather(1, drawn_BE), scores_BN.shape[1])
        return places_BK, {"student_ranks": ranks_BK.masked_fill(places_BK < 0, 0)}
    if pick.kind == "hard":
        ranked_BK = _by_rank(teacher_BP, pick, generator)
        # Neither what stands above them, nor what the teacher said nothing of, is known to be wrong.
        hidden_BN = torch.isneginf(scores_BN)
        rows, columns = (ranked_BK >= 0).nonzero(as_tuple=True)
        hidden_BN[rows, ranked_BK[rows, columns]] = True
        if (unasked_BN := rankings.unasked(torch.from_numpy(block))) is not None:
            hidden_BN |= unasked_BN
        rivals_BO = sampling.hard_negatives(
            scores_BN, pick.others, seen_BN=hidden_BN, pool=pick.pool, generator=generator
        )
        places_BL, (ranked_BL, _) = sampling.merge(ranked_BK, rivals_BO)
        return places_BL, {"ranked": ranked_BL}
    if pick.kind == "disagreement":
        pool_BP = teacher_BP[:, : pick.pool]
        ranks_P = torch.arange(1, pool_BP.shape[1] + 1)
        under_BK, over_BK = sampling.by_disagreement(
            pool_BP,
            sampling.ranks_of(scores_BN, pool_BP),
            ranks_P.expand(pool_BP.shape),
            pick.count,
            temperature=pick.temperature,
            generator=generator,
        )
        places_BL, (under_BL, _) = sampling.merge(under_BK, over_BK)
        return places_BL, {"ranked": under_BL}
    best_BP = sampling.top(scores_BN, pick.pool)
    if pick.kind == "student":
        return _by_rank(best_BP, pick, generator), {}
    student_BK, teacher_BK = best_BP[:, : pick.count], teacher_BP[:, : pick.count]
    sampled_BK = sampling.by_closure(best_BP, teacher_BK, pick.others, generator=generator)
    places_BL, masks = sampling.merge(student_BK, teacher_BK, sampled_BK)
    return places_BL, dict(zip(("student_top", "teacher_top", "sampled"), masks, strict=True))


def _pairs(pick: Pick, rankings: Rankings, groups_N: Tensor, generator: torch.Generator) -> DrawnLists:
    pool_UP = rankings.places_UP[:, : pick.pool]
    group_UP = torch.where(pool_UP >= 0, groups_N[pool_UP.clamp_min(0)], -1)
    each = max(2, pick.pool // pick.groups)
    ranked = []
    for group in range(pick.groups):
        # Best first within the group: a stable sort brings its members to the front.
        order_UP = (group_UP != group).to(torch.int8).argsort(dim=1, stable=True)[:, :each]
        ranked.append(pool_UP.gather(1, order_UP).masked_fill(group_UP.gather(1, order_UP) != group, -1))
    pairs_UP2 = sampling.pairs_by_group(
        torch.stack(ranked, 1), pick.count, temperature=pick.temperature or 20.0, generator=generator
    )
    # The first of a pair is the one that the teacher ranks higher.
    scores_UP2 = torch.tensor([1.0, 0.0]).expand(pairs_UP2.shape)
    return DrawnLists(pairs_UP2, scores_UP2, {"groups": groups_N[pairs_UP2.clamp_min(0)]})


def _by_rank(ranked_UP: Tensor, pick: Pick, generator: torch.Generator) -> Tensor:
    if pick.temperature == 0:
        return ranked_UP[:, : pick.count]
    return sampling.by_rank(ranked_UP, pick.count, temperature=pick.temperature, generator=generator)


def _unseen(rankings: Rankings, count: int, generator: torch.Generator) -> Tensor:
    table = rankings.table_UN
    users = torch.arange(table.shape[0])
    offsets_U1, items_E = (torch.from_numpy(part.astype(np.int64)) for part in (table.indptr, table.indices))
    return sampling.unseen_sorted(users, offsets_U1, items_E, table.shape[1], count, generator=generator)


def _of_pool(rankings: Rankings, places_UL: Tensor, marks: dict[str, Tensor]) -> DrawnLists:
    """The teacher's scores of some places; one below its pool has the pool's lowest."""
    pool_UP, scores_UP = rankings.places_UP, rankings.scores_UP
    sorted_UP, order_UP = rankings.by_place
    at_UL = torch.searchsorted(sorted_UP, places_UL.contiguous()).clamp_max(pool_UP.shape[1] - 1)
    found_UL = (sorted_UP.gather(1, at_UL) == places_UL) & (places_UL >= 0)
    scores_UL = scores_UP.gather(1, order_UP.gather(1, at_UL))
    lowest_U1 = scores_UP.masked_fill(pool_UP < 0, math.inf).amin(1, keepdim=True).clamp_max(1e30)
    return DrawnLists(places_UL, torch.where(found_UL, scores_UL, lowest_U1), marks)


def _padded(table_UN: Any) -> Tensor:
    lengths_U = np.diff(table_UN.indptr)
    places_UL = torch.full((len(lengths_U), int(lengths_U.max())), -1, dtype=torch.int64)
    rows_E = np.repeat(np.arange(len(lengths_U)), lengths_U)
    columns_E = np.arange(table_UN.nnz) - np.repeat(table_UN.indptr[:-1], lengths_U)
    places_UL[rows_E, columns_E] = torch.from_numpy(table_UN.indices.astype(np.int64))
    return places_UL


def _seen(table_UN: Any, users: np.ndarray) -> tuple[Tensor, Tensor]:
    """What some users have seen, as indices into their `[B, N]`."""
    part = table_UN[users]
    rows_E = np.repeat(np.arange(len(users)), np.diff(part.indptr))
    return torch.from_numpy(rows_E), torch.from_numpy(part.indices.astype(np.int64))
