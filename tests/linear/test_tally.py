"""Counts of popularity and ItemKNN, against counts by plain loops over all lists."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from recdistill.errors import DataError
from recdistill.linear import tally as module
from recdistill.linear.tally import SHRINKAGE, Tally
from recdistill.records import Candidate, Event, Example, Impression, LabelState, Ranking, encode, read_columns

List = tuple[list[str], list[str]]


def lists(count: int, items: int = 30, seed: int = 0) -> list[List]:
    """Histories with items twice, longer than what counts, and empty; one or two liked items, some of the history."""
    draw = random.Random(seed)
    ids = [f"item-{n}" for n in range(items)]
    return [(draw.choices(ids, k=draw.choice([0, 3, 9, 70])), draw.choices(ids, k=1 + n % 2)) for n in range(count)]


def weight(n: int, count: int, half_life: int) -> float:
    """What list n counts, after so many lists: halved at each multiple of the half-life that came since."""
    return 0.5 ** (count // half_life - n // half_life)


def by_loops(some: Sequence[List], half_life: int) -> tuple[Counter[str], Counter[str], Counter[tuple[str, str]]]:
    """liked, in histories, pairs."""
    liked, seen, pairs = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    for n, (history, chosen) in enumerate(some):
        own = weight(n, len(some), half_life)
        for item in set(chosen):
            liked[item] += own  # type: ignore[assignment]
        for event in set(history[-50:]):
            seen[event] += own  # type: ignore[assignment]
            for item in set(chosen) - {event}:
                pairs[event, item] += own  # type: ignore[assignment]
    return liked, seen, pairs


def near(found: Tally) -> dict[tuple[str, str], float]:
    matrix, ids = found.neighbours().tocoo(), found.ids
    return {
        (ids[i], ids[j]): value
        for i, j, value in zip(matrix.row.tolist(), matrix.col.tolist(), matrix.data.tolist(), strict=True)
    }


def counted(some: Sequence[List], step: int, found: Tally | None = None) -> Tally:
    found = found or Tally()
    for at in range(0, len(some), step):
        found.learn(some[at : at + step])
    return found


@pytest.mark.parametrize("half_life", [100_000, 40])
@pytest.mark.parametrize("step", [1, 7, 64])
def test_the_counts_are_those_of_plain_loops(half_life: int, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HALF_LIFE", half_life)
    monkeypatch.setattr(module, "LATELY", half_life // 10)
    monkeypatch.setattr(module, "_PENDING", 200)  # so that pairs are sorted in several times
    some = lists(150)
    found = counted(some, step)
    liked, seen, pairs = by_loops(some, half_life)
    lately, _, _ = by_loops(some, half_life // 10)
    ids = [f"item-{n}" for n in range(40)]
    assert found.liked(ids).tolist() == pytest.approx([liked[item] for item in ids])
    assert found.lately(ids).tolist() == pytest.approx([lately[item] for item in ids])
    expected = {pair: c / (np.sqrt(seen[pair[0]] * liked[pair[1]]) + SHRINKAGE) for pair, c in pairs.items()}
    assert near(found) == pytest.approx(expected)
    assert found.lists == 150


def test_a_checkpoint_at_any_place_changes_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HALF_LIFE", 60)
    monkeypatch.setattr(module, "LATELY", 6)
    monkeypatch.setattr(module, "_PENDING", 300)
    monkeypatch.setattr(module, "MOST_PAIRS", 400)
    monkeypatch.setattr(module, "MOST_ITEMS", 25)
    some = lists(200)
    whole = counted(some, 8)
    for cut in range(8, 200, 24):
        again = Tally.of(counted(some[:cut], 8).data())
        assert counted(some[cut:], 8, again).data() == whole.data(), cut
    looked = Tally()
    for at in range(0, 200, 8):
        looked.learn(some[at : at + 8])
        looked.data()  # a bundle that is made meanwhile
    assert looked.data() == whole.data()


def test_what_the_bounds_cost_is_told_and_is_never_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    some = lists(300, items=60)
    exact = near(counted(some, 10))
    monkeypatch.setattr(module, "MOST_PAIRS", 1_000)
    monkeypatch.setattr(module, "_PENDING", 0)
    found = counted(some, 10)
    assert found.pairs <= 1_000
    assert found.shed[0] > 0
    assert found.shed[1] == 0
    kept = near(found)
    assert all(value <= exact[pair] * (1 + 1e-6) for pair, value in kept.items())
    strongest = sorted(exact, key=lambda pair: -exact[pair])[:20]
    assert sum(kept.get(pair, 0) >= exact[pair] / 2 for pair in strongest) >= 15
    monkeypatch.setattr(module, "MOST_ITEMS", 40)
    fewer = counted(some, 10)
    assert len(fewer.ids) <= 40
    assert fewer.shed[1] > 0
    assert set(fewer.ids) <= {f"item-{n}" for n in range(60)}


def example(
    n: int, state: LabelState, labels: Sequence[float], scored: Sequence[bool], sampled: float = 1.0
) -> Example:
    shown = tuple(Candidate(f"c{n + k}") for k in range(len(labels)))
    asked = Impression(f"r{n}", 9, history=(Event(f"h{n}", 1),) * (n % 3), candidates=shown)
    scores = tuple(float(one) for one in scored)
    return Example(Ranking(asked, "t", "1", "logit", scores, tuple(scored), sampled=sampled), tuple(labels), state)


def test_lists_of_a_step_are_taken_as_they_are() -> None:
    """A list without a like counts for the teacher alone; one whose labels come later was counted with its scores."""
    some = [
        example(1, "none", (0, 0), (True, True)),
        example(2, "closed", (0, 1), (True, False), sampled=0.5),
        example(3, "labels", (1, 0), (False, False)),
        example(5, "closed", (1, 1, 0), (False, False, False)),
    ]
    columns, refused = read_columns(Example, [encode(one) for one in some])
    assert not refused
    found = Tally()
    found.take(columns)
    assert found.lists == 3
    assert found.liked(["c2", "c3", "c4", "c5", "c6"]).tolist() == [0, 2, 0, 1, 1]
    assert set(near(found)) == {("h2", "c3"), ("h5", "c5"), ("h5", "c6")}
    assert msgspec.to_builtins(found.asked) == {
        "lists": 3, "lists_scored": 2, "candidates": 7, "scored": 3, "budgeted": True,
    }  # fmt: skip
    nothing = Tally()
    nothing.take(read_columns(Example, [encode(some[0])])[0])
    assert (nothing.lists, nothing.asked.lists) == (0, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"ids": []},
        {"items": b"123"},
        {"weights": b""},
        {"pending": (1 << 40).to_bytes(8, "little")},
        {"items": np.full((3, 3), np.nan).tobytes(), "ids": ["a", "b", "c"]},
    ],
)
def test_damaged_counts_are_a_sentence(change: dict[str, Any]) -> None:
    found = Tally()
    found.learn([(["a"], ["b"]), (["a"], ["c"])])
    assert found.pairs == 2
    plain = msgspec.msgpack.decode(found.data())
    for data in (b"", msgspec.msgpack.encode(plain | change)):
        with pytest.raises(DataError, match="the counts of popularity and ItemKNN cannot be read"):
            Tally.of(data)
