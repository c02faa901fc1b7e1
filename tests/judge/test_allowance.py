"""The error of a year: what each look may spend, whatever the pace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from recdistill.judge.allowance import MONTH, YEAR, Try, allowed

BEGINS = datetime(2026, 1, 1, tzinfo=UTC)


def spent_in(tries: list[Try], end: datetime) -> float:
    return sum(one.allotted for one in tries if end - YEAR < one.at <= end)


@pytest.mark.parametrize("least", [1, 50, 1000])
def test_any_365_days_spend_less_than_the_policy_names_at_any_pace(least: int) -> None:
    """A quiet spring, then 40 tries a day for a month, then one a week for a year and a half."""
    times = [BEGINS + timedelta(days=10 * n) for n in range(6)]
    times += [times[-1] + timedelta(days=n / 40) for n in range(1, 1000)]
    times += [times[-1] + timedelta(days=7 * n) for n in range(1, 80)]
    tries: list[Try] = []
    for n, at in enumerate(times):
        given = allowed(tries, f"c-{n}", at, a_year=0.05, least=least)
        assert given.look == 1
        assert given.allotted > 0
        tries.append(Try(content_hash=f"c-{n}", at=at, allotted=given.allotted))
        assert spent_in(tries, at) <= 0.05 + 1e-12


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_clock_that_jumps_by_an_hour_spends_no_more(jump: timedelta) -> None:
    """Six tries a day for some months; each day the clock jumps at noon, and back in the evening. True times count."""
    tries: list[Try] = []
    true: list[Try] = []
    for n in range(600):
        at = BEGINS + timedelta(hours=4 * n)
        told = at + (jump if 12 <= at.hour < 18 else timedelta(0))
        given = allowed(tries, f"c-{n}", told, a_year=0.05, least=50)
        assert (given.look, given.tries) == (1, n), "a try with a later time than now counts too"
        tries.append(Try(content_hash=f"c-{n}", at=told, allotted=given.allotted))
        true.append(Try(content_hash=f"c-{n}", at=at, allotted=given.allotted))
        assert spent_in(true, at) <= 0.05 + 1e-12


def test_the_pace_of_the_last_four_weeks_decides_how_it_is_shared() -> None:
    some = [Try(content_hash=f"c-{n}", at=BEGINS + n * timedelta(hours=1), allotted=1e-5) for n in range(99)]
    now = BEGINS + timedelta(days=5)
    assert allowed(some, "new", now, a_year=0.05, least=50).allotted == pytest.approx((0.05 - 99e-5) / (13 * 100))
    later = BEGINS + MONTH + timedelta(days=6)
    assert allowed(some, "new", later, a_year=0.05, least=50).allotted == pytest.approx((0.05 - 99e-5) / 50)
    assert allowed(some, "new", BEGINS + 2 * YEAR, a_year=0.05, least=50).allotted == 0.05 / 50


def test_looks_at_one_candidate_spend_halves_of_its_own_part() -> None:
    levels = []
    for looks in range(12):
        before = [Try(content_hash="mine", at=BEGINS, allotted=0.001, looks=looks)] if looks else []
        found = allowed(before, "mine", BEGINS + timedelta(days=looks), a_year=0.05, least=50)
        assert (found.look, found.tries, found.allotted) == (looks + 1, 0, 0.001)
        levels.append(found.level)
    assert levels[:3] == [0.0005, 0.00025, 0.000125]
    assert sum(levels) < 0.001


def test_a_try_of_an_older_version_has_spent_nothing_and_is_counted() -> None:
    old = [Try(content_hash="old", at=BEGINS, allotted=0.0, looks=1)]
    assert allowed(old, "old", BEGINS, a_year=0.5, least=50).allotted == 0.01
    assert allowed(old, "old", BEGINS, a_year=0.5, least=50).look == 2
    assert allowed(old, "new", BEGINS, a_year=0.5, least=50).tries == 1


@pytest.mark.parametrize("looks", [1023, 1024, 5000, 10**30])
def test_a_candidate_may_be_looked_at_any_number_of_times(looks: int) -> None:
    given = allowed([Try(content_hash="a", at=BEGINS, allotted=1e-3, looks=looks)], "a", BEGINS, a_year=0.05, least=50)
    assert (given.look, given.allotted) == (looks + 1, 1e-3)
    assert 0 <= given.level < 1e-300
