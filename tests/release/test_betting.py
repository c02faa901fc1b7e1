"""The test that may be looked at at any time: its level by brute force, and its power beside another library's."""

from __future__ import annotations

import numpy as np
import pytest
import ville

from recdistill.errors import ConfigError
from recdistill.release.betting import Bet, Compared, Figure

RUNS = 400
ALPHA = 0.1
MOST = ALPHA * RUNS + 3 * (ALPHA * (1 - ALPHA) * RUNS) ** 0.5
"""So many of the runs may be wrong: what the level allows, and three deviations of a count."""


def sides(
    random: np.random.Generator, canary: float, champion: float, users: int, share: float
) -> list[tuple[bool, float]]:
    """Users in their order: which side, and whether they clicked."""
    on_canary = random.random(users) < share
    clicked = random.random(users) < np.where(on_canary, canary, champion)
    return list(zip(on_canary.tolist(), clicked.astype(float).tolist(), strict=True))


def looked_at(figure: Figure, users: list[tuple[bool, float]]) -> str:
    """What is said at any time: it is looked at after each user."""
    compared = Compared(figure, alpha=ALPHA)
    for on_canary, value in users:
        (compared.candidate if on_canary else compared.champion)(value)
        if compared.says != "open":
            return compared.says
    return "open"


@pytest.mark.slow
@pytest.mark.parametrize(("champion", "margin"), [(0.2, 0.05), (0.5, 0.1), (0.06, 0.05)])
def test_a_canary_exactly_at_the_margin_is_promoted_no_more_often_than_alpha(champion: float, margin: float) -> None:
    random = np.random.default_rng(1)
    figure = Figure(name="clicks", margin=margin)
    said = [looked_at(figure, sides(random, champion - margin, champion, 3000, 0.5)) for _ in range(RUNS)]
    assert said.count("better") <= MOST


@pytest.mark.slow
def test_an_equal_canary_is_called_worse_no_more_often_than_alpha() -> None:
    random = np.random.default_rng(2)
    figure = Figure(name="clicks", margin=0.4)
    for share in (0.05, 0.5):
        wrong = 0
        for _ in range(RUNS):
            compared = Compared(figure, alpha=ALPHA)
            for on_canary, value in sides(random, 0.3, 0.3, 1500, share):
                (compared.candidate if on_canary else compared.champion)(value)
            wrong += compared.worse.sure
        assert wrong <= MOST


def test_the_test_can_fail() -> None:
    """A bet that is made after the number is known wins every time."""
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(50):
        bet = Bet(alpha=ALPHA, low=-1.0, high=1.0)
        for number in random.choice([-1.0, 1.0], 200):
            bet.add(max(0.0, number))
        wrong += bet.sure
    assert wrong == 50


@pytest.mark.parametrize(("canary", "expected"), [(0.5, "better"), (0.2, "worse")])
def test_what_is_clear_is_said(canary: float, expected: str) -> None:
    users = sides(np.random.default_rng(4), canary, 0.5, 6000, 0.2)
    assert looked_at(Figure(name="clicks", margin=0.1), users) == expected


@pytest.mark.parametrize("mean", [0.1, 0.3])
def test_it_needs_about_as_many_numbers_as_another_library(mean: float) -> None:
    """Both bet with a plug-in of what was seen: the median number of pairs until each is sure."""
    random = np.random.default_rng(5)
    ours, theirs = [], []
    for _ in range(40):
        numbers = random.choice([-1.0, 0.0, 1.0], 6000, p=[0.3 - mean / 2, 0.4, 0.3 + mean / 2])
        bet = Bet(alpha=0.05, low=-1.0, high=1.0)
        for place, number in enumerate(numbers.tolist()):
            bet.add(number)
            if bet.sure:
                ours.append(place)
                break
        other = ville.BettingTest(0.0, bounds=(-1.0, 1.0), alternative="greater", alpha=0.05)
        other.update(numbers)
        theirs.append(other.stopping_time() or len(numbers))
    assert len(ours) == 40
    assert np.median(ours) <= 1.5 * np.median(theirs)


def test_numbers_beyond_their_bounds_are_refused() -> None:
    with pytest.raises(ConfigError):
        Bet(alpha=0.05, low=-1.0, high=1.0).add(2.0)
    with pytest.raises(ConfigError):
        Bet(alpha=1.5, low=-1.0, high=1.0)
