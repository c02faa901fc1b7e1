"""What a watch knows of its teachers: all that a checkpoint has to hold of it. Data only.

`restored` also reads an older form, in which the fields of all detectors stood beside each other.

It knows nothing of how any of it is found.

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
from recdistill.watch.detectors import Detectors
from recdistill.watch.trial import Window

NEW = "new"
"""Reason not to learn from a teacher that came later than the first ones; all other reasons are names of detectors."""


class Known(Struct):
    """What is known of one teacher."""

    first: int
    """Number of its first list."""
    last: int = 0
    trusted: bool = True
    reason: str = ""
    """Why it is not learnt from: `NEW`, or the detector that accused it."""
    why: str = ""
    since: int = 0
    detectors: Detectors = field(default_factory=Detectors)
    window: Window = field(default_factory=Window)
    calibration: Calibration = field(default_factory=Calibration)


class Masked(Struct, array_like=True):
    """Lists of a teacher that later passes leave out: `start` up to, not including, `end`; −1 while it lasts."""

    teacher: str
    start: int
    end: int = -1


class State(Struct):
    """All that a checkpoint has to hold of a watch."""

    at: int = 0
    """Lists seen so far."""
    again: int = 0
    """Lists of this later pass seen so far."""
    learnt: int = 0
    """Behind the last list that a trusted teacher had scored."""
    known: dict[str, Known] = {}
    masked: list[Masked] = []


def restored(state: Mapping[str, Any]) -> State:
    """A state from what JSON held of it.

    Raises:
        CheckpointError: It is no watch's state.
    """
    try:
        if isinstance(state, Mapping) and isinstance(teachers := state.get("known"), Mapping):
            state = {**state, "known": {name: _in_todays_form(known) for name, known in teachers.items()}}
        return msgspec.convert(state, State)
    except msgspec.ValidationError as e:
        raise CheckpointError(f"checkpoint: the state of the watch is not one ({e})") from e


def _in_todays_form(known: Any) -> Any:
    """A teacher as `Known` has it, also where an older version wrote it, which kept no `detectors`."""
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
