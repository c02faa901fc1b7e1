"""Losses on labels beside torch's own, hand constants, and the correction of a sampled softmax."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from recdistill import losses


def test_equal_those_of_torch() -> None:
    random = torch.Generator().manual_seed(0)
    s = torch.randn(5, 7, generator=random)
    target = torch.randint(0, 7, (5,), generator=random)
    labels, where = F.one_hot(target, 7).float(), torch.ones(5, 7, dtype=torch.bool)
    assert losses.softmax_labels(s, labels, where=where).item() == pytest.approx(F.cross_entropy(s, target).item())
    bce = F.binary_cross_entropy_with_logits(s, labels)
    assert losses.binary_labels(s, labels, where=where).item() == pytest.approx(bce.item())
    pairs = losses.bpr(s[:, :2], torch.tensor([[1.0, 0.0]]).expand(5, 2), where=where[:, :2])
    assert pairs.item() == pytest.approx(-F.logsigmoid(s[:, 0] - s[:, 1]).mean().item())


def test_hand_constants() -> None:
    s, where = torch.tensor([[math.log(3.0), 0.0]]), torch.ones(1, 2, dtype=torch.bool)
    y = torch.tensor([[0.0, 2.0]])
    assert float(losses.softmax_labels(s, y, where=where)) == pytest.approx(math.log(4))
    assert float(losses.binary_labels(s, y, where=where)) == pytest.approx((math.log(4) + 2 * math.log(2)) / 2)
    assert float(losses.bpr(s, y, where=where)) == pytest.approx(math.log(4))


def test_a_normaliser_over_the_catalogue_stands_in_for_the_list() -> None:
    catalogue = torch.tensor([[0.5, -1.0, 2.0, 0.0, 1.0]])
    labels = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0]])
    whole = losses.softmax_labels(catalogue, labels, where=torch.ones(1, 5, dtype=torch.bool))
    part = losses.softmax_labels(
        catalogue[:, :2], labels[:, :2], where=torch.ones(1, 2, dtype=torch.bool), log_normaliser=catalogue.logsumexp(1)
    )
    assert float(part) == pytest.approx(float(whole))


def test_the_sampled_normaliser_is_unbiased() -> None:
    """The mean over many samples of the estimate of Z is Z, though popular items are drawn far more often."""
    random = torch.Generator().manual_seed(0)
    items, drawn, samples = 50, 8, 2000
    scores = torch.randn(items, generator=random, dtype=torch.float64)
    p = torch.rand(items, generator=random, dtype=torch.float64) ** 3 + 0.01
    p[0] = 0.0  # the positive is there in any case
    p /= p.sum()
    places = torch.multinomial(p, samples * drawn, replacement=True, generator=random).view(samples, drawn)
    places = torch.cat([torch.zeros(samples, 1, dtype=torch.int64), places], 1)
    log_q = (drawn * p[places]).log()
    log_q[:, 0] = 0.0
    labels = torch.zeros(samples, drawn + 1, dtype=torch.float64)
    labels[:, 0] = 1.0
    where = torch.ones_like(labels, dtype=torch.bool)
    # Each list's loss is log Ẑ − s₀.
    values = torch.stack(
        [
            losses.sampled_softmax(scores[places[b : b + 1]], labels[:1], where=where[:1], log_q=log_q[b : b + 1])
            for b in range(samples)
        ]
    )
    estimates = (values + scores[0]).exp()
    error = estimates.std() / math.sqrt(len(estimates))
    assert abs(estimates.mean() - scores.exp().sum()) < 4 * error
    uncorrected = (scores[places].logsumexp(1)).exp().mean()
    assert abs(uncorrected - scores.exp().sum()) > 20 * error


def test_a_masked_hit_takes_no_part_in_a_sampled_softmax() -> None:
    s, labels = torch.tensor([[1.0, 2.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    where, log_q = torch.tensor([[True, True, False]]), torch.tensor([0.0, -1.0, math.nan])
    got = losses.sampled_softmax(s, labels, where=where, log_q=log_q)
    assert got.item() == pytest.approx(math.log(math.exp(1) + math.exp(3)) - 1)
