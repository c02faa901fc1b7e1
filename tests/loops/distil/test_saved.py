"""The distiller's state as it lies on the disk."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support import world

from recdistill.bundle.manifest import SEAL
from recdistill.errors import CheckpointError
from recdistill.loops.distil.passes import Range
from recdistill.loops.distil.saved import Saved, Term
from recdistill.loops.distil.seen import Seen
from recdistill.stream import LanePosition, LogIdentity

PATH = Path("checkpoints/step-3")
LANES = LogIdentity("a", {"examples": 2}, {"examples": "x"})

# As version 0.1 wrote it.
WRITTEN: dict[str, Any] = {
    "recipe": {
        "student": {"dim": 4, "learning_rate": 0.003},
        "loss": {"soft": 0.7, "label": 0.3, "terms": [{"loss": "kl", "share": 1.0, "options": {"temperature": 2.0}}]},
        "batch": 8,
        "passes": 2,
        "seed": 0,
        "threads": 1,
        "features": "c0ffee",
        "watch": {"comparable": "standard", "spread": 2.0},
    },
    "lanes": {"identity": {"cluster": "a", "partitions": {"examples": 2}, "ids": {"examples": "x"}}, "offsets": [9, 8]}
    | {"turn": 1},
    "items_identity": {"cluster": "a", "partitions": {"items": 1}, "ids": {}},
    "items_next": 13,
    "range": None,
    "examples": 17,
    "teachers": {"t@1": 17},
    "popular": {"a": 1.5},
    "popular_unit": 1.25,
    "golden": [],
    "parent": "",
}


def test_what_an_older_version_wrote_is_read_and_written_alike() -> None:
    saved = Saved.restored(WRITTEN, PATH)
    assert saved.recipe.loss["terms"] == [Term("kl", 1.0, {"temperature": 2.0})]
    assert saved.lanes == LanePosition(LANES, (9, 8), 1)
    assert (saved.seen.examples, saved.seen.popular_unit) == (17, 1.25)
    assert json.loads(json.dumps(saved.plain())) == WRITTEN


def test_everything_comes_back() -> None:
    here = LanePosition(LANES, (3, 4), 1)
    recipe = Saved.restored(WRITTEN, PATH).recipe
    seen = Seen(5, {"t@1": 5}, {"a": 2.0}, 1.5, world.impressions(3))
    witness = {"examples/0": "w"}
    saved = Saved(recipe, here, LogIdentity("a", {"items": 1}), 7, Range(2, here, here, 1), "hash", witness, seen)
    plain = json.loads(json.dumps(saved.plain()))
    assert plain["witness"] == witness
    assert plain["examples"] == 5
    assert Saved.restored(plain, PATH) == saved


@pytest.mark.parametrize("name", ["lanes", "items_next", "recipe"])
def test_another_versions_state_is_one_sentence(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"step-3: was written by another version: .*" + name):
        Saved.restored({key: value for key, value in WRITTEN.items() if key != name}, PATH)


def test_how_far_it_is() -> None:
    saved = Saved.restored(WRITTEN, PATH)
    assert (saved.total(), saved.done()) == (None, 17)
    saved.range = Range(3, LanePosition(LANES, [1, 2], 0), LanePosition(LANES, [21, 12], 0), done=1)
    assert (saved.total(), saved.done()) == (90, 30 + 14)


def test_a_student_that_is_drained_every_hour_for_years_still_fits_into_a_manifest() -> None:
    """Each drained run is a part of the log of its own, and all of them are in the manifest of each bundle."""
    one = LogIdentity("c" * 36, {"examples": 4}, {"examples": "t" * 36})
    saved = Saved.restored(WRITTEN, PATH)
    places = [LanePosition(one, (10**9 + n,) * 4, 0) for n in range(20_001)]
    for n, (start, until) in enumerate(pairwise(places)):
        saved.go_over(10**7 + n, 1, start, until)
    plain = saved.plain()
    assert [run["step"] for run in plain["runs"]] == [10**7 + n for n in range(19_000, 20_000)]
    assert plain["runs_left_out"] == 19_000
    assert len(json.dumps(plain["runs"])) < SEAL.most / 4
    assert Saved.restored(json.loads(json.dumps(plain)), PATH).runs == saved.runs
