"""The settings of the distiller.

They know nothing of files, the environment, or what the distiller does with them.

Example:
    >>> DistilSettings(batch=64).batch
    64
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class DistilSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[distil]`: examples -> checkpoints and bundles."""

    directory: Annotated[str, Meta(min_length=1, description="Checkpoints (`step-N/`) and bundles (`bundles/`).")] = (
        "recdistill-data/student"
    )
    batch: Annotated[int, Meta(ge=1, description="Examples (whole lists) in one step.")] = 256
    learn_within_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="A smaller batch is learnt when the log's time has reached the next multiple of so many "
            "seconds, so that few examples need not wait for more. 0: only whole batches. In passes over what is "
            "there, and in a drained run, batches are whole.",
        ),
    ] = 2.0
    passes: Annotated[
        int,
        Meta(ge=1, description="How often the examples of the first start are read. Later examples are read once."),
    ] = 1
    rebuild_lists: Annotated[
        int,
        Meta(
            ge=0,
            description="When inputs, labels or the agreement with the teachers have drifted (`watch.drift_lists`), "
            "the student is made anew from so many of the newest examples of the log; no bundle is made meanwhile. "
            "0: never.",
        ),
    ] = 0
    memory_mb: Annotated[int, Meta(ge=0, description="Megabytes of encoded batches kept for the next pass.")] = 1000
    checkpoint_every: Annotated[
        int,
        Meta(
            ge=1,
            description="Steps between two checkpoints. Of a student above 32 MB there are more: the next one waits "
            "until the one before is on the disk, and for twice the time that this took.",
        ),
    ] = 500
    export_every: Annotated[
        int,
        Meta(
            ge=0,
            description="Steps after which a bundle is made; 0: steps make none. At its end a drained run makes one.",
        ),
    ] = 2000
    export_every_examples: Annotated[
        int, Meta(ge=0, description="Examples after which a bundle is made; 0: examples make none.")
    ] = 0
    export_every_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds after which a bundle is made, if something was learnt since the last; 0: time makes "
            "none.",
        ),
    ] = 0.0
    export_on_drift: Annotated[
        float,
        Meta(
            ge=0,
            le=2,
            description="A bundle is made when the student's agreement with a teacher has moved by so much since the "
            "last, or when a detector finds a change; 0: drift makes none.",
        ),
    ] = 0.0
    export_beside: Annotated[
        bool,
        Meta(
            description="A process of its own makes the bundles while the student learns on. If not, learning waits "
            "for each."
        ),
    ] = True
    export_nice: Annotated[
        int, Meta(ge=0, le=19, description="How nice that process is to others; 19 takes only what nobody else wants.")
    ] = 10
    keep: Annotated[int, Meta(ge=1, description="Checkpoints and bundles kept.")] = 3
    publish: Annotated[
        bool,
        Meta(description="Put each bundle into the registry's store and announce it, so the promoter can judge it."),
    ] = True
    wait_s: Annotated[float, Meta(gt=0, description="Longest wait for examples before the stop signal is checked.")] = (
        0.5
    )
    popular: Annotated[int, Meta(ge=1, description="Length of the bundle's popular list.")] = 1000
    control: Annotated[
        bool,
        Meta(
            description="Make the control instead: the same student on the same examples, taught by labels alone. "
            "Its folder is `distil.directory` with `-control` behind it. Its newest bundle is judged beside every "
            "candidate, and none of them becomes one; see `judge.control`."
        ),
    ] = False
    seed: int = 0
    threads: Annotated[
        int, Meta(ge=0, description="Threads of torch; 0: torch chooses. Two runs are equal only with the same number.")
    ] = 0
