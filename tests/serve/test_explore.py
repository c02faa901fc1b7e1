"""The chance of each item at each place, against a list of all draws and against counted draws."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from recdistill.serve import Explore, chance_at, shown


def by_hand(candidates: int, tail: int, share: float) -> dict[tuple[int, int], float]:
    """All draws, each tried out."""
    chances: Counter[tuple[int, int]] = Counter()
    for place in range(tail):
        chances[place, place] += 1 - share
    for drawn, goes in product(range(candidates), range(tail)):
        order = [item for item in range(candidates) if item != drawn]
        order.insert(goes, drawn)
        for place, item in enumerate(order[:tail]):
            chances[item, place] += share / (candidates * tail)
    return chances


@pytest.mark.parametrize(("candidates", "tail"), [(2, 1), (2, 2), (5, 2), (9, 4), (6, 6), (40, 7)])
@pytest.mark.parametrize("share", [0.05, 1.0])
def test_the_chance_of_an_item_at_a_place_is_that_of_all_draws(candidates: int, tail: int, share: float) -> None:
    expected = by_hand(candidates, tail, share)
    for item, place in product(range(candidates), range(tail)):
        found = chance_at(item, place, tail=tail, candidates=candidates, share=share)
        assert found == pytest.approx(expected[item, place], abs=1e-12)
        assert found > 0, "every candidate can be at every place of the tail"


def test_drawn_answers_are_as_frequent_as_their_chances_say() -> None:
    explore, counts, named = Explore(share=0.4, first=3, pool=3), Counter(), {}
    draws = 40_000
    for n in range(draws):
        order, chances = shown(explore, f"answer {n}", found=50, k=5)
        assert order[:2] == [0, 1], "the first places are never touched"
        assert chances[:2] == [1.0, 1.0]
        assert len(set(order)) == 5
        assert max(order) < 8
        for place, (item, chance) in enumerate(zip(order, chances, strict=True)):
            counts[item, place] += 1
            assert named.setdefault((item, place), chance) == chance
    assert len(named) == 2 + 6 * 3
    for pair, chance in named.items():
        wide = 4.5 * (chance * (1 - chance) / draws) ** 0.5
        assert abs(counts[pair] / draws - chance) <= wide + 1e-12, pair


def test_a_name_gives_the_same_answer_again_and_without_exploration_nothing_changes() -> None:
    explore = Explore(share=0.5, first=1, pool=4)
    names = [f"{n}" for n in range(200)]
    first = [shown(explore, name, found=30, k=6) for name in names]
    assert first == [shown(explore, name, found=30, k=6) for name in names]
    assert 60 < sum(order != list(range(6)) for order, _ in first) < 100
    for usual in (Explore(), Explore(share=1.0, first=7, pool=4)):
        assert shown(usual, "x", found=30, k=6) == (list(range(6)), [1.0] * 6)
    assert shown(Explore(1.0, 1, 5), "x", found=1, k=6) == ([0], [1.0])
    assert shown(Explore(1.0, 1, 5), "x", found=0, k=6) == ([], [])
