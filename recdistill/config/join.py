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
    """`[join]`: the joiner. It puts labels from feedback on rankings, and writes examples."""

    window_s: Annotated[
        float,
        Meta(
            ge=0,
            le=1e12,
            description="Seconds. So long after a list was shown, its feedback is waited for, by the times "
            "of the records. Then the example is complete.",
        ),
    ] = 1800.0
    max_ahead_s: Annotated[
        float,
        Meta(
            ge=0,
            le=1e12,
            description="Seconds. So far in the future the time of a record may be, compared with the time "
            "when the log took it and with the records around it. A record further in the future goes to "
            "`dead-letters`. Keep it below `window_s`.",
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
            gt=0,
            description="Seconds. To keep the order, all partitions wait for one that has no new records, "
            "but at most so long.",
        ),
    ] = 30.0
    tick_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds. If no record comes for so long and all impressions are scored, a mark is "
            "written to `examples`. It makes students learn their last few examples at once. If "
            "`distil.learn_within_s` is longer, that time counts. 0: the last examples wait for the next ones.",
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
            description="How many lists with a label are held out a day. Once a day, the share of the users "
            "is set so that about so many come.",
        ),
    ] = 20_000.0
    least: Annotated[
        float,
        Meta(
            ge=0,
            le=0.5,
            description="Smallest share of the users. The share begins here. If `most` is the same number, "
            "the share never changes.",
        ),
    ] = 0.005
    most: Annotated[
        float,
        Meta(
            ge=0,
            le=0.5,
            description="Largest share of the users. It wins where it is below `least`. 0: nobody is held out.",
        ),
    ] = 0.1
