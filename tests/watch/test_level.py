"""The level of a mean: shifts of known size, values that cannot be used, and a stream that stays."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.watch.level import Level, Shifted


def fed(level: Level, values: np.ndarray, first: int = 0, **how: float | bool) -> Shifted | None:
    return level.add(values, first + np.arange(len(values)), least=0.02, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("low", [0.3, 0.7])
def test_a_shift_is_found_with_its_sizes_and_its_beginning(low: float) -> None:
    random, level = np.random.default_rng(0), Level()
    assert fed(level, random.normal(0.5, 0.3, 5_000)) is None
    found = fed(level, random.normal(low, 0.3, 1_000), 5_000)
    assert found is not None
    assert found.usual == pytest.approx(0.5, abs=0.02)
    assert found.now == pytest.approx(low, abs=0.05)
    assert 4_900 <= found.since <= 5_100
    assert not level.known  # what is usual is learnt anew


def test_a_rise_is_not_told_where_only_a_fall_matters() -> None:
    random, level = np.random.default_rng(1), Level()
    assert fed(level, random.normal(0.2, 0.3, 5_000), rises=False) is None
    assert fed(level, random.normal(0.6, 0.3, 20_000), 5_000, rises=False) is None
    assert fed(level, random.normal(0.2, 0.3, 5_000), 25_000, rises=False) is not None


def test_a_change_below_the_least_is_not_told() -> None:
    level = Level()
    values = np.full(3_000, 0.5)
    assert level.add(values, np.arange(3_000), least=0.1) is None
    assert level.add(values - 0.04, np.arange(3_000), least=0.1) is None
    assert level.add(values - 0.15, np.arange(3_000), least=0.1) is not None


def test_without_a_spread_and_without_numbers_it_says_nothing() -> None:
    level = Level()
    assert fed(level, np.full(4_000, 0.25)) is None
    assert fed(level, np.full(4_000, np.nan)) is None
    assert level.now == 0.25


def test_calm_streams_stay_calm() -> None:
    """Two hundred streams of 100 blocks behind the reference, with labels as rare as they are."""
    for seed in range(200):
        values = (np.random.default_rng(seed).random(6_500) < 0.1).astype(np.float64)
        assert fed(Level(), values) is None, seed
