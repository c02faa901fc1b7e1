"""The softmax in blocks against torch's cross-entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recdistill.teachers.builtin import softmax
from recdistill.teachers.builtin.softmax import Barred, cross_entropy


@pytest.mark.parametrize("block", [1, 4 * 11 * 3, 1 << 20])
@pytest.mark.parametrize("timed", [False, True])
def test_the_loss_and_its_gradient_are_torchs(block: int, timed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "_BLOCK", block)
    random = torch.Generator().manual_seed(0)
    count, width, dim = 7, 11, 3
    users, vectors, biases = (
        torch.randn(shape, generator=random).requires_grad_() for shape in [(count, dim), (width, dim), (width,)]
    )
    target = torch.randint(width, (count,), generator=random)
    weight = torch.rand(count, generator=random)
    had = torch.rand(count, width, generator=random) < 0.3
    question, column = np.nonzero(had.numpy())
    barred = had
    gone = None
    if timed:
        asked = torch.tensor([0, 5, 6, 7, 8, 9, 10])  # the first one's time is unknown, so all items were there
        since, until = torch.tensor([0, 7] * 5 + [0]), torch.tensor([20] * 8 + [9] * 3)
        gone = (asked, since, until)
        away = [[a > 0 and (s > a or u <= a) for s, u in zip(since, until, strict=True)] for a in asked]
        barred = had | torch.tensor(away)
    barred[torch.arange(count), target] = False
    logits = (users @ vectors.T + biases).masked_fill(barred, -torch.inf)
    wanted = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    expected = torch.autograd.grad(wanted, [users, vectors, biases])

    # A pair that comes twice counts once.
    twice = Barred(target, width, np.repeat(question, 2), np.repeat(column, 2), gone)
    loss = cross_entropy(users, vectors, biases, target, weight, twice)
    torch.testing.assert_close(loss, wanted)
    for got, right in zip(torch.autograd.grad(loss, [users, vectors, biases]), expected, strict=True):
        torch.testing.assert_close(got, right, atol=1e-6, rtol=1e-5)
