"""What serves now: one reference that is replaced whole."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from recdistill.serve import Ranker


def stand_in(position: int, live: int) -> Any:
    """All that a ranker reads of a recommender."""
    return SimpleNamespace(position=position, live=live)


def test_the_champion_answers_from_the_next_request_on() -> None:
    ranker = Ranker(Counter(swaps=3))
    assert ranker.choose() is None
    assert ranker.gauges() == {"ready": 0.0}
    first, second = stand_in(4, 9), stand_in(5, 8)
    ranker.swap(first, "1")
    before = ranker.choose()
    ranker.swap(second, "2")
    after = ranker.choose()
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


def test_another_role_does_not_answer_yet() -> None:
    ranker = Ranker()
    ranker.swap(stand_in(1, 1), "9", role="canary")
    assert ranker.choose() is None
    ranker.swap(stand_in(2, 2), "3")
    chosen = ranker.choose()
    assert chosen is not None
    assert chosen.version == "3"
