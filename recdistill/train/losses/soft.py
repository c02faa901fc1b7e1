"""What a student learns from a list: pure functions of scores, on the last axis.

Every loss has one form, `(student_scores, teacher_scores or labels, *, where, weights=None, …) -> scalar`: the last
axis is the list, `where` says which of its entries are real, `weights` weighs whole lists. The result is the weighted
mean over the lists that have something to say (two scored candidates, a positive label); a list without takes no part,
and with none left the loss and its gradient are 0. A NaN in an entry that is real is not hidden.

It knows nothing of models, optimizers, records or where a score comes from.

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

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


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
    top-one loss (Cao et al., ICML 2007) with the temperature of Hinton et al. (2015), whose factor τ² keeps the size of
    the gradient when τ is changed, and with it the balance against a label loss.

    Args:
        student_scores: `[..., L]`.
        teacher_scores: `[..., L]`; no gradient flows into them.
        where: bool `[..., L]`, the scored candidates. A list with fewer than two orders nothing and takes no part.
        weights: `[...]`, weight of each list; None weighs all alike.
        temperature: τ > 0.

    Returns:
        A scalar, in nats · τ².
    """
    log_q = _log_softmax(student_scores / temperature, where)
    p = _softmax(teacher_scores.detach() / temperature, where)
    return _mean_of_lists((p * log_q).sum(-1) * -(temperature**2), where.sum(-1) >= 2, weights)


def kl_distillation(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Kullback-Leibler divergence from the student's softmax to the teacher's, `τ² Σ_i p_i (log p_i − log q_i)`.

    The same gradient as `softmax_distillation`, whose value it lowers by the teacher's entropy: 0 means that nothing is
    left to learn, so it is the one to watch. Arguments as there.

    Returns:
        A scalar, in nats · τ², at least 0 but for rounding.

    Example:
        >>> scores, where = torch.tensor([[1.0, 3.0]]), torch.ones(1, 2, dtype=torch.bool)
        >>> float(kl_distillation(scores + 7, scores, where=where, temperature=2.0))
        0.0
    """
    log_q = _log_softmax(student_scores / temperature, where)
    log_p = _log_softmax(teacher_scores.detach() / temperature, where)
    p = log_p.exp().masked_fill(~where, 0.0)
    return _mean_of_lists((p * (log_p - log_q)).sum(-1) * temperature**2, where.sum(-1) >= 2, weights)


def softmax_labels(
    student_scores: Tensor,
    labels: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    log_normaliser: Tensor | None = None,
) -> Tensor:
    """Softmax cross-entropy of the labels: `Σ_i y_i (Z − s_i) / Σ_i y_i` with `Z = log Σ_j exp s_j`.

    With one positive it is the multinomial likelihood of the item that was taken; several share it by their weights
    (ListNet with `y / Σ y` as the target).

    Args:
        student_scores: `[..., L]`.
        labels: `[..., L]`, at least 0; a list without a positive one takes no part.
        where: bool `[..., L]`.
        weights: `[...]`, weight of each list.
        log_normaliser: `[...]`, Z over a larger set than the list, which holds its positives: the whole catalogue, say.
            None takes Z over the list itself.

    Returns:
        A scalar, in nats.

    Example:
        >>> scores, labels = torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
        >>> round(float(softmax_labels(scores, labels, where=labels >= 0)), 4)  # log 4
        1.3863
    """
    labels = labels.masked_fill(~where, 0.0)
    mass = labels.sum(-1)
    z = _log_normaliser(student_scores, where) if log_normaliser is None else log_normaliser
    gap = (z.unsqueeze(-1) - student_scores).masked_fill(~where, 0.0)
    return _mean_of_lists((labels * gap).sum(-1) / mass.clamp_min(torch.finfo(mass.dtype).tiny), mass > 0, weights)


def binary_labels(student_scores: Tensor, labels: Tensor, *, where: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, each candidate a question of its own.

    `(1/n) Σ_i [y_i · log(1 + e^{−s_i}) + 1(y_i = 0) · log(1 + e^{s_i})]` over the n entries of `where`: a positive
    counts by its label's weight, a zero once.

    Args:
        student_scores: `[..., L]`, logits.
        labels: `[..., L]`, at least 0.
        where: bool `[..., L]`; a list without entries takes no part.
        weights: `[...]`, weight of each list.

    Returns:
        A scalar, in nats for each candidate.

    Example:
        >>> scores, labels = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
        >>> round(float(binary_labels(scores, labels, where=labels >= 0)), 4)  # log 2
        0.6931
    """
    each = labels * F.softplus(-student_scores) + (labels == 0) * F.softplus(student_scores)
    count = where.sum(-1)
    mean = each.masked_fill(~where, 0.0).sum(-1) / count.clamp_min(1)
    return _mean_of_lists(mean, count > 0, weights)


def catalogue_scores(
    users_BD: Tensor, vectors_ND: Tensor, biases_N: Tensor, *, places_BL: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores of the lists, and the log-normaliser of a softmax over the whole catalogue: for `softmax_labels`.

    `s = u · v + b` and `Z = log Σ_j exp s_j` over all j that are not hidden. One function, because both come from the
    same `[B, N]` product: it is kept once, as shares, and its gradient is formed once.

    Args:
        users_BD: `[B, D]`.
        vectors_ND: `[N, D]`.
        biases_N: `[N]`.
        places_BL: int64 `[B, L]`, the items of each list.
        hidden: int64 `[K]`, what Z leaves out, as flat indices into `[B, N]`; where it leaves nothing, Z is finite and
            means nothing.

    Returns:
        Scores `[B, L]` and Z `[B]`.

    Example:
        >>> zeros, places = torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.int64)
        >>> items, hidden = (torch.zeros(3, 1), torch.zeros(3)), torch.tensor([5])
        >>> scores, z = catalogue_scores(zeros, *items, places_BL=places, hidden=hidden)
        >>> [round(value, 4) for value in z.tolist()]  # log 3, log 2
        [1.0986, 0.6931]
    """
    scores: Tensor
    z: Tensor
    scores, z = _Catalogue.apply(users_BD, vectors_ND, biases_N, places_BL, hidden)  # type: ignore[no-untyped-call]
    return scores, z


class _Catalogue(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, users_BD: Tensor, vectors_ND: Tensor, biases_N: Tensor, places_BL: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        z_BN = torch.addmm(biases_N, users_BD, vectors_ND.T)
        scores_BL = z_BN.gather(1, places_BL)
        z_BN.view(-1)[hidden] = torch.finfo(z_BN.dtype).min
        top_B1 = z_BN.amax(1, keepdim=True)
        z_BN.sub_(top_B1).exp_()
        total_B1 = z_BN.sum(1, keepdim=True)
        ctx.save_for_backward(users_BD, vectors_ND, places_BL, z_BN, total_B1)
        return scores_BL, (top_B1 + total_B1.log())[:, 0]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        users_BD, vectors_ND, places_BL, z_BN, total_B1 = ctx.saved_tensors
        grad_BN = z_BN * (grad_outputs[1][:, None] / total_B1)
        grad_BN.scatter_add_(1, places_BL, grad_outputs[0])
        return grad_BN @ vectors_ND, grad_BN.T @ users_BD, grad_BN.sum(0), None, None


def _mean_of_lists(losses: Tensor, active: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted mean of the active lists' losses; 0, with a zero gradient, when none is active."""
    share = active.to(losses.dtype) if weights is None else weights.to(losses.dtype).masked_fill(~active, 0.0)
    total = share.sum()
    # masked_fill, not a product: an inactive list may hold NaN scores, and 0 · NaN would spoil the sum.
    return (losses.masked_fill(~active, 0.0) * share).sum() / torch.where(total > 0, total, torch.ones_like(total))


def _log_normaliser(scores: Tensor, where: Tensor) -> Tensor:
    """log Σ exp over `where`; some finite number where nothing is."""
    return _hide(scores, where).logsumexp(-1)


def _log_softmax(scores: Tensor, where: Tensor) -> Tensor:
    """Log-softmax over `where`, 0 elsewhere, so that a product with a probability of 0 stays 0."""
    return _hide(scores, where).log_softmax(-1).masked_fill(~where, 0.0)


def _softmax(scores: Tensor, where: Tensor) -> Tensor:
    return _hide(scores, where).softmax(-1).masked_fill(~where, 0.0)


def _hide(scores: Tensor, where: Tensor) -> Tensor:
    """Sends masked scores to the lowest finite number: −inf would make the gradient of a wholly masked list NaN."""
    return scores.masked_fill(~where, torch.finfo(scores.dtype).min)
