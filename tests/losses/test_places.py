"""Scores of lists of places against plain torch: values, gradients, either precision, what asks for no gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recdistill import losses

PLACES = torch.tensor([[0, 3, 3], [8, 0, 2]])


def parameters(dtype: torch.dtype) -> list[Tensor]:
    random = torch.Generator().manual_seed(3)
    return [torch.randn(s, generator=random, dtype=torch.float64).to(dtype) for s in ((2, 4), (9, 4), (9,))]


def naive(users: Tensor, vectors: Tensor, biases: Tensor) -> Tensor:
    return (users @ vectors.T + biases).gather(1, PLACES)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("asked", [(True, True, True), (True, False, False), (False, True, True)])
def test_scores_and_gradients(dtype: torch.dtype, near: float, asked: tuple[bool, ...]) -> None:
    pull = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 7.0]], dtype=dtype)
    found = []
    for scores in (lambda *given: losses.scores_of_places(*given, PLACES), naive):
        given = [p.requires_grad_(wanted) for p, wanted in zip(parameters(dtype), asked, strict=True)]
        result = scores(*given)
        result.backward(pull)
        found.append([result.detach(), *(p.grad for p in given if p.requires_grad)])
        assert all(p.grad is None for p in given if not p.requires_grad)
    for got, expected in zip(*found, strict=True):
        assert got.dtype == dtype
        assert torch.allclose(got, expected, rtol=near, atol=near)


def test_gradient_is_the_slope() -> None:
    given = [p.requires_grad_() for p in parameters(torch.float64)]
    assert torch.autograd.gradcheck(lambda *p: losses.scores_of_places(*p, PLACES), given)


def test_gradients_of_a_view_that_is_not_contiguous() -> None:
    given = [p.requires_grad_() for p in parameters(torch.float64)]
    losses.scores_of_places(*given, PLACES)[:, ::2].sum().backward()
    assert torch.equal(given[2].grad, torch.tensor([1.0, 0, 1, 1, 0, 0, 0, 0, 1], dtype=torch.float64))
