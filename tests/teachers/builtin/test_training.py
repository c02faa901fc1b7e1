"""The softmax of the training against plain formulas, and drawn items against counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recdistill.teachers.builtin import training as builtin_training
from recdistill.teachers.builtin.training import SMOOTHING, Columns, _softmax


def test_the_loss_and_its_gradient_are_those_of_the_plain_formula() -> None:
    random = torch.Generator().manual_seed(0)
    count, width, dim = 7, 11, 3
    users, vectors, biases = (
        torch.randn(shape, generator=random).requires_grad_() for shape in [(count, dim), (width, dim), (width,)]
    )
    barred = torch.rand(count, width, generator=random) < 0.3
    target = torch.randint(width, (count,), generator=random)
    weight = torch.rand(count, generator=random)
    correction = torch.randn(width, generator=random).numpy()

    open_ = ~barred
    open_[torch.arange(count), target] = True  # what was chosen is never barred
    logits = users @ vectors.T + biases - torch.from_numpy(correction)
    log_p = logits.masked_fill(~open_, -torch.inf).log_softmax(1)
    plain = -log_p[torch.arange(count), target]
    smooth = -torch.where(open_, log_p, 0.0).sum(1) / open_.sum(1)
    share = weight / weight.sum()
    expected = torch.autograd.grad(
        (((1 - SMOOTHING) * plain + SMOOTHING * smooth) * share).sum(), [users, vectors, biases]
    )

    loss = _softmax(users, vectors, biases, barred.clone(), target, weight, correction)
    torch.testing.assert_close(loss, (plain * share).sum())
    for got, wanted in zip(torch.autograd.grad(loss, [users, vectors, biases]), expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_drawn_items_hold_the_chosen_ones_and_their_probabilities_are_right() -> None:
    random = np.random.default_rng(0)
    chosen_N = np.array([50.0, 20, 10, 5, 1, 0, 0, 0, 0, 0])
    columns = Columns(chosen_N, full=4, drawn=3)
    assert not columns.full
    trials = 20_000
    inside = np.zeros(10)
    said = np.zeros(10)
    for _ in range(trials):
        chosen_M = random.choice(10, 2, p=chosen_N / chosen_N.sum())
        slots_C, correction_C = columns.draw(chosen_M, random)
        assert correction_C is not None
        assert set(chosen_M.tolist()) <= set(slots_C.tolist())
        assert (np.diff(slots_C) > 0).all()
        inside[slots_C] += 1
        said[slots_C] = np.exp(correction_C)
    np.testing.assert_allclose(said, inside / trials, atol=0.015)


def test_a_small_catalogue_is_taken_whole() -> None:
    slots_C, correction_C = Columns(np.ones(5)).draw(np.array([1]), np.random.default_rng(0))
    assert slots_C.tolist() == [0, 1, 2, 3, 4]
    assert correction_C is None
    assert not Columns(np.ones(builtin_training.FULL_CATALOGUE + 1)).full
