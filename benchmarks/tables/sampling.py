"""What to learn from: which items go into a list, drawn by rank, by disagreement, by popularity or at random.

Places are columns of a score matrix, int64; −1 is no place, where there was not enough to draw from, and stands after
all that were drawn. A list is places `[B, K]`; its mask is `places >= 0`. All drawing is by an explicit generator.

Ranks count from 1, the best. B is users (or items, on the item side: give the matrix transposed), N the catalogue,
P a pool of candidates, K what is drawn.

It knows nothing of losses, models or labels; scores come in, places go out.

Example:
    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> teacher_scores = torch.tensor([[0.1, 0.9, 0.5, 0.7]])
    >>> top(teacher_scores, 3)
    tensor([[1, 3, 2]])
    >>> by_rank(top(teacher_scores, 3), 2, temperature=0.01, generator=generator)
    tensor([[1, 3]])
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recdistill.errors import UsageError


def draw(log_weights_BP: Tensor, k: int, *, generator: torch.Generator) -> Tensor:
    """Draws k columns of each row without replacement, each next one in proportion to its weight among those left.

    By the k largest of `log w + Gumbel noise` (Vieira, 2014; Kool et al., ICML 2019).

    Args:
        log_weights_BP: `[B, P]`; −inf is never drawn.
        k: How many.
        generator: What is drawn with.

    Returns:
        int64 `[B, K]`, columns in ascending order, then −1.

    Example:
        >>> draw(torch.tensor([[0.0, -torch.inf, 0.0]]), 3, generator=torch.Generator().manual_seed(0))
        tensor([[ 0,  2, -1]])
    """
    noise = -torch.empty_like(log_weights_BP).exponential_(generator=generator).log()
    keys, columns = (log_weights_BP + noise).topk(min(k, log_weights_BP.shape[1]), dim=1)
    size = log_weights_BP.shape[1]
    columns = columns.masked_fill(keys == -torch.inf, size).sort(dim=1).values
    return _pad(columns.masked_fill(columns == size, -1), k)


def top(scores_BN: Tensor, k: int, *, hidden: Tensor | None = None) -> Tensor:
    """The k best of each row, best first.

    Args:
        scores_BN: `[B, N]`.
        k: How many.
        hidden: bool `[B, N]`, or what broadcasts to it: what is left out, items seen before, say.

    Returns:
        int64 `[B, K]`, then −1.

    Example:
        >>> top(torch.tensor([[1.0, 3.0, 2.0]]), 3, hidden=torch.tensor([[False, True, False]]))
        tensor([[ 2,  0, -1]])
    """
    if hidden is not None:
        scores_BN = scores_BN.masked_fill(hidden, -torch.inf)
    values, places = scores_BN.topk(min(k, scores_BN.shape[1]), dim=1)
    return _pad(places.masked_fill(values == -torch.inf, -1), k)


def by_rank(ranked_BP: Tensor, k: int, *, temperature: float, generator: torch.Generator) -> Tensor:
    """Draws from a ranking without replacement, rank r in proportion to `e^{−r / T}`.

    Kang et al., CIKM 2020 (RRD), there with T = 10. An infinite T draws alike.

    Args:
        ranked_BP: int64 `[B, P]`, places, best first, as `top` gives them; by the teacher or by the student.
        k: How many.
        temperature: T > 0, in ranks.
        generator: What is drawn with.

    Returns:
        int64 `[B, K]`, places, best first, then −1.

    Example:
        >>> by_rank(torch.tensor([[7, 5, -1]]), 3, temperature=1.0, generator=torch.Generator().manual_seed(0))
        tensor([[ 7,  5, -1]])
    """
    ranks_P = torch.arange(1, ranked_BP.shape[1] + 1, device=ranked_BP.device, dtype=torch.float32)
    log_weights_BP = (-ranks_P / temperature).expand(ranked_BP.shape).masked_fill(ranked_BP < 0, -torch.inf)
    return _pick(ranked_BP, draw(log_weights_BP, k, generator=generator))


def by_disagreement(
    places_BP: Tensor,
    student_ranks_BP: Tensor,
    teacher_ranks_BP: Tensor,
    k: int,
    *,
    temperature: float = 10.0,
    floor: float = 1e-5,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draws what the student ranks too low and what it ranks too high, the further off the likelier.

    Without replacement, in proportion to `tanh(max((r_S − r_T) / T, 0))` for the one and to
    `tanh(max((r_T − r_S) / T, 0))` for the other. Lee and Kim, CIKM 2021 (DCD).

    Args:
        places_BP: int64 `[B, P]`, the pool; −1 is never drawn.
        student_ranks_BP: `[B, P]`, from 1 (`ranks_of`).
        teacher_ranks_BP: `[B, P]`.
        k: How many of each.
        temperature: T > 0, in ranks.
        floor: Least weight of any entry of the pool, so that a student that is nearly right still gets k; 0 draws only
            what it has wrong.
        generator: What is drawn with.

    Returns:
        Under-ranked and over-ranked places, int64 `[B, K]` each, then −1. With a floor an entry may be in both.

    Example:
        >>> places, teacher = torch.tensor([[4, 8, 6]]), torch.tensor([[1, 2, 3]])
        >>> student, generator = torch.tensor([[3, 2, 1]]), torch.Generator().manual_seed(0)
        >>> by_disagreement(places, student, teacher, 1, floor=0.0, generator=generator)
        (tensor([[4]]), tensor([[6]]))
    """
    gap_BP = (student_ranks_BP - teacher_ranks_BP).to(torch.float32) / temperature

    def drawn(gap_BP: Tensor) -> Tensor:
        log_weights_BP = torch.tanh(gap_BP.clamp_min(0.0)).clamp_min(floor).log()
        return _pick(places_BP, draw(log_weights_BP.masked_fill(places_BP < 0, -torch.inf), k, generator=generator))

    return drawn(gap_BP), drawn(-gap_BP)


def by_closure(
    ranked_BP: Tensor,
    teacher_top_BM: Tensor,
    k: int,
    *,
    temperature: float = 10.0,
    cap: int = 50,
    generator: torch.Generator,
) -> Tensor:
    """Draws from the student's ranking what stands in the way of the teacher's top.

    Without replacement, in proportion to `e^{(min(c, cap) + 1) / T}` with c how many of the teacher's top the student
    ranks at or below the entry. RCE-KD (arXiv 2509.20989).

    Args:
        ranked_BP: int64 `[B, P]`, the student's best, best first.
        teacher_top_BM: int64 `[B, M]`.
        k: How many.
        temperature: T > 0, in entries.
        cap: Where c stops to count.
        generator: What is drawn with.

    Returns:
        int64 `[B, K]`, places in the student's order, then −1.

    Example:
        >>> ranked, teacher_top = torch.tensor([[3, 1, 2, 0]]), torch.tensor([[1, 9]])
        >>> by_closure(ranked, teacher_top, 2, temperature=0.01, generator=torch.Generator().manual_seed(0))
        tensor([[3, 1]])
    """
    below_BP = _within(ranked_BP, teacher_top_BM).flip(1).cumsum(1).flip(1).clamp_max(cap)
    log_weights_BP = ((below_BP + 1) / temperature).masked_fill(ranked_BP < 0, -torch.inf)
    return _pick(ranked_BP, draw(log_weights_BP, k, generator=generator))


def hard_negatives(
    student_scores_BN: Tensor, k: int, *, seen_BN: Tensor, pool: int, generator: torch.Generator
) -> Tensor:
    """Draws k of the student's best `pool` unseen items, all alike: what it would wrongly recommend.

    A pool much larger than k keeps items out that are merely not yet seen.

    Args:
        student_scores_BN: `[B, N]`.
        k: How many.
        seen_BN: bool `[B, N]`.
        pool: How many of the best to draw from.
        generator: What is drawn with.

    Returns:
        int64 `[B, K]`, the student's best first, then −1.

    Example:
        >>> scores, seen = torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([[True, False, False, False]])
        >>> hard_negatives(scores, 2, seen_BN=seen, pool=2, generator=torch.Generator().manual_seed(0))
        tensor([[1, 2]])
    """
    ranked_BP = top(student_scores_BN, pool, hidden=seen_BN)
    return by_rank(ranked_BP, k, temperature=math.inf, generator=generator)


def unseen(seen_BN: Tensor, k: int, *, generator: torch.Generator) -> Tensor:
    """Draws k unseen items for each row, all alike and with replacement.

    Args:
        seen_BN: bool `[B, N]`, what is not to be drawn.
        k: How many.
        generator: What is drawn with.

    Returns:
        int64 `[B, K]`; −1 throughout for a row that has seen everything.

    Example:
        >>> unseen(torch.tensor([[True, False, True]]), 2, generator=torch.Generator().manual_seed(0))
        tensor([[1, 1]])
    """
    rows, items_E = seen_BN.nonzero(as_tuple=True)
    offsets_B1 = torch.zeros(len(seen_BN) + 1, dtype=torch.int64, device=seen_BN.device)
    offsets_B1[1:] = torch.bincount(rows, minlength=len(seen_BN)).cumsum(0)
    everyone = torch.arange(len(seen_BN), device=seen_BN.device)
    return unseen_sorted(everyone, offsets_B1, items_E, seen_BN.shape[1], k, generator=generator)


def unseen_sorted(
    rows_B: Tensor, offsets_U1: Tensor, items_E: Tensor, count: int, k: int, *, generator: torch.Generator
) -> Tensor:
    """`unseen`, for interactions as sorted rows: no matrix, and no draw is thrown away.

    The j-th unseen item of a row, j drawn alike, is j plus how many seen items are before it.

    Args:
        rows_B: int64 `[B]`, the users to draw for.
        offsets_U1: int64 `[U + 1]`, where each user's items begin in `items_E`.
        items_E: int64 `[E]`, each user's items, ascending and distinct.
        count: N, size of the catalogue.
        k: How many.
        generator: What is drawn with.

    Returns:
        int64 `[B, K]`; −1 throughout for a user who has seen everything.

    Example:
        >>> offsets, items = torch.tensor([0, 2, 2]), torch.tensor([0, 1])
        >>> unseen_sorted(torch.tensor([0]), offsets, items, 3, 2, generator=torch.Generator().manual_seed(0))
        tensor([[2, 2]])
    """
    lengths_U = offsets_U1.diff()
    users_E = torch.arange(len(lengths_U), device=items_E.device).repeat_interleave(lengths_U)
    # How many unseen items stand before each seen one: ascending within a user, and kept apart between users.
    before_E = (
        items_E - (torch.arange(len(items_E), device=items_E.device) - offsets_U1[users_E]) + users_E * (count + 1)
    )
    free_B1 = (count - lengths_U[rows_B])[:, None]
    shares_BK = torch.rand(len(rows_B), k, generator=generator, dtype=torch.float64, device=items_E.device)
    j_BK = (shares_BK * free_B1).to(torch.int64).clamp_max((free_B1 - 1).clamp_min(0))
    seen_before_BK = torch.searchsorted(before_E, j_BK + rows_B[:, None] * (count + 1), right=True)
    places_BK = j_BK + seen_before_BK - offsets_U1[rows_B][:, None]
    return places_BK.masked_fill(free_B1 <= 0, -1)


def popularity_groups(counts_N: Tensor, groups: int) -> Tensor:
    """Splits the catalogue into groups of about equal interactions, the most popular items first.

    Chen et al., WSDM 2023 (UnKD), there into 4.

    Args:
        counts_N: `[N]`, interactions of each item.
        groups: How many.

    Returns:
        int64 `[N]`, 0 for the most popular group; an item belongs where the middle of its own mass falls.

    Example:
        >>> popularity_groups(torch.tensor([1, 4, 1, 2]), 2)
        tensor([1, 0, 1, 1])
    """
    order = counts_N.argsort(descending=True, stable=True)
    sorted_counts = counts_N[order].to(torch.float64)
    middle = (sorted_counts.cumsum(0) - sorted_counts / 2) / sorted_counts.sum().clamp_min(1)
    result = torch.empty_like(order)
    result[order] = (middle * groups).to(torch.int64).clamp_max(groups - 1)
    return result


def top_by_group(scores_BN: Tensor, groups_N: Tensor, k: int, *, hidden: Tensor | None = None) -> Tensor:
    """The k best of each row in each group, best first: what `pairs_by_group` draws from.

    Args:
        scores_BN: `[B, N]`, the teacher's.
        groups_N: int64 `[N]`, from `popularity_groups`.
        k: How many of each group.
        hidden: bool `[B, N]`, what is left out.

    Returns:
        int64 `[B, G, K]`, then −1, with G one more than the largest group.

    Example:
        >>> top_by_group(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([0, 1, 0]), 2)
        tensor([[[ 2,  0],
                 [ 1, -1]]])
    """
    found = []
    for group in range(int(groups_N.max()) + 1):
        members = (groups_N == group).nonzero()[:, 0]
        columns = top(scores_BN[:, members], k, hidden=None if hidden is None else hidden[:, members])
        found.append(members[columns.clamp_min(0)].masked_fill(columns < 0, -1) if len(members) else columns)
    return torch.stack(found, 1)


def pairs_by_group(
    ranked_BGP: Tensor,
    pairs: int,
    *,
    temperature: float = 20.0,
    shares_G: Tensor | None = None,
    generator: torch.Generator,
) -> Tensor:
    """Draws pairs of items of about equal popularity, the one that the teacher ranks higher first.

    Both in proportion to `e^{−r / T}` with r the rank within the group, given that they differ. Chen et al., WSDM 2023
    (UnKD).

    Args:
        ranked_BGP: int64 `[B, G, P]`, from `top_by_group`.
        pairs: How many for each row, over all groups.
        temperature: T > 0, in ranks.
        shares_G: `[G]`, each group's part of the pairs, sum 1; None gives each the same. Pairs are whole: what rounding
            leaves goes to the largest remainders.
        generator: What is drawn with.

    Returns:
        int64 `[B, pairs, 2]`, group by group; −1 for both where a group has fewer than two.

    Example:
        >>> pairs_by_group(torch.tensor([[[5, 3], [4, -1]]]), 2, generator=torch.Generator().manual_seed(0))
        tensor([[[ 5,  3],
                 [-1, -1]]])
    """
    batch, groups, pool = ranked_BGP.shape
    if pool < 2:
        raise UsageError(f"pairs_by_group: a pool of {pool} has no pairs; give top_by_group a k of 2 or more")
    parts_G = torch.full((groups,), 1 / groups) if shares_G is None else shares_G.to("cpu")
    wanted_G = parts_G.to(torch.float64) * pairs
    numbers_G = wanted_G.floor().to(torch.int64)
    numbers_G[(wanted_G - numbers_G).argsort(descending=True, stable=True)[: pairs - int(numbers_G.sum())]] += 1
    ranks_P = torch.arange(1, pool + 1, device=ranked_BGP.device, dtype=torch.float64)
    found = []
    for group, number in enumerate(numbers_G.tolist()):
        ranked_BP = ranked_BGP[:, group]
        w_BP = torch.exp(-(ranks_P - 1) / temperature).expand(batch, pool).masked_fill(ranked_BP < 0, 0.0)
        w_BP = w_BP / w_BP.sum(1, keepdim=True).clamp_min(1e-300)
        u_BK2 = torch.rand(batch, number, 2, generator=generator, dtype=torch.float64, device=ranked_BGP.device)
        # Of two draws that differ the first is a in proportion to w_a (1 − w_a); the second is b among the rest.
        first_BK = _inverse(w_BP * (1 - w_BP), u_BK2[..., 0])
        end_BK, own_BK = w_BP.cumsum(1).gather(1, first_BK), w_BP.gather(1, first_BK)
        at_BK = u_BK2[..., 1] * (1 - own_BK)
        at_BK = torch.where(at_BK >= end_BK - own_BK, at_BK + own_BK, at_BK)
        second_BK = _inverse(w_BP, at_BK)
        # Rounding may put the second draw on the first.
        second_BK = torch.where(second_BK == first_BK, torch.where(first_BK > 0, first_BK - 1, 1), second_BK)
        columns = torch.stack([torch.minimum(first_BK, second_BK), torch.maximum(first_BK, second_BK)], -1)
        drawn = ranked_BP.gather(1, columns.view(batch, -1)).view_as(columns)
        found.append(drawn.masked_fill((drawn < 0).any(-1, keepdim=True), -1))
    return torch.cat(found, 1)


def ranks_of(scores_BN: Tensor, places_BP: Tensor) -> Tensor:
    """Rank of some places in the whole row: 1 + how many score strictly higher.

    Args:
        scores_BN: `[B, N]`.
        places_BP: int64 `[B, P]`.

    Returns:
        int64 `[B, P]`; 0 for −1.

    Example:
        >>> ranks_of(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[0, 1, -1]]))
        tensor([[3, 1, 0]])
    """
    ascending_BN = scores_BN.sort(dim=1).values
    own_BP = scores_BN.gather(1, places_BP.clamp_min(0))
    ranks_BP = scores_BN.shape[1] + 1 - torch.searchsorted(ascending_BN, own_BP, right=True)
    return ranks_BP.masked_fill(places_BP < 0, 0)


def estimated_ranks(scores_BL: Tensor, sampled_BE: Tensor, count: int) -> Tensor:
    """Ranks in a catalogue of `count` items, from a uniform sample of its scores: `⌊(N − 1) · n / ε⌋ + 1`.

    n of the ε sampled score higher. Tang and Wang, KDD 2018 (RD).

    Args:
        scores_BL: `[B, L]`.
        sampled_BE: `[B, ε]`.
        count: N.

    Returns:
        int64 `[B, L]`.

    Example:
        >>> estimated_ranks(torch.tensor([[5.0, 1.0]]), torch.tensor([[0.0, 2.0, 3.0, 4.0]]), 101)
        tensor([[ 1, 76]])
    """
    ascending_BE = sampled_BE.sort(dim=1).values
    above_BL = sampled_BE.shape[1] - torch.searchsorted(ascending_BE, scores_BL.contiguous(), right=True)
    return (count - 1) * above_BL // sampled_BE.shape[1] + 1


def merge(*places: Tensor) -> tuple[Tensor, list[Tensor]]:
    """One list of distinct places out of several, and which of them held each place.

    Args:
        *places: int64 `[B, K_i]`; −1 is no place.

    Returns:
        int64 `[B, ΣK_i]`, a place that comes again is −1; and for each argument bool `[B, ΣK_i]`.

    Example:
        >>> both, (first, second) = merge(torch.tensor([[4, 2]]), torch.tensor([[2, 7]]))
        >>> both, second
        (tensor([[ 4,  2, -1,  7]]), tensor([[False,  True, False,  True]]))
    """
    joined_BL = torch.cat(places, 1)
    again_BL = (joined_BL.unsqueeze(2) == joined_BL.unsqueeze(1)).tril(-1).any(2)
    joined_BL = joined_BL.masked_fill(again_BL, -1)
    return joined_BL, [_within(joined_BL, part) for part in places]


def _within(places_BL: Tensor, others_BK: Tensor) -> Tensor:
    return (places_BL.unsqueeze(2) == others_BK.unsqueeze(1)).any(2) & (places_BL >= 0)


def _pick(places_BP: Tensor, columns_BK: Tensor) -> Tensor:
    return places_BP.gather(1, columns_BK.clamp_min(0)).masked_fill(columns_BK < 0, -1)


def _pad(places_BK: Tensor, k: int) -> Tensor:
    missing = k - places_BK.shape[1]
    return places_BK if missing <= 0 else torch.nn.functional.pad(places_BK, (0, missing), value=-1)


def _inverse(weights_BP: Tensor, u_BK: Tensor) -> Tensor:
    """Columns at the shares u of each row's mass; never one without weight, but where none has any."""
    upto_BP = weights_BP.cumsum(1)
    columns_BK = torch.searchsorted(upto_BP, (u_BK * upto_BP[:, -1:]).contiguous(), right=True)
    last_B1 = (weights_BP > 0).sum(1, keepdim=True) - 1
    return columns_BK.minimum(last_B1.clamp_min(0))
