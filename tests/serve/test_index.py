"""A shelf finds what sorting all scores finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.serve.index import Base, Shelf


def shelf(seed: int, base: int, overlay: int, *, ties: bool, indexed: bool = False) -> Shelf:
    """Indexed: with what stands for an index, which so small a base does not ask."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, size=(base + overlay, 5)) if ties else rng.normal(size=(base + overlay, 5))
    vectors = vectors.astype(np.float32)
    kept = Base(vectors[:base], object() if indexed else None, 1)
    return Shelf(kept, vectors[base:], rng.random(base + overlay) < 0.8)


@given(st.integers(0, 99), st.integers(1, 30), st.integers(0, 60), st.integers(1, 40), st.booleans(), st.booleans())
def test_search_is_sorting(seed: int, base: int, overlay: int, k: int, ties: bool, indexed: bool) -> None:
    one = shelf(seed, base, overlay, ties=ties, indexed=indexed)
    user = np.array([1, -2, 0.5], np.float32)
    slots, scores = one.search(user, k, one.live_T)
    every = np.concatenate([one.base.vectors_NW, one.overlay_MW]).astype(np.float64)
    true = every[:, :3] @ user + every[:, 3]
    expected = sorted((slot for slot in range(len(true)) if one.live_T[slot]), key=lambda s: (-round(true[s], 5), s))[
        :k
    ]
    assert scores == pytest.approx(true[expected], abs=1e-5)
    assert len(slots) == len(expected)
    assert all(one.live_T[slots])
    if ties:  # small integers: equal scores are equal in float32 too, and the lower slot comes first
        assert slots.tolist() == expected
    np.testing.assert_allclose(one.scores(user[None])[0], true, atol=1e-5)


def test_rows_reach_base_and_overlay_without_touching_either() -> None:
    one = shelf(3, 4, 2, ties=False)
    before = one.base.vectors_NW.copy()
    rows = one.rows(np.array([[5, -1], [3, 4]]))
    every = np.concatenate([before, one.overlay_MW])
    assert (rows == every[[[5, 0], [3, 4]]]).all()
    rows[:] = 0
    assert (one.base.vectors_NW == before).all()
