"""The simulation of years: its formula of power against draws, and what the settings that ship let through."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import bench_gates as gates
from recdistill.config import GateSettings, PromoteSettings

GROWS = 1 + (gates.USER - 1) * 0.05


@pytest.fixture(scope="module")
def levels() -> gates.Floats:
    """The error that each candidate of two years gets."""
    return gates.allotted(days=2 * 365)


def test_no_year_of_tries_gets_more_than_the_policy_names(levels: gates.Floats) -> None:
    sums = np.convolve(levels, np.ones(365 * gates.TRIES), mode="valid")
    assert sums.max() <= GateSettings().error_a_year
    assert levels.min() > 0, "it never runs out"


def test_the_formula_of_power_is_what_draws_show() -> None:
    """Lists of 500 users are drawn one by one, 20 a user, and held against the bound of Student's t at 5%."""
    random = np.random.default_rng(0)
    users, runs, gap, level = 500, 2000, 0.006, 0.1
    own = random.normal(scale=np.sqrt(0.05), size=(runs, users))  # what the lists of a user have in common
    noise = random.normal(scale=np.sqrt(0.95 / gates.USER), size=(runs, users))  # the mean of 20 lists without it
    means = gap + gates.TEACHER * (own + noise)
    t = means.mean(axis=1) / (means.std(axis=1, ddof=1) / np.sqrt(users))
    passed = (t >= 1.6479).mean()  # 95% quantile of Student's t with 499 degrees of freedom, from a table
    assert gates.power(gates.TEACHER, users * gates.USER, level, GROWS, gap=gap) == pytest.approx(passed, abs=0.03)


def test_equals_pass_with_the_window_that_ships_and_did_not_with_half_of_it(levels: gates.Floats) -> None:
    window = PromoteSettings().held_out
    whole, half = (gates.power(gates.TEACHER, lists, levels[-1], GROWS) for lists in (window, window // 2))
    assert 1 - whole <= 0.01
    assert 1 - half >= 0.25
    assert 1 - gates.power(gates.NEIGHBOUR, window, levels[-1], GROWS) <= 0.001


def test_a_year_of_small_losses_stays_within_one_margin_and_asking_for_less_loses_two(levels: gates.Floats) -> None:
    traffic = gates.Traffic(rate=100, lists=PromoteSettings().held_out, overlap=0.64)
    most = {
        retention: max(
            gates.losses(
                traffic,
                levels,
                years=20,
                grows=GROWS,
                drift=0.0,
                random=np.random.default_rng(1),
                lag=(1 - retention) * gates.BASE,
            )[2]
        )
        for retention in (GateSettings().retention, 0.9)
    }
    assert 0 < most[GateSettings().retention] <= gates.MARGIN
    assert most[0.9] > 1.5 * gates.MARGIN
