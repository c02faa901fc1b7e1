"""Examples in the one order, read until a batch ends.

A batch ends with its last example of `wanted`, at the end of a range, or before a time. For the last, the log's own
times are cut into windows of `within_s` seconds. A batch ends before the first record of a later window than those
before it. So what ends a batch stands in the log, and a run that was killed ends its batches at the same places.
Records of one window wait at most for the next window's first record. When none comes, the joiner's mark of a silence
(`loops.ticks`) ends the batch by the same rule. It stands before every record of a later window, so a batch holds the
same examples with it and without it.

A record can be older than the one before it: labels come long after their list. So the greatest time so far decides. On
Kafka it can be that of a producer whose clock is ahead. A mark is of the present. So one that is behind the greatest
time ends the batch as well, and its time counts from there on.

It knows nothing of how a student learns.
"""

from __future__ import annotations

from recdistill.records import Columns
from recdistill.stream import LanePosition, Lanes, Message, is_tick


class Reading:
    """What was read of the next batch.

    Args:
        lanes: The one order.

    Attributes:
        clock_us: The greatest time of the log that was passed outside of ranges.
    """

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._parts: list[Columns] = []
        self._window_us = 0
        self._some = self._cut = False
        self.clock_us = 0

    def __len__(self) -> int:
        """Examples that were read and not learnt."""
        return sum(map(len, self._parts))

    def batch(self, wanted: int, timeout_s: float, *, until: LanePosition | None, within_s: float) -> Columns | None:
        """The next batch; None if it did not end within the timeout. What was read is kept then.

        Args:
            wanted: Most examples of a batch.
            timeout_s: Longest wait.
            until: End of the range that is gone over; None outside of ranges. Times end no batch in a range.
            within_s: Seconds of a window; 0: times end no batch.
        """
        self._window_us = int(within_s * 1_000_000) if until is None else 0
        self._cut = False
        found = self._lanes.next_columns(wanted - len(self), timeout_s, until=until, ends=self._ends)
        if len(found):
            self._parts.append(found)
        ended = self._cut or (until is not None and self._lanes.reached(until))
        if not len(self) or not (ended or len(self) == wanted):
            self._some = self._some and not self._cut  # only records that are no examples came before this time
            return None
        return Columns.join(self._parts)

    def taken(self) -> None:
        """The batch was learnt."""
        self._parts.clear()
        self._some = False

    def drop(self, clock_us: int) -> None:
        """Forgets what was read of the next batch: the lanes go on at another place.

        Args:
            clock_us: The greatest time of the log that was passed by what was learnt.
        """
        self.taken()
        self._cut, self.clock_us = False, clock_us

    def _ends(self, message: Message) -> bool:
        """Whether the batch ends before a message."""
        if not self._window_us:
            self._some = self._some or not is_tick(message)
            return False
        later = message.time_us // self._window_us > self.clock_us // self._window_us
        # A mark has the time of the present. A time behind it is that of a wrong clock, and must hold nothing back.
        ahead = is_tick(message) and message.time_us < self.clock_us
        if self._some and (later or ahead):
            self._cut = True
            return True
        if is_tick(message):
            self.clock_us = min(self.clock_us, message.time_us)
            return False
        self.clock_us = max(self.clock_us, message.time_us)
        self._some = True
        return False
