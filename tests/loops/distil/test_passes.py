"""Steps that are kept for the next pass: as many as the memory holds, and only while the catalogue stands still."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from recdistill.features import AsOf
from recdistill.loops.distil.passes import KeptSteps, Range, Step
from recdistill.stream import LanePosition, LogIdentity

IDENTITY = LogIdentity("a", {"examples": 2})


def at(*offsets: int, turn: int = 0) -> LanePosition:
    return LanePosition(IDENTITY, offsets, turn)


NOW = AsOf(3, 1)


def step(size: int, items_next: int = 5) -> Step:
    batch: Any = SimpleNamespace(nbytes=size, as_of=NOW)
    return Step(batch, items_next, [], at(9, 9))


def test_what_the_memory_does_not_hold_is_not_kept() -> None:
    kept = KeptSteps(100)
    for number, size in enumerate((60, 40, 1)):
        kept.keep(at(number, 0), step(size))
    assert [kept.find(at(number, 0), 5, NOW) is not None for number in range(3)] == [True, True, False]
    kept.clear()
    assert kept.find(at(0, 0), 5, NOW) is None
    kept.keep(at(0, 0), step(100))
    assert kept.find(at(0, 0), 5, NOW) is not None


def test_the_position_is_every_lane_and_the_turn() -> None:
    kept = KeptSteps(100)
    kept.keep(at(3, 4, turn=1), step(1))
    assert kept.find(at(3, 4, turn=1), 5, NOW) is not None
    assert kept.find(at(3, 4, turn=0), 5, NOW) is None
    assert kept.find(at(4, 3, turn=1), 5, NOW) is None


def test_a_catalogue_that_moved_makes_a_step_worthless() -> None:
    kept = KeptSteps(100)
    kept.keep(at(3, 4), step(1, items_next=5))
    assert kept.find(at(3, 4), 6, NOW) is None
    assert kept.find(at(3, 4), 5, NOW) is not None


def test_a_row_that_moved_makes_a_step_worthless() -> None:
    kept = KeptSteps(100)
    kept.keep(at(3, 4), step(1))
    assert kept.find(at(3, 4), 5, AsOf(4, 1)) is None


def test_a_range_knows_its_passes() -> None:
    found = [(r.again, r.another) for r in (Range(3, at(0, 0), at(4, 4), done) for done in range(3))]
    assert found == [(False, True), (True, True), (True, False)]
    assert Range(3, at(1, 2), at(4, 4)).length() == 5
