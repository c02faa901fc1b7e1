"""The course of a test: few moments, evenly apart, from the first user to the last."""

from __future__ import annotations

from itertools import pairwise

import pytest

from recdistill.judge import Moment
from recdistill.release.course import MOST, Course


@pytest.mark.parametrize("users", [0, 1, 7, MOST - 1, MOST, MOST + 1, 10_007])
def test_few_moments_evenly_apart_and_the_last_one(users: int) -> None:
    count = 0

    def now(at_us: int) -> Moment:
        return Moment(users=count, at_us=at_us, capital={})

    course = Course(now)
    for number in range(1, users + 1):
        count = number
        course.add(number * 10)
    found = [one.users for one in course.moments()]
    assert len(found) <= MOST
    assert found == sorted(set(found))
    assert found[-1:] == ([users] if users else [])
    assert all(one.at_us == 10 * one.users for one in course.moments())
    steps = {b - a for a, b in pairwise(found[:-1])}
    assert len(steps) <= 1
    assert users < MOST or len(found) >= MOST // 2
