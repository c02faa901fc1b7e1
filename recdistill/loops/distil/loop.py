"""The loop: learns batch after batch, and saves and exports by the number of steps.

It knows nothing of losses or torch, and nothing of what becomes of a bundle.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from recdistill.bundle import Bundle
from recdistill.loops.begin import naming_ways
from recdistill.loops.distil.bundling import export
from recdistill.loops.distil.distiller import Distiller
from recdistill.loops.distil.folder import StudentFolder
from recdistill.loops.distil.saved import Recipe
from recdistill.progress import Progress, tell
from recdistill.stream import LanePosition, Log, Place

if TYPE_CHECKING:
    from recdistill.train import Trainer

log_ = logging.getLogger(__name__)


class Publisher(Protocol):
    """What sends bundles to those who judge them, see `loops.announce`."""

    def begin(self, student: str, bundles: Path) -> None:
        """Called once, when the student's folder is owned."""

    def __call__(self, bundle: Bundle) -> None:
        """Called with each bundle that was made."""


def run(
    log: Log,
    trainer: Trainer,
    directory: Path,
    recipe: Recipe,
    *,
    checkpoint_every: int,
    export_every: int,
    keep: int,
    popular: int,
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
) -> Counter[str]:
    """Distils until stopped, or until the ends seen at the start when draining; saves and exports at the end.

    Args:
        log: Where `examples` and `items` are read.
        trainer: The student, fresh.
        directory: Its folder.
        recipe: What it is made with.
        checkpoint_every: Steps between two checkpoints.
        export_every: Steps between two bundles; 0: only at the end of a run.
        keep: Checkpoints and bundles kept.
        popular: Length of a bundle's popular list.
        memory_mb: Megabytes of batches kept for the next pass.
        wait_s: Longest wait for examples before the stop signal is looked at.
        begin: Where in `examples` a new student begins, or this one goes on; None: the beginning, or where it stopped.
        warm: A bundle, checkpoint or student whose weights a new student takes over; None: a fresh one.
        stop: Set it and the batch in work is finished, saved, and the function returns.
        drain: Return when everything that the log held at the start is learnt.
        until: Return when everything before this place is learnt, and learn nothing behind it.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told the positions passed.
        publish: Given each bundle that was made; None: it stays in its folder. It begins once the folder is owned.

    Returns:
        Counts: examples, steps, known (candidates that the catalogue holds), unknown (candidates and history items that
        it does not hold), items, checkpoints, bundles, dead_letters; and the watch's, see `Watch.counts`.

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
            )
        drain = drain or until is not None
        if counts is not None:
            distiller.counts = counts

        def ship() -> None:
            bundle = export(distiller, popular)
            if bundle is not None and publish is not None:
                publish(bundle)

        try:
            if publish is not None:
                publish.begin(folder.student, folder.bundles)
            total = distiller.saved.total()
            last_saved = distiller.step
            while not stop.is_set():
                with naming_ways("distil", directory):
                    figures = distiller.advance(wait_s)
                if figures is None:
                    if drain and distiller.saved.range is None:
                        break
                    continue
                if progress:
                    tell(progress, shown(trainer, figures))
                    progress(distiller.saved.done(), total)
                if export_every and distiller.step % export_every == 0 and distiller.saved.range is None:
                    ship()
                if distiller.step % checkpoint_every == 0:
                    distiller.save()
                    last_saved = distiller.step
            if not stop.is_set() or distiller.step != last_saved:
                distiller.save()
            if not stop.is_set():
                known, unknown = distiller.counts["known"], distiller.counts["unknown"]
                for sentence in distiller.matched.unmet(trainer.catalogue, known=known, unknown=unknown):
                    log_.warning("%s", sentence)
                if known or not distiller.counts["steps"]:  # else the student has learnt nothing
                    ship()
        finally:
            distiller.close()
        return distiller.counts
    finally:
        folder.close()


def shown(trainer: Trainer, figures: Mapping[str, float]) -> dict[str, float]:
    """What a bar shows of a step: the loss, and how well the student knew each teacher's order before it learnt it."""
    known = {} if trainer.watch is None else trainer.watch.now.known
    agree = [one.detectors.order.reference.mean for one in known.values() if one.detectors.order.reference.weight]
    return {"loss": figures["loss"]} | ({"agreement": max(agree)} if agree else {})
