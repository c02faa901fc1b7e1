"""What a watch knows of its teachers, for a checkpoint. It is data only.

`restored` also reads an older form, in which the fields of all detectors were in one flat table.

It knows nothing of how these facts are found.

Example:
    >>> State(at=3).known
    {}
    >>> restored({"at": 3, "known": {}}).at
    3
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from recdistill.errors import CheckpointError
from recdistill.watch.calibration import Calibration
from recdistill.watch.detectors import Detectors, Drifts
from recdistill.watch.trial import Window
from recdistill.watch.unit import Unit

NEW = "new"
"""The reason for a teacher that came later than the first ones. All other reasons are names of detectors."""


class Known(Struct):
    """What is known of one teacher."""

    first: int
    """Number of its first list."""
    last: int = 0
    trusted: bool = True
    reason: str = ""
    """Why the student does not learn from it: `NEW`, or the name of the detector that accused it."""
    why: str = ""
    since: int = 0
    detectors: Detectors = field(default_factory=Detectors)
    window: Window = field(default_factory=Window)
    calibration: Calibration = field(default_factory=Calibration)


class Masked(Struct, array_like=True):
    """Lists of a teacher that later passes leave out: from `start` up to, not including, `end`.

    `end` is −1 while it lasts.
    """

    teacher: str
    start: int
    end: int = -1


class State(Struct):
    """All that a checkpoint must hold of a watch."""

    at: int = 0
    """Lists seen so far."""
    again: int = 0
    """Lists of this later pass seen so far."""
    learnt: int = 0
    """Number of the list after the last one that a trusted teacher had scored."""
    known: dict[str, Known] = {}
    units: dict[str, Unit] = {}
    """The unit of each teacher."""
    masked: list[Masked] = []
    drifts: Drifts = field(default_factory=Drifts)
    """What follows the stream itself."""


def restored(state: Mapping[str, Any]) -> State:
    """The state from its JSON form.

    Raises:
        CheckpointError: It is not the state of a watch.
    """
    try:
        if isinstance(state, Mapping) and isinstance(teachers := state.get("known"), Mapping):
            state = {**state, "known": {name: _in_todays_form(known) for name, known in teachers.items()}}
        return msgspec.convert(state, State)
    except msgspec.ValidationError as e:
        raise CheckpointError(f"checkpoint: the state of the watch is not one ({e})") from e


def _in_todays_form(known: Any) -> Any:
    """A teacher in the form of `Known`. An older version wrote no `detectors`; its fields are put there."""
    if not isinstance(known, Mapping) or "detectors" in known or "order" not in known:
        return known
    proven = known.get("proven", False)
    gathered: dict[str, Any] = {}
    if known.get("trusted", True) and not proven:  # else `Chance` has nothing more to gather
        gathered = {"lists": known.get("seen", 0), "batches": known.get("batches", 0)}
        gathered |= {side: known[side] for side in ("order", "labels") if side in known}
    detectors = {
        "scale": {side: known[side] for side in ("location", "spread") if side in known},
        "order": {"reference": known["order"]},
        "labels": {"reference": known.get("labels", {})},
        "chance": {"proven": proven, **gathered},
    }
    calibration = {"curve": known.get("curve", []), "lists": known.get("curve_lists", 0.0)}
    return {**known, "detectors": detectors, "calibration": calibration}
