"""Judges a bundle on examples that it did not learn from, and registers it with its evidence, report and device file.

It knows nothing of how a bundle was made, of when to judge, or of how the champion is served.

Example:
    >>> READ
    1000
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from recdistill.bundle import Bundle
from recdistill.errors import DataError
from recdistill.judge import TEACHER, Contender, Judgement, Spending, baselines, evaluate, write_report
from recdistill.linear import read_interactions
from recdistill.progress import Progress
from recdistill.records import Example
from recdistill.registry import Evidence, Registry, Version
from recdistill.stream import LanePosition, Lanes, Log, Message
from recdistill.teachers import Teacher

log_ = logging.getLogger(__name__)

READ = 1000
"""Examples read at a time."""


def held_out(log: Log, bundle: Bundle, most: int) -> list[Example]:
    """The newest examples with a label that come after a bundle's positions, oldest first.

    Args:
        log: The log with the topic `examples`.
        bundle: The bundle. Its provenance says where its student stopped learning.
        most: How many at most.
    """
    examples: list[Example] = []
    for example in _examples(log, start=_stopped_at(log, bundle)):
        if any(label > 0 for label in example.labels):
            examples.append(example)
            if len(examples) >= 2 * most:  # cut now and then, so that memory stays small
                del examples[:-most]
    return examples[-most:]


def count_held_out(log: Log, start: LanePosition, enough: int) -> tuple[int, LanePosition]:
    """How many labelled examples come after a position, and where the count stopped.

    Args:
        log: The log with the topic `examples`.
        start: Where a bundle's student stopped learning, or where an earlier count stopped.
        enough: The count stops soon after this number.
    """
    lanes = Lanes(log, state=start, dead_letters=_pass_over)
    try:
        until, found = lanes.end_state(), 0
        while found < enough:
            examples = lanes.next(READ, 0.2, until=until)
            found += sum(any(label > 0 for label in example.labels) for example in examples)
            if not examples and lanes.reached(until):
                break
        return found, lanes.state()
    finally:
        lanes.close()


def learnt_from(log: Log, bundle: Bundle) -> Iterator[Example]:
    """The examples before a bundle's positions, in the order in which the student learnt from them."""
    return _examples(log, until=_stopped_at(log, bundle))


def judge(
    log: Log,
    bundle: Bundle,
    most: int,
    *,
    teacher: Teacher | None,
    teacher_bytes: int = 0,
    rivals: Sequence[Contender] = (),
    cost_per_1000: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Judgement:
    """Judges a bundle on examples that it did not learn from.

    Args:
        log: The log with the topic `examples`.
        bundle: The bundle.
        most: Held-out lists at most.
        teacher: The teacher to compare it with. None leaves that part out.
        teacher_bytes: Size of the teacher. 0: it is not known.
        cost_per_1000: Cost of a thousand scores of the teacher. 0: costs are not counted.
        rivals: Other models to compare it with. Popularity, ItemKNN and EASE are always compared.
        seed: Seed of the bootstrap.
        progress: Called with the progress.

    Raises:
        DataError: There is no labelled example after the bundle's positions.
    """
    lists = held_out(log, bundle, most)
    if not lists:
        raise DataError(
            f"{bundle.path}: there is no labelled example after those that this bundle learnt from; wait for newer ones"
        )
    if teacher is not None:
        teacher.apply_items(bundle.items)
    asked = _Asked()
    known = read_interactions(asked.among(learnt_from(log, bundle)))
    cheaper = baselines.baselines(known, live=[item.id for item in bundle.items])
    judgement = evaluate(
        bundle,
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
    """Counts how much the teacher was asked to score, while examples are read."""

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
        """The counts. None: there was no budget."""
        if not self.budgeted:
            return None
        spared = self.candidates - self.scored
        teacher = judgement.quality(TEACHER)
        seconds = None
        # The judge measured the teacher's seconds for 1000 requests, each over the whole catalogue.
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
    bundle: Bundle,
    judgement: Judgement,
    evidence: Evidence,
    *,
    report: Path | None = None,
    device: Path | None = None,
) -> Version:
    """Registers a judged bundle with its evidence, report and device file. It becomes the candidate.

    Args:
        registry: The registry.
        bundle: The bundle.
        judgement: The results of the judge.
        evidence: The gate's verdict on it.
        report: File of the report. None: it is written now, to a temporary file.
        device: Where the device file is written. None: to a temporary file.
    """
    from recdistill.device import export_device

    with tempfile.TemporaryDirectory() as folder:
        if report is None:
            report = Path(folder) / "report.html"
            write_report(judgement, report, evidence)
        device = device or Path(folder) / "device.onnx"
        export_device(bundle, device)
        return registry.publish(
            bundle,
            evidence,
            report=report,
            extra_files=[device],
            parameters=_parameters(bundle),
            metrics=evidence.metrics,
        )


def _examples(log: Log, *, start: LanePosition | None = None, until: LanePosition | None = None) -> Iterator[Example]:
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
    """Leaves out a record that cannot be read. The distiller writes the dead letters of `examples`, not the judge."""
    log_.debug("example at %d left out: %s", message.offset, error)


def _stopped_at(log: Log, bundle: Bundle) -> LanePosition:
    """Where a bundle's student stopped learning. The log must still be the one that it learnt from."""
    saved = bundle.manifest.provenance.get("positions", {})
    if not isinstance(saved.get("lanes"), dict):
        raise DataError(
            f"{bundle.path}: its manifest does not say where it stopped learning, so nothing can be held out"
        )
    lanes = LanePosition.read(saved["lanes"])
    log.check_witness(lanes.by_partition(), saved.get("witness"))
    return lanes


def _parameters(bundle: Bundle) -> dict[str, Any]:
    recipe = bundle.manifest.provenance.get("recipe", {})
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat
