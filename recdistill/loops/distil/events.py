"""Settings of a living student are events: a value that changes holds from a step on, and a replay changes it there.

A student remembers which settings held from which step on, oldest first. The checkpoint has the list. So has a small
file in the student's folder: when the newest checkpoint is lost, an older one goes on with the settings of its time,
and changes them where they were changed.

Some settings cannot change: they decide what the arrays are, or what every first value was.

It knows nothing of torch, or of what a setting does.

Example:
    >>> changed({"batch": 8, "loss": {"soft": 0.7}}, {"batch": 16, "loss": {"soft": 0.7}})
    {'batch': (8, 16)}
    >>> refuse({"seed": (0, 1)}, "step-3")
    Traceback (most recent call last):
    recdistill.errors.CheckpointError: step-3: was made with seed = 0, the settings now say 1; set it back, or start ...
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from recdistill.errors import CheckpointError
from recdistill.loops.distil.requests import Anew
from recdistill.sealed import put
from recdistill.stream import LanePosition

log_ = logging.getLogger(__name__)

NAME: Final = "settings.json"

FIXED: Final = ("student.dim", "student.hidden", "student.context_dim", "seed", "features")
"""Settings that a student keeps for life."""

Changed = dict[str, tuple[Any, Any]]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Settings, and from where on they hold; or that a person asked for the student to be made anew.

    Attributes:
        step: Steps made before they hold.
        lanes: Where the student stood in the examples.
        recipe: What decides the student, resolved; see `saved.Recipe`.
        settings: The sections that it was made from, as they were given.
        anew: The request, if the student is made anew here.
    """

    step: int
    lanes: LanePosition
    recipe: dict[str, Any]
    settings: dict[str, Any]
    anew: Anew | None = None


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Changed:
    """The settings that differ between two recipes: their values before and now. None where one does not name it."""
    old, new = flat(before), flat(now)
    return {key: (old.get(key), value) for key, value in new.items() if old.get(key) != value}


def refuse(differ: Changed, where: object) -> None:
    """Refuses what cannot change.

    Args:
        differ: From `changed`.
        where: The checkpoint, for the error.

    Raises:
        CheckpointError: A setting differs that a student keeps for life.
    """
    for key in FIXED:
        if key in differ:
            before, now = differ[key]
            raise CheckpointError(
                f"{where}: was made with {key} = {before!r}, the settings now say {now!r}; "
                "set it back, or start a new student in another distil.directory"
            )


def told(differ: Changed) -> str:
    """What changed, for a log."""
    return ", ".join(f"{key} {before!r} -> {now!r}" for key, (before, now) in sorted(differ.items()))


def write(folder: Path, events: Sequence[Event]) -> None:
    """Writes the file of a student's settings, whole or not at all.

    Raises:
        CheckpointError: The disk refuses it.
    """
    put(folder / NAME, msgspec.json.format(msgspec.json.encode(list(events)), indent=1), CheckpointError)


def ahead(folder: Path, events: Sequence[Event], step: int) -> list[Event]:
    """The events that come after a step, from the file of the folder: those that a later checkpoint had.

    Args:
        folder: The student's folder.
        events: Those of the checkpoint.
        step: The checkpoint's.
    """
    try:
        known = msgspec.json.decode((folder / NAME).read_bytes(), type=list[Event])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as e:
        log_.warning("%s: cannot be read (%s), so settings that changed after step %d are not known", NAME, e, step)
        return []
    before = [one for one in known if one.step <= step]
    if [one.recipe for one in before[-len(events) :]] != [one.recipe for one in events] if events else False:
        return []  # it belongs to another student: somebody has put a checkpoint here
    return [one for one in known if one.step > step]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of settings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
