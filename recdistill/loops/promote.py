"""Bundles -> judged, registered and promoted versions.

A bundle is judged on examples that it did not learn from: those behind the positions it was cut at. When there are
enough of them, the judge runs the exact artefact, the version is registered with its evidence, its report and its
device file, and becomes the candidate; what passes the gate becomes the champion. A bundle whose content is
registered already is left alone, so a promoter that was killed goes on where it stood.

It knows nothing of how a bundle was made or how the champion is served.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from recdistill.bundle import Bundle, open_bundle
from recdistill.config import GateSettings, PromoteSettings
from recdistill.errors import BundleError, DataError, Refused, TeacherError
from recdistill.judge import Contender, Judgement, evaluate, gate, write_report
from recdistill.judge.baselines import baselines
from recdistill.judge.judgement import TEACHER, Spending
from recdistill.linear import read_interactions
from recdistill.loops import Progress
from recdistill.records import Example
from recdistill.registry import Evidence, Registry, Version
from recdistill.stream import Lanes, Log, Message
from recdistill.teachers import Teacher

log_ = logging.getLogger(__name__)

READ = 1000
"""Examples read at a time."""


def held_out(log: Log, bundle: Bundle, most: int) -> list[Example]:
    """The newest examples behind a bundle's positions that have a label, oldest first.

    Args:
        log: Where `examples` lie.
        bundle: Whose provenance says where it stopped learning.
        most: How many at most.
    """
    examples: list[Example] = []
    for example in _examples(log, start=_positions(bundle)):
        if any(label > 0 for label in example.labels):
            examples.append(example)
            if len(examples) >= 2 * most:
                del examples[:-most]
    return examples[-most:]


def learnt_from(log: Log, bundle: Bundle) -> Iterator[Example]:
    """The examples before a bundle's positions, in the order in which they were learnt."""
    return _examples(log, until=_positions(bundle))


def judge(
    log: Log,
    path: Path,
    settings: PromoteSettings,
    *,
    teacher: Teacher | None,
    teacher_bytes: int = 0,
    rivals: Sequence[Contender] = (),
    cost_per_1000: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Judgement:
    """Judges a bundle on what it did not learn from.

    Args:
        log: Where the examples lie.
        path: The bundle's folder.
        settings: How many lists at most.
        teacher: The teacher to hold it against; None leaves that part out.
        teacher_bytes: Its size, 0 when nobody knows it.
        cost_per_1000: What a thousand of its scores cost; 0: nobody counts it.
        rivals: Other models to hold it against, beside popularity, ItemKNN and EASE, which always stand there.
        seed: Of the bootstrap.
        progress: Told how far it is.

    Raises:
        DataError: There is no labelled example behind the bundle's positions.
    """
    bundle = open_bundle(path)
    lists = held_out(log, bundle, settings.held_out)
    if not lists:
        raise DataError(f"{path}: no labelled example lies behind what this bundle learnt from; wait for newer ones")
    if teacher is not None:
        teacher.apply_items(bundle.items)
    asked = _Asked()
    known = read_interactions(asked.among(learnt_from(log, bundle)))
    cheaper = baselines(known, live=[item.id for item in bundle.items])
    judgement = evaluate(
        path,
        lists,
        teacher=teacher,
        rivals=[*rivals, *cheaper],
        train_examples=known,
        sizes={"teacher": teacher_bytes} if teacher_bytes else None,
        seed=seed,
        progress=None if progress is None else lambda _, done, total: progress(done, total),
    )
    return msgspec.structs.replace(judgement, spending=asked.spending(judgement, cost_per_1000))


class _Asked:
    """Counts what the teacher was asked for while examples pass by."""

    def __init__(self) -> None:
        self.lists = self.lists_scored = self.candidates = self.scored = 0
        self.budgeted = False

    def among(self, examples: Iterable[Example]) -> Iterator[Example]:
        for example in examples:
            ranking = example.ranking
            scored = sum(ranking.scored)
            self.lists += 1
            self.lists_scored += scored > 0
            self.candidates += len(ranking.scored)
            self.scored += scored
            self.budgeted |= ranking.sampled < 1 or bool(ranking.candidates_sampled)
            yield example

    def spending(self, judgement: Judgement, cost_per_1000: float) -> Spending | None:
        """What came of it; None when there was no budget."""
        if not self.budgeted:
            return None
        spared = self.candidates - self.scored
        teacher = judgement.quality(TEACHER)
        seconds = None
        if teacher is not None and teacher.seconds_per_1000 is not None:
            seconds = spared * teacher.seconds_per_1000 / 1000 / judgement.catalogue
        return Spending(
            lists=self.lists,
            lists_scored=self.lists_scored,
            candidates=self.candidates,
            scored=self.scored,
            seconds=seconds,
            cost=spared * cost_per_1000 / 1000 if cost_per_1000 else None,
        )


def publish(
    registry: Registry,
    path: Path,
    judgement: Judgement,
    evidence: Evidence,
    *,
    report: Path | None = None,
    device: Path | None = None,
) -> Version:
    """Registers a judged bundle with its evidence, report and device file; it becomes the candidate.

    Args:
        registry: Where to.
        path: The bundle's folder.
        judgement: What the judge found.
        evidence: The gate's verdict on it.
        report: The report's file; written to a temporary one when None.
        device: Where the device file goes; a temporary place when None.
    """
    from recdistill.train.export import export_device

    bundle = open_bundle(path)
    with tempfile.TemporaryDirectory() as folder:
        if report is None:
            report = Path(folder) / "report.html"
            write_report(judgement, report, evidence)
        device = device or Path(folder) / "device.onnx"
        export_device(bundle, device)
        return registry.publish(
            path,
            evidence,
            report=report,
            extra_files=[device],
            parameters=_parameters(bundle),
            metrics=evidence.metrics,
        )


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
    while not stop.is_set():
        worked = False
        # Only the newest one matters: by the time it can be judged, an older bundle is stale.
        for path in sorted(bundles.glob("step-*"), reverse=True)[:1]:
            try:
                bundle = open_bundle(path)
            except BundleError as e:
                log_.warning("%s", e)
                counts["broken"] += 1
                continue
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
                    path,
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
            version = publish(registry, path, judgement, evidence)
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


def _examples(
    log: Log, *, start: dict[str, Any] | None = None, until: dict[str, Any] | None = None
) -> Iterator[Example]:
    lanes = Lanes(log, state=start, dead_letters=_pass_over)
    try:
        until = lanes.end_state() if until is None else until
        while True:
            examples = lanes.next(READ, 0.2, until=until)
            yield from examples
            if not examples and lanes.reached(until):
                return
    finally:
        lanes.close()


def _pass_over(message: Message, error: Exception) -> None:
    """The distiller owns the dead letters of `examples`; the judge only leaves such a record out."""
    log_.debug("example at %d left out: %s", message.offset, error)


def _positions(bundle: Bundle) -> dict[str, Any]:
    positions = bundle.manifest.provenance.get("positions", {}).get("lanes")
    if not isinstance(positions, dict):
        raise DataError(
            f"{bundle.path}: its manifest does not say where it stopped learning, so nothing can be held out"
        )
    return positions


def _parameters(bundle: Bundle) -> dict[str, Any]:
    recipe = bundle.manifest.provenance.get("recipe", {})
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat
