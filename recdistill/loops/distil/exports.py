"""Bundles are made beside the learning: one at a time, in the order of their steps, each sent on when it is whole.

What a bundle is made of is copied at once. Then a thread writes the copy into a folder, a process of its own makes the
bundle there, and the thread puts it into its place and sends it on. The student learns on meanwhile. An export that
takes long delays the next one. One that fails is told and counted; the next trigger makes the next one.

It knows nothing of losses or torch, and nothing of what becomes of a bundle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from recdistill.bundle import BundleFolder
from recdistill.errors import BundleError, DataError
from recdistill.hops import passed
from recdistill.loops.distil.beside import Maker
from recdistill.loops.distil.bundling import export, taken
from recdistill.loops.distil.distiller import Distiller
from recdistill.loops.distil.making import BUNDLE
from recdistill.loops.distil.snapshot import Snapshot
from recdistill.loops.distil.triggers import Triggers

log_ = logging.getLogger(__name__)


class Resend(Protocol):
    """Sends a bundle again that could not be sent."""

    def due(self) -> bool:
        """Whether it is time to."""

    def again(self) -> None:
        """Sends it."""


class Exports:
    """The exports of one distiller.

    Args:
        distiller: Whose student.
        triggers: When a bundle is due.
        popular: Length of a bundle's popular list.
        beside: Make bundles while the student learns on; else learning waits for each.
        nice: How nice the process that makes a bundle is, 0 to 19.
        send: Given each bundle that is whole.
        again: Sends the one again that could not be sent.
    """

    def __init__(
        self,
        distiller: Distiller,
        triggers: Triggers,
        *,
        popular: int,
        beside: bool,
        nice: int,
        send: Callable[[BundleFolder], None] = lambda _: None,
        again: Resend | None = None,
    ) -> None:
        self._distiller, self._triggers = distiller, triggers
        self._popular, self._beside, self._nice, self._send, self._again = popular, beside, nice, send, again
        self._workers = ThreadPoolExecutor(1, "recdistill-export")
        self._work: Future[None] | None = None
        self._snapshot: Snapshot | None = None  # for the thread, which lets it go when it is written
        self._maker: Maker | None = None
        self._made: BundleFolder | None = None
        self._ending = False
        self._news = 0

    @property
    def working(self) -> bool:
        """Whether a bundle is being made now."""
        return self._work is not None and not self._work.done()

    def begin(self) -> None:
        """Where the student stands at the start of the loop."""
        self._triggers.begin(step=self._distiller.step, examples=self._distiller.saved.seen.examples)
        self._news = self._distiller.news

    def learnt(self, agreement: float | None) -> None:
        """Notes a step, and begins an export if one is due.

        Args:
            agreement: How well the student knew the teacher's order; None where nobody looks.
        """
        distiller = self._distiller
        news, self._news = distiller.news > self._news, distiller.news
        self._triggers.learnt(
            step=distiller.step, examples=distiller.saved.seen.examples, agreement=agreement, news=news
        )
        self.look()

    def look(self) -> None:
        """Begins an export if one is due and none is being made. None is made in the passes over a range.

        Raises:
            Fenced: A newer distiller works on this student.
            StreamError: A bundle could not be announced.
        """
        if self.working:
            return
        self.finish()
        if self._distiller.saved.range is not None:
            return
        if (reason := self._triggers.reason()) is None:
            if self._again is not None and self._again.due():
                self._work = self._workers.submit(self._again.again)
            return
        self._triggers.exported()
        if not self._beside:
            self._export(reason)
            return
        distiller = self._distiller
        if distiller.folder.holds(distiller.step):
            return
        self._snapshot = taken(distiller, self._popular, reason)
        if self._snapshot is not None:
            self._work = self._workers.submit(self._make, distiller.step)

    def finish(self) -> None:
        """Waits for the bundle that is being made, if there is one.

        Raises:
            Fenced: A newer distiller works on this student.
            StreamError: It could not be announced.
        """
        if self._work is None:
            return
        error = self._work.exception()
        made, self._made, self._work, self._maker = self._made, None, None, None
        if made is not None:
            self._distiller.saved.parent = made.content_hash
            self._distiller.counts["bundles"] += 1
        if isinstance(error, BundleError | DataError | OSError):
            self._distiller.counts["failed_exports"] += 1
            log_.warning("an export failed, and the next trigger makes another: %s", error)
        elif error is not None:
            raise error

    def last(self) -> None:
        """Makes the bundle at the end of a run, and waits for it.

        Raises:
            BundleError, DataError: It cannot be made.
            Fenced: A newer distiller works on this student.
        """
        self.finish()
        self._export("end")

    def close(self) -> None:
        """Ends what is being made. What is left of it is deleted when the folder is opened again."""
        self._ending = True
        if self._maker is not None:
            self._maker.end()
        self._workers.shutdown()

    def _export(self, reason: str) -> None:
        bundle = export(self._distiller, self._popular, reason)
        if bundle is not None:
            self._send(bundle)

    def _make(self, step: int) -> None:
        """Runs in the thread. What goes wrong there is raised where the loop waits for it."""
        folder, snapshot = self._distiller.folder, self._snapshot
        with folder.workplace(step) as place:
            if snapshot is not None:
                snapshot.write(place)
            snapshot = self._snapshot = None
            self._made_by(place)
            self._made = folder.put(step, place / BUNDLE)
        passed(self._distiller.counts, "exported", int(self._made.manifest.provenance.get("event_us", 0)))
        self._send(self._made)

    def _made_by(self, place: Path) -> None:
        self._maker = Maker(place, nice=self._nice)
        if self._ending:  # `close` came before there was a process to end
            self._maker.end()
        self._maker.wait()
