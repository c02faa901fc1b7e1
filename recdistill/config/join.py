"""The settings of the joiner: `[join]`, and `[held_out]`, what no student learns from.

It knows nothing of where settings come from.

Example:
    >>> JoinSettings(labels={"buy": 3.0}).labels
    {'click': 1.0, 'buy': 3.0}
    >>> HeldOutSettings().per_day
    20000.0
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from recdistill.limits import MAX_WEIGHT

DEFAULT_LABELS: Final = {"click": 1.0}
"""Labels of `[join]` that hold unless the settings change them."""


class JoinSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[join]`: rankings + feedback -> examples."""

    window_s: Annotated[
        float,
        Meta(ge=0, le=1e12, description="How long feedback may take, in event time. Then the example is closed."),
    ] = 1800.0
    max_ahead_s: Annotated[
        float,
        Meta(
            ge=0,
            le=1e12,
            description="How far ahead the time of one record may be: of the time when the log took it, and of the "
            "records around it. One that is further ahead goes to the dead letters. Keep it below `window_s`.",
        ),
    ] = 600.0
    labels: Annotated[
        dict[str, Annotated[float, Meta(ge=0, le=MAX_WEIGHT)]],
        Meta(
            description="Action -> label weight, at most 1000. What you write is added to the default; an action with "
            "weight 0, or without one, gives no label."
        ),
    ] = msgspec.field(default_factory=lambda: dict(DEFAULT_LABELS))
    batch: Annotated[int, Meta(ge=1, description="Most messages read between two commits.")] = 1000
    wait_s: Annotated[float, Meta(gt=0, description="Longest wait for new messages.")] = 0.5
    idle_s: Annotated[
        float,
        Meta(
            gt=0, description="The other partitions wait for a silent partition, to keep the order, but only so long."
        ),
    ] = 30.0
    tick_s: Annotated[
        float,
        Meta(
            ge=0,
            description="After so many seconds without a record, when all impressions are scored, a mark is written to "
            "`examples`: it lets students learn their last few examples at once. `distil.learn_within_s` counts where "
            "it is longer, since a batch ends only at a mark behind its time. 0: the last examples wait for the next "
            "ones.",
        ),
    ] = 2.5
    soft: Annotated[
        Literal["at_once", "with_labels"],
        Meta(
            description="`at_once`: the teacher's scores are an example as soon as a list is ranked, and its labels "
            "follow as another one. `with_labels`: one example for each list, when its window is over; for a log that "
            "is finished and is learnt in many passes."
        ),
    ] = "at_once"
    directory: Annotated[
        str,
        Meta(
            description="Where the joiner keeps a snapshot of its window, so that it starts again within seconds. It "
            "may be deleted at any time: without it the window is read from the log again. Empty: no snapshot."
        ),
    ] = "recdistill-data/join"
    snapshot_s: Annotated[float, Meta(gt=0, description="How often the snapshot is written.")] = 60.0

    def __post_init__(self) -> None:
        """Adds the labels to the default ones, from whatever place they come."""
        msgspec.structs.force_setattr(self, "labels", {**DEFAULT_LABELS, **self.labels})


class HeldOutSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[held_out]`: users whose lists go to the topic `held-out`. No student learns from them."""

    per_day: Annotated[
        float,
        Meta(
            gt=0,
            le=1e12,
            description="Labelled lists a day that are held out. The share of users follows the traffic, once a day.",
        ),
    ] = 20_000.0
    least: Annotated[
        float,
        Meta(ge=0, le=0.5, description="The share begins here, and is at least this. `most` alike fixes it."),
    ] = 0.005
    most: Annotated[
        float, Meta(ge=0, le=0.5, description="The share is at most this, and that holds before `least`. 0: none.")
    ] = 0.1
