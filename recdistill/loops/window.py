"""Which feedback belongs to which list, and when the window of a list is over. No list is held here, only its place.

A list and a feedback meet when each of them came while the window of the other was open:

    came(feedback) <= time(list) + window   and   came(list) <= time(feedback) + window

`came` is the greatest time in its partition up to a record, so it is never before the record's own time. Feedback
without a time happened somewhere behind its place: it counts as a window later than that. The rule looks
at two records alone, never at what was read before them or in which order. So a reader that starts again at any place
finds the same. A list that is ranked twice is two lists, and a click labels both.

A list stays until the clock has passed its window. Feedback stays as long as it can still meet a list.

It knows nothing of logs or of the bytes of a list.

Example:
    >>> window = Window(window_us=1_000_000, labels={"click": 1.0})
    >>> window.add_list("i", time_us=0, came_us=0, partition=0, offset=7)
    >>> window.add_feedback(Feedback("f", "i", "b", "click", time_us=10), time_us=10, came_us=10)
    >>> window.close(), window.tick(2_000_000)
    ([], None)
    >>> [(one.offset, labels_of(["a", "b"], one.given)) for one in window.close()]
    [(7, ([0.0, 1.0], 0))]
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from recdistill.records import Feedback

DAY_US: Final = 86_400_000_000

PRODUCT, HELD_OUT, SERVED = 1, 2, 4
"""Flags of a list: the product showed it; no student learns from it; the endpoint made it and a person saw it."""

_LIST: Final = struct.Struct(">QHQQB16s")
"""Time, partition, offset, when it came, flags, id. As bytes, the list that closes first is the smallest."""
_GIVEN: Final = struct.Struct(">QQd16s")
"""Time of feedback, when it came, its label, id of its list; then its item."""
_ID: Final = slice(-16, None)
_NEVER: Final = -(1 << 62)
_FEW: Final = 16
"""With more feedback than this for one list, each piece more or less must not cost a copy of the others."""


class Given(NamedTuple):
    """One label for an item, from feedback."""

    item: str
    label: float


class Closed(NamedTuple):
    """A list whose window is over.

    Attributes:
        partition: Where it was read.
        offset: Where it was read.
        product: Whether the product showed it.
        held_out: Whether no student learns from it.
        served: Whether the endpoint made it, and a person saw it.
        given: Its feedback.
    """

    partition: int
    offset: int
    product: bool
    held_out: bool
    served: bool
    given: tuple[Given, ...]


def labels_of(items: Sequence[str], given: Iterable[Given]) -> tuple[list[float], int]:
    """A label for each item of a list, and how much feedback names an item that is not in it.

    Of several labels for one item the largest counts.
    """
    labels, outside = [0.0] * len(items), 0
    places = {item: place for place, item in enumerate(items)}
    for item, label in given:
        place = places.get(item)
        if place is None:
            outside += 1
        else:
            labels[place] = max(labels[place], label)
    return labels, outside


class Window:
    """The open lists, and the feedback that can still meet one; see the header of this module.

    Args:
        window_us: Event time that feedback may take, in microseconds.
        labels: Weight of each action that makes a label. An action with weight 0 makes none.

    Attributes:
        clock_us: Greatest time so far.
        ranking_clock_us: Greatest time of a list so far.
        closed_us: Lists of an earlier time are closed.
        days_only: Whether every time so far was a whole day.
        counts: What was done. `closed` are lists whose window is over, `late` is feedback that met no list, and
            `late_rankings` are lists that came after their own window.
    """

    def __init__(self, window_us: int, labels: Mapping[str, float]) -> None:
        self.clock_us = 0
        self.ranking_clock_us = 0
        self.closed_us = _NEVER
        self.days_only = True
        self.counts: Counter[str] = Counter()
        self._window_us = window_us
        self._labels = labels
        self._open: list[bytes] = []  # a heap
        self._given: dict[bytes, tuple[bytes, ...] | Counter[bytes]] = {}  # by the id of the list
        self._by_time: list[bytes] = []  # the same feedback, a heap
        self._met: set[bytes] = set()  # those of it that met a list when it closed
        self._late_value = 0.0

    def tick(self, time_us: int) -> None:
        """Moves the clock."""
        self.clock_us = max(self.clock_us, time_us)
        self.days_only = self.days_only and time_us % DAY_US == 0

    def add_list(
        self, name: str, *, time_us: int, came_us: int, partition: int, offset: int, flags: int = PRODUCT
    ) -> None:
        """Opens the window of a list.

        Args:
            name: Id of its impression.
            time_us: Its time.
            came_us: The greatest time in its partition up to it.
            partition: Where it was read.
            offset: Where it was read.
            flags: The sum of those of `PRODUCT`, `HELD_OUT` and `SERVED` that hold.
        """
        self.counts["late_rankings"] += time_us + self._window_us < self.clock_us
        self.counts["rankings"] += 1
        self.ranking_clock_us = max(self.ranking_clock_us, came_us)
        self.tick(time_us)
        heapq.heappush(self._open, _LIST.pack(time_us, partition, offset, came_us, flags, id_key(name)))

    def add_feedback(self, feedback: Feedback, *, time_us: int, came_us: int) -> None:
        """Keeps feedback for its list, which may come before it or after it.

        Args:
            feedback: The feedback.
            time_us: Its time; the time of its place where it has none.
            came_us: The greatest time in its partition up to it.
        """
        self.counts["feedback"] += 1
        self.tick(time_us)
        if not feedback.time_us:
            time_us += self._window_us
        weight = self._labels.get(feedback.action, 0.0)
        if weight == 0.0:
            self.counts["unlabelled_action"] += 1
            return
        label, key = weight * feedback.value, id_key(feedback.impression_id)
        if time_us < self._kept_from_us():
            self._count_late(label)
            return
        one = _GIVEN.pack(time_us, came_us, label, key) + feedback.item.encode()
        self._keep(key, one)
        heapq.heappush(self._by_time, one)

    def close(self, most: int | None = None, *, flush: bool = False, late: bool = False) -> list[Closed]:
        """Takes out lists whose window is over, in the order of their times; all lists when flushing.

        Args:
            most: About how many that have feedback, are held out or were served. Then there may be more, and `due` says
                so. None: all of them.
            flush: Whether every window ends now.
            late: Only lists that came when lists of their time were closed already.
        """
        end_us = self.closed_us if late else self.clock_us - self._window_us
        closed: list[Closed] = []
        wanted, last_us = 0, _NEVER
        while self._open:
            time_us, partition, offset, came_us, flags, key = _LIST.unpack(self._open[0])
            if not flush and time_us >= end_us:
                break
            if most is not None and wanted >= most and time_us > last_us:
                self.closed_us = max(self.closed_us, last_us + 1)
                return closed
            heapq.heappop(self._open)
            last_us = time_us
            given = self._of(key, time_us, came_us)
            wanted += bool(given) or flags & (HELD_OUT | SERVED) > 0
            self.counts["closed"] += 1
            closed.append(
                Closed(
                    partition=partition,
                    offset=offset,
                    product=bool(flags & PRODUCT),
                    held_out=bool(flags & HELD_OUT),
                    served=bool(flags & SERVED),
                    given=given,
                )
            )
        self.closed_us = end_us if flush else max(self.closed_us, end_us)
        self._forget()
        return closed

    def due(self, *, flush: bool = False) -> bool:
        """Whether a list can be taken out now."""
        if not self._open:
            return False
        return flush or int.from_bytes(self._open[0][:8], "big") < self.clock_us - self._window_us

    def needs_us(self) -> tuple[int, int]:
        """What a reader that starts again must see: lists that came at the first time or later, and feedback likewise.

        Where no list is open, it need not see any of those that were read. Feedback without a time is kept for a window
        longer than its place says.
        """
        return self.closed_us, self._kept_from_us() - self._window_us

    def resume(self, clock_us: int, ranking_clock_us: int, closed_us: int) -> None:
        """Takes the clocks of an earlier reader, after what it had read was added again.

        What it had closed goes. Feedback that it may have used is never counted as late.
        """
        self.clock_us, self.ranking_clock_us, self.closed_us = clock_us, ranking_clock_us, closed_us
        while self._open and int.from_bytes(self._open[0][:8], "big") < closed_us:
            heapq.heappop(self._open)
        self._met = set(self._by_time)
        self._forget()
        self.counts, self._late_value = Counter(), 0.0

    def content(self) -> tuple[bytes, list[bytes]]:
        """The open lists and the feedback, for `take`."""
        return b"".join(self._open), list(self._by_time)

    def take(self, lists: bytes, given: Sequence[bytes]) -> None:
        """Takes the content of another window, before anything else."""
        size = _LIST.size
        self._open = [lists[at : at + size] for at in range(0, len(lists), size)]
        self._by_time = list(given)
        for one in given:
            self._keep(one[_GIVEN.size - 16 : _GIVEN.size], one)

    def waiting(self) -> tuple[int, int]:
        """How much feedback met no list yet: that which can still meet one that comes, and that which is late."""
        still, late = 0, 0
        opened = {one[_ID] for one in self._open}
        for one in self._by_time:
            time_us, _, label, key = _GIVEN.unpack_from(one)
            if one in self._met or key in opened:
                continue
            if time_us + self._window_us < self.ranking_clock_us:
                late += 1
                self._late_value += max(0.0, label)
            else:
                still += 1
        return still, late

    def late_value(self) -> int:
        """What the late feedback would have given."""
        return round(self._late_value)

    def one_time(self) -> bool:
        """Whether there are open lists, all with one time."""
        return len({one[:8] for one in self._open}) == 1

    def __len__(self) -> int:
        return len(self._open)

    def _kept_from_us(self) -> int:
        """Feedback of an earlier time can meet no list any more, except one that is closed when it comes.

        A list meets it only when it came at most a window later, so the list's own time is not later than that either.
        Another window after this, every such list is closed.
        """
        return min(self.ranking_clock_us, self.closed_us + self._window_us) - 2 * self._window_us

    def _of(self, key: bytes, time_us: int, came_us: int) -> tuple[Given, ...]:
        """The feedback that meets a list."""
        found = []
        held = self._given.get(key, ())
        for one in held.elements() if isinstance(held, Counter) else held:
            given_us, given_came_us, label, _ = _GIVEN.unpack_from(one)
            if given_came_us <= time_us + self._window_us and came_us <= given_us + self._window_us:
                found.append(Given(one[_GIVEN.size :].decode(), label))
                self._met.add(one)
        return tuple(found)

    def _forget(self) -> None:
        kept_from_us = self._kept_from_us()
        while self._by_time and int.from_bytes(self._by_time[0][:8], "big") < kept_from_us:
            one = heapq.heappop(self._by_time)
            _, _, label, key = _GIVEN.unpack_from(one)
            if one not in self._met:
                self._count_late(label)
            self._drop(key, one)

    def _keep(self, key: bytes, one: bytes) -> None:
        """Keeps feedback with that of its list: a tuple while it is little, since most lists have little."""
        held = self._given.get(key, ())
        if isinstance(held, Counter):
            held[one] += 1
        else:
            self._given[key] = (*held, one) if len(held) < _FEW else Counter((*held, one))

    def _drop(self, key: bytes, one: bytes) -> None:
        held = self._given[key]
        if isinstance(held, Counter):
            held[one] -= 1
            if not held[one]:
                del held[one]
        else:
            at = held.index(one)
            held = self._given[key] = held[:at] + held[at + 1 :]
        if one not in held:
            self._met.discard(one)
        if not held:
            del self._given[key]

    def _count_late(self, label: float) -> None:
        self.counts["late"] += 1
        self._late_value += max(0.0, label)


def id_key(name: str) -> bytes:
    """An id in 16 bytes."""
    return hashlib.blake2b(name.encode(), digest_size=16).digest()
