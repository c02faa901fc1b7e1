"""Losses on labels: which item was chosen, and from which list.

The form is that of the package, with labels instead of the teacher's scores. Labels are at least 0. A label above 0 is
a positive, and its value is its weight.

It knows nothing of teachers, or of how negatives were drawn.

Example:
    >>> import torch
    >>> scores, labels = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    >>> round(float(bpr(scores, labels, where=labels >= 0)), 4)  # log(1 + 1/e)
    0.3133
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from recdistill.losses.reduce import differences, log_normaliser_of, mean_of_lists


def softmax_labels(
    student_scores: Tensor,
    labels: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    log_normaliser: Tensor | None = None,
) -> Tensor:
    """Softmax cross-entropy of the labels: `Σ_i y_i (Z − s_i) / Σ_i y_i` with `Z = log Σ_j exp s_j`.

    With one positive it is the multinomial likelihood of the item that was taken. Several positives share it by their
    weights (ListNet with `y / Σ y` as the target).

    Args:
        student_scores: `[..., L]`.
        labels: `[..., L]`, at least 0; a list without a positive one takes no part.
        where: bool `[..., L]`.
        weights: `[...]`, weight of each list.
        log_normaliser: `[...]`, Z over a larger set that holds the list's positives, for example the whole catalogue.
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
    z = log_normaliser_of(student_scores, where) if log_normaliser is None else log_normaliser
    gap = (z.unsqueeze(-1) - student_scores).masked_fill(~where, 0.0)
    return mean_of_lists((labels * gap).sum(-1) / mass.clamp_min(torch.finfo(mass.dtype).tiny), mass > 0, weights)


def binary_labels(student_scores: Tensor, labels: Tensor, *, where: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of each candidate alone.

    `(1/n) Σ_i [y_i · log(1 + e^{−s_i}) + 1(y_i = 0) · log(1 + e^{s_i})]` over the n entries of `where`. A positive
    counts by its label, a zero counts once.

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
    # Mask both before the products too: a masked NaN would make their gradient NaN.
    scores, labels = student_scores.masked_fill(~where, 0.0), labels.masked_fill(~where, 0.0)
    each = labels * F.softplus(-scores) + (labels == 0) * F.softplus(scores)
    count = where.sum(-1)
    mean = each.masked_fill(~where, 0.0).sum(-1) / count.clamp_min(1)
    return mean_of_lists(mean, count > 0, weights)


def bpr(student_scores: Tensor, labels: Tensor, *, where: Tensor, weights: Tensor | None = None) -> Tensor:
    """Bayesian personalised ranking: `Σ y_i · log(1 + e^{−(s_i − s_j)}) / Σ y_i` over positives i and zeros j.

    Rendle et al., UAI 2009 (BPR-Opt, without its prior: weight decay belongs to the optimizer). Every positive of the
    list is compared with every zero. With one of each, it is the loss of the paper.

    Args:
        student_scores: `[..., L]`.
        labels: `[..., L]`, at least 0; a list without a positive, or without a zero, takes no part.
        where: bool `[..., L]`.
        weights: `[...]`, weight of each list.

    Returns:
        A scalar, in nats for each pair.

    Example:
        >>> scores, labels = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]])
        >>> round(float(bpr(scores, labels, where=labels >= 0)), 4)  # log 2
        0.6931
    """
    share = labels.masked_fill(~where, 0.0).unsqueeze(-1) * ((labels == 0) & where).unsqueeze(-2)
    mass = share.sum((-2, -1))
    each = share * F.softplus(-differences(student_scores, where))
    return mean_of_lists(each.sum((-2, -1)) / mass.clamp_min(torch.finfo(mass.dtype).tiny), mass > 0, weights)


def sampled_softmax(
    student_scores: Tensor, labels: Tensor, *, where: Tensor, weights: Tensor | None = None, log_q: Tensor
) -> Tensor:
    """Softmax cross-entropy over a sample of the catalogue, corrected by the chance of each entry to be in it.

    It is `softmax_labels` of `s_i − log q_i`. q_i is how often entry i is expected in the list. Then `Σ_i exp(s_i − log
    q_i)` over the list is an unbiased estimate of the catalogue's normaliser (Bengio and Senécal, IEEE Trans. Neural
    Networks 2008). Frequent items are not pushed down because they are drawn often (Yi et al., RecSys 2019, who correct
    the positives of the batch too).

    - An entry that is always in the list, such as its own positive, has q = 1: log_q is 0.
    - One of n draws with replacement from a distribution p: log_q is log n + log p_i. Mask draws that hit the positive,
      or leave it out of p. Otherwise it counts twice.
    - The positives of other lists as negatives (Yi et al.): log_q is log p_i of the stream, for the positive too.

    Args:
        student_scores: `[..., L]`.
        labels: `[..., L]`, at least 0; a list without a positive one takes no part.
        where: bool `[..., L]`; mask draws that hit a positive of the list.
        weights: `[...]`, weight of each list.
        log_q: `[..., L]`, or a shape that broadcasts to it.

    Returns:
        A scalar, in nats.

    Example:
        One positive and 2 of 999 others: at equal scores the estimate is the log of the whole catalogue's size.

        >>> labels = torch.tensor([[1.0, 0.0, 0.0]])
        >>> log_q = torch.tensor([[1.0, 2 / 999, 2 / 999]]).log()
        >>> loss = sampled_softmax(torch.zeros(1, 3), labels, where=labels >= 0, log_q=log_q)
        >>> round(float(loss.exp()))
        1000
    """
    log_q = log_q.expand_as(student_scores)
    corrected = student_scores.masked_fill(~where, 0.0) - log_q.masked_fill(~where, 0.0)
    return softmax_labels(corrected, labels, where=where, weights=weights)
