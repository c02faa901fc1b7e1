"""Made bundles -> the registry's store, and an announcement of each on the topic `bundles`.

A bundle is sent first and announced after that. So whoever reads the announcement can fetch the bundle. When the store
does not answer, training goes on: the bundle stays in its folder, and it or a newer one is sent later. A distiller
that was killed does not know whether its newest bundle was announced. `resume` looks, and announces it again if it has
to.

It knows nothing of how a bundle is made, and nothing of MLflow: it is given the one call that sends.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.stream import open_log, standard_topics
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = open_log(LogSettings(path=f"{folder.name}/log.sqlite"))
    >>> _ = log.create_topics(standard_topics())
    >>> announcer = Announcer(log, lambda bundle: 0)
    >>> announcer.begin("a student", Path(folder.name, "bundles"))  # there is no bundle yet
    >>> announcer.close(); log.close(); folder.cleanup()
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from recdistill.bundle import BundleFolder, bundle_folder
from recdistill.errors import BundleError, RegistryError, UsageError
from recdistill.ledger import NO_KEYS, newest_head
from recdistill.stream import BUNDLES, LanePosition, Log, MadeBundle, Stage, announce, check_topic, made_bundles

log_ = logging.getLogger(__name__)

STAGE: Final = "distil-bundles"
"""Of the announcements. Each student has a stage of its own, so two students on one log do not fence each other."""


AGAIN_S: Final = 30.0
"""A bundle that the store did not take is sent again after so long, while no newer one is."""


class Announcer:
    """Sends and announces bundles. For one thread at a time.

    It begins when its distiller owns the student's folder: before that, another distiller may be at work there.

    Args:
        log: Where `bundles` is written.
        put: Sends what the store does not have of a bundle.
        counts: Counts to add to: `unsent_bundles`.
        clock: Seconds, monotonic.
        silent: Only send: what nobody may take for a candidate is not announced.
        place: Makes the store where there is none, at the beginning: so whoever looks there knows that bundles should
            come. None: the first bundle makes it.

    Raises:
        StreamError: The log has no topic `bundles`, or cannot be written.
    """

    def __init__(
        self,
        log: Log,
        put: Callable[[BundleFolder], object],
        counts: Counter[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        silent: bool = False,
        place: Callable[[], object] | None = None,
    ) -> None:
        check_topic(log.topics())
        self._silent, self._begun, self._place = silent, False, place
        self._log, self._put, self._clock = log, put, clock
        self._counts: Counter[str] = Counter() if counts is None else counts
        self._stage: Stage | None = None
        self._left: BundleFolder | None = None  # the newest one that the store did not take
        self._left_s = 0.0

    def begin(self, student: str, bundles: Path) -> None:
        """Takes the announcements of a student over, and announces the newest bundle of its folder where in doubt.

        Args:
            student: Name of the student, the same for all who ever make it.
            bundles: The folder of its bundles.

        Raises:
            StreamError: The log cannot be written.
        """
        if not self._silent:
            self._stage = self._log.stage(f"{STAGE}-{student}")
        self._begun = True
        self._make_place()
        self.resume(bundles)

    def __call__(self, bundle: BundleFolder) -> None:
        """Sends a bundle and announces it; where the store does not answer, warns and counts.

        Raises:
            UsageError: It has not begun.
            Fenced: Another distiller has taken over.
            StreamError: The log cannot be written.
        """
        if not self._begun:
            raise UsageError("a bundle is announced before `begin`; call it once the student's folder is owned")
        try:
            self._put(bundle)
        except RegistryError as e:
            self._counts["unsent_bundles"] += 1
            log_.warning(
                "bundle %s stays in %s and is not announced; it is sent again when the registry answers: %s",
                bundle.content_hash[:12],
                bundle.path,
                e,
            )
            self._left, self._left_s = bundle, self._clock()
            return
        self._left = None
        if self._stage is None:
            log_.info("bundle %s is in the store", bundle.content_hash[:12])
            return
        if not announce(self._stage, made(bundle, newest_head(self._log, NO_KEYS))):
            self._counts["unsent_bundles"] += 1
            return
        log_.info("bundle %s is in the store and announced", bundle.content_hash[:12])

    def due(self) -> bool:
        """Whether what the store did not take is to be sent again now."""
        waits = self._left is not None or self._place is not None
        return waits and self._clock() - self._left_s >= AGAIN_S

    def again(self) -> None:
        """Sends the newest bundle again that the store did not take, if its folder still has it."""
        self._make_place()
        left, self._left = self._left, None
        if left is None:
            return
        try:
            left = bundle_folder(left.path)
        except BundleError as e:
            log_.warning("a bundle that was not sent is no longer there: %s", e)
            return
        self(left)

    def _make_place(self) -> None:
        if self._place is None:
            return
        try:
            self._place()
            self._place = None
        except RegistryError as e:
            self._left_s = self._clock()
            log_.warning("the registry does not know yet that bundles will come; it is told when it answers: %s", e)

    def resume(self, bundles: Path) -> None:
        """Sends and announces the newest bundle of a folder, unless it is announced already."""
        newest = max(bundles.glob("step-*"), default=None)
        if newest is None:
            return
        try:
            bundle = bundle_folder(newest)
        except BundleError as e:
            log_.warning("%s", e)
            return
        if self._silent:  # nobody else says that the store has it
            self(bundle)
            return
        with closing(self._log.source([BUNDLES])) as source:
            announced, _ = made_bundles(source)
        if bundle.content_hash not in {each.content_hash for each in announced}:
            self(bundle)

    def close(self) -> None:
        """Gives back what was opened."""
        if self._stage is not None:
            self._stage.close()


def made(bundle: BundleFolder, head: str = "") -> MadeBundle:
    """What is announced of a bundle, with the head of the ledger: so that nobody cuts entries off unseen."""
    provenance = bundle.manifest.provenance
    return MadeBundle(
        content_hash=bundle.content_hash,
        step=int(provenance.get("step", 0)),
        lanes=LanePosition.read(lanes) if (lanes := provenance.get("positions", {}).get("lanes")) else None,
        items=bundle.manifest.content.base_position,
        made_at=str(provenance.get("made_at", "")),
        size=bundle.size,
        event_us=int(provenance.get("event_us", 0)),
        learnt_us=int(provenance.get("learnt_us", 0)),
        ledger=head,
    )
