"""Rankings and feedback meet here: each ranking waits for its labels until a window of event time has passed.

The joiner makes the student's examples with it, and a taught teacher's examples come from the same one. So both learn
from labels that mean the same.

It knows nothing of logs as a whole: it is given records with the places that they were read from.

Example:
    >>> from recdistill.records import Candidate, Feedback, Impression, Ranking
    >>> impression = Impression(id="i", time_us=0, candidates=(Candidate("a"), Candidate("b")))
    >>> ranking = Ranking(impression, "t", "1", "logit", scores=(0.5, 0.1), scored=(True, True))
    >>> window = Window(window_us=1_000_000, labels={"click": 1.0})
    >>> window.add_ranking(ranking, TopicPartition("rankings", 0), offset=7)
    >>> window.add_feedback(Feedback("f", "i", "b", "click", time_us=10), TopicPartition("feedback", 0), offset=3)
    >>> [example.labels for example in window.closed()], [example.labels for example in window.closed(flush=True)]
    ([], [(0.0, 1.0)])
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from recdistill.records import Example, Feedback, Impression, Ranking
from recdistill.stream import TopicPartition

DAY_US: Final = 86_400_000_000

Place = tuple[TopicPartition, int]


class Closed(NamedTuple):
    """An example whose window is over. Of its ranking: the value, where it was read, and the log's time of it."""

    example: Example
    value: bytes
    place: Place
    at_us: int


@dataclass(slots=True)
class _Open:
    """A ranking whose window is open, with what came for it so far."""

    ranking: Ranking
    value: bytes
    time_us: int
    at_us: int
    labels: dict[int, float] = field(default_factory=dict)  # by the candidate's place in the list
    feedback: list[Place] = field(default_factory=list)


@dataclass(slots=True)
class _Early:
    """Feedback that waits for its ranking. It is a ghost when an earlier reader may have used it already."""

    feedback: Feedback
    time_us: int
    ghost: bool = False


class _Needed:
    """Offsets that a restart must see again. They are added in rising order within a partition, and let go in any."""

    def __init__(self) -> None:
        self._order: dict[TopicPartition, deque[int]] = {}
        self._alive: dict[TopicPartition, set[int]] = {}

    def add(self, tp: TopicPartition, offset: int) -> None:
        self._order.setdefault(tp, deque()).append(offset)
        self._alive.setdefault(tp, set()).add(offset)

    def let_go(self, tp: TopicPartition, offset: int) -> None:
        self._alive[tp].discard(offset)

    def oldest(self, tp: TopicPartition) -> int | None:
        order, alive = self._order.get(tp), self._alive.get(tp, set())
        while order and order[0] not in alive:
            order.popleft()
        return order[0] if order else None


class Window:
    """The open rankings and the feedback that waits for its ranking: pure state, no log.

    Args:
        window_us: Event time that feedback may take, in microseconds.
        labels: Weight of each action that makes a label. An action with weight 0 makes none.

    Attributes:
        clock_us: Greatest time so far.
        ranking_clock_us: Greatest time of a ranking so far.
        days_only: Whether every time so far was a whole day.
        counts: What was done. `late` is feedback that came after its window, `late_value` what it would have given,
            and `late_rankings` rankings that came after their own window.
    """

    def __init__(self, window_us: int, labels: Mapping[str, float]) -> None:
        self.clock_us = 0
        self.ranking_clock_us = 0
        self.days_only = True
        self.counts: Counter[str] = Counter()
        self._window_us = window_us
        self._labels = labels
        self._open: OrderedDict[Place, _Open] = OrderedDict()
        self._by_id: dict[str, _Open] = {}
        self._early: dict[Place, _Early] = {}
        self._early_by_id: dict[str, list[Place]] = {}
        self._early_by_time: list[tuple[int, Place]] = []
        self._needed = _Needed()
        self._late_value = 0.0

    def add_ranking(
        self,
        ranking: Ranking,
        tp: TopicPartition,
        offset: int,
        value: bytes = b"",
        *,
        time_us: int | None = None,
        at_us: int = 0,
    ) -> None:
        """Opens the window of a ranking and gives it the feedback that was there before it.

        Args:
            ranking: The ranking.
            tp: Where it was read.
            offset: Where it was read.
            value: What it was decoded from, for a caller that wants it back with the example.
            time_us: Its time, where the record does not know it.
            at_us: The log's time of it, for a caller that wants it back with the example.
        """
        time_us = ranking.impression.time_us if time_us is None else time_us
        opened = _Open(ranking, value, time_us, at_us)
        self._needed.add(tp, offset)
        self._open[(tp, offset)] = opened
        self._by_id[ranking.impression.id] = opened
        self.counts["late_rankings"] += time_us + self._window_us < self.clock_us
        self.ranking_clock_us = max(self.ranking_clock_us, time_us)
        self._tick(time_us)
        self.counts["rankings"] += 1
        for place in self._early_by_id.pop(ranking.impression.id, []):
            self._attach(opened, self._early.pop(place).feedback, place)

    def add_feedback(self, feedback: Feedback, tp: TopicPartition, offset: int, *, time_us: int | None = None) -> None:
        """Labels the open ranking that the feedback belongs to, or lets it wait for one."""
        time_us = feedback.time_us if time_us is None else time_us
        self._tick(time_us)
        self.counts["feedback"] += 1
        self._needed.add(tp, offset)
        opened = self._by_id.get(feedback.impression_id)
        place = (tp, offset)
        if opened is not None:
            self._attach(opened, feedback, place)
        else:
            self._early[place] = _Early(feedback, time_us)
            self._early_by_id.setdefault(feedback.impression_id, []).append(place)
            heapq.heappush(self._early_by_time, (time_us, place))

    def closed(self, *, flush: bool = False) -> Iterator[Example]:
        """Takes out, first in first out, the examples whose window has passed; all of them when flushing."""
        for closed in self.closed_values(flush=flush):
            yield closed.example

    def closed_values(self, *, flush: bool = False) -> Iterator[Closed]:
        """The examples of `closed`, each with what its ranking came with."""
        while self._open:
            place, opened = next(iter(self._open.items()))
            impression = opened.ranking.impression
            if not flush and opened.time_us + self._window_us >= self.clock_us:
                break
            del self._open[place]
            for needed in [place, *opened.feedback]:
                self._needed.let_go(*needed)
            if self._by_id.get(impression.id) is opened:
                del self._by_id[impression.id]
            self.counts["examples"] += 1
            self.counts["labelled"] += any(label > 0 for label in opened.labels.values())
            labels = [0.0] * len(impression.candidates)
            for label_place, label in opened.labels.items():
                labels[label_place] = label
            # When the product did not show the list itself, as with a probe, missing feedback means nothing.
            silent = impression.origin != "product" and not opened.labels
            example = Example(opened.ranking, tuple(labels), "none" if silent else "closed")
            yield Closed(example, opened.value, place, opened.at_us)
        self.forget_orphans()

    def resume(self, clock_us: int, ranking_clock_us: int) -> None:
        """Ends the reading again of what an earlier reader had in its window, and takes its clocks.

        Feedback that finds no ranking here waited for one, or the example that it labelled is written. Nobody can
        tell, so it may still label a ranking that comes, and is never counted as late.
        """
        self.clock_us, self.ranking_clock_us = (
            max(clock_us, self.clock_us),
            max(ranking_clock_us, self.ranking_clock_us),
        )
        for early in self._early.values():
            early.ghost = True
        self.forget_orphans()
        self.counts, self._late_value = Counter(), 0.0

    def early(self) -> int:
        """How much feedback waits for its ranking."""
        return sum(not early.ghost for early in self._early.values())

    def one_time(self) -> bool:
        """Whether there are open rankings, all with one time."""
        return len({opened.time_us for opened in self._open.values()}) == 1

    def oldest_needed(self, read: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The positions from which this window can be rebuilt.

        Args:
            read: Next offset of each partition after what was added here.
        """
        return {tp: offset if (oldest := self._needed.oldest(tp)) is None else oldest for tp, offset in read.items()}

    def __len__(self) -> int:
        return len(self._open)

    def _tick(self, time_us: int) -> None:
        self.clock_us = max(self.clock_us, time_us)
        self.days_only = self.days_only and time_us % DAY_US == 0

    def _attach(self, opened: _Open, feedback: Feedback, place: Place) -> None:
        weight = self._labels.get(feedback.action, 0.0)
        chosen = _place_of(feedback.item, opened.ranking.impression)
        if feedback.time_us > opened.time_us + self._window_us:
            self._count_late(feedback)
        elif weight == 0.0:
            self.counts["unlabelled_action"] += 1
        elif chosen < 0:
            self.counts["outside_the_list"] += 1
        else:
            opened.labels[chosen] = max(opened.labels.get(chosen, 0.0), weight * feedback.value)
            opened.feedback.append(place)
            return
        self._needed.let_go(*place)

    def _count_late(self, feedback: Feedback) -> None:
        self.counts["late"] += 1
        self._late_value += max(0.0, self._labels.get(feedback.action, 0.0) * feedback.value)
        self.counts["late_value"] = round(self._late_value)

    def forget_orphans(self, ranking_clock_us: int = 0) -> None:
        """Drops feedback whose ranking was emitted before it came, or never came.

        Measured by the rankings' own clock: while the scorer stands still, its feedback waits, however long that takes.

        Args:
            ranking_clock_us: How far that clock is at least.
        """
        self.ranking_clock_us = max(self.ranking_clock_us, ranking_clock_us)
        while self._early_by_time and self._early_by_time[0][0] + self._window_us < self.ranking_clock_us:
            _, place = heapq.heappop(self._early_by_time)
            early = self._early.pop(place, None)
            if early is None:  # it has found its ranking
                continue
            self._needed.let_go(*place)
            waiting = self._early_by_id[early.feedback.impression_id]
            waiting.remove(place)
            if not waiting:
                del self._early_by_id[early.feedback.impression_id]
            if not early.ghost:
                self._count_late(early.feedback)


def _place_of(item: str, impression: Impression) -> int:
    """An item's place among the candidates, which all differ; −1 when it is not there."""
    return next((place for place, one in enumerate(impression.candidates) if one.item == item), -1)
