"""What every loss is made of: masks, means over lists, orders, pairs.

A mask hides with the lowest finite number or with 0, never with a product: what is masked may hold anything, and
0 · NaN would spoil a sum, −inf the gradient of a wholly masked list.

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
    # masked_fill, not a product: an inactive list may hold NaN scores, and 0 · NaN would spoil the sum.
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
    """log Σ exp over `where`; some finite number where nothing is."""
    return hide(scores, where).logsumexp(-1)


def log_softmax(scores: Tensor, where: Tensor) -> Tensor:
    """Log-softmax over `where`, 0 elsewhere, so that a product with a probability of 0 stays 0."""
    return hide(scores, where).log_softmax(-1).masked_fill(~where, 0.0)


def softmax(scores: Tensor, where: Tensor) -> Tensor:
    """Softmax over `where`, 0 elsewhere."""
    return hide(scores, where).softmax(-1).masked_fill(~where, 0.0)


def hide(scores: Tensor, where: Tensor) -> Tensor:
    """Sends masked scores to the lowest finite number: −inf would make the gradient of a wholly masked list NaN."""
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
    """The places of each list, best score first, masked ones last; of equal scores the earlier place goes first."""
    return scores.detach().masked_fill(~where, -torch.inf).argsort(dim=-1, descending=True, stable=True)


def ranks(scores: Tensor, where: Tensor) -> Tensor:
    """Rank of each entry within its list, int64 from 1, in the order of `best_first`."""
    order = best_first(scores, where)
    numbers = torch.arange(1, order.shape[-1] + 1, device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, numbers)


def plackett_luce(scores: Tensor, where: Tensor, order: Tensor, stages: Tensor) -> Tensor:
    """`[...]`, minus the log-probability of an order under Plackett-Luce, of those of its stages that count.

    `Σ_r [log Σ_{i ≥ r} exp s_{π_i} − s_{π_r}]` over the r of `stages`: each stage draws the next entry from all that
    are left, and what is in no stage is never drawn but is among those left.

    Args:
        scores: `[..., L]`.
        where: bool `[..., L]`.
        order: int64 `[..., L]`, π, the places in their order.
        stages: bool `[..., L]`, in the order of `order`; none of a masked entry.
    """
    sorted_scores = hide(scores, where).gather(-1, order)
    real = where.gather(-1, order)
    # In float64 the sums below cannot underflow until scores are 700 apart, and they take a quarter of the time that
    # logcumsumexp with its gradient takes.
    wide = sorted_scores.to(torch.float64).masked_fill(~real, -torch.inf)
    highest = wide.detach().amax(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
    lowest = wide.detach().masked_fill(~real, torch.inf).amin(-1, keepdim=True)
    if bool((highest - lowest < 700).all()):
        left = (wide - highest).exp().flip(-1).cumsum(-1).flip(-1).masked_fill(~stages, 1.0).log() + highest
    else:
        left = sorted_scores.to(torch.float64).flip(-1).logcumsumexp(-1).flip(-1)
    return (left.to(scores.dtype) - sorted_scores).masked_fill(~stages, 0.0).sum(-1)


def show_nan(losses: Tensor, scores: Tensor, where: Tensor) -> Tensor:
    """NaN for every list that has a NaN among its real scores: an order would hide it."""
    return losses.masked_fill((scores.isnan() & where).any(-1), torch.nan)
