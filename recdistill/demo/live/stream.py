"""What the log says of a running stream: new lists and clicks, how many are learnt, and how far behind learning is.

It knows nothing of processes or pages.

Example:
    >>> Learnt([10.0, 11.0, 12.0, 13.0]).lag(2, now_s=20.0)
    9.0
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from recdistill.errors import DecodeError
from recdistill.records import Feedback, Impression, decode
from recdistill.stream import Log, is_tick, made_bundles

_READ: Final = 500


class Learnt:
    """When the log took the list of each example, in the order in which they are learnt.

    Args:
        times_s: The times of the first ones.
    """

    def __init__(self, times_s: Sequence[float] = ()) -> None:
        self._newest: list[float] = []
        for one in times_s:
            self.add(one)

    def add(self, time_s: float) -> None:
        """The next example. Labels come long after their list, so the newest list so far is what counts."""
        self._newest.append(max(time_s, self._newest[-1]) if self._newest else time_s)

    def lag(self, learnt: int, *, now_s: float) -> float | None:
        """Seconds since the newest learnt list came; None where nothing is learnt.

        Args:
            learnt: How many examples are learnt.
            now_s: The time now, in seconds since 1970.
        """
        if not learnt or not self._newest:
            return None
        return now_s - self._newest[min(learnt, len(self._newest)) - 1]


class Stream:
    """Follows the log of the demo from its beginning. For one thread.

    Args:
        log: The log.
        per_s: At most so many lists a second are given to `shown`; what a second leaves over, the next may take.
            Lists that were written at once count one by one.
        shown: Called with a list as soon as it is there, and its time in seconds since 1970.
        clicked: Called with each feedback.

    `scored_s` is the time of the newest list that has scores. For each bundle, `made_s` is when it was made, and
    `heard_s` the time of the newest list that its student has learnt. All are in seconds since 1970.
    """

    def __init__(
        self,
        log: Log,
        *,
        per_s: float,
        shown: Callable[[Impression], None],
        clicked: Callable[[Feedback], None],
    ) -> None:
        self._lists = log.source(["impressions", "feedback"])
        self._rankings = log.source(["rankings"])
        self._examples = log.source(["examples"])
        self._bundles = log.source(["bundles"])
        self._per_s, self._shown, self._clicked = per_s, shown, clicked
        self._free, self._last_s = 0.0, 0.0  # so many lists may be measured now, and when that was
        self.lists = self.measured = 0
        self.learnt = Learnt()
        self.made_s: dict[str, float] = {}
        self.heard_s: dict[str, float] = {}
        self.scored_s: float | None = None

    def read(self, timeout_s: float) -> None:
        """Takes in what is new; waits for it, but not longer.

        Raises:
            StreamError: The log cannot be read.
        """
        for message in self._lists.read(_READ, timeout_s):
            try:
                if message.tp.topic == "feedback":
                    self._clicked(decode(Feedback, message.value))
                    continue
                self.lists += 1
                at_s = message.time_us / 1e6
                self._free = min(self._per_s, self._free + max(0.0, at_s - self._last_s) * self._per_s)
                self._last_s = max(self._last_s, at_s)
                if self._free < 1:
                    continue
                impression = decode(Impression, message.value)
                if impression.candidates:
                    self._free -= 1
                    self.measured += 1
                    self._shown(impression)
            except DecodeError:  # the scorer and the joiner write its dead letter
                continue
        while messages := self._rankings.read(_READ, 0.0):
            # A ranking has the log time of its list.
            self.scored_s = max(self.scored_s or 0.0, *(message.time_us / 1e6 for message in messages))
        while messages := self._examples.read(_READ, 0.0):
            for message in messages:
                if not is_tick(message):
                    self.learnt.add(message.time_us / 1e6)
        made, _ = made_bundles(self._bundles)
        for one in made:
            self.made_s.setdefault(one.content_hash, _seconds(one.made_at))
            if one.event_us:
                self.heard_s.setdefault(one.content_hash, one.event_us / 1e6)

    def close(self) -> None:
        """Gives back what was opened."""
        for source in (self._lists, self._rankings, self._examples, self._bundles):
            source.close()


def _seconds(moment: str) -> float:
    """A time in ISO 8601, which says whole seconds, as the end of its second since 1970."""
    return datetime.fromisoformat(moment).timestamp() + 1.0
