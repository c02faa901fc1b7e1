"""Cross-entropy of questions over a whole catalogue, block by block: there is no array of all questions and items.

The gradient is computed in the forward pass. A block of logits stays in the processor's cache, and its memory is used
again by the next one. Some items are barred for a question: those that its user had before, and those that were not
there. They have no share in its softmax.

It knows nothing of towers or records.

Example:
    >>> users_MD, vectors_CD, target_M = torch.ones(1, 2), torch.zeros(3, 2), torch.tensor([1])
    >>> had = Barred(target_M, 3, np.array([0]), np.array([2]))
    >>> round(cross_entropy(users_MD, vectors_CD, torch.zeros(3), target_M, torch.ones(1), had).item(), 4)  # ln 2
    0.6931
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]

_BLOCK: Final = 1 << 21  # bytes of logits in one block


class Barred:
    """The items that have no share in a question's softmax. What was chosen is never barred.

    Args:
        target_M: Column of what was chosen.
        width: Number of columns, C.
        question_R: Questions of barred pairs, in rising order.
        column_R: Their columns.
        gone: Also the time of each question `[M]`, 0 where unknown, and from when `[C]` until when `[C]` each item was
            there. None: all were.
    """

    def __init__(
        self,
        target_M: Tensor,
        width: int,
        question_R: Ints,
        column_R: Ints,
        gone: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> None:
        self._target_M1 = target_M[:, None]
        self._width = width
        free_R = column_R != target_M.numpy()[question_R]
        self._flat_R = torch.from_numpy((question_R * width + column_R)[free_R])
        counts_M = np.bincount(question_R[free_R], minlength=len(target_M))
        self._first_M1 = [0, *np.cumsum(counts_M).tolist()]
        self._gone = gone

    def bar(self, logits_bC: Tensor, start: int) -> None:
        """Sets the logits of barred items to −∞, for the questions from `start` on."""
        stop = start + len(logits_bC)
        flat = self._flat_R[self._first_M1[start] : self._first_M1[stop]] - start * self._width
        logits_bC.view(-1).index_fill_(0, flat, -torch.inf)
        if self._gone is not None:
            asked_M, from_C, until_C = self._gone
            asked_b1 = asked_M[start:stop, None]
            away_bC = ((from_C > asked_b1) | (until_C <= asked_b1)) & (asked_b1 > 0)
            logits_bC.masked_fill_(away_bC.scatter_(1, self._target_M1[start:stop], False), -torch.inf)


def cross_entropy(
    users_MD: Tensor, vectors_CD: Tensor, biases_C: Tensor, target_M: Tensor, weight_M: Tensor, barred: Barred
) -> Tensor:
    """The weighted mean of −log p(target), where p is the softmax over all items that are not barred.

    Args:
        users_MD: User side of each question.
        vectors_CD: Item side.
        biases_C: Added to every question's scores.
        target_M: Column of what was chosen.
        weight_M: Weight of each question, above 0.
        barred: See `Barred`.
    """
    shares_M = weight_M / weight_M.sum()
    loss: Tensor = _Blocks.apply(  # type: ignore[no-untyped-call]
        users_MD, vectors_CD, biases_C, target_M, shares_M, barred
    )
    return loss


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        users_MD, vectors_CD, biases_C, target_M, shares_M, barred = inputs
        rows = max(1, _BLOCK // (4 * len(vectors_CD)))
        grad_users_MD = torch.empty_like(users_MD)
        grad_vectors_CD, grad_biases_C = torch.zeros_like(vectors_CD), torch.zeros_like(biases_C)
        total = users_MD.new_zeros(())
        memory = users_MD.new_empty(rows, len(vectors_CD))
        for start in range(0, len(users_MD), rows):
            stop = min(start + rows, len(users_MD))
            users_bD, target_b1 = users_MD[start:stop], target_M[start:stop, None]
            p_bC = torch.addmm(biases_C, users_bD, vectors_CD.T, out=memory[: stop - start])
            hit_b1 = p_bC.gather(1, target_b1)
            barred.bar(p_bC, start)
            most_b1 = p_bC.amax(1, keepdim=True)
            p_bC.sub_(most_b1).exp_()
            sum_b1 = p_bC.sum(1, keepdim=True)
            share_b1 = shares_M[start:stop, None]
            total += ((sum_b1.log() + most_b1 - hit_b1) * share_b1).sum()
            # p − target, times the question's share of the loss: the gradient of the logits.
            p_bC.mul_(share_b1 / sum_b1).scatter_add_(1, target_b1, -share_b1)
            torch.mm(p_bC, vectors_CD, out=grad_users_MD[start:stop])
            grad_vectors_CD.addmm_(p_bC.T, users_bD)
            grad_biases_C += p_bC.sum(0)
        ctx.save_for_backward(grad_users_MD, grad_vectors_CD, grad_biases_C)
        loss: Tensor = total
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        users, vectors, biases = ctx.saved_tensors
        return users * grads[0], vectors * grads[0], biases * grads[0], None, None, None
