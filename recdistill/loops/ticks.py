"""When the joiner marks a silence, so that students learn their last few examples.

A student ends a small batch before the first example of a later time (`loops.distil.reading`). In a silence no later
example comes. So the joiner writes a mark into `examples`, in the order of the examples, and takes a lane's turn for
it. What ends a batch stands in the log then, and two readers of one log agree.

The mark says: all impressions that came before its time are examples, or are refused. It is written only when that is
true: the scorers have committed a position behind every impression, and the joiner has taken all rankings. And it is
later than the last example, by the length of a silence. So each later example is later too, and a batch would have
ended at the same place without the mark, only later. An example of the future has the time of a wrong clock: it puts no
mark off, and the next mark ends its batch (`distil.reading`).

Where all is scored, no partition holds the others back any more (`loops.merge`). So the last lists of a stream do not
wait for a partition that stays silent.

A silence has one mark. Where the scorers are behind, or the log does not say where they stand, there is none.

It knows nothing of windows or of how a student learns.

Example:
    >>> Ticks.__name__
    'Ticks'
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from recdistill.errors import OutOfRange, StreamError
from recdistill.loops.merge import Merge
from recdistill.loops.workers import STAGE
from recdistill.stream import Log

log_ = logging.getLogger(__name__)

_PAUSE: Final = 0.15
"""So much of a silence passes between two looks."""

_WAIT_S: Final = 0.2
"""Longest wait for an impression that is in the log already."""


def silence_s(tick_s: float, learn_within_s: float) -> float:
    """How long a silence is. A batch ends only at a mark that lies behind its time, and a silence has one mark.

    Args:
        tick_s: What is asked for; 0: no marks.
        learn_within_s: How long a batch may wait.

    Example:
        >>> silence_s(2.5, 2.0), silence_s(2.5, 10.0), silence_s(0.0, 10.0)
        (2.5, 10.0, 0.0)
    """
    return max(tick_s, learn_within_s) if tick_s else 0.0


class Ticks:
    """Says when a mark is due.

    Args:
        log: Where the impressions are, and the positions of the scorers; None: no mark is ever due.
        after_s: How long a silence is.
        clock: Seconds, monotonic.
        now_us: The time of the clock on the wall, in microseconds.
    """

    def __init__(
        self,
        log: Log | None,
        *,
        after_s: float,
        clock: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._log, self._after_s, self._clock, self._now_us = log, after_s, clock, now_us
        self._last_us = now_us()
        self._never = log is None
        self._source = log.source(["impressions"]) if log is not None and "impressions" in log.topics() else None
        self._open = True  # whether there may be an example behind the last mark; nobody knows it at the start
        self._since_s = clock()

    def wrote(self, time_us: int) -> None:
        """A list came, and is an example.

        Args:
            time_us: The log's time of it. One of the future is that of a wrong clock, and counts as now.
        """
        self._open, self._last_us = True, max(self._last_us, min(time_us, self._now_us()))

    def moved(self) -> None:
        """Something came."""
        self._since_s = self._clock()

    def due(self, merge: Merge) -> bool:
        """Whether a mark is to be written now. Then this silence has its mark.

        Args:
            merge: The records that the joiner takes.
        """
        waits = merge.waiting()
        if self._never or not (self._open or waits) or self._clock() - self._since_s < _PAUSE * self._after_s:
            return False
        self._since_s = self._clock()
        try:
            # In this order: what was scored before is in the log when it is looked at whether all was read.
            done = self._scored() and merge.at_ends()
        except StreamError as e:
            log_.warning("no more marks of a silence are written, since it is not known what is scored: %s", e)
            self._never = True
            return False
        if not done or merge.let_go() or not self._open:
            return False
        self._open = self._now_us() - self._last_us < self._after_s * 1e6
        return not self._open

    def close(self) -> None:
        """Closes the source."""
        if self._source is not None:
            self._source.close()

    def _scored(self) -> bool:
        """Whether the scorers have committed a position behind each impression."""
        if self._source is None or self._log is None:
            return True
        bounds = {tp: self._source.bounds(tp) for tp in self._source.position()}
        there = [tp for tp, (beginning, end) in bounds.items() if end > beginning]
        committed = self._log.positions().get(STAGE, {}) if there else {}
        for tp in there:
            if tp not in committed:
                return False
            if committed[tp] >= bounds[tp][1]:
                continue
            # The end of a transaction takes an offset, so only reading tells whether a message is left.
            try:
                self._source.seek({tp: committed[tp]})
            except OutOfRange:  # retention was quicker than a scorer, and a person has to say how it goes on
                return False
            if self._source.read_from(tp, 1, _WAIT_S) or self._source.position()[tp] < bounds[tp][1]:
                return False
        return True
