"""Losses on a teacher's scores of a list: on its shares, its order, its margins or its pairs.

It knows nothing of labels or of how the list was drawn. `published` has the losses that depend on that.

| loss | takes of the teacher | cost of a list |
|---|---|---|
| `softmax_distillation`, `kl_distillation` | shares at a temperature | L |
| `margin_mse` | margins, in its own unit | L |
| `list_mle`, `rank_distil` | the order; orders drawn from its shares | L log L |
| `ranknet`, `pairwise_hinge` | the order of pairs, or their odds | L² |
| `lambda_rank`, `approx_ndcg` | gains, discounted by rank | L² |

Example:
    >>> import torch
    >>> student, teacher = torch.tensor([[2.0, 0.0, 9.0]]), torch.tensor([[1.0, 1.0, 5.0]])
    >>> where = torch.tensor([[True, True, False]])
    >>> round(float(softmax_distillation(student, teacher, where=where)), 4)  # log(1 + e^2) - 1
    1.1269
    >>> float(softmax_distillation(student, teacher, where=torch.zeros_like(where)))
    0.0
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from recdistill.losses.reduce import (
    best_first,
    both,
    differences,
    log_softmax,
    mean_of_lists,
    mean_of_pairs,
    ordered_pairs,
    plackett_luce,
    ranks,
    show_nan,
    softmax,
)

Gain = Literal["softmax", "linear", "exponential"]


def softmax_distillation(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Listwise softmax cross-entropy from the teacher's distribution to the student's, both at a temperature τ.

    `−τ² Σ_i p_i log q_i` with `p = softmax(t / τ)`, `q = softmax(s / τ)` over the entries of `where`. It is ListNet's
    top-one loss (Cao et al., ICML 2007) with the temperature of Hinton et al. (2015). The factor τ² keeps the size of
    the gradient when τ changes. So the balance with a label loss stays the same.

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; no gradient flows into them.
        where: bool `[..., L]`, the scored candidates. A list with fewer than two takes no part.
        weights: `[...]`, weight of each list; None weighs all alike.
        temperature: τ > 0.

    Returns:
        A scalar, in nats · τ².
    """
    log_q = log_softmax(student_scores / temperature, where)
    p = softmax(teacher_scores.detach() / temperature, where)
    return mean_of_lists((p * log_q).sum(-1) * -(temperature**2), where.sum(-1) >= 2, weights)


def kl_distillation(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Kullback-Leibler divergence from the student's softmax to the teacher's, `τ² Σ_i p_i (log p_i − log q_i)`.

    It has the same gradient as `softmax_distillation`. Its value is lower by the teacher's entropy: 0 means that
    nothing is left to learn. So this is the value to look at. Arguments as there.

    Returns:
        A scalar, in nats · τ², at least 0 except for rounding.

    Example:
        >>> scores, where = torch.tensor([[1.0, 3.0]]), torch.ones(1, 2, dtype=torch.bool)
        >>> float(kl_distillation(scores + 7, scores, where=where, temperature=2.0))
        0.0
    """
    log_q = log_softmax(student_scores / temperature, where)
    log_p = log_softmax(teacher_scores.detach() / temperature, where)
    p = log_p.exp().masked_fill(~where, 0.0)
    return mean_of_lists((p * (log_p - log_q)).sum(-1) * temperature**2, where.sum(-1) >= 2, weights)


def list_mle(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    k: int | None = None,
) -> Tensor:
    """Minus the log-likelihood of the teacher's order under the student's Plackett-Luce model.

    `Σ_{r ≤ k} [log Σ_{i ≥ r} exp s_{π_i} − s_{π_r}]` with π the places by falling teacher score. Xia et al., ICML 2008
    (ListMLE). With k, only the first k places are drawn; the order of the rest does not count (top-k ListMLE, Xia et
    al., NIPS 2009). Of equal teacher scores the earlier place comes first.

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; only their order counts.
        where: bool `[..., L]`. A list with fewer than two entries takes no part.
        weights: `[...]`, weight of each list.
        k: How many places of the order count; None takes all.

    Returns:
        A scalar, in nats: a sum over the places, so it grows with k.

    Example:
        >>> scores, where = torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool)
        >>> round(float(list_mle(scores, torch.tensor([[3.0, 1.0, 2.0]]), where=where)), 4)  # log 3!
        1.7918
        >>> round(float(list_mle(scores, torch.tensor([[3.0, 1.0, 2.0]]), where=where, k=1)), 4)  # log 3
        1.0986
    """
    losses = _order_loss(student_scores, teacher_scores, where, k)
    return mean_of_lists(show_nan(losses, teacher_scores, where), where.sum(-1) >= 2, weights)


def rank_distil(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    generator: torch.Generator,
    samples: int = 8,
    k: int | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """ListMLE of orders that are drawn from the teacher's Plackett-Luce model.

    `E_{π ~ PL(t / τ)}[−log PL_k(π | s)]`, the mean over `samples` orders, each drawn by sorting `t / τ` plus Gumbel
    noise. Reddi et al., AISTATS 2021 (RankDistil), the form with sampled orders. As τ goes to 0 it becomes `list_mle`.

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`.
        where: bool `[..., L]`. A list with fewer than two entries takes no part.
        weights: `[...]`, weight of each list.
        generator: What the orders are drawn with.
        samples: Orders for each list.
        k: How many places of an order count; None takes all.
        temperature: τ > 0 of the teacher.

    Returns:
        A scalar, in nats.

    Example:
        >>> where, generator = torch.ones(1, 3, dtype=torch.bool), torch.Generator().manual_seed(1)
        >>> loss = rank_distil(torch.zeros(1, 3), torch.zeros(1, 3), where=where, generator=generator)
        >>> round(float(loss), 4)  # log 3!, whatever the orders
        1.7918
    """
    shape = (samples, *teacher_scores.shape)
    noise = torch.empty(shape, dtype=teacher_scores.dtype, device=teacher_scores.device)
    noise = -noise.exponential_(generator=generator).log()
    drawn = teacher_scores.detach() / temperature + noise
    losses = _order_loss(student_scores.expand(shape), drawn, where.expand(shape), k).mean(0)
    return mean_of_lists(show_nan(losses, teacher_scores, where), where.sum(-1) >= 2, weights)


def margin_mse(
    student_scores: Tensor, teacher_scores: Tensor, *, where: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Mean over the pairs of a list of `((s_i − s_j) − (t_i − t_j))²`.

    Hofstätter et al., 2020 (arXiv 2010.02666), for pairs of a positive and a negative. Here it is over every pair,
    which is twice the variance of `s − t`. A constant added to the teacher's scores changes nothing, but their unit is
    learnt: bring teachers to one scale first.

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; no gradient flows into them.
        where: bool `[..., L]`. A list with fewer than two entries takes no part.
        weights: `[...]`, weight of each list.

    Returns:
        A scalar, in squared units of score.

    Example:
        >>> where = torch.ones(1, 2, dtype=torch.bool)
        >>> float(margin_mse(torch.tensor([[3.0, 0.0]]), torch.tensor([[7.0, 6.0]]), where=where))  # (3 - 1)²
        4.0
    """
    # The mean square of all pair differences of `gap` is 2 · Σ (gap − mean)² / (n − 1): no L² pairs are needed.
    gap = (student_scores - teacher_scores.detach()).masked_fill(~where, 0.0)
    count = where.sum(-1)
    centred = (gap - (gap.sum(-1) / count.clamp_min(1)).unsqueeze(-1)).masked_fill(~where, 0.0)
    return mean_of_lists(2 * (centred**2).sum(-1) / (count - 1).clamp_min(1), count >= 2, weights)


def ranknet(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    temperature: float | None = None,
) -> Tensor:
    """Binary cross-entropy of each pair's order: `−[P log σ(s_i − s_j) + (1 − P) log σ(s_j − s_i)]`.

    Burges et al., ICML 2005 (RankNet), as the mean over pairs. Without a temperature P is 1 for each pair with t_i >
    t_j, and equal scores are no pair. With a temperature `P = σ((t_i − t_j) / τ)`, over all pairs: so it counts how
    sure the teacher is.

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; no gradient flows into them.
        where: bool `[..., L]`. A list without a pair takes no part.
        weights: `[...]`, weight of each list.
        temperature: τ > 0 of the teacher, or None for its order alone.

    Returns:
        A scalar, in nats for each pair.

    Example:
        >>> where = torch.ones(1, 2, dtype=torch.bool)
        >>> round(float(ranknet(torch.zeros(1, 2), torch.tensor([[2.0, 1.0]]), where=where)), 4)  # log 2
        0.6931
    """
    teacher_scores = teacher_scores.detach()
    s = differences(student_scores, where)
    if temperature is None:
        pairs = ordered_pairs(teacher_scores, where)
        return show_nan(mean_of_pairs(F.softplus(-s), pairs, weights), teacher_scores.flatten(), where.flatten())
    p = torch.sigmoid(differences(teacher_scores, where) / temperature)
    pairs = both(where).triu(1)
    return mean_of_pairs(p * F.softplus(-s) + (1 - p) * F.softplus(s), pairs, weights)


def pairwise_hinge(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    margin: float = 1.0,
) -> Tensor:
    """Mean over the pairs with t_i > t_j of `max(0, m − (s_i − s_j))`.

    Joachims, KDD 2002 (the ranking SVM's loss). A pair that is right by the margin or more has no gradient.

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; only their order counts.
        where: bool `[..., L]`. A list without an ordered pair takes no part.
        weights: `[...]`, weight of each list.
        margin: m, in units of the student's score.

    Returns:
        A scalar, in units of score.

    Example:
        >>> where = torch.ones(1, 2, dtype=torch.bool)
        >>> float(pairwise_hinge(torch.tensor([[0.5, 0.25]]), torch.tensor([[2.0, 1.0]]), where=where))
        0.75
    """
    pairs = ordered_pairs(teacher_scores, where)
    losses = F.relu(margin - differences(student_scores, where))
    return show_nan(mean_of_pairs(losses, pairs, weights), teacher_scores.flatten(), where.flatten())


def lambda_rank(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    gain: Gain = "softmax",
    temperature: float = 1.0,
    k: int | None = None,
) -> Tensor:
    """RankNet's pairs. The weight of a pair is how much NDCG changes when its two places are exchanged.

    `Σ_{g_i > g_j} |g_i − g_j| · |D(r_i) − D(r_j)| / maxDCG · log(1 + e^{−(s_i − s_j)})` with r the ranks by the
    student's present scores (without gradient), `D(r) = 1 / log₂(1 + r)`, which is 0 beyond k, and g the gains. Burges
    et al., NIPS 2006 (LambdaRank), as the loss of Wang et al., CIKM 2018 (LambdaLoss).

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; no gradient flows into them.
        where: bool `[..., L]`. A list without a pair of unequal gains takes no part.
        weights: `[...]`, weight of each list.
        gain: `softmax`: the teacher's shares at a temperature, for scores of any scale. `linear`: its scores,
            `exponential`: 2^t − 1; both for grades of at least 0.
        temperature: τ > 0, of `softmax`.
        k: Where NDCG is cut; None counts all ranks.

    Returns:
        A scalar.

    Example:
        >>> where = torch.ones(1, 2, dtype=torch.bool)
        >>> loss = lambda_rank(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]), where=where, gain="linear")
        >>> round(float(loss), 4)  # (1 - 1 / log2(3)) · log 2
        0.2558
    """
    gains = _gains(teacher_scores, where, gain, temperature)
    discounts = _discounts(ranks(student_scores, where), k).to(gains.dtype).masked_fill(~where, 0.0)
    best = _best_dcg(gains, where, k)
    pairs = ordered_pairs(gains, where)
    # `change` is above 0 for the pairs that count; each pair's loss is log(1 + e^{−(s_i − s_j)}).
    change = differences(gains, where) * differences(discounts, where).abs()
    losses = (change * F.softplus(-differences(student_scores, where))).masked_fill(~pairs, 0.0).sum((-2, -1))
    losses = show_nan(losses / best.clamp_min(torch.finfo(best.dtype).tiny), teacher_scores, where)
    return mean_of_lists(losses, pairs.any(-1).any(-1) | losses.isnan(), weights)


def approx_ndcg(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    gain: Gain = "softmax",
    temperature: float = 1.0,
    smoothing: float = 0.1,
) -> Tensor:
    """`1 − Σ_i g_i / log₂(1 + r̂_i) / maxDCG` with the smooth rank `r̂_i = 1 + Σ_{j ≠ i} σ((s_j − s_i) / α)`.

    Qin, Liu and Li, Information Retrieval 2010 (ApproxNDCG). The default α is that of Bruch et al., SIGIR 2019. As α
    goes to 0 it becomes 1 − NDCG, whose gradient is 0 almost everywhere.

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; no gradient flows into them.
        where: bool `[..., L]`. A list with fewer than two entries, or without a gain, takes no part.
        weights: `[...]`, weight of each list.
        gain: As in `lambda_rank`.
        temperature: τ > 0, of the gain `softmax`.
        smoothing: α > 0, in units of the student's score.

    Returns:
        A scalar between 0 and 1, except for rounding.

    Example:
        >>> where, grades = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[1.0, 0.0]])
        >>> round(float(approx_ndcg(torch.tensor([[9.0, 0.0]]), grades, where=where, gain="linear")), 4)
        0.0
        >>> round(float(approx_ndcg(torch.tensor([[0.0, 9.0]]), grades, where=where, gain="linear")), 4)
        0.3691
    """
    gains = _gains(teacher_scores, where, gain, temperature)
    above = torch.sigmoid(-differences(student_scores, where) / smoothing)
    # The sum holds σ(0) = 1/2 of each entry with itself, so 1 + (sum − 1/2).
    smooth_ranks = 0.5 + above.masked_fill(~where.unsqueeze(-2), 0.0).sum(-1)
    dcg = (gains / torch.log2(1 + smooth_ranks)).masked_fill(~where, 0.0).sum(-1)
    best = _best_dcg(gains, where, None)
    losses = show_nan(1 - dcg / best.clamp_min(torch.finfo(best.dtype).tiny), teacher_scores, where)
    return mean_of_lists(losses, (where.sum(-1) >= 2) & (best != 0), weights)


def _order_loss(student_scores: Tensor, teacher_scores: Tensor, where: Tensor, k: int | None) -> Tensor:
    order = best_first(teacher_scores, where)
    stages = where.gather(-1, order)
    if k is not None:
        stages = stages & (stages.cumsum(-1) <= k)
    return plackett_luce(student_scores, where, order, stages)


def _gains(teacher_scores: Tensor, where: Tensor, gain: Gain, temperature: float) -> Tensor:
    teacher_scores = teacher_scores.detach()
    if gain == "softmax":
        return softmax(teacher_scores / temperature, where)
    real = teacher_scores.masked_fill(~where, 0.0)
    return real if gain == "linear" else torch.exp2(real) - 1


def _discounts(rank: Tensor, k: int | None) -> Tensor:
    discounts = 1 / torch.log2(1 + rank)
    return discounts if k is None else discounts.masked_fill(rank > k, 0.0)


def _best_dcg(gains: Tensor, where: Tensor, k: int | None) -> Tensor:
    """`[...]`, the DCG of the best order."""
    return (gains * _discounts(ranks(gains, where), k).to(gains.dtype)).masked_fill(~where, 0.0).sum(-1)
