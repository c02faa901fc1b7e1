"""Calibration within lists: what is known by construction."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.judge.calibrated import calibrated


def lists(temperature: float, count: int = 4000) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """One candidate of each list is liked, drawn by softmax of the scores; what is given are scores / temperature."""
    random = np.random.default_rng(1)
    scores = random.normal(0, 1.5, (count, 8))
    noisy = scores + random.gumbel(size=scores.shape)
    labels = (noisy == noisy.max(1, keepdims=True)).astype(float)
    return [*(scores / temperature)], [*labels]


def test_true_shares_have_no_error_and_wrong_temperatures_have() -> None:
    right, flat, sharp = (calibrated(*lists(t)) for t in (1.0, 4.0, 0.25))
    assert right is not None
    assert flat is not None
    assert sharp is not None
    assert right.error < 0.01 < 0.05 < min(flat.error, sharp.error)
    assert right.lists == 4000
    assert sum(count for *_, count in right.groups) == 32_000


def test_what_has_no_score_is_left_out() -> None:
    nan = float("nan")
    found = calibrated(
        [np.array([0.0, np.log(3.0), nan]), np.array([1.0, nan]), np.array([1.0, 2.0])],
        [np.array([1.0, 0.0, 1.0]), np.array([1.0, 0.0]), np.zeros(2)],
    )
    assert found is not None
    # One list is left: shares 1/4 and 3/4 are said, 1 and 0 are true.
    assert found.lists == 1
    assert found.error == pytest.approx(0.75)
    assert calibrated([np.array([nan, 1.0])], [np.array([1.0, 1.0])]) is None
