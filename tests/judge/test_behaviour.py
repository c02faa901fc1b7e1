"""What a contender shows, against plain loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from recdistill.judge.behaviour import behaviour_of


def test_against_plain_loops() -> None:
    random = np.random.default_rng(0)
    tops = np.stack([random.permutation(30)[:6] for _ in range(9)])
    tops[2, 4:] = -2
    tops[3, 1:] = -2
    percentiles, counts = random.random(31), random.integers(0, 50, 31)
    tops[5, 0] = 30  # it came after the bundle: it has no vector
    vectors = random.normal(size=(30, 4)).astype(np.float32)
    found = behaviour_of(tops, percentiles, counts, vectors, 31)
    shown = [int(item) for top in tops for item in top if item >= 0]
    assert found.coverage == len(set(shown)) / 31
    assert found.popularity == pytest.approx(sum(percentiles[item] for item in shown) / len(shown))
    total = counts.sum() + 31
    assert found.novelty == pytest.approx(np.mean([-math.log2((counts[item] + 1) / total) for item in shown]))
    means = []
    for top in tops:
        pairs = list(itertools.combinations([vectors[item] for item in top if 0 <= item < 30], 2))
        if pairs:
            means.append(np.mean([1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]))
    assert found.diversity == pytest.approx(np.mean(means), rel=1e-5)


def test_nothing_that_is_shown_is_nothing() -> None:
    found = behaviour_of(np.full((2, 3), -2), np.ones(3), np.ones(3, int), np.ones((3, 2), np.float32), 3)
    assert found == (0.0, 0.0, 0.0, None)
