"""Scores of lists of places, from vectors: the product that every loss over lists of a table starts from.

`F.embedding` and `bmm` give the same scores. But on a CPU their gradient adds one row at a time to a table of zeros.
That takes ten times as long as the rest of the step. Here the gradient is a product of a sparse matrix (the lists'
gradients) with the vectors, once for each side.

It knows nothing of where vectors or lists come from, and it runs on a CPU only.

Example:
    >>> import torch
    >>> users, items = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> scores_of_places(users, items, torch.zeros(3), torch.tensor([[2, 0]]))
    tensor([[3., 1.]])
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


def scores_of_places(users_BD: Tensor, vectors_ND: Tensor, biases_N: Tensor, places_BL: Tensor) -> Tensor:
    """`u · v_i + b_i` for each list's places.

    Args:
        users_BD: `[B, D]`, a vector for each list.
        vectors_ND: `[N, D]`.
        biases_N: `[N]`.
        places_BL: int64 `[B, L]`, each at least 0 and less than N; a place may come more than once.

    Returns:
        `[B, L]`.

    Example:
        >>> users = torch.ones(1, 1, requires_grad=True)
        >>> vectors, places = torch.tensor([[2.0], [5.0]]), torch.tensor([[0, 1, 1]])
        >>> scores_of_places(users, vectors, torch.zeros(2), places).sum().backward()
        >>> users.grad
        tensor([[12.]])
    """
    scores: Tensor = _Places.apply(users_BD, vectors_ND, biases_N, places_BL)  # type: ignore[no-untyped-call]
    return scores


class _Places(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users_BD: Tensor, vectors_ND: Tensor, biases_N: Tensor, places_BL: Tensor) -> Tensor:
        ctx.save_for_backward(users_BD, vectors_ND, places_BL)
        flat = places_BL.reshape(-1)
        vectors_BLD = vectors_ND.index_select(0, flat).view(*places_BL.shape, -1)
        # NumPy's einsum reads the rows once. A batched matrix-vector product takes three times as long.
        scores_BL = torch.from_numpy(np.einsum("bld,bd->bl", vectors_BLD.numpy(), users_BD.detach().numpy()))
        return scores_BL.add_(biases_N.index_select(0, flat).view(places_BL.shape))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        users_BD, vectors_ND, places_BL = ctx.saved_tensors
        wants_users, wants_vectors, wants_biases, _ = ctx.needs_input_grad
        batch, length = places_BL.shape
        grad_BL = grad_outputs[0].contiguous()
        # Row b of the sparse matrix has the gradient of each score of list b, in the column of its item.
        lists_BN = sparse.csr_matrix(
            (grad_BL.numpy().ravel(), places_BL.numpy().ravel(), np.arange(0, batch * length + 1, length)),
            shape=(batch, len(vectors_ND)),
        )
        grad_users = torch.from_numpy(lists_BN @ vectors_ND.detach().numpy()) if wants_users else None
        grad_vectors = torch.from_numpy(lists_BN.T @ users_BD.detach().numpy()) if wants_vectors else None
        grad_biases = None
        if wants_biases:
            grad_biases = torch.bincount(places_BL.flatten(), grad_BL.flatten(), len(vectors_ND)).to(grad_BL.dtype)
        return grad_users, grad_vectors, grad_biases, None
