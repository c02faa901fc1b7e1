"""The unit of a teacher: against worlds whose wide lists are known, and the promises of its header."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recdistill import checkpoint
from recdistill.config import LossSettings, StudentSettings, WatchSettings
from recdistill.features import FeatureSpec
from recdistill.loops.trainers import make_trainer
from recdistill.records import Candidate, Example, Impression, Item, Ranking
from recdistill.train.watched import watched
from recdistill.watch import Watch
from recdistill.watch.unit import Unit, fitted
from recdistill.watch.watch import MOST_TEACHERS


def unit_of(spreads: np.ndarray, batch: int = 64) -> float:
    unit = Unit()
    for start in range(0, len(spreads), batch):
        unit.add(spreads[start : start + batch] ** 2)
    return unit.spread()


@pytest.mark.parametrize("narrow", [0.3, 0.8])
@pytest.mark.parametrize("factor", [1e-4, 1.0, 300.0])
def test_narrow_lists_do_not_move_the_unit(narrow: float, factor: float) -> None:
    random = np.random.default_rng(0)
    wide = factor * random.lognormal(0, 0.3, 4000)
    mixed = np.where(random.random(4000) < narrow, 0.05 * wide, wide)
    assert unit_of(mixed) == pytest.approx(unit_of(wide), rel=0.1)
    assert unit_of(wide) == pytest.approx(factor * np.exp(2 * 0.3**2), rel=0.15)  # the middle, weighed by variance


def test_a_few_lists_far_out_do_not_set_the_unit() -> None:
    random = np.random.default_rng(1)
    wide = random.lognormal(0, 0.3, 4000)
    mad = np.where(random.random(4000) < 0.01, 1e6, wide)
    assert unit_of(mad) == pytest.approx(unit_of(wide), rel=0.25)


def test_it_follows_a_teacher_that_changes_its_scale() -> None:
    assert unit_of(np.concatenate([np.full(5000, 1.0), np.full(30_000, 0.1)])) == pytest.approx(0.1, rel=0.3)


def test_a_narrower_list_never_gets_more() -> None:
    ratios = np.geomspace(1e-3, 1e3, 400)
    scores = np.tile(np.array([[1.0, -1.0]]), (400, 1)) * ratios[:, None]
    spread = fitted(scores, ratios**2, np.ones(400)).std(1)
    assert (np.diff(spread) > -1e-12).all()
    assert spread[0] == pytest.approx(1e-3, rel=1e-3)
    assert spread[-1] == pytest.approx(1.0)


def test_nothing_known_and_a_list_of_equals() -> None:
    unit = Unit()
    unit.add(np.zeros(3))
    assert unit.spread() == 1.0
    assert not fitted(np.zeros((1, 3)), np.zeros(1), np.ones(1)).any()


def test_what_was_learnt_survives_a_checkpoint() -> None:
    watch, again = Watch(), Watch()
    random = np.random.default_rng(2)

    def batch() -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
        scores = random.normal(size=(32, 9)).astype(np.float32) * random.lognormal(2, 1, (32, 1)).astype(np.float32)
        scores -= scores.mean(1, keepdims=True)
        return ["a@1", "b@1"] * 16, scores, scores.var(1, ddof=1).astype(np.float64), np.ones(32, bool)

    for _ in range(5):
        watch.in_units(*batch())
    again.restore(json.loads(json.dumps(watch.state())))
    next_one = batch()
    assert (watch.in_units(*next_one) == again.in_units(*next_one)).all()
    # A later pass teaches the unit nothing.
    known = msgspec.to_builtins(watch.now.units)
    watch.in_units(*next_one[:3], np.zeros(32, bool))
    assert msgspec.to_builtins(watch.now.units) == known


def test_a_list_of_near_equals_moves_the_student_less() -> None:
    """A planted stream: the narrow list is a hundredth of the others. `standard` teaches it as strongly as them."""

    def pulls(comparable: str) -> tuple[float, float]:
        settings = msgspec.convert({"comparable": comparable, "act": "off"}, WatchSettings)
        student = StudentSettings(dim=4, hidden=8, id_dropout=0.0, dropout=0.0)
        made = make_trainer(FeatureSpec(), student, LossSettings(soft=1.0, label=0.0), seed=0, watch=settings)
        made.apply_items([Item(str(i)) for i in range(6)])
        random = np.random.default_rng(3)

        def one(width: float) -> Example:
            asked = Impression("r", 1, candidates=tuple(Candidate(str(i)) for i in range(6)))
            scores = tuple((width * random.normal(size=6)).tolist())
            return Example(Ranking(asked, "t", "1", "unbounded", scores, (True,) * 6), (0.0,) * 6)

        assert made.watch is not None
        found = []
        for batch in ([one(5.0) for _ in range(50)], [one(0.05)], [one(5.0)]):
            encoded = made.encode(batch)
            units, _ = watched(made.watch, encoded, np.zeros((len(batch), 6)))
            found.append(float(units.std()))
        return found[1], found[2]

    narrow, wide = pulls("teacher")
    assert narrow < 0.03 * wide
    narrow, wide = pulls("standard")
    assert narrow > 0.5 * wide


def test_after_a_restart_the_same_teacher_is_forgotten(tmp_path: Path) -> None:
    """The one that was away for the longest time. A checkpoint writes tables in the order of their names."""
    names = [f"{number:03}@1" for number in range(MOST_TEACHERS, 0, -1)]  # the oldest has the last name
    watch, again = Watch(drift_lists=0), Watch(drift_lists=0)

    def see(one: Watch, *teachers: str) -> None:
        scores = np.tile(np.array([[-1.0, 0.0, 1.0]], np.float32), (len(teachers), 1))
        one.in_units(teachers, scores, scores.var(1, ddof=1).astype(np.float64), np.ones(len(teachers), bool))
        one.skip(len(teachers), again=False)

    for name in names:
        see(watch, name)
    checkpoint.save(tmp_path, 1, {}, watch.state())
    found = checkpoint.latest(tmp_path)
    assert found is not None
    again.restore(found.state)
    for one in (watch, again):
        see(one, "new@1")
        assert set(one.now.units) == {*names[1:], "new@1"}
