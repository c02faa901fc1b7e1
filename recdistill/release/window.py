"""The sliding window of held-out lists: the newest labelled lists of users from whom no student learns.

The joiner writes the lists of some users to the topic `held-out` and nowhere else. So a bundle can be judged on them as
soon as it is made, without waiting for new lists. Two bundles that are judged one after another see almost the same
lists: the window moves on in between.

The window first reads the topic from its end backwards until it is full. After that it reads only what is new. It
decodes only lists that may have a label or were served. So a long topic costs no more than its newest part.

It knows nothing of bundles, figures or of how users are chosen.

Example:
    >>> HeldList(7, 60_000_000, b"").offset
    7
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import closing
from typing import Final, NamedTuple

from recdistill.errors import DecodeError, OutOfRange
from recdistill.judge import outlook
from recdistill.records import Example, decode, may_be_served, may_have_label
from recdistill.stream import HELD_OUT, Log, Message, Source, up_to

log_ = logging.getLogger(__name__)

READ: Final = 1000
"""So many messages are read at a time."""

_BACK: Final = 4000
"""The first look goes back by so many offsets at a time."""

_LOOKED: Final = 50
"""For each list that is wanted, the first look goes back over at most so many lists."""

_SERVED: Final = 4
"""For each labelled list, the window keeps so many lists that the endpoint served. Most of those have no label."""

_MOST_SERVED: Final = 40_000
"""It keeps at most so many served lists. A judgement decodes all of them, and each takes some 10 kB."""

_SILENT: Final = 64 << 20
"""At most so many bytes of silent lists (lists without a label) are kept, the newest ones.

Agreement with the teacher is measured on them.
"""


class HeldList(NamedTuple):
    """A list: its offset, its time, and its bytes. Decoded lists would take ten times the memory.

    A list that is neither labelled nor served is silent. It is not decoded, so its time is 0.
    """

    offset: int
    time_us: int
    value: bytes
    labelled: bool = True
    served: bool = False


class _Silent:
    """The newest silent lists, at most so many, and at most so many bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self.lists: deque[HeldList] = deque()

    def older(self, one: HeldList) -> None:
        """Adds a list that comes before all others, if there is room."""
        if len(self.lists) < self._most and self._bytes + len(one.value) <= _SILENT:
            self.lists.appendleft(one)
            self._bytes += len(one.value)

    def newer(self, one: HeldList) -> None:
        """Adds a list that comes after all others, and drops the oldest lists to make room."""
        self.lists.append(one)
        self._bytes += len(one.value)
        while len(self.lists) > self._most or self._bytes > _SILENT:
            self._bytes -= len(self.lists.popleft().value)

    def clear(self) -> None:
        """Drops all lists."""
        self.lists.clear()
        self._bytes = 0


class HeldOutWindow:
    """The newest labelled lists of `held-out`. For one thread.

    Args:
        log: The log. It may have no such topic yet: then the window is empty.
        most: How many lists at most.
        after_us: Lists up to this time are left out, because a teacher has learnt from them. None: no list is left out.
        stop: Whether the process was told to stop. Then reading ends with `Interrupted`.
    """

    def __init__(
        self, log: Log, most: int, *, after_us: int | None = None, stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._log, self._most, self._after_us, self._stop = log, most, after_us, stop
        self._lists: deque[HeldList] = deque(maxlen=most)
        self._most_served = min(_SERVED * most, _MOST_SERVED)
        self._served: deque[HeldList] = deque(maxlen=self._most_served)
        self._silent = _Silent(most)
        self._source: Source | None = None
        self.passed_over = 0
        self.came = 0
        """How many labelled lists came after the window was first filled."""

    def __len__(self) -> int:
        return len(self._lists)

    @property
    def exists(self) -> bool:
        """Whether the log has the topic, as far as the last look saw."""
        return self._source is not None

    def look(self) -> int:
        """Reads what is new, and returns how many lists the window holds.

        Raises:
            StreamError: The log cannot be read, or the topic was removed or replaced.
        """
        if self._source is None:
            if HELD_OUT.topic not in self._log.topics():
                return 0
            self._source = self._log.source([HELD_OUT])
            self._fill(self._source)
        begin, end = self._source.bounds(HELD_OUT)
        if self._source.position()[HELD_OUT] < begin:  # retention has deleted messages that were not read yet
            self._lists.clear()
            self._served.clear()
            self._silent.clear()
            self._fill(self._source)
        new = self._read(self._source, end)
        labelled = [one for one in new if one.labelled]
        self.came += len(labelled)
        self._lists.extend(labelled)
        self._served.extend(one for one in new if one.served)
        for one in new:
            if not one.labelled:
                self._silent.newer(one)
        return len(self._lists)

    def examples(self) -> list[Example]:
        """The lists, oldest first."""
        return [decode(Example, one.value) for one in self._lists]

    def served(self) -> list[Example]:
        """The lists that the endpoint served, oldest first, also those from which nobody took anything."""
        return [decode(Example, one.value) for one in self._served]

    def scored(self) -> list[Example]:
        """The lists with a score of the teacher, with or without a label, the oldest first, each list once."""
        labelled = self.examples()
        there = {one.ranking.impression.id for one in labelled}
        silent = []
        for one in self._silent.lists:
            try:
                example = decode(Example, one.value)
            except DecodeError as e:
                log_.debug("%s offset %d left out: %s", HELD_OUT.topic, one.offset, e)
                continue
            shown = example.ranking.impression
            late = self._after_us is None or shown.time_us > self._after_us
            if late and any(example.ranking.scored) and shown.id not in there:
                there.add(shown.id)
                silent.append(example)
        labelled = [one for one in labelled if any(one.ranking.scored)]
        return sorted([*labelled, *silent], key=lambda one: one.ranking.impression.time_us)

    def since(self, offset: int) -> tuple[list[Example], int]:
        """The lists from an offset on, oldest first, and the offset behind the last list."""
        found = [one for one in self._lists if one.offset >= offset]
        return [decode(Example, one.value) for one in found], max(offset, self.offsets()[1])

    def span_us(self) -> tuple[int, int]:
        """Times of the earliest and of the latest list; 0 and 0 where there is none."""
        times = [one.time_us for one in self._lists]
        return (min(times), max(times)) if times else (0, 0)

    def offsets(self) -> tuple[int, int]:
        """The offset of the first list, and the offset after the last."""
        return (self._lists[0].offset, self._lists[-1].offset + 1) if self._lists else (0, 0)

    def outlook(self, least: int) -> str:
        """How many lists there are, what is missing for a verdict, and how long that takes."""
        first_us, last_us = self.span_us()
        more = outlook(have=len(self), least=least, span_s=(last_us - first_us) / 1e6)
        return f"it has {len(self):,} labelled lists and {least:,} are asked: {more}"

    def close(self) -> None:
        """Closes the source that the window reads from."""
        if self._source is not None:
            self._source.close()

    def _fill(self, source: Source) -> None:
        """Goes back from the end, part by part, until the window is full or the limit is reached."""
        begin, end = source.bounds(HELD_OUT)
        begin, high = max(begin, end - _LOOKED * self._most), end
        while len(self._lists) < self._most and high > begin:
            low = max(begin, high - _BACK)
            try:
                source.seek({HELD_OUT: low})
                found = self._read(source, high)
            except OutOfRange:  # retention has removed it meanwhile
                break
            for one in reversed(found):
                if one.labelled and len(self._lists) < self._most:
                    self._lists.appendleft(one)
                if one.served and len(self._served) < self._most_served:
                    self._served.appendleft(one)
                if not one.labelled:
                    self._silent.older(one)
            high = low
        source.seek({HELD_OUT: end})

    def _read(self, source: Source, until: int) -> list[HeldList]:
        """The lists from the source's position up to an offset."""
        held = map(self._held, up_to(source, HELD_OUT, until, READ, stop=self._stop))
        return [one for one in held if one is not None]

    def _held(self, message: Message) -> HeldList | None:
        if not message.value:
            return None
        if not (may_have_label(message.value) or may_be_served(message.value)):
            return HeldList(offset=message.offset, time_us=0, value=message.value, labelled=False)
        try:
            example = decode(Example, message.value)
        except DecodeError as e:
            log_.debug("%s offset %d left out: %s", message.tp, message.offset, e)
            return None
        time_us = example.ranking.impression.time_us
        labelled, served = any(label > 0 for label in example.labels), example.ranking.impression.origin == "served"
        if self._after_us is not None and time_us <= self._after_us:
            self.passed_over += labelled
            return None
        return HeldList(offset=message.offset, time_us=time_us, value=message.value, labelled=labelled, served=served)


def newest_held_out(log: Log, most: int, *, after_us: int | None = None) -> HeldOutWindow:
    """The window as it is now, for one judgement. It is closed already: its lists stay, but it reads no more."""
    window = HeldOutWindow(log, most, after_us=after_us)
    with closing(window):
        window.look()
    return window
