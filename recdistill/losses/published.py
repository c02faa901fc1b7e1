"""Losses of published distillation methods that depend on how the list was drawn.

| loss | the list is | drawn by `benchmarks.tables.sampling` |
|---|---|---|
| `rrd` | teacher's top by rank (`ranked`) + others | `by_rank`, `unseen` |
| `dcd` | what the student ranks too low (`ranked`) + too high | `by_disagreement` |
| `rd` | teacher's top | `top` |
| `cd` | unseen entries, by the student's or the teacher's rank | `by_rank` |
| `unkd` | pairs within groups of equal popularity | `pairs_by_group` |
| `hetcomp` | positives and teacher's top (`ranked`) + all others | `top` |
| `rce` | student's top, teacher's top, a sample of the student's | `top`, `by_rank`, `merge` |

The form is that of the package. Where a paper sums over the batch, this takes the mean over the lists: multiply a
paper's weight by its batch size.

Example:
    >>> import torch
    >>> student, teacher = torch.zeros(1, 3), torch.tensor([[2.0, 1.0, 9.0]])
    >>> ranked, where = torch.tensor([[True, True, False]]), torch.ones(1, 3, dtype=torch.bool)
    >>> round(float(rrd(student, teacher, where=where, ranked=ranked)), 4)  # log 3 + log 2
    1.7918
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from recdistill.losses.reduce import (
    best_first,
    differences,
    hide,
    log_softmax,
    mean_of_lists,
    mean_of_pairs,
    ordered_pairs,
    plackett_luce,
    show_nan,
    softmax,
)


def rrd(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    ranked: Tensor,
    k: int | None = None,
) -> Tensor:
    """Relaxed ranking distillation: the ranked entries in the teacher's order, and all others below them in any order.

    `Σ_{r ≤ K} [log(Σ_{i = r..K} e^{s_{π_i}} + Σ_{j not ranked} e^{s_j}) − s_{π_r}]` with π the K ranked entries by
    falling teacher score. Kang et al., CIKM 2020 (DE-RRD): the K entries are drawn by the teacher's rank, with as many
    uninteresting ones, in each epoch again. The order of the others is not learnt.

    Its item side, IR-RRD, is this loss on lists of users: scores are `[items, users]`, and `ranked` are the users that
    the teacher ranks first for the item.

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; only the order of the ranked ones counts.
        where: bool `[..., L]`. A list with fewer than two entries, or none ranked, takes no part.
        weights: `[...]`, weight of each list.
        ranked: bool `[..., L]`, the entries to be ordered.
        k: Counts only the first k places; None counts all K.

    Returns:
        A scalar, in nats: a sum over the places, as in the paper.

    Example:
        >>> where, ranked = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[True, False]])
        >>> loss = rrd(torch.tensor([[3.0, 3.0]]), torch.tensor([[0.0, 1.0]]), where=where, ranked=ranked)
        >>> round(float(loss), 4)  # log 2
        0.6931
    """
    ranked = ranked & where
    order = best_first(teacher_scores, ranked)
    stages = ranked.gather(-1, order)
    if k is not None:
        stages = stages & (stages.cumsum(-1) <= k)
    losses = show_nan(plackett_luce(student_scores, where, order, stages), teacher_scores, ranked)
    return mean_of_lists(losses, ranked.any(-1) & (where.sum(-1) >= 2), weights)


def dcd(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    ranked: Tensor,
) -> Tensor:
    """Dual correction distillation: `rrd` on what the student gets wrong.

    Lee and Kim, CIKM 2021 (DCD). `ranked` are the entries that the student ranks too low. They are lifted, in the
    teacher's order. The others are those that it ranks too high. They are pushed below. The formula is that of `rrd`;
    the correction is in the way the list is drawn (`sampling.by_disagreement`). Its item side is the same on lists of
    users.

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; only the order of the ranked ones counts.
        where: bool `[..., L]`. A list with fewer than two entries, or none ranked, takes no part.
        weights: `[...]`, weight of each list.
        ranked: bool `[..., L]`, the under-ranked entries.

    Returns:
        A scalar, in nats.

    Example:
        >>> where, ranked = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[False, True]])
        >>> loss = dcd(torch.zeros(1, 2), torch.zeros(1, 2), where=where, ranked=ranked)
        >>> round(float(loss), 4)  # log 2
        0.6931
    """
    return rrd(student_scores, teacher_scores, where=where, weights=weights, ranked=ranked)


def rd(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    student_ranks: Tensor | None = None,
    decay: float = 1.0,
    sharpness: float = 0.1,
) -> Tensor:
    """Ranking distillation: the teacher's top as positives, weighed by place and by the student's error in rank.

    `−Σ_r w_r log σ(s_{π_r})` with π the entries by falling teacher score, r from 1, `w_r ∝ e^{−r/λ}` at first and
    `w_r ∝ e^{−r/λ} · tanh(max(μ (r̂_r − r), 0))` once the student's ranks r̂ are given; the weights of a list sum to 1.
    Tang and Wang, KDD 2018 (weighted by position, then the hybrid after some epochs of warming up).

    Args:
        student_scores: `[..., L]`, logits.
        teacher_scores: `[..., L]`; only their order counts: the list is the teacher's top L.
        where: bool `[..., L]`. An empty list, or one whose entries all rank high enough, takes no part.
        weights: `[...]`, weight of each list.
        student_ranks: `[..., L]`, from 1, each entry's rank by the student in the whole catalogue
            (`sampling.estimated_ranks`); None weighs by place alone.
        decay: λ > 0, in places.
        sharpness: μ > 0.

    Returns:
        A scalar, in nats.

    Example:
        >>> scores, where = torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)
        >>> round(float(rd(scores, torch.tensor([[2.0, 1.0]]), where=where)), 4)  # log 2, whatever the weights
        0.6931
    """
    order = best_first(teacher_scores, where)
    # The rank of each entry by the teacher, from 1: the inverse of `order`.
    places = torch.empty_like(order).scatter_(
        -1, order, torch.arange(1, order.shape[-1] + 1, device=order.device).expand_as(order)
    )
    log_share = -places.to(student_scores.dtype) / decay
    if student_ranks is not None:
        log_share = log_share + torch.tanh((sharpness * (student_ranks.detach() - places)).clamp_min(0.0)).log()
    # Weights come from a softmax of their logs, because e^{−r/λ} of a late place can be 0 in float32.
    counts = where & (log_share > -torch.inf)
    losses = (softmax(log_share, counts) * F.softplus(-student_scores.masked_fill(~where, 0.0))).sum(-1)
    active = counts.any(-1)
    return mean_of_lists(show_nan(losses, teacher_scores, where), active, weights)


def cd(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    temperature: float = 2.0,
    bias: float = 0.0,
) -> Tensor:
    """Collaborative distillation: binary cross-entropy of each entry, with the teacher's probability as the target.

    `−(1/n) Σ_i [q_i log σ(s_i) + (1 − q_i) log(1 − σ(s_i))]` with `q = σ((t + b) / T)`. Lee et al., ICDM 2019. There
    the entries are unseen ones, drawn by rank, and the loss is a sum: multiply a weight of theirs by the list's length.

    Args:
        student_scores: `[..., L]`, logits.
        teacher_scores: `[..., L]`; no gradient flows into them.
        where: bool `[..., L]`. An empty list takes no part.
        weights: `[...]`, weight of each list.
        temperature: T > 0.
        bias: b, in units of the teacher's score.

    Returns:
        A scalar, in nats for each entry.

    Example:
        >>> where = torch.ones(1, 2, dtype=torch.bool)
        >>> round(float(cd(torch.zeros(1, 2), torch.tensor([[5.0, -5.0]]), where=where)), 4)  # log 2
        0.6931
    """
    q = torch.sigmoid((teacher_scores.detach() + bias) / temperature)
    scores, q = student_scores.masked_fill(~where, 0.0), q.masked_fill(~where, 0.0)
    each = q * F.softplus(-scores) + (1 - q) * F.softplus(scores)
    count = where.sum(-1)
    return mean_of_lists(each.masked_fill(~where, 0.0).sum(-1) / count.clamp_min(1), count > 0, weights)


def unkd(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    groups: Tensor,
) -> Tensor:
    """Unbiased distillation: BPR on the teacher's order, between entries of about the same popularity only.

    The mean of `−log σ(s_i − s_j)` over the pairs with t_i > t_j and `g_i = g_j`. Chen et al., WSDM 2023 (UnKD): from
    such pairs the student cannot learn the teacher's popularity bias. Drawn pairs (`sampling.pairs_by_group`) are lists
    of two, `[..., P, 2]`, of one group each.

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; only their order counts.
        where: bool `[..., L]`. A list without such a pair takes no part.
        weights: `[...]`, weight of each list.
        groups: int `[..., L]`, or a shape that broadcasts to it: the popularity group of each entry
            (`sampling.popularity_groups`).

    Returns:
        A scalar, in nats for each pair.

    Example:
        >>> where, groups = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[0, 0, 1]])
        >>> scores, teacher = torch.tensor([[1.0, 1.0, -50.0]]), torch.tensor([[1.0, 2.0, 9.0]])
        >>> round(float(unkd(scores, teacher, where=where, groups=groups)), 4)  # log 2: the third has no peer
        0.6931
    """
    alike = groups.unsqueeze(-1) == groups.unsqueeze(-2)
    pairs = ordered_pairs(teacher_scores, where) & alike
    losses = F.softplus(-differences(student_scores, where))
    return show_nan(mean_of_pairs(losses, pairs, weights), teacher_scores.flatten(), where.flatten())


def hetcomp(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    ranked: Tensor,
    stage: Literal["overall", "order"],
) -> Tensor:
    """The two losses of HetComp. Its student follows its teachers' checkpoints from easy to hard.

    - `overall`, for all checkpoints except the last: each of the n ranked entries above all that are not ranked; their
      order does not count, `Σ_{i ranked} log(1 + e^{−s_i} Σ_{j not ranked} e^{s_j})`.
    - `order`, for the last: the first n/2 ranked entries in the teacher's order above all others, and the first n/10
      again, `(PL_{n/2} + PL_{n/10}) / 2` with `PL_k` as in `list_mle`. So the very top counts most.

    Kang et al., WWW 2023, where the list is the whole catalogue. In the first stage, the authors put a user's own
    positives into `ranked`. In the second, they give them a separate list (`rrd`).

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; only the order of the ranked ones counts; `overall` does not use them.
        where: bool `[..., L]`. A list with fewer than two entries, or none ranked, takes no part.
        weights: `[...]`, weight of each list.
        ranked: bool `[..., L]`, the top n of the list's present teacher checkpoint.
        stage: Which of the two.

    Returns:
        A scalar, in nats.

    Example:
        >>> where, ranked = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[True, True, False, False]])
        >>> scores, teacher = torch.zeros(1, 4), torch.tensor([[4.0, 3.0, 2.0, 1.0]])
        >>> round(float(hetcomp(scores, teacher, where=where, ranked=ranked, stage="overall")), 4)  # 2 log 3
        2.1972
        >>> round(float(hetcomp(scores, teacher, where=where, ranked=ranked, stage="order")), 4)  # log 4
        1.3863
    """
    ranked = ranked & where
    active = ranked.any(-1) & (where.sum(-1) >= 2)
    if stage == "overall":
        others = hide(student_scores, where & ~ranked).logsumexp(-1, keepdim=True)
        real = student_scores.masked_fill(~ranked, 0.0)
        losses = (torch.logaddexp(real, others) - real).masked_fill(~ranked, 0.0).sum(-1)
        return mean_of_lists(losses, active, weights)
    order = best_first(teacher_scores, ranked)
    among = ranked.gather(-1, order)
    number, count = among.cumsum(-1), among.sum(-1, keepdim=True)
    losses = torch.zeros_like(student_scores[..., 0])
    for part in (2, 10):
        # At least one place, because a short list would learn nothing otherwise.
        stages = among & (number <= torch.div(count, part, rounding_mode="floor").clamp_min(1))
        losses = losses + plackett_luce(student_scores, where, order, stages) / 2
    return mean_of_lists(show_nan(losses, teacher_scores, ranked), active, weights)


def rce(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    student_top: Tensor,
    teacher_top: Tensor,
    sampled: Tensor,
    beta: float = 3.0,
    temperature: float = 1.0,
) -> Tensor:
    """Rejuvenated cross-entropy: `(1 − w) · CE over the student's top + w · CE over the teacher's top with a sample`.

    Each CE is `softmax_distillation` on its own entries. The first is on the student's top K. The second is on the
    entries that are in the teacher's top and not in the student's, with entries sampled from the student's upper ranks.
    `w = e^{−β·o}`, where o is the share of the teacher's top that is in the sample. RCE-KD (arXiv 2509.20989): a
    cross-entropy bounds NDCG only on sets that are closed under the student's ranking. The sample comes near to such a
    set.

    Args:
        student_scores: `[..., L]`, of distinct entries (`sampling.merge` makes them so).
        teacher_scores: `[..., L]`; no gradient flows into them.
        where: bool `[..., L]`. A list whose student's top has fewer than two entries takes no part.
        weights: `[...]`, weight of each list.
        student_top: bool `[..., L]`.
        teacher_top: bool `[..., L]`.
        sampled: bool `[..., L]`; the three may overlap.
        beta: β ≥ 0.
        temperature: τ > 0, with the factor τ² of `softmax_distillation`.

    Returns:
        A scalar, in nats · τ².

    Example:
        >>> where, all_of_them = torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool)
        >>> scores = torch.zeros(1, 4)
        >>> masks = {"student_top": all_of_them, "teacher_top": all_of_them, "sampled": all_of_them}
        >>> round(float(rce(scores, scores, where=where, **masks)), 4)  # log 4, whatever w
        1.3863
    """
    own = student_top & where
    company = where & (sampled | (teacher_top & ~student_top))
    theirs = teacher_top & where
    overlap = (theirs & sampled).sum(-1) / theirs.sum(-1).clamp_min(1)
    w = torch.exp(-beta * overlap.to(student_scores.dtype))
    t, s = teacher_scores.detach() / temperature, student_scores / temperature
    ce_own, ce_company = (-(softmax(t, part) * log_softmax(s, part)).sum(-1) for part in (own, company))
    return mean_of_lists(temperature**2 * ((1 - w) * ce_own + w * ce_company), own.sum(-1) >= 2, weights)
