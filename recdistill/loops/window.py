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

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from recdistill.records import Example, Feedback, Impression, Ranking
from recdistill.stream import TopicPartition


@dataclass(slots=True)
class _Open:
    """A ranking whose window is open, with what came for it so far."""

    ranking: Ranking
    value: bytes
    labels: dict[int, float] = field(default_factory=dict)  # by the candidate's place in the list
    feedback: list[tuple[TopicPartition, int]] = field(default_factory=list)


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
        labels: Weight of each action that makes a label.
    """

    def __init__(self, window_us: int, labels: Mapping[str, float]) -> None:
        self.clock_us = 0
        self.counts: Counter[str] = Counter()
        self._window_us = window_us
        self._labels = labels
        self._open: OrderedDict[tuple[TopicPartition, int], _Open] = OrderedDict()
        self._by_id: dict[str, _Open] = {}
        self._early: OrderedDict[tuple[TopicPartition, int], Feedback] = OrderedDict()
        self._early_by_id: dict[str, list[tuple[TopicPartition, int]]] = {}
        self._ranking_clock_us = 0
        self._needed = _Needed()

    def add_ranking(self, ranking: Ranking, tp: TopicPartition, offset: int, value: bytes = b"") -> None:
        """Opens the window of a ranking and gives it the feedback that was there before it.

        `value` is what the ranking was decoded from, for a caller that wants it back with the example.
        """
        opened = _Open(ranking, value)
        self._needed.add(tp, offset)
        self._open[(tp, offset)] = opened
        self._by_id[ranking.impression.id] = opened
        self._ranking_clock_us = max(self._ranking_clock_us, ranking.impression.time_us)
        self.clock_us = max(self.clock_us, ranking.impression.time_us)
        self.counts["rankings"] += 1
        for place in self._early_by_id.pop(ranking.impression.id, []):
            self._attach(opened, self._early.pop(place), place)

    def add_feedback(self, feedback: Feedback, tp: TopicPartition, offset: int) -> None:
        """Labels the open ranking that the feedback belongs to, or lets it wait for one."""
        self.clock_us = max(self.clock_us, feedback.time_us)
        self.counts["feedback"] += 1
        self._needed.add(tp, offset)
        opened = self._by_id.get(feedback.impression_id)
        if opened is not None:
            self._attach(opened, feedback, (tp, offset))
        else:
            self._early[(tp, offset)] = feedback
            self._early_by_id.setdefault(feedback.impression_id, []).append((tp, offset))

    def closed(self, *, flush: bool = False) -> Iterator[Example]:
        """Takes out, first in first out, the examples whose window has passed; all of them when flushing."""
        for example, *_ in self.closed_values(flush=flush):
            yield example

    def closed_values(self, *, flush: bool = False) -> Iterator[tuple[Example, bytes, tuple[TopicPartition, int]]]:
        """The examples of `closed`, each with its ranking's value, and the place that this was read from."""
        while self._open:
            place, opened = next(iter(self._open.items()))
            impression = opened.ranking.impression
            if not flush and impression.time_us + self._window_us >= self.clock_us:
                break
            del self._open[place]
            for needed in [place, *opened.feedback]:
                self._needed.let_go(*needed)
            if self._by_id.get(impression.id) is opened:
                del self._by_id[impression.id]
            self.counts["examples"] += 1
            self.counts["labelled"] += bool(opened.labels)
            labels = [0.0] * len(impression.candidates)
            for label_place, label in opened.labels.items():
                labels[label_place] = label
            # When the product did not show the list itself, as with a probe, missing feedback means nothing.
            silent = impression.origin != "product" and not opened.labels
            yield Example(opened.ranking, tuple(labels), "none" if silent else "closed"), opened.value, place
        self._forget_orphans()

    def oldest_needed(self, read: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The positions from which this window can be rebuilt.

        Args:
            read: Next offset of each partition after what was added here.
        """
        return {tp: offset if (oldest := self._needed.oldest(tp)) is None else oldest for tp, offset in read.items()}

    def __len__(self) -> int:
        return len(self._open)

    def _attach(self, opened: _Open, feedback: Feedback, place: tuple[TopicPartition, int]) -> None:
        impression = opened.ranking.impression
        weight = self._labels.get(feedback.action)
        if feedback.time_us > impression.time_us + self._window_us:
            self.counts["late"] += 1
        elif weight is None:
            self.counts["unlabelled_action"] += 1
        elif (chosen := _place_of(feedback.item, impression)) < 0:
            self.counts["outside_the_list"] += 1
        else:
            opened.labels[chosen] = max(opened.labels.get(chosen, 0.0), weight * feedback.value)
            opened.feedback.append(place)
            return
        self._needed.let_go(*place)

    def _forget_orphans(self) -> None:
        """Drops feedback whose ranking was emitted before it came, or never came.

        Measured by the rankings' own clock: while the scorer stands still, its feedback waits, however long that takes.
        """
        while self._early:
            place, feedback = next(iter(self._early.items()))
            if feedback.time_us + self._window_us >= self._ranking_clock_us:
                break
            del self._early[place]
            self._needed.let_go(*place)
            waiting = self._early_by_id[feedback.impression_id]
            waiting.remove(place)
            if not waiting:
                del self._early_by_id[feedback.impression_id]
            self.counts["late"] += 1


def _place_of(item: str, impression: Impression) -> int:
    """An item's place among the candidates, which all differ; −1 when it is not there."""
    return next((place for place, one in enumerate(impression.candidates) if one.item == item), -1)
