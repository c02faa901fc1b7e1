"""Scores of lists of places, from vectors: the product at the bottom of every loss over lists of a table.

`F.embedding` and `bmm` say the same; on a CPU their gradient adds one row at a time to a table of zeros, and that takes
ten times what the rest of the step takes. Here it is a product of a sparse matrix (the lists' gradients) with the
vectors, once from either side.

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
        # NumPy's einsum reads the gathered rows once; a batched matrix-vector product is three times as slow.
        scores_BL = torch.from_numpy(np.einsum("bld,bd->bl", vectors_BLD.numpy(), users_BD.detach().numpy()))
        return scores_BL.add_(biases_N.index_select(0, flat).view(places_BL.shape))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        users_BD, vectors_ND, places_BL = ctx.saved_tensors
        wants_users, wants_vectors, wants_biases, _ = ctx.needs_input_grad
        batch, length = places_BL.shape
        grad_BL = grad_outputs[0].contiguous()
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
