"""Verdicts by bounds, against scipy and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from recdistill.judge.bounds import of_interval, proved, quantile, share
from recdistill.judge.figures import lead
from recdistill.judge.judgement import Lead
from recdistill.metrics import Interval


def a_lead(**fields: float) -> Lead:
    known = {"student": 0.18, "other": 0.2, "var_student": 4e-6, "var_other": 5e-6, "covariance": 3e-6}
    return Lead(**known | fields, users=100, lists=2000)  # type: ignore[arg-type]


@pytest.mark.parametrize(("level", "users"), [(0.025, 10), (1e-3, 100), (1e-7, 5000)])
def test_the_quantile_is_that_of_students_t(level: float, users: int) -> None:
    assert quantile(level, users) == pytest.approx(stats.t.isf(level, users - 1), rel=1e-9)


def test_one_user_and_no_error_left_show_nothing() -> None:
    assert quantile(0.01, 1) == quantile(0.0, 50) == math.inf
    alone = Lead(student=1.0, other=0.1, var_student=0.0, var_other=0.0, covariance=0.0, users=1, lists=900)
    assert share(alone, 0.5, 0.01).verdict == "more"


def test_three_verdicts_of_one_figure() -> None:
    found = a_lead()
    error = math.sqrt(4e-6 - 2 * 0.8 * 3e-6 + 0.64 * 5e-6)
    shown = share(found, 0.8, 1e-3)
    assert (shown.verdict, shown.gap, shown.error) == ("passed", pytest.approx(0.02), pytest.approx(error))
    assert share(found, 1.0, 1e-3).verdict == "refused"
    between = share(found, 0.89, 1e-3)
    assert between.verdict == "more"
    # The lists that the next look needs: its bound is at half the error, and errors shrink with the root.
    steps = stats.t.isf(5e-4, 99)
    assert between.lists == math.ceil(2000 * (steps * between.error / between.gap) ** 2)


def test_the_share_that_is_shown_is_the_largest_that_passes() -> None:
    largest = proved(a_lead(), 1e-3)
    assert share(a_lead(), largest - 1e-6, 1e-3).verdict == "passed"
    assert share(a_lead(), largest + 1e-6, 1e-3).verdict == "more"
    assert proved(a_lead(student=-9.0), 1e-3) == -1.0


def test_an_interval_without_an_error_is_taken_for_a_normal_one() -> None:
    old = of_interval(Interval(0.5, 0.402, 0.598, 400), other=1.0)
    assert math.sqrt(old.var_student) == pytest.approx(0.05, rel=1e-4)
    assert (old.users, old.lists) == (400, 400)
    assert of_interval(Interval(0.5, 0.4, 0.6, 400, 0.01, 30)).users == 30


def test_a_student_exactly_at_the_bound_passes_as_often_as_the_level_says() -> None:
    """Users with tastes of their own and several lists each: the error of the ratio is right, so the level holds."""
    random = np.random.default_rng(0)
    users_B = np.repeat(np.arange(60), 8)
    passed = 0
    for _ in range(2000):
        taste = random.normal(0, 0.1, 60)[users_B]
        other = 0.2 + taste + random.normal(0, 0.1, len(users_B))
        student = 0.9 * other + random.normal(0, 0.05, 60)[users_B] + random.normal(0, 0.1, len(users_B))
        passed += share(lead(student, other, np.zeros(len(users_B)), users_B), 0.9, 0.05).verdict == "passed"
    assert abs(passed / 2000 - 0.05) < 0.016
