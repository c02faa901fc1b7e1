"""Popularity up to the moment of each list, against a count for each list."""

from __future__ import annotations

import random

import numpy as np

from recdistill.judge.upto import counts_up_to, likes_of
from recdistill.linear import read_interactions
from recdistill.records import Candidate, Event, Example, Impression, Ranking


def test_only_what_was_liked_before_a_list_counts():
    draw = random.Random(0)
    likes = [(draw.randrange(50), draw.choice("abcdef")) for _ in range(300)]
    lists = [(draw.randrange(60), draw.sample("abcdefg", 4)) for _ in range(80)]
    for newest in (1.0, 0.1, 0.35):
        found = counts_up_to(lists, likes, newest)
        ordered = sorted(likes, key=lambda like: like[0])
        for (time, items), scores in zip(lists, found, strict=True):
            before = [item for at, item in ordered if at < time]
            before = before[len(before) - max(1, round(newest * len(before))) :] if before else []
            np.testing.assert_array_equal(scores, [before.count(item) for item in items])


def test_likes_are_those_of_the_training_part_and_of_the_judged_lists():
    def example(name, time, history, liked):
        shown = Impression(
            id=name, time_us=time, user=name, history=tuple(Event(item=i, time_us=2) for i in history),
            candidates=tuple(Candidate(item=i) for i in "abc"),
        )  # fmt: skip
        ranking = Ranking(shown, "t", "1", "logit", scores=(0.0,) * 3, scored=(False,) * 3)
        return Example(ranking, labels=tuple(float(i in liked) for i in "abc"), label_state="closed")

    known = read_interactions([example("one", 5, "xa", "b")])
    found = likes_of(known, [example("two", 9, "x", "ac")])
    assert sorted(found) == [(2, "a"), (2, "x"), (5, "b"), (9, "a"), (9, "c")]
