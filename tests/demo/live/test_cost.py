"""What answers cost: both are timed on the same lists, and money is seconds at a price."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.registries import make_bundle

from recdistill.config import LogSettings
from recdistill.data.simulated import SimulatorSettings, simulate
from recdistill.demo.live import cost
from recdistill.demo.live.cost import Measured, cost_of, items_of, measure, newest
from recdistill.records import Candidate, Impression, Item, encode, key_of
from recdistill.stream import open_log, standard_topics


def test_costs_by_hand() -> None:
    found = cost_of(Measured(teacher_s=7.2, student_s=0.36, lists=256, parameters=3_210_000), price=0.05)
    assert found["ratio"] == 20.0
    assert found["teacher_money"] == pytest.approx(7.2 * 0.05 / 3600)
    assert found["student_money"] == pytest.approx(0.36 * 0.05 / 3600)
    assert "3.2 million" in found["teacher"]


@pytest.mark.parametrize("count", [5, 50])
def test_the_newest_lists_of_a_log_are_taken(tmp_path: Path, count: int) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    with log.stage("writer").transaction() as transaction:
        for n in range(30):
            one = Impression(f"i{n}", 5 + n, candidates=(Candidate("a"),) if n % 3 else ())
            transaction.send("impressions", encode(one), key=key_of(one))
        item = Item("a", time_us=1)
        transaction.send("items", encode(item), key=key_of(item))
    asked = [n for n in range(30) if n % 3]
    assert [one.id for one in newest(log, count)] == [f"i{n}" for n in asked[-count:]]
    assert items_of(log) == [item]
    log.close()


@pytest.mark.slow
def test_both_are_timed_on_the_same_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = SimulatorSettings(items=60, users=30, impressions=80, days=20, shortest=8, longest=10)
    data, _ = simulate(world, seed=1)
    bundle = make_bundle(tmp_path / "bundle", "shop")
    asked: list[int] = []
    turn = cost._turn

    def watched(teacher: object, student: object, block: list[Impression]) -> tuple[float, float]:
        asked.append(len(block))
        return turn(teacher, student, block)  # type: ignore[arg-type]

    monkeypatch.setattr(cost, "_turn", watched)
    lists = [one for one in data.impressions if one.candidates][:70]
    found = measure(lists, data.items, data.spec, bundle.path, tmp_path / "teacher")
    assert asked == [64, 64, 6]  # the first block is asked twice, and the first time is not counted
    assert found.lists == 70
    assert found.parameters > 3_000_000
    assert found.teacher_s > found.student_s > 0
