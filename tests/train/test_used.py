"""What a step looks up, against a search in plain Python."""

from __future__ import annotations

import numpy as np

from recdistill.train.used import Places


def test_places_are_those_of_a_plain_search_step_after_step() -> None:
    random, places = np.random.default_rng(0), Places()
    for count in (50, 50, 80, 80, 80):
        named = [random.integers(-1, count, (4, 6)), random.integers(0, count, 3), np.zeros(0, np.int64)]
        used_U, place_N = places.of(count, named)
        expected = sorted({int(slot) for slots in named for slot in slots.ravel()} - {-1})
        assert used_U.tolist() == expected
        assert place_N.tolist() == [expected.index(n) if n in expected else -1 for n in range(count)] + [-1]


def test_nothing_is_named() -> None:
    used_U, place_N = Places().of(3, [np.array([-1, -1])])
    assert (used_U.tolist(), place_N.tolist()) == ([], [-1] * 4)
