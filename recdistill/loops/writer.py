"""Writes answers to `impressions`, in a thread of its own, and never delays an answer.

What does not fit into the queue is dropped and counted. What the log does not take goes to the dead letters. While the
log is gone or is another one, nothing is taken: an answer then has no id of an impression, and the ranker is not ready.

It knows nothing of how a student answers.

Example:
    >>> writer = Writer(OneLog(lambda: None), "rank-shop", Ranker())
    >>> writer.keep(Impression("i", 1))
    True
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from contextlib import ExitStack
from typing import Final

from recdistill.errors import DataError, StreamError, WrongLog
from recdistill.loops.feed import unwritten
from recdistill.loops.once import Once
from recdistill.loops.one_log import OneLog
from recdistill.records import Impression, encode, key_of
from recdistill.serve import Ranker
from recdistill.stream import Delivery, Message, Outgoing, Stage, deliver

log_ = logging.getLogger(__name__)

QUEUE: Final = 2000  # answers that may wait
WRITE: Final = 500  # answers in one transaction
AGAIN_S: Final = 1.0  # how often a log that is gone is looked for
TROUBLE: Final = "impressions"


class Writer:
    """Writes answers.

    Args:
        one: Opens the log.
        name: Of the stage: no other process may have it.
        ranker: Whose counts are added to, and which is told of a trouble.
    """

    def __init__(self, one: OneLog, name: str, ranker: Ranker) -> None:
        self._one, self._name, self._ranker, self._counts = one, name, ranker, ranker.counts
        self._queue: queue.Queue[Impression] = queue.Queue(QUEUE)
        self._again = 0.0  # when a log that is gone is looked for again
        self._say = Once(log_)

    def keep(self, impression: Impression) -> bool:
        """Takes an answer if there is room and a log; never waits."""
        try:
            if TROUBLE in self._ranker.troubles:
                raise queue.Full
            self._queue.put_nowait(impression)
        except queue.Full:
            self._counts["impressions_dropped"] += 1
            return False
        return True

    def run(self, done: threading.Event) -> None:
        """Writes until `done`, then what is left."""
        with ExitStack() as stack:
            stage: Stage | None = None
            while not (done.is_set() and self._queue.empty()):
                some = self._some()
                looks = TROUBLE in self._ranker.troubles and time.monotonic() >= self._again
                if not some and not looks:
                    continue
                try:
                    if stage is None:
                        stage = self._open(stack)
                    self._write(stage, some)
                    self._ranker.troubles.pop(TROUBLE, None)
                    self._say("")
                except StreamError as e:
                    self._counts["impressions_dropped"] += len(some)
                    self._counts["log_failures"] += 1
                    why = f"answers are not written back: {e}"
                    if isinstance(e, WrongLog):
                        self._ranker.troubles[TROUBLE] = why
                        self._again = time.monotonic() + AGAIN_S
                    self._say(why)
                    stack.close()
                    stage = None

    def _some(self) -> list[Impression]:
        some: list[Impression] = []
        with contextlib.suppress(queue.Empty):
            some.append(self._queue.get(timeout=0.2))
            while len(some) < WRITE:
                some.append(self._queue.get_nowait())
        return some

    def _open(self, stack: ExitStack) -> Stage:
        log = self._one.open()
        if log is None:
            raise StreamError("there is no log yet; make it with `recdistill topics create`")
        stack.callback(log.close)
        stage = log.stage(self._name)
        stack.callback(stage.close)
        return stage

    def _write(self, stage: Stage, some: list[Impression]) -> None:
        if not some:
            return
        outgoing: list[Outgoing] = []
        dead: list[tuple[Message, Exception]] = []
        for impression in some:
            try:
                outgoing.append(Outgoing("impressions", encode(impression), key=key_of(impression)))
            except DataError as e:  # the request broke a rule that only records have
                dead.append((unwritten(impression), e))
        refused = deliver(stage, "rank", lambda _: Delivery(outgoing, dead))
        written = len(outgoing) - len(refused)
        self._counts["impressions_written"] += written
        self._counts["impressions_dropped"] += len(some) - written
