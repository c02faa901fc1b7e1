"""Estimates against exact counts, and against the same sketch with the plain update."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.errors import DataError
from recdistill.features.hashes import hash_texts
from recdistill.features.sketch import Sketch, width_of


@pytest.mark.slow
@given(
    st.lists(st.dictionaries(st.integers(0, 5000).map(str), st.integers(1, 9), min_size=1, max_size=300), max_size=8)
)
def test_an_estimate_is_never_below_the_count(batches: list[dict[str, int]]) -> None:
    sketch, exact = Sketch(16), Counter[str]()
    for batch in batches:
        found = sketch.add(hash_texts(list(batch)), np.array(list(batch.values())))
        exact.update(batch)
        assert all(estimate >= exact[key] for key, estimate in zip(batch, found.tolist(), strict=True))
    keys = list(exact)
    if keys:
        assert (sketch.estimate(hash_texts(keys)) >= [exact[key] for key in keys]).all()


def test_it_is_nearer_than_the_plain_update_and_exact_for_few_keys() -> None:
    random = np.random.default_rng(0)
    draws = np.minimum(random.zipf(1.3, 60_000), 10_000)
    sketch, exact = Sketch(1), Counter[int]()
    plain = np.zeros_like(sketch.table)
    for part in np.split(draws, 60):
        keys, counts = np.unique(part, return_counts=True)
        hashes = hash_texts([str(key) for key in keys])
        sketch.add(hashes, counts)
        for counters, places in zip(plain, sketch._places(hashes), strict=True):
            np.add.at(counters, places, counts.astype(np.uint32))
        exact.update(dict(zip(keys.tolist(), counts.tolist(), strict=True)))
    keys = np.array(list(exact))
    hashes = hash_texts([str(key) for key in keys])
    true = np.array([exact[key] for key in keys.tolist()])
    ours = sketch.estimate(hashes) - true
    theirs = np.min([c[p] for c, p in zip(plain, sketch._places(hashes), strict=True)], axis=0).astype(np.int64) - true
    assert (ours >= 0).all()
    assert ours.mean() < 0.6 * theirs.mean()
    few = Sketch(1)
    assert few.add(hashes[:50], true[:50]).tolist() == true[:50].tolist()


def test_counts_fade_and_can_be_raised() -> None:
    sketch = Sketch(100)
    hashes = hash_texts(["a", "b", "c"])
    sketch.add(hashes, np.array([7, 1, 4]))
    sketch.halve()
    assert sketch.estimate(hashes).tolist() == [3, 0, 2]
    sketch.at_least(hashes, np.array([1, 5, 2]))
    assert sketch.estimate(hashes).tolist() == [3, 5, 2]
    sketch.add(hashes[:1], np.array([2**40]))
    assert sketch.estimate(hashes[:1]).tolist() == [2**31 - 1]


def test_counters_of_another_size_are_refused() -> None:
    sketch = Sketch(3000)
    other = Sketch(3000)
    sketch.add(hash_texts(["a"]), np.array([2]))
    other.restore(sketch.table)
    sketch.halve()
    assert other.estimate(hash_texts(["a"])).tolist() == [2]
    for wrong in (np.zeros((4, 1024), np.uint32), np.zeros((4, 4096), np.int64)):
        with pytest.raises(DataError, match=r"not uint32 \(4, 4096\)"):
            other.restore(wrong)


def test_the_width_is_the_capacity_within_bounds() -> None:
    assert [width_of(n) for n in (1, 1024, 1025, 1_000_000, 1 << 26)] == [1024, 1024, 2048, 1 << 20, 1 << 22]
