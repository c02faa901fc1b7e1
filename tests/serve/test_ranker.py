"""What serves now: one reference that is replaced whole."""

from __future__ import annotations

import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from recdistill.serve import Ranker, place_of


def stand_in(position: int, live: int) -> Any:
    """All that a ranker reads of a recommender."""
    return SimpleNamespace(position=position, live=live)


def test_the_champion_answers_from_the_next_request_on() -> None:
    ranker = Ranker(Counter(swaps=3))
    assert ranker.sides() is None
    assert ranker.gauges() == {"ready": 0.0, "warm": 0.0, "canary_share": 0.0, "champion_refused": 0.0}
    first, second = stand_in(4, 9), stand_in(5, 8)
    ranker.swap(first, "1")
    before = ranker.champion
    ranker.swap(second, "2")
    after = ranker.champion
    assert before is not None
    assert after is not None
    assert (before.recommender, before.version) == (first, "1"), "what a request holds does not change under it"
    assert (after.recommender, after.version) == (second, "2")
    assert ranker.champion is after
    assert after.since >= before.since
    assert ranker.counts["swaps"] == 5
    found = ranker.gauges()
    assert (found["ready"], found["overlay_position"], found["catalogue_items"]) == (1.0, 5.0, 8.0)
    ranker.stopping = True
    assert ranker.gauges()["ready"] == 0.0


def test_a_role_beside_no_champion_does_not_answer() -> None:
    ranker = Ranker(share=0.5)
    ranker.swap(stand_in(1, 1), "9", role="canary")
    assert ranker.sides() is None


def test_two_threads_that_change_what_serves_do_not_undo_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread follows the champion, another one the canary. Here the first stops in the middle of it."""
    ranker, inside, go = Ranker(share=0.5), threading.Event(), threading.Event()
    follower = threading.Thread(target=ranker.swap, args=(stand_in(1, 1), "1"))
    side = threading.Thread(target=ranker.swap, args=(stand_in(2, 2), "2"), kwargs={"role": "canary"})

    def now() -> float:
        if threading.current_thread() is follower:
            inside.set()
            assert go.wait(10)
        return 0.0

    monkeypatch.setattr("recdistill.serve.ranker.time", SimpleNamespace(monotonic=now))
    follower.start()
    assert inside.wait(10)
    side.start()
    side.join(0.2)
    go.set()
    follower.join(10)
    side.join(10)
    assert [(one.role, one.version) for one in ranker.variants] == [("champion", "1"), ("canary", "2")]


def canary(content_hash: str) -> Any:
    return SimpleNamespace(position=1, live=1, content_hash=content_hash)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_a_canary_gets_its_share_of_the_users_and_each_user_stays_on_one_side(share: float) -> None:
    """Two processes, each with its own champion object, say the same of every user."""
    users = [f"user-{n}" for n in range(40_000)]
    found = []
    for _ in range(2):
        ranker = Ranker(share=share)
        ranker.swap(canary("a" * 64), "1")
        ranker.swap(canary("c" * 64), "2", role="canary")
        sides = ranker.sides()
        assert sides is not None
        found.append([sides.of(user).version for user in users])
    assert found[0] == found[1]
    assert abs(found[0].count("2") / len(users) - share) < max(0.005, 4 * (share * (1 - share) / len(users)) ** 0.5)
    assert sides.of("").version == "1", "who is not known is answered by the champion"
    assert ranker.gauges()["canary_share"] == share
    ranker.drop("canary")
    left = ranker.sides()
    assert left is not None
    assert {left.of(user).version for user in users} == {"1"}


def test_another_canary_has_other_users() -> None:
    users = [f"user-{n}" for n in range(20_000)]
    one, other = ({user for user in users if place_of(user, which * 64) < 0.05} for which in "cd")
    assert 0.02 < len(one & other) / len(one) < 0.09, "one in twenty, by chance"
