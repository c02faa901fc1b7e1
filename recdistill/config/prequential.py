"""Settings of `[prequential]`: lists are scored before they are learnt.

They know nothing of files, the environment, or what the parts do with them.

Example:
    >>> PrequentialSettings().champion
    True
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class PrequentialSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[prequential]`: the distiller scores lists before it learns them, and counts NDCG@10 when their labels come."""

    share: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1.0,
            description="Share of the lists that are scored before they are learnt. A hash of their ids and "
            "the number of the step choose them, so a repeated run takes the same lists. 0: none. A larger "
            "share costs more time. The student learns the same with any share.",
        ),
    ] = 0.05
    champion: Annotated[
        bool,
        Meta(
            description="Whether the champion of the registry scores them too, as it serves. Its bundle is then in the "
            "memory of the distiller. Only with `distil.publish`: else the distiller has to do with no registry. "
            "The promoter scores held-out lists in the same way."
        ),
    ] = True
    follow_s: Annotated[float, Meta(gt=0, description="How often a new champion is looked for.")] = 5.0
    window_s: Annotated[
        float, Meta(ge=1, description="Seconds, by the times of the lists, that one row of the table over time covers.")
    ] = 3600.0
    labels_within_s: Annotated[
        float,
        Meta(
            ge=0,
            description="How long labels of a scored list are waited for, in the time of the lists. It should be "
            "longer than `join.window_s`.",
        ),
    ] = 7200.0
    half_life: Annotated[
        float,
        Meta(
            ge=1,
            description="A list counts half after so many later lists with labels, in the counts of "
            "popularity and ItemKNN.",
        ),
    ] = 5000.0
