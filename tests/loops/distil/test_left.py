"""What is left of a student that is made anew: a gauge that falls to nothing, and only then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from recdistill.loops.distil.left import left, lines_of
from recdistill.loops.distil.passes import Range
from recdistill.loops.distil.saved import Saved
from recdistill.stream import LanePosition, LogIdentity


def at(*offsets: int) -> LanePosition:
    return LanePosition(LogIdentity("a", {"examples": len(offsets)}), offsets, 0)


def saved(**more: Any) -> Saved:
    """A student of two lanes that was made anew when it had learnt 900 examples."""
    chosen = {"range": Range(2, at(10, 12), at(60, 70), done=1), "lanes": at(30, 40), "rebuilt": 900, "examples": 900}
    chosen |= more
    seen = SimpleNamespace(examples=chosen.pop("examples"))
    return cast(Saved, SimpleNamespace(seen=seen, **chosen))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, 60),
        ({"lanes": at(10, 12)}, 108),
        ({"lanes": at(60, 70)}, 0),
        ({"range": None}, 0),
        ({"range": Range(2, at(10, 12), at(60, 70))}, 0),  # the first pass of a drained run
        ({"rebuilt": 0}, 0),  # its second pass: it was never made anew
        ({"rebuilt": 400}, 0),  # it was made anew long before
    ],
)
def test_so_many_offsets_are_left(state: dict[str, Any], expected: int) -> None:
    assert left(saved(**state)) == expected


def test_the_gauge_has_its_kind_and_its_value() -> None:
    help_, kind, value = lines_of(7)
    assert help_.startswith("# HELP recdistill_rebuild_left ")
    assert (kind, value) == ("# TYPE recdistill_rebuild_left gauge", "recdistill_rebuild_left 7")
