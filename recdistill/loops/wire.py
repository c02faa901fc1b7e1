"""Opens what each loop needs from the settings and runs it: the one place where settings become parts.

The command line and the processes in `services/` both start their loops here, so that a verb and an image do the same.
It knows nothing of terminals or signals.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from recdistill.config import Settings
from recdistill.features import FeatureSpec
from recdistill.progress import Progress, folder_bytes
from recdistill.stream import open_log
from recdistill.teachers import TAUGHT, Teacher, open_teacher

Job = Callable[[Settings, threading.Event, bool, "Counter[str]", "Progress | None"], "Counter[str]"]


def score(
    settings: Settings, stop: threading.Event, drain: bool, counts: Counter[str], progress: Progress | None
) -> Counter[str]:
    """Runs the scorer with the settings' teacher."""
    from recdistill.loops import score as loop

    teacher = open_teacher(settings.teacher)
    with closing(open_log(settings.log)) as log:
        return loop.run(log, teacher, settings.score, stop=stop, drain=drain, counts=counts, progress=progress)


def join(
    settings: Settings, stop: threading.Event, drain: bool, counts: Counter[str], progress: Progress | None
) -> Counter[str]:
    """Runs the joiner."""
    from recdistill.loops import join as loop

    with closing(open_log(settings.log)) as log:
        return loop.run(log, settings.join, stop=stop, drain=drain, counts=counts, progress=progress)


def distil(
    settings: Settings, stop: threading.Event, drain: bool, counts: Counter[str], progress: Progress | None
) -> Counter[str]:
    """Runs the distiller with the settings' feature specification."""
    from recdistill.loops import distil as loop

    spec = FeatureSpec.load(Path(settings.features.file))
    with closing(open_log(settings.log)) as log:
        return loop.run(
            log,
            spec,
            settings.student,
            settings.loss,
            settings.distil,
            settings.watch,
            stop=stop,
            drain=drain,
            counts=counts,
            progress=progress,
        )


def probe(
    settings: Settings, stop: threading.Event, drain: bool, counts: Counter[str], progress: Progress | None
) -> Counter[str]:
    """Runs the prober with the registry's champion."""
    from recdistill.loops import probe as loop

    with closing(open_log(settings.log)) as log:
        return loop.run(
            log, settings.registry, settings.probe, stop=stop, drain=drain, counts=counts, progress=progress
        )


def promote(
    settings: Settings, stop: threading.Event, drain: bool, counts: Counter[str], progress: Progress | None
) -> Counter[str]:
    """Runs the promoter over the distiller's bundles.

    A `logged` teacher cannot score a whole catalogue, so the judge holds the student against it on its lists alone.
    """
    from recdistill.loops import promote as loop
    from recdistill.registry import Registry

    registry = Registry(settings.registry.uri, settings.registry.name, timeout_s=settings.registry.timeout_s)
    teacher: Teacher | None = None if settings.teacher.kind == "logged" else open_teacher(settings.teacher)
    with closing(open_log(settings.log)) as log:
        return loop.run(
            log,
            registry,
            settings.promote,
            settings.gate,
            bundles=Path(settings.distil.directory) / "bundles",
            teacher=teacher,
            teacher_bytes=folder_bytes(Path(settings.teacher.path)) if settings.teacher.kind in TAUGHT else 0,
            cost_per_1000=settings.score.cost_per_1000,
            stop=stop,
            drain=drain,
            counts=counts,
            progress=progress,
        )


def rank(
    settings: Settings, stop: threading.Event, _drain: bool, counts: Counter[str], _progress: Progress | None
) -> Counter[str]:
    """Runs the ranker; it serves until it is stopped, so there is nothing to drain."""
    from recdistill.loops import rank as loop

    return loop.run(settings, stop=stop, counts=counts)


JOBS: dict[str, Job] = {
    "scorer": score,
    "joiner": join,
    "distiller": distil,
    "promoter": promote,
    "ranker": rank,
    "prober": probe,
}
"""Each process of the house by its name."""
