"""Softmax over the whole catalogue: the lists' scores and the normaliser of all items, from vectors.

It knows nothing of where vectors come from. Transposed it is the item side: give items as `users_BD` and users as
`vectors_ND`, and each item's list is of the users that it suits.

Example:
    >>> import torch
    >>> users, items, biases = torch.zeros(2, 1), torch.zeros(3, 1), torch.zeros(3)
    >>> places = torch.zeros(2, 1, dtype=torch.int64)
    >>> scores, z = catalogue_scores(users, items, biases, places_BL=places, hidden=torch.tensor([5]))
    >>> [round(value, 4) for value in z.tolist()]  # log 3, log 2
    [1.0986, 0.6931]
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
