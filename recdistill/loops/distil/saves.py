"""The checkpoints of one distiller: written one after the other, beside the learning, and what the kept ones rest on.

The log is told what the kept checkpoints rest on, so that nobody trims it away. A checkpoint counts from the moment
that it is on the disk. Until then the older ones do.

To write the tables of a large student takes seconds. So its next checkpoint waits until the one before is on the disk,
and until `PAUSE` times as long has passed as that one took. What a student becomes does not depend on it: a run that
was killed reads again from its newest checkpoint, wherever that is.

It knows nothing of what a student is.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from recdistill.loops.distil.folder import StudentFolder
from recdistill.stream import Stage, TopicPartition

Rests = dict[TopicPartition, int]
"""From where on the log is still needed."""

PAUSE = 4.0
"""So the checkpoints of a large student are written in a fifth of the time at most."""

SMALL = 32 << 20
"""Bytes. Up to this size a checkpoint is written whenever it is due."""


class Saves:
    """Writes checkpoints in a thread, one at a time.

    Args:
        folder: The student's folder.
        stage: The distiller's stage in the log.
        clock: Seconds that only go forward.
    """

    def __init__(self, folder: StudentFolder, stage: Stage, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._stage, self._clock = folder, stage, clock
        self._rests_on: deque[Rests] = deque(maxlen=max(1, folder.keep))
        self._worker = ThreadPoolExecutor(1, "recdistill-checkpoint")
        self._work: Future[object] | None = None
        self._next: Rests = {}
        self._free_at, self._size = -math.inf, 0  # of the newest one

    @property
    def free(self) -> bool:
        """Whether a checkpoint can be written without holding the learning up."""
        return self._size <= SMALL or ((self._work is None or self._work.done()) and self._clock() >= self._free_at)

    def begin(self, rests_on: Rests) -> None:
        """What the student rests on at the start."""
        self._rests_on.append(rests_on)

    def start(self, write: Callable[[], object], rests_on: Rests, *, size: int) -> None:
        """Begins to write a checkpoint. The one before must be finished.

        Args:
            write: Writes it.
            rests_on: What it rests on.
            size: Its bytes.
        """

        def timed() -> None:
            begun = self._clock()
            write()
            self._free_at = (ended := self._clock()) + PAUSE * (ended - begun)

        self._next, self._size = rests_on, size
        self._work = self._worker.submit(timed)

    def finish(self, counts: Counter[str]) -> None:
        """Waits until the checkpoint that is being written is on the disk, and counts it.

        Raises:
            Fenced: Another process has taken the folder over.
            CheckpointError: It cannot be written.
        """
        if (work := self._work) is not None:
            self._work = None
            work.result()
            self._rests_on.append(self._next)
            counts["checkpoints"] += 1

    def claim(self) -> None:
        """Makes sure, in the folder and in the log, that no newer distiller works on this student.

        Raises:
            Fenced: There is one.
        """
        self._folder.check()
        oldest = {tp: min(each.get(tp, 0) for each in self._rests_on) for tp in self._rests_on[-1]}
        with self._stage.transaction() as transaction:
            transaction.commit_inputs(oldest)

    def close(self) -> None:
        """Waits for what is being written."""
        self._worker.shutdown()
