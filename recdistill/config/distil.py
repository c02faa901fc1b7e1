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
    """`[distil]`: the distiller. It learns from examples, and writes checkpoints and bundles."""

    directory: Annotated[str, Meta(min_length=1, description="Checkpoints (`step-N/`) and bundles (`bundles/`).")] = (
        "recdistill-data/student"
    )
    batch: Annotated[int, Meta(ge=1, description="Examples (whole lists) in one step.")] = 256
    learn_within_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds, by the times in the log. If a batch does not fill in so long a time, it is "
            "learnt as it is, so that few examples need not wait for more. 0: only full batches are learnt. "
            "Several passes, and runs with --drain, always learn full batches.",
        ),
    ] = 2.0
    passes: Annotated[
        int,
        Meta(
            ge=1,
            description="How many times the examples are read that are there at the first start. Later "
            "examples are read once.",
        ),
    ] = 1
    rebuild_lists: Annotated[
        int,
        Meta(
            ge=0,
            description="After a drift (`watch.drift_lists`), the student begins again with random weights, "
            "and learns so many of the newest examples of the log. No bundle is made until then. 0: never.",
        ),
    ] = 0
    memory_mb: Annotated[int, Meta(ge=0, description="Megabytes of encoded batches kept for the next pass.")] = 1000
    checkpoint_every: Annotated[
        int,
        Meta(
            ge=1,
            description="Steps between two checkpoints. For a student above 32 MB there may be more steps: "
            "the next checkpoint waits until the one before is on the disk, and then twice as long as that "
            "took.",
        ),
    ] = 500
    export_every: Annotated[
        int,
        Meta(
            ge=0,
            description="A bundle is made after so many steps. 0: steps make none. A run with --drain always "
            "makes one at its end.",
        ),
    ] = 2000
    export_every_examples: Annotated[
        int, Meta(ge=0, description="A bundle is made after so many examples. 0: their number makes none.")
    ] = 0
    export_every_s: Annotated[
        float,
        Meta(
            ge=0,
            description="A bundle is made after so many seconds, if something was learnt since the last one. "
            "0: time makes none.",
        ),
    ] = 0.0
    export_on_drift: Annotated[
        float,
        Meta(
            ge=0,
            le=2,
            description="A bundle is made when the agreement of student and teacher (from -1 to 1) has "
            "changed by so much since the last bundle, or when a detector finds a change. 0: such changes make "
            "none.",
        ),
    ] = 0.0
    export_beside: Annotated[
        bool,
        Meta(
            description="true: another process makes the bundles, and the student goes on learning. false: "
            "learning waits while a bundle is made."
        ),
    ] = True
    export_nice: Annotated[
        int,
        Meta(
            ge=0,
            le=19,
            description="The priority of that process (`nice`). 0: as high as others. 19: it gets only the "
            "processor time that nobody else wants.",
        ),
    ] = 10
    keep: Annotated[int, Meta(ge=1, description="How many checkpoints, and how many bundles, are kept.")] = 3
    publish: Annotated[
        bool,
        Meta(description="Put each bundle into the registry's store and announce it, so the promoter can judge it."),
    ] = True
    wait_s: Annotated[float, Meta(gt=0, description="Longest wait for examples before the stop signal is checked.")] = (
        0.5
    )
    popular: Annotated[
        int, Meta(ge=1, description="How many popular items a bundle holds, for users who are not known.")
    ] = 1000
    control: Annotated[
        bool,
        Meta(
            description="true: train the control instead, a student on the same examples but without the "
            "teacher. Its folder is `distil.directory` with `-control` at the end. Its newest bundle is judged "
            "beside every candidate. It never becomes a candidate. See `judge.control`."
        ),
    ] = False
    seed: Annotated[
        int, Meta(description="Where random numbers begin. Another number gives another student, about as good.")
    ] = 0
    threads: Annotated[
        int,
        Meta(
            ge=0,
            description="Threads of torch. 0: torch chooses. Two runs give the same bytes only with the same number.",
        ),
    ] = 0
