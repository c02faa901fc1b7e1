"""Softmax over the whole catalogue: the lists' scores and the normaliser of all items, from vectors.

It works for the item side too: give items as `users_BD` and users as `vectors_ND`. Then the list of each item is of the
users that it suits.

It knows nothing of where vectors come from.

Example:
    >>> import torch
    >>> users, items, biases = torch.zeros(2, 1), torch.zeros(3, 1), torch.zeros(3)
    >>> places, teacher_scores = torch.tensor([[0, 2], [1, -1]]), torch.tensor([[2.0, 1.0], [5.0, 0.0]])
    >>> loss = catalogue_distillation(
    ...     users, items, biases, places_BM=places, teacher_scores_BM=teacher_scores, where=places >= 0
    ... )
    >>> round(float(loss), 4)  # log 3
    1.0986
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recdistill.losses.reduce import mean_of_lists, softmax

CHUNK = 2048
"""Items at a time by default. The scores of some hundred lists for so many items fit in the cache of a core."""


def catalogue_distillation(
    users_BD: Tensor,
    vectors_ND: Tensor,
    biases_N: Tensor,
    *,
    places_BM: Tensor,
    teacher_scores_BM: Tensor,
    where: Tensor,
    weights: Tensor | None = None,
    temperature: float = 1.0,
    hidden: Tensor | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """`softmax_distillation` over the whole catalogue, where only the teacher's top entries are known.

    `τ² [log Σ_{j ≤ N} e^{s_j / τ} − Σ_m p_m s_m / τ]` with p the softmax of `t / τ` over the teacher's entries. The
    other items have p = 0, so the student learns to rank all of them below. It is ListNet's top-one loss (Cao et al.,
    ICML 2007) with the temperature of Hinton et al. (2015) and sparse targets.

    The `[B, N]` scores are computed for one chunk of items at a time, once forward and once for the gradient. So memory
    is B · chunk, plus arrays as large as the arguments and `[B, M, D]`.

    Args:
        users_BD: `[B, D]`.
        vectors_ND: `[N, D]`.
        biases_N: `[N]`.
        places_BM: int64 `[B, M]`, the teacher's entries. A masked entry may be −1.
        teacher_scores_BM: `[B, M]`; no gradient flows into them.
        where: bool `[B, M]`. A list without an entry takes no part.
        weights: `[B]`, weight of each list.
        temperature: τ > 0.
        hidden: int64 `[K]`, what the normaliser leaves out, as flat indices into `[B, N]`: for example items seen
            before.
        chunk: Items at a time.

    Returns:
        A scalar, in nats · τ².

    Example:
        >>> users, items, biases = torch.ones(1, 1), torch.tensor([[3.0], [0.0]]), torch.zeros(2)
        >>> top = {"places_BM": torch.tensor([[0]]), "teacher_scores_BM": torch.ones(1, 1)}
        >>> loss = catalogue_distillation(users, items, biases, **top, where=torch.tensor([[True]]))
        >>> round(float(loss), 4)  # log(1 + e^-3)
        0.0486
    """
    places_BM = places_BM.masked_fill(~where, 0)
    if hidden is None:
        hidden = places_BM.new_zeros(0)
    scores_BM, z_B = catalogue_scores(
        users_BD / temperature, vectors_ND, biases_N / temperature, places_BL=places_BM, hidden=hidden, chunk=chunk
    )
    shares_BM = softmax(teacher_scores_BM.detach() / temperature, where)
    gaps_BM = (z_B.unsqueeze(-1) - scores_BM).masked_fill(~where, 0.0)
    return mean_of_lists(temperature**2 * (shares_BM * gaps_BM).sum(-1), where.any(-1), weights)


def catalogue_scores(
    users_BD: Tensor,
    vectors_ND: Tensor,
    biases_N: Tensor,
    *,
    places_BL: Tensor,
    hidden: Tensor,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Scores of the lists, and the log-normaliser of a softmax over the whole catalogue: for `softmax_labels`.

    `s = u · v + b` and `Z = log Σ_j exp s_j` over all j that are not hidden. It is one function, because both come from
    the same `[B, N]` product. Without chunks, this product is kept for the gradient. With chunks, it is computed one
    chunk at a time, and again for the gradient, so it is never in memory as a whole.

    Args:
        users_BD: `[B, D]`.
        vectors_ND: `[N, D]`.
        biases_N: `[N]`.
        places_BL: int64 `[B, L]`, the items of each list.
        hidden: What Z leaves out: int64 `[K]`, flat indices into `[B, N]`, good for few entries; or bool `[B, N]`.
            Where all items are left out, Z is finite and has no meaning.
        chunk: Items at a time; None takes all at once.

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
    if chunk is None:
        scores, z = _Catalogue.apply(users_BD, vectors_ND, biases_N, places_BL, hidden)  # type: ignore[no-untyped-call]
    else:
        scores, z = _Chunked.apply(  # type: ignore[no-untyped-call]
            users_BD, vectors_ND, biases_N, places_BL, hidden, chunk
        )
    return scores, z


class _Catalogue(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, users_BD: Tensor, vectors_ND: Tensor, biases_N: Tensor, places_BL: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        z_BN = torch.addmm(biases_N, users_BD, vectors_ND.T)
        scores_BL = z_BN.gather(1, places_BL)
        if hidden.dtype == torch.bool:
            z_BN.masked_fill_(hidden, torch.finfo(z_BN.dtype).min)
        else:
            z_BN.view(-1)[hidden] = torch.finfo(z_BN.dtype).min
        # log Σ exp s = top + log Σ exp(s − top), in place: the exponentials stay in `z_BN` for the gradient.
        top_B1 = z_BN.amax(1, keepdim=True)
        z_BN.sub_(top_B1).exp_()
        total_B1 = z_BN.sum(1, keepdim=True)
        ctx.save_for_backward(users_BD, vectors_ND, places_BL, z_BN, total_B1)
        return scores_BL, (top_B1 + total_B1.log())[:, 0]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        users_BD, vectors_ND, places_BL, z_BN, total_B1 = ctx.saved_tensors
        # dZ / ds_j is the softmax share of j. The gradient of the lists' scores is added at their places.
        grad_BN = z_BN * (grad_outputs[1][:, None] / total_B1)
        grad_BN.scatter_add_(1, places_BL, grad_outputs[0])
        return grad_BN @ vectors_ND, grad_BN.T @ users_BD, grad_BN.sum(0), None, None


class _Flat:
    """What is left out, as flat indices. They are sorted by column; `cuts` says where each chunk of columns begins."""

    def __init__(self, hidden: Tensor, count: int, chunk: int) -> None:
        columns = hidden % count
        order = columns.argsort()
        ends = range(0, count + chunk, chunk)
        self.cuts = torch.searchsorted(columns[order], torch.tensor(list(ends), device=hidden.device)).tolist()
        self.rows, self.columns = torch.div(hidden[order], count, rounding_mode="floor"), columns[order]
        self.chunk = chunk

    def fill(self, part_BC: Tensor, number: int, value: float) -> None:
        """Puts a value where the chunk of this number leaves something out."""
        here = slice(self.cuts[number], self.cuts[number + 1])
        part_BC[self.rows[here], self.columns[here] - number * self.chunk] = value


class _Marked:
    """What is left out, as a mask."""

    def __init__(self, hidden_BN: Tensor, chunk: int) -> None:
        self.hidden_BN, self.chunk = hidden_BN, chunk

    def fill(self, part_BC: Tensor, number: int, value: float) -> None:
        """Puts a value where the chunk of this number leaves something out."""
        part_BC.masked_fill_(self.hidden_BN[:, number * self.chunk : number * self.chunk + part_BC.shape[1]], value)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        users_BD: Tensor,
        vectors_ND: Tensor,
        biases_N: Tensor,
        places_BL: Tensor,
        hidden: Tensor,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        scores_BL = (
            torch.bmm(_rows(vectors_ND, places_BL), users_BD.unsqueeze(-1)).squeeze(-1).add_(biases_N.take(places_BL))
        )
        count = len(vectors_ND)
        left_out = _Flat(hidden, count, chunk) if hidden.dtype != torch.bool else _Marked(hidden, chunk)
        lowest = torch.finfo(users_BD.dtype).min
        top_B1 = users_BD.new_full((len(users_BD), 1), lowest)
        total_B1 = torch.zeros_like(top_B1)
        for number, start in enumerate(range(0, count, chunk)):
            z_BC = torch.addmm(biases_N[start : start + chunk], users_BD, vectors_ND[start : start + chunk].T)
            left_out.fill(z_BC, number, lowest)
            # The running sum is of exp(s − top). When a chunk has a higher top, the sum so far is scaled to it.
            higher_B1 = torch.maximum(top_B1, z_BC.amax(1, keepdim=True))
            total_B1.mul_((top_B1 - higher_B1).exp_()).add_(z_BC.sub_(higher_B1).exp_().sum(1, keepdim=True))
            top_B1 = higher_B1
        z_B1 = top_B1 + total_B1.log()
        ctx.save_for_backward(users_BD, vectors_ND, biases_N, places_BL, z_B1)
        ctx.chunk, ctx.left_out = chunk, left_out
        return scores_BL, z_B1[:, 0]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        users_BD, vectors_ND, biases_N, places_BL, z_B1 = ctx.saved_tensors
        grad_BL, grad_z_B1 = grad_outputs[0], grad_outputs[1][:, None]
        count, dim = vectors_ND.shape
        grad_users_BD = torch.zeros_like(users_BD)
        # One more column gives the biases and their gradient in the same products. The shares are exp(u · v + b − Z):
        # the column of `users_BE` is −Z and that of `vectors_CE` is 1.
        users_BE = torch.cat([users_BD, -z_B1], 1)
        pulls_BE = torch.cat([users_BD * grad_z_B1, grad_z_B1], 1)
        grad_NE = vectors_ND.new_empty(count, dim + 1)
        for number, start in enumerate(range(0, count, ctx.chunk)):
            vectors_CD = vectors_ND[start : start + ctx.chunk]
            vectors_CE = torch.nn.functional.pad(vectors_CD, (0, 1), value=1.0)
            shares_BC = torch.addmm(biases_N[start : start + ctx.chunk], users_BE, vectors_CE.T).exp_()
            ctx.left_out.fill(shares_BC, number, 0.0)
            grad_users_BD.addmm_(shares_BC, vectors_CD)
            torch.mm(shares_BC.T, pulls_BE, out=grad_NE[start : start + ctx.chunk])
        # The part of Z is scaled once, at the end. Then the gradient of the lists' own scores is added, to both sides.
        grad_users_BD.mul_(grad_z_B1)
        grad_users_BD.add_(torch.bmm(grad_BL.unsqueeze(1), _rows(vectors_ND, places_BL)).squeeze(1))
        ones_BE = torch.nn.functional.pad(users_BD, (0, 1), value=1.0)
        grad_NE.index_add_(0, places_BL.flatten(), (grad_BL.unsqueeze(-1) * ones_BE.unsqueeze(1)).flatten(0, 1))
        return grad_users_BD, grad_NE[:, :dim], grad_NE[:, dim], None, None, None


def _rows(vectors_ND: Tensor, places_BL: Tensor) -> Tensor:
    """`vectors_ND[places_BL]`, in a way that is several times as fast on a CPU."""
    return vectors_ND.index_select(0, places_BL.flatten()).view(*places_BL.shape, -1)
