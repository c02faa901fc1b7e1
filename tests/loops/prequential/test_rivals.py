"""Popularity of late and ItemKNN in the stream are what they are when they are counted from all lists at once."""

from __future__ import annotations

import math
import random

import msgspec
import pytest

from recdistill.loops.prequential import rivals
from recdistill.loops.prequential.rivals import EVENTS, SHRINKAGE, Rivals

ITEMS = [f"item-{n}" for n in range(12)]


def lists(count: int, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    chance = random.Random(seed)
    return [
        (chance.choices(ITEMS, k=chance.randrange(6)), chance.sample(ITEMS, chance.randrange(1, 3)))
        for _ in range(count)
    ]


def counted(
    seen: list[tuple[list[str], list[str]]], half_life: float
) -> tuple[dict[str, float], dict[str, float], dict]:
    """n, a and c, each list with its weight now."""
    n: dict[str, float] = {}
    a: dict[str, float] = {}
    c: dict[tuple[str, str], float] = {}
    for age, (history, liked) in enumerate(reversed(seen)):
        weight = 0.5 ** (age / half_life)
        for item in set(liked):
            n[item] = n.get(item, 0) + weight
        for event in set(history):
            a[event] = a.get(event, 0) + weight
            for item in set(liked) - {event}:
                c[event, item] = c.get((event, item), 0) + weight
    return n, a, c


@pytest.mark.parametrize("half_life", [1e12, 40.0])
def test_it_is_what_brute_force_counts(half_life: float) -> None:
    seen, stream = lists(200), Rivals()
    for history, liked in seen:
        stream.learn(history, liked, half_life=half_life)
    n, a, c = counted(seen, half_life)
    assert stream.popularity(ITEMS).tolist() == pytest.approx([n.get(item, 0) for item in ITEMS], rel=1e-5)
    asked = ["item-1", "item-5", "item-1", "nobody"]
    wanted = [
        sum(
            c.get((event, item), 0) / (math.sqrt(a.get(event, 0) * n.get(item, 0)) + SHRINKAGE)
            for event in ("item-1", "item-5")
        )
        for item in ITEMS
    ]
    assert stream.neighbourhood(asked, ITEMS).tolist() == pytest.approx(wanted, rel=1e-5)
    assert stream.size == len(c)


def test_only_the_newest_events_of_a_long_history_count() -> None:
    stream = Rivals()
    stream.learn([f"old-{n}" for n in range(10)] + [f"new-{n}" for n in range(EVENTS)], ["x"], half_life=9)
    assert set(stream.seen) == {f"new-{n}" for n in range(EVENTS)}


def test_what_is_kept_has_a_bound_and_the_strong_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "MOST", 50)
    stream = Rivals()
    for number in range(500):
        stream.learn([f"h-{number}"], [f"p-{number}"], half_life=1e9)
        stream.learn(["often"], ["liked"], half_life=1e9)
        assert stream.size == sum(map(len, stream.pairs.values())) <= 50
        assert len(stream.liked) <= 50
        assert len(stream.seen) <= 50
    assert stream.pairs["often"]["liked"] == pytest.approx(500, rel=0.01)


def test_numbers_stay_finite_over_many_half_lives() -> None:
    stream = Rivals()
    for _ in range(2000):
        stream.learn(["a"], ["b"], half_life=1.0)
    assert stream.popularity(["b"])[0] == pytest.approx(2.0, rel=1e-5)  # 1 + 1/2 + 1/4 + ...


def test_it_goes_on_from_its_bytes() -> None:
    seen, whole, half = lists(100), Rivals(), Rivals()
    for number, (history, liked) in enumerate(seen):
        whole.learn(history, liked, half_life=30)
        half.learn(history, liked, half_life=30)
        if number == 50:
            half = msgspec.msgpack.decode(msgspec.msgpack.encode(half), type=Rivals)
    assert half == whole
