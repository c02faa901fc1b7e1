"""`[trial]`: how much a bundle may use in the process in which it is tried before it may serve.

It knows nothing of files, the environment, or what the parts do with them.

Example:
    >>> TrialSettings().rows
    20000
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class TrialSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[trial]`: a bundle is run in a process of its own before it is judged, and before a ranker serves it."""

    on: Annotated[
        bool,
        Meta(
            description="Whether bundles are tried. false: a bundle whose model never ends can block the "
            "promoter or a ranker."
        ),
    ] = True
    cpu_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="Most processor time of that process. It counts only its own work, so a busy machine refuses "
            "no bundle.",
        ),
    ] = 60.0
    wall_s: Annotated[
        float, Meta(ge=1, le=86_400, description="Most time by the clock, for a bundle that only sleeps.")
    ] = 900.0
    memory_mb: Annotated[
        int,
        Meta(
            ge=256,
            le=1 << 20,
            description="Most memory of that process. In a container it counts beside the memory of the ranker.",
        ),
    ] = 4096
    rows: Annotated[
        int,
        Meta(
            ge=1,
            description="So many item vectors are computed again, and compared with those of the bundle. If "
            "there are more items, so many are drawn at random.",
        ),
    ] = 20_000
