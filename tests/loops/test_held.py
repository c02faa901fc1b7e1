"""The share of users that are held out: nested as it grows, by the time of the list, and as many as wanted a day."""

import random

import msgspec
import pytest

from recdistill.loops.held import DAY_US, ENOUGH, Saved, Share

USERS = [f"user-{n}" for n in range(4000)]


def held(share: Share, time_us: int) -> set[str]:
    return {user for user in USERS if share.holds(user, time_us)}


def test_the_share_of_users_is_the_share_and_they_stay_where_it_grows() -> None:
    small, large = (held(Share(least=least, most=0.5, per_day=1), 5) for least in (0.05, 0.2))
    assert len(small) / len(USERS) == pytest.approx(0.05, abs=0.015)
    assert len(large) / len(USERS) == pytest.approx(0.2, abs=0.025)
    assert small < large
    assert held(Share(least=0.0, most=0.0, per_day=1), 5) == set()


def test_it_follows_the_traffic_once_a_day_within_its_bounds() -> None:
    for rate, wanted in ((1_000, 0.1), (50_000, 0.02), (10_000_000, 0.005)):
        share = Share(least=0.005, most=0.1, per_day=1_000)
        seen = max(ENOUGH, rate // 1000)
        step = DAY_US // rate
        for n in range(seen):
            share.moved(n * step, (n + 1) * step)
            share.labelled()
        share.turn(DAY_US)
        assert share.at(DAY_US) == pytest.approx(wanted, rel=0.1)
        assert share.at(DAY_US - 1) == 0.005, "a list of the day before is held out by the share of its day"


def test_too_few_labelled_lists_change_nothing() -> None:
    share = Share(least=0.005, most=0.1, per_day=1_000)
    for n in range(ENOUGH - 1):
        share.moved(n, n + DAY_US)
        share.labelled()
    share.turn(50 * DAY_US)
    assert share.at(50 * DAY_US) == 0.005


def test_what_is_saved_gives_the_same_share() -> None:
    chance, share = random.Random(3), Share(least=0.001, most=0.5, per_day=300)
    for day in range(1, 6):
        for _ in range(chance.randrange(1000, 3000)):
            share.labelled()
        share.moved((day - 1) * DAY_US, day * DAY_US)
        share.turn(day * DAY_US)
    saved = msgspec.json.decode(msgspec.json.encode(share.saved), type=Saved)
    again = Share(least=0.001, most=0.5, per_day=300, saved=saved)
    times = range(0, 6 * DAY_US, DAY_US // 3)
    assert [again.at(time_us) for time_us in times] == [share.at(time_us) for time_us in times]
    assert len({share.at(time_us) for time_us in times}) > 2
    share.forget(3 * DAY_US)
    assert [share.at(time_us) for time_us in times if time_us >= 3 * DAY_US] == [
        again.at(time_us) for time_us in times if time_us >= 3 * DAY_US
    ]


def test_new_bounds_hold_from_the_clock_on() -> None:
    share = Share(least=0.005, most=0.1, per_day=1_000, saved=Saved([(0, 0.005)]))
    wider = Share(least=0.2, most=0.3, per_day=1_000, saved=share.saved)
    wider.bound(5 * DAY_US)
    assert (wider.at(5 * DAY_US), wider.at(5 * DAY_US + 1)) == (0.005, 0.2)
