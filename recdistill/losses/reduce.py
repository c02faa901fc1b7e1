"""The parts that every loss is made of: masks, means over lists, orders, pairs.

A mask puts the lowest finite number, or 0, in place of what it hides. It is never a product: a masked entry may hold
anything, and 0 · NaN is NaN. It is not −inf: the gradient of a list that is all masked would be NaN.

It knows nothing of teachers, students or what a loss means.

Example:
    >>> import torch
    >>> losses, active = torch.tensor([1.0, 3.0, float("nan")]), torch.tensor([True, True, False])
    >>> float(mean_of_lists(losses, active, None)), float(mean_of_lists(losses, active, torch.tensor([3.0, 1.0, 1.0])))
    (2.0, 1.5)
"""

from __future__ import annotations

import torch
from torch import Tensor


def mean_of_lists(losses: Tensor, active: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted mean of the active lists' losses; 0, with a zero gradient, when none is active."""
    share = active.to(losses.dtype) if weights is None else weights.to(losses.dtype).masked_fill(~active, 0.0)
    total = share.sum()
    # masked_fill, not a product: an inactive list may hold NaN, and 0 · NaN is NaN.
    return (losses.masked_fill(~active, 0.0) * share).sum() / torch.where(total > 0, total, torch.ones_like(total))


def mean_of_pairs(losses: Tensor, pairs: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over each list's pairs, then over the lists that have one.

    Args:
        losses: `[..., L, L]`.
        pairs: bool `[..., L, L]`, the pairs that count.
        weights: `[...]`.
    """
    count = pairs.sum((-2, -1))
    return mean_of_lists(losses.masked_fill(~pairs, 0.0).sum((-2, -1)) / count.clamp_min(1), count > 0, weights)


def log_normaliser_of(scores: Tensor, where: Tensor) -> Tensor:
    """log Σ exp over `where`; a finite number without meaning for an empty list."""
    return hide(scores, where).logsumexp(-1)


def log_softmax(scores: Tensor, where: Tensor) -> Tensor:
    """Log-softmax over `where`, 0 elsewhere: so a product with a probability of 0 is 0."""
    return hide(scores, where).log_softmax(-1).masked_fill(~where, 0.0)


def softmax(scores: Tensor, where: Tensor) -> Tensor:
    """Softmax over `where`, 0 elsewhere."""
    return hide(scores, where).softmax(-1).masked_fill(~where, 0.0)


def hide(scores: Tensor, where: Tensor) -> Tensor:
    """Sets masked scores to the lowest finite number.

    With −inf, a list that is all masked would have a NaN gradient.
    """
    return scores.masked_fill(~where, torch.finfo(scores.dtype).min)


def differences(scores: Tensor, where: Tensor) -> Tensor:
    """`[..., L, L]`, s_i − s_j at [i, j]; a masked score counts as 0."""
    real = scores.masked_fill(~where, 0.0)
    return real.unsqueeze(-1) - real.unsqueeze(-2)


def both(where: Tensor) -> Tensor:
    """Bool `[..., L, L]`: both entries of the pair are real."""
    return where.unsqueeze(-1) & where.unsqueeze(-2)


def ordered_pairs(scores: Tensor, where: Tensor) -> Tensor:
    """Bool `[..., L, L]`: i and j are real and i scores above j."""
    return (scores.unsqueeze(-1) > scores.unsqueeze(-2)) & both(where)


def best_first(scores: Tensor, where: Tensor) -> Tensor:
    """The places of each list, best score first and masked ones last. Of equal scores the earlier place comes first."""
    return scores.detach().masked_fill(~where, -torch.inf).argsort(dim=-1, descending=True, stable=True)


def ranks(scores: Tensor, where: Tensor) -> Tensor:
    """Rank of each entry within its list, int64 from 1, in the order of `best_first`."""
    order = best_first(scores, where)
    numbers = torch.arange(1, order.shape[-1] + 1, device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, numbers)


def plackett_luce(scores: Tensor, where: Tensor, order: Tensor, stages: Tensor) -> Tensor:
    """`[...]`, minus the log-probability of an order under Plackett-Luce, summed over the stages that count.

    `Σ_r [log Σ_{i ≥ r} exp s_{π_i} − s_{π_r}]` over the r of `stages`. Each stage draws the next entry from all that
    are left. An entry in no stage is not drawn, but it stays among those that are left.

    Args:
        scores: `[..., L]`.
        where: bool `[..., L]`.
        order: int64 `[..., L]`, π, the places in their order.
        stages: bool `[..., L]`, sorted as `order`; False for a masked entry.
    """
    sorted_scores = hide(scores, where).gather(-1, order)
    real = where.gather(-1, order)
    # Σ_{i ≥ r} is a running sum from the end: flip, cumsum, flip. In float64 it cannot underflow while scores are less
    # than 700 apart. It takes a quarter of the time of logcumsumexp with its gradient.
    wide = sorted_scores.to(torch.float64).masked_fill(~real, -torch.inf)
    highest = wide.detach().amax(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
    lowest = wide.detach().masked_fill(~real, torch.inf).amin(-1, keepdim=True)
    if bool((highest - lowest < 700).all()):
        left = (wide - highest).exp().flip(-1).cumsum(-1).flip(-1).masked_fill(~stages, 1.0).log() + highest
    else:
        left = sorted_scores.to(torch.float64).flip(-1).logcumsumexp(-1).flip(-1)
    return (left.to(scores.dtype) - sorted_scores).masked_fill(~stages, 0.0).sum(-1)


def show_nan(losses: Tensor, scores: Tensor, where: Tensor) -> Tensor:
    """Sets the loss of a list to NaN where one of its real scores is NaN. An order alone would hide it."""
    return losses.masked_fill((scores.isnan() & where).any(-1), torch.nan)
