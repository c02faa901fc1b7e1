"""Quality on what comes next: whoever orders a list does so before its clicks are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recdistill.demo.live.quality import Quality
from recdistill.records import Candidate, Feedback, Impression


def shown(name: str, *items: str) -> Impression:
    return Impression(name, 5, candidates=tuple(map(Candidate, items)))


def click(name: str, item: str) -> Feedback:
    return Feedback(f"{name}-{item}", name, item, "click", time_us=6)


def test_figures_by_hand() -> None:
    scores: dict[str, NDArray[Any] | None] = {"good": np.array([3.0, 2.0, 1.0]), "none": None}
    seen = Quality({name: (lambda _, name=name: scores[name]) for name in scores}, wait_s=2.0, recent_s=30.0)
    seen.shown(shown("i", "a", "b", "c"), 0.0)
    seen.clicked(click("i", "b"), 1.0)
    seen.clicked(click("i", "elsewhere"), 1.0)
    seen.shown(shown("j", "a", "b", "c"), 1.5)  # nobody clicks: no figure
    scores["none"] = np.array([np.nan, 5.0, 1.0])
    seen.shown(shown("k", "a", "b", "c"), 2.0)
    seen.clicked(click("k", "a"), 2.5)
    assert seen.settle(10.0) == 2
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    first, other = seen.points
    assert first == (0.0, {"good": pytest.approx(second), "popularity": pytest.approx((1 + second + third) / 3)})
    # `b` was clicked before, and the two others are alike; what is unknown comes last.
    assert other == (
        2.0,
        {"good": 1.0, "none": pytest.approx(third), "popularity": pytest.approx((second + third) / 2)},
    )
    assert seen.means(0.0, 1.0)["good"] == pytest.approx(second)
    assert seen.means(0.0, 5.0)["good"] == pytest.approx((1 + second) / 2)
    assert seen.means(5.0, 9.0) == {}


def test_a_click_that_comes_later_changes_nothing_that_was_ordered() -> None:
    """Popularity knows only the clicks before the list was shown, and forgets the old ones."""
    seen = Quality({}, wait_s=1.0, recent_s=10.0)
    seen.clicked(click("x", "b"), 0.0)
    seen.shown(shown("i", "a", "b"), 1.0)
    for n in range(5):
        seen.clicked(click(f"y{n}", "a"), 1.5)
    seen.clicked(click("i", "b"), 1.5)
    seen.settle(3.0)
    assert seen.points == [(1.0, {"popularity": 1.0})]
    seen.shown(shown("j", "a", "b"), 20.0)
    seen.clicked(click("j", "a"), 20.5)
    seen.settle(30.0)
    assert seen.points[-1][1]["popularity"] == pytest.approx((1 + 1 / math.log2(3)) / 2)
