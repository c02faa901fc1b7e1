"""The loop: learns batch after batch, and saves and exports by the number of steps.

It knows nothing of losses or torch, and nothing of what becomes of a bundle.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from recdistill.bundle import BundleFolder, made
from recdistill.hops import Counts
from recdistill.loops.begin import naming_ways
from recdistill.loops.distil.ahead import Ahead
from recdistill.loops.distil.course import Remake
from recdistill.loops.distil.distiller import Distiller
from recdistill.loops.distil.exports import Exports
from recdistill.loops.distil.folder import StudentFolder
from recdistill.loops.distil.left import left, lines_of
from recdistill.loops.distil.saved import Recipe
from recdistill.loops.distil.triggers import Triggers
from recdistill.progress import Progress, tell
from recdistill.stream import LanePosition, Log, Place

if TYPE_CHECKING:
    from recdistill.train import Trainer

log_ = logging.getLogger(__name__)


class Publisher(Protocol):
    """What sends bundles to those who judge them, see `loops.announce`."""

    def begin(self, student: str, bundles: Path) -> None:
        """Called once, when the student's folder is owned."""

    def __call__(self, bundle: BundleFolder) -> None:
        """Called with each bundle that was made, one after the other; not always in the same thread."""


@runtime_checkable
class SendsAgain(Protocol):
    """A publisher that keeps a bundle which it could not send."""

    def due(self) -> bool:
        """Whether it is to be sent again now."""

    def again(self) -> None:
        """Sends it."""


class ExportPlan(NamedTuple):
    """When bundles are made while a student learns, and how.

    Attributes:
        steps: A multiple of so many steps makes one due; 0: never.
        examples: A multiple of so many examples does; 0: never.
        seconds: So many seconds after the last one, when something was learnt since; 0: never.
        drift: The student's agreement with a teacher moved by so much, or a detector found a change; 0: never.
        popular: Length of a bundle's popular list.
        beside: Made by a process of its own while the student learns on; else learning waits.
        nice: How nice that process is, 0 to 19.
    """

    steps: int = 0
    examples: int = 0
    seconds: float = 0.0
    drift: float = 0.0
    popular: int = 1000
    beside: bool = True
    nice: int = 10


def run(
    log: Log,
    trainer: Trainer,
    directory: Path,
    recipe: Recipe,
    *,
    checkpoint_every: int,
    exports: ExportPlan,
    keep: int,
    memory_mb: int,
    wait_s: float,
    begin: Place | None = None,
    warm: Path | None = None,
    stop: threading.Event,
    drain: bool = False,
    until: LanePosition | None = None,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
    publish: Publisher | None = None,
    settings: dict[str, Any] | None = None,
    remake: Remake | None = None,
    ahead: Ahead | None = None,
) -> Counter[str]:
    """Distils until stopped, or until the ends seen at the start when draining; saves and exports at the end.

    Args:
        log: Where `examples` and `items` are read.
        trainer: The student, fresh.
        directory: Its folder.
        recipe: What it is made with.
        checkpoint_every: Steps between two checkpoints. A large student takes more, see `Saves`.
        exports: When bundles are made before the end of a run, and how.
        keep: Checkpoints and bundles kept.
        memory_mb: Megabytes of batches kept for the next pass.
        wait_s: Longest wait for examples before the stop signal is looked at.
        begin: Where in `examples` a new student begins, or this one goes on; None: the beginning, or where it stopped.
        warm: A bundle, checkpoint or student whose weights a new student takes over; None: a fresh one.
        stop: Set it and the batch in work is finished, saved, and the function returns.
        drain: Return when everything that the log held at the start is learnt.
        until: Return when everything before this place is learnt, and learn nothing behind it.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told the positions passed.
        settings: The sections that the trainer was made from; the checkpoint notes them.
        remake: Makes a trainer of other sections, to follow settings that changed.
        ahead: Scores lists before they are learnt; None: nobody does.
        publish: Given each bundle that was made; None: it stays in its folder. It begins once the folder is owned.

    Returns:
        Counts: examples, steps, known (candidates that the catalogue holds), unknown (candidates and history items that
        it does not hold), items, checkpoints, bundles, failed_exports, unsent_bundles, dead_letters, rebuilds; and what
        the watch counts, see `Watch.counts`. With `ahead`: prequential_lists (scored before they were learnt) and
        prequential_labelled (of those that have a label now).

    Raises:
        CheckpointError: Another distiller works in this folder, or its checkpoint does not fit.
        Fenced: A newer distiller has taken over.
    """
    folder = StudentFolder(directory, keep=keep)
    try:
        with naming_ways("distil", directory):
            distiller = Distiller(
                log,
                trainer,
                folder,
                recipe,
                memory_mb=memory_mb,
                drain=drain,
                until=until,
                begin=begin,
                warm=warm,
                settings=settings,
                remake=remake,
                ahead=ahead,
            )
        drain = drain or until is not None
        if counts is not None:
            distiller.counts = counts
        if isinstance(counts, Counts):
            counts.more["rebuild"] = lambda: lines_of(left(distiller.saved))

        works = Exports(
            distiller,
            _triggers(exports, folder),
            popular=exports.popular,
            beside=exports.beside,
            nice=exports.nice,
            send=publish or (lambda _: None),
            again=publish if isinstance(publish, SendsAgain) else None,
        )
        try:
            if publish is not None:
                publish.begin(folder.student, folder.bundles)
            total = distiller.saved.total()
            last_saved, due = distiller.step, False
            works.begin()
            while not stop.is_set():
                with naming_ways("distil", directory):
                    figures = distiller.advance(wait_s)
                if figures is None:
                    if drain and distiller.saved.range is None:
                        break
                    works.look()
                else:
                    if progress:
                        tell(progress, shown(distiller.trainer, figures))
                        progress(distiller.saved.done(), total)
                    works.learnt(_agreement(distiller.trainer))
                    due = due or distiller.step % checkpoint_every == 0
                if due and distiller.saves.free:
                    distiller.save(wait=False)
                    last_saved, due = distiller.step, False
            works.finish()
            distiller.saved_all()
            if not stop.is_set() or distiller.step != last_saved:
                distiller.save()
            if not stop.is_set():
                known, unknown = distiller.counts["known"], distiller.counts["unknown"]
                for sentence in distiller.matched.unmet(distiller.trainer.catalogue, known=known, unknown=unknown):
                    log_.warning("%s", sentence)
                if known or not distiller.counts["steps"]:  # else the student has learnt nothing
                    works.last()
        finally:
            works.close()
            distiller.close()
        return distiller.counts
    finally:
        folder.close()


def shown(trainer: Trainer, figures: Mapping[str, float]) -> dict[str, float]:
    """What a bar shows of a step: the loss, and how well the student knew each teacher's order before it learnt it."""
    agreement = _agreement(trainer)
    return {"loss": figures["loss"]} | ({} if agreement is None else {"agreement": agreement})


def _agreement(trainer: Trainer) -> float | None:
    """How well the student knew the best known teacher's order before it learnt it; None where nobody looks."""
    known = {} if trainer.watch is None else trainer.watch.now.known
    agree = [one.detectors.order.reference.mean for one in known.values() if one.detectors.order.reference.weight]
    return max(agree, default=None)


def _triggers(plan: ExportPlan, folder: StudentFolder) -> Triggers:
    """The triggers of a plan; time is counted from the newest bundle that is there."""
    newest = made(folder.bundles)[-1:]
    age_s = max(0.0, time.time() - newest[0].stat().st_mtime) if newest else 0.0
    return Triggers(steps=plan.steps, examples=plan.examples, seconds=plan.seconds, drift=plan.drift, age_s=age_s)
