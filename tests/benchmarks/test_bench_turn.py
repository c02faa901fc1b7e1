"""The replay of the live demo's turn: a list is ordered before anything of it is learnt, at the demo's own times."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.bench_turn import Replay, settings_for
from recdistill.demo.live.chosen import PAST, world_of
from recdistill.records import Example, Impression, Item

SECONDS, RATE = 40.0, 10.0


class Careful:
    """Stands in for a trainer: gives every item its number as a score, and looks at the order of what it is asked."""

    def __init__(self) -> None:
        self.catalogue = SimpleNamespace(slots=lambda names: np.arange(len(names)))
        self.scored: list[str] = []
        self.learnt: set[str] = set()

    def apply_items(self, items: Sequence[Item]) -> None:
        self.items = {item.id for item in items}

    def score(self, lists: Sequence[Impression], slots: np.ndarray) -> np.ndarray:
        assert not self.learnt & {one.id for one in lists}
        self.scored += [one.id for one in lists]
        return np.tile(slots.astype(float), (len(lists), 1))

    def encode(self, part: Sequence[Example]) -> Sequence[Example]:
        return part

    def learn(self, part: Sequence[Example]) -> None:
        self.learnt |= {one.ranking.impression.id for one in part}


def test_a_list_is_ordered_before_it_is_learnt_and_only_the_stream_is_measured() -> None:
    replay = Replay(world_of(seconds=SECONDS, rate=RATE), seed=3, seconds=SECONDS)
    trainer: Any = Careful()
    points = replay.points(trainer, 16, later=20, until_s=30.0)
    lists = [one for one in replay.records if isinstance(one, Impression) and one.candidates]
    assert len(trainer.scored) == len(set(trainer.scored)) < len(lists)
    inside = {one.id for one in lists if 0 <= replay.at_s(one) < 25.0} & set(replay.taken)
    measured = [at_s for at_s, _ in points]
    assert measured == sorted(measured)
    assert measured[0] >= 0
    assert measured[-1] < 30.0
    assert sum(at_s < 25.0 for at_s in measured) == len(inside)
    first = min(replay.at_s(one) for one in lists)
    assert -PAST * SECONDS - 1 <= first < -PAST * SECONDS + 5
    means = {name: np.mean([values[name] for _, values in points]) for name in ("teacher", "live", "popularity")}
    assert means["teacher"] > means["popularity"] > 0
    assert means["teacher"] > means["live"] + 0.1, "numbers of items say nothing"


def test_a_setting_of_the_demo_is_changed() -> None:
    plain, other = settings_for(0, 450.0, []), settings_for(0, 450.0, ["distil.batch=8"])
    assert (plain.distil.batch, other.distil.batch) == (16, 8)
    assert plain.student == other.student
