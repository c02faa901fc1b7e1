"""A list that gets very much feedback: it costs no more than feedback of many lists, and meets what the rule says."""

from __future__ import annotations

import random
import time
from collections import Counter

from recdistill.loops.window import Window
from recdistill.records import Feedback

SECOND = 1_000_000


def cost_s(names: list[str]) -> float:
    """How long a window takes to keep some feedback of these lists, and to forget it."""
    window = Window(60 * SECOND, {"click": 1.0})
    began = time.perf_counter()
    for n, name in enumerate(names):
        one = Feedback(f"f{n}", name, f"item-{n % 50}", "click", time_us=10**15 + n)
        window.add_feedback(one, time_us=one.time_us, came_us=one.time_us)
    late = 10**15 + 3600 * SECOND
    window.add_list("another", time_us=late, came_us=late, partition=0, offset=0)
    window.close()
    assert window.counts["late"] == len(names)
    return time.perf_counter() - began


def test_feedback_of_one_list_costs_what_feedback_of_many_lists_does() -> None:
    many = [f"list-{n}" for n in range(20_000)]
    assert cost_s(["the same"] * len(many)) < 4 * cost_s(many)


def test_much_feedback_of_few_lists_meets_what_the_rule_says() -> None:
    """The rule by brute force: over all pairs of a list and a feedback. Half of it goes through a snapshot."""
    draw, window_us = random.Random(7), 10 * SECOND
    window = Window(window_us, {"click": 1.0})
    given = []
    for n in range(600):
        at = (1 + draw.randrange(40)) * SECOND  # a time of 0 is not known
        one = Feedback(f"f{n}", f"list-{draw.randrange(3)}", f"item-{draw.randrange(4)}", "click", time_us=at)
        given.append((one, at, at + draw.randrange(3) * SECOND))
    lists = [(f"list-{n % 3}", 8 * n * SECOND, (8 * n + draw.randrange(3)) * SECOND) for n in range(6)]
    for one, at, came in given[:300]:
        window.add_feedback(one, time_us=at, came_us=came)
    kept, window = window, Window(window_us, {"click": 1.0})
    window.take(*kept.content())
    for one, at, came in given[300:]:
        window.add_feedback(one, time_us=at, came_us=came)
    for offset, (name, at, came) in enumerate(lists):
        window.add_list(name, time_us=at, came_us=came, partition=0, offset=offset)
    closed = {one.offset: Counter((item, label) for item, label in one.given) for one in window.close(flush=True)}
    for offset, (name, at, came) in enumerate(lists):
        meets = Counter(
            (one.item, 1.0)
            for one, its_at, its_came in given
            if one.impression_id == name and its_came <= at + window_us and came <= its_at + window_us
        )
        assert closed[offset] == meets
    assert max(map(len, closed.values())) == 4
    assert max(found.total() for found in closed.values()) > 50
    window.tick(10**9 * SECOND)
    window.ranking_clock_us = window.clock_us
    window.close()
    assert window.content() == (b"", [])
    assert window._given == {}
    assert window._met == set()
