"""Slots are drawn as by a sum over all of them."""

from __future__ import annotations

import numpy as np

from recdistill.train.drawing import BLOCK, Drawing


def test_the_slot_is_that_of_the_plain_sum() -> None:
    random = np.random.default_rng(0)
    drawing, plain_N = Drawing(), np.zeros(0, np.int64)
    for moment in range(40):
        count = len(plain_N) + int(random.integers(0, 3 * BLOCK))
        plain_N = np.pad(plain_N, (0, count - len(plain_N)))
        slots = random.permutation(count)[: int(random.integers(1, count))] if count > 1 else np.zeros(0, int)
        plain_N[slots] = random.integers(0, 1 << 40, len(slots)) * (random.random(len(slots)) < 0.7)
        drawing.set(slots, plain_N[slots])
        assert drawing.total == plain_N.sum(), moment
        if not drawing.total:
            continue
        numbers_S = np.concatenate([random.random(50), [0.0, np.nextafter(1.0, 0.0)]])
        upto_N, target_S = plain_N.cumsum(), (numbers_S * plain_N.sum()).astype(np.int64)
        assert drawing.find(numbers_S).tolist() == [int(np.argmax(upto_N > target)) for target in target_S]


def test_each_slot_gets_its_share() -> None:
    drawing = Drawing()
    drawing.set(np.arange(4), np.array([1, 0, 2, 5]))
    found = drawing.find((np.arange(8000) + 0.5) / 8000)
    assert np.bincount(found).tolist() == [1000, 0, 2000, 5000]
