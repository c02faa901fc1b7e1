"""Bundles -> judged, registered and promoted versions.

A bundle is judged on examples that it did not learn from: those behind the positions it was cut at. When there are
enough of them, the judge runs the exact artefact, the version is registered with its evidence, its report and its
device file, and becomes the candidate; what passes the gate becomes the champion. A bundle whose content is
registered already is left alone, so a promoter that was killed goes on where it stood.

It knows nothing of how a bundle was made or how the champion is served.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from recdistill.bundle import Bundle, made, open_bundle, reading
from recdistill.config import GateSettings, PromoteSettings
from recdistill.errors import BundleError, Refused, TeacherError
from recdistill.judge import gate
from recdistill.progress import Progress
from recdistill.registry import Evidence, Registry, Version
from recdistill.release import held_out, judge, publish
from recdistill.stream import Log
from recdistill.teachers import Teacher

log_ = logging.getLogger(__name__)


def run(
    log: Log,
    registry: Registry,
    settings: PromoteSettings,
    gate_settings: GateSettings,
    *,
    bundles: Path,
    teacher: Teacher | None,
    teacher_bytes: int = 0,
    cost_per_1000: float = 0.0,
    stop: threading.Event,
    drain: bool = False,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
) -> Counter[str]:
    """Judges, registers and promotes bundles until stopped; when draining, those that are there and can be judged.

    Args:
        log: Where the held-out examples lie.
        registry: Where versions and aliases live.
        settings: Waits, number of lists, who promotes.
        gate_settings: What a candidate must show.
        bundles: The folder in which the distiller leaves its bundles.
        teacher: Who scored the lists; None judges without one.
        teacher_bytes: Its size, 0 when nobody knows it.
        cost_per_1000: What a thousand of its scores cost; 0: nobody counts it.
        stop: Set it and the bundle in work is finished, then the function returns.
        drain: Return when no bundle is left that can be judged now.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told how far the judging of a bundle is.

    Returns:
        Counts: judged, registered, promoted, refused, waiting, broken.

    Raises:
        TeacherError: When draining: the teacher as a whole could not answer. Otherwise it is asked again later.
    """
    counts = Counter() if counts is None else counts
    seen: set[str] = {version.content_hash for version in registry.versions()}
    opened: Bundle | None = None  # verified once, however often it is looked at while it waits
    while not stop.is_set():
        worked = False
        # Only the newest one matters: by the time it can be judged, an older bundle is stale.
        for path in _held(made(bundles)[-1:]):
            try:
                bundle = opened if opened is not None and opened.path == path else open_bundle(path)
            except BundleError as e:
                log_.warning("%s", e)
                counts["broken"] += 1
                continue
            opened = bundle
            if bundle.content_hash in seen:
                continue
            lists = len(held_out(log, bundle, gate_settings.min_lists))
            if lists < gate_settings.min_lists:
                log_.info("%s waits: %d of %d held-out lists", path.name, lists, gate_settings.min_lists)
                counts["waiting"] += 1
                continue
            try:
                judgement = judge(
                    log,
                    bundle,
                    settings,
                    teacher=teacher,
                    teacher_bytes=teacher_bytes,
                    cost_per_1000=cost_per_1000,
                    progress=progress,
                )
            except TeacherError as e:
                if drain:
                    raise
                # Its teacher may be back for the next try: a promoter that ends here would have to be started again.
                log_.warning("%s is not judged yet, and is tried again: %s", path.name, e)
                counts["waiting"] += 1
                continue
            evidence = gate(judgement, gate_settings)
            version = publish(registry, bundle, judgement, evidence)
            seen.add(bundle.content_hash)
            counts["judged"] += 1
            counts["registered"] += 1
            worked = True
            if settings.automatic:
                _promote(registry, version, evidence, settings, counts)
        if not worked:
            if drain:
                break
            stop.wait(settings.wait_s)
    return counts


def _held(paths: Sequence[Path]) -> Iterator[Path]:
    """The bundles, each kept from being pruned while it is in work."""
    for path in paths:
        try:
            with reading(path):
                yield path
        except BundleError as e:
            log_.info("%s", e)


def _promote(
    registry: Registry, version: Version, evidence: Evidence, settings: PromoteSettings, counts: Counter[str]
) -> None:
    champion = next((v.number for v in registry.versions() if "champion" in v.aliases), None)
    try:
        registry.promote(version.number, expect=champion, who=settings.by, why="passed the gate", evidence=evidence)
        counts["promoted"] += 1
        log_.info("version %s is the champion", version.number)
    except Refused as e:
        counts["refused"] += 1
        log_.warning("version %s: %s", version.number, e)
