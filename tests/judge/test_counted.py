"""Popularity and ItemKNN from counts, against plain loops over every item."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from recdistill.judge.counted import counted
from recdistill.linear import Tally
from recdistill.records import Candidate, Event, Impression

IDS = [f"item-{n}" for n in range(40)]
LIVE = [item for n, item in enumerate(IDS) if n % 7]


def world() -> tuple[Tally, list[tuple[list[str], list[str]]], list[Impression]]:
    draw = random.Random(3)
    lists = [(draw.choices(IDS[:36], k=draw.randrange(9)), draw.sample(IDS[:36], 1 + n % 2)) for n in range(120)]
    tally = Tally()
    tally.learn(lists)
    requests = [
        Impression(
            f"r{n}",
            9,
            history=tuple(Event(item) for item in draw.choices(IDS, k=n % 6)),
            exclude=tuple(draw.sample(IDS, n % 4)),
            candidates=tuple(Candidate(item) for item in draw.sample([*IDS, "stranger"], 12)),
        )
        for n in range(60)
    ]
    return tally, lists, requests


def brute(lists: list[tuple[list[str], list[str]]], request: Impression) -> tuple[dict[str, float], dict[str, float]]:
    """Popularity and ItemKNN of each item that was ever seen, by the definition."""
    liked = {item: sum(item in chosen for _, chosen in lists) for item in IDS}
    seen = {item: sum(item in history for history, _ in lists) for item in IDS}
    known = [item for item in IDS if liked[item] or seen[item]]
    near = {
        item: sum(
            sum(event in history and item in chosen for history, chosen in lists)
            / (math.sqrt(seen[event] * liked[item]) + 5.0)
            for event in {event.item for event in request.history}
            if event != item
        )
        for item in known
    }
    return {item: liked[item] for item in known}, near


def test_they_answer_as_the_definition_says() -> None:
    tally, lists, requests = world()
    popular, lately, itemknn = counted(tally, live=LIVE)
    assert [each.name for each in (popular, lately, itemknn)] == ["popularity", "popularity_recent", "itemknn"]
    tops = [each.top(requests, 12) for each in (popular, lately, itemknn)]
    shown = [each.scores(requests) for each in (popular, itemknn)]
    place = {item: n for n, item in enumerate(tally.ids)}
    for n, request in enumerate(requests):
        liked, near = brute(lists, request)
        barred = {event.item for event in request.history} | set(request.exclude)
        free = [item for item in liked if item in LIVE and item not in barred and liked[item]]
        by_likes = sorted(free, key=lambda item: (-liked[item], place[item]))
        assert tops[0][n] == tops[1][n] == by_likes[:12]  # so few lists that none has faded
        by_near = sorted(by_likes, key=lambda item: -round(near[item], 9))
        assert [round(near[item], 9) for item in tops[2][n]] == [round(near[item], 9) for item in by_near[:12]]
        assert len(set(tops[2][n])) == len(tops[2][n])
        assert not barred & set(tops[2][n])
        if not request.history:
            assert tops[2][n] == by_likes[:12]
        for of, scores in ((liked, shown[0][n]), (near, shown[1][n])):
            expected = [of.get(candidate.item, math.nan) for candidate in request.candidates]
            np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("k", [1, 500])
def test_fewer_items_than_asked_are_all_there_are(k: int) -> None:
    tally, _, requests = world()
    for each in counted(tally, live=LIVE):
        for request, found in zip(requests, each.top(requests, k), strict=True):
            barred = {event.item for event in request.history} | set(request.exclude)
            there = {item for item in LIVE if item not in barred and tally.liked([item])[0] > 0}
            assert len(found) == min(k, len(there))
            assert set(found) <= there
