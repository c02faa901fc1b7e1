"""The losses: pure functions of scores, whose last axis is the list.

Every loss has one form, `(student_scores, teacher_scores or labels, *, where, weights=None, …) -> scalar`. The last
axis is the list, `where` says which of its entries are real, `weights` weighs whole lists. The result is the weighted
mean over the lists that can teach something (two scored candidates, or a positive label). Other lists take no part. If
no list is left, the loss and its gradient are 0. A NaN in a real entry is not hidden. A teacher gets no gradient.

`soft` learns from a teacher's scores, and `labels` from choices. `published` has the methods of papers that draw their
lists in a special way. `catalogue` has the softmax over all items. `hints` learns from a teacher's vectors. `places`
computes scores of lists from vectors, fast.

It knows nothing of optimizers, records or where a score comes from.

Example:
    >>> import torch
    >>> loss = by_name("softmax_distillation")
    >>> student, teacher = torch.tensor([[2.0, 0.0, 9.0]]), torch.tensor([[1.0, 1.0, 5.0]])
    >>> round(float(loss(student, teacher, where=torch.tensor([[True, True, False]]))), 4)  # log(1 + e^2) - 1
    1.1269
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import Tensor

from recdistill.config import load_function
from recdistill.errors import ConfigError
from recdistill.losses.catalogue import CHUNK, catalogue_distillation, catalogue_scores
from recdistill.losses.hints import DE, FitNet, annealed, ftd, htd
from recdistill.losses.labels import binary_labels, bpr, sampled_softmax, softmax_labels
from recdistill.losses.places import scores_of_places
from recdistill.losses.published import cd, dcd, hetcomp, rce, rd, rrd, unkd
from recdistill.losses.soft import (
    approx_ndcg,
    kl_distillation,
    lambda_rank,
    list_mle,
    margin_mse,
    pairwise_hinge,
    rank_distil,
    ranknet,
    softmax_distillation,
)
from recdistill.text import did_you_mean

__all__ = [
    "CHUNK",
    "DE",
    "FitNet",
    "annealed",
    "approx_ndcg",
    "binary_labels",
    "bpr",
    "by_name",
    "catalogue_distillation",
    "catalogue_scores",
    "cd",
    "dcd",
    "ftd",
    "hetcomp",
    "htd",
    "kl_distillation",
    "lambda_rank",
    "list_mle",
    "margin_mse",
    "pairwise_hinge",
    "rank_distil",
    "ranknet",
    "rce",
    "rd",
    "rrd",
    "sampled_softmax",
    "scores_of_places",
    "softmax_distillation",
    "softmax_labels",
    "unkd",
]

LOSSES: dict[str, Callable[..., Tensor]] = {
    loss.__name__: loss
    for loss in (
        approx_ndcg,
        binary_labels,
        bpr,
        catalogue_distillation,
        cd,
        dcd,
        ftd,
        hetcomp,
        htd,
        kl_distillation,
        lambda_rank,
        list_mle,
        margin_mse,
        pairwise_hinge,
        rank_distil,
        ranknet,
        rce,
        rd,
        rrd,
        sampled_softmax,
        softmax_distillation,
        softmax_labels,
        unkd,
    )
}


def by_name(name: str) -> Callable[..., Tensor]:
    """The loss that a recipe names: one of these, or one of yours as `package.module:function`.

    Raises:
        ConfigError: There is no such loss; the nearest one is named.

    Example:
        >>> by_name("list_mle") is list_mle
        True
    """
    if name in LOSSES:
        return LOSSES[name]
    if ":" in name:
        loss: Callable[..., Tensor] = load_function(name, setting="loss")
        try:
            inspect.signature(loss)
        except ValueError as e:  # some functions that are written in C
            raise ConfigError(f"loss: {name!r} does not say what it takes; write it as a Python function") from e
        return loss
    hint = did_you_mean(name, LOSSES, otherwise=f"there are {', '.join(sorted(LOSSES))}")
    raise ConfigError(f"loss: {name!r} is not known; {hint}; one of yours is package.module:function")
