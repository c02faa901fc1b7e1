"""Rankings + feedback -> examples: each ranking once, with the labels that came within a window of event time.

The messages of all partitions are taken in the order of their event times, so what the joiner writes depends on the
log, not on who was faster. A ranking is emitted, first in first out, once the clock (the greatest event time passed)
stands past its window. Example n goes to lane n mod L.

A list that the student answered or the prober asked for may have been shown to nobody: without feedback it leaves
with the label state `none`, so that it is not learnt that all of it is bad.

Nothing is kept outside of the log: each commit saves, for each ranking partition, the oldest ranking that is not
emitted yet; for each feedback partition, the oldest feedback that such a ranking still needs; and a note with n. From
these a restart rebuilds the window exactly.

It knows nothing of teachers or of training.

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

import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from recdistill.config import JoinSettings
from recdistill.errors import ConfigError, DecodeError, StreamError
from recdistill.loops import ends_of, reached
from recdistill.progress import Progress
from recdistill.records import DEAD_LETTERS, Example, Feedback, Impression, Ranking, decode, encode_around, key_of
from recdistill.stream import Log, Message, Source, Stage, TopicPartition, dead_letter

log_ = logging.getLogger(__name__)


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
        for example, _ in self.closed_values(flush=flush):
            yield example

    def closed_values(self, *, flush: bool = False) -> Iterator[tuple[Example, bytes]]:
        """The examples of `closed`, each with the value that its ranking came with."""
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
            # Where the product did not show the list itself, as with a probe, that nothing came says nothing.
            silent = impression.origin != "product" and not opened.labels
            yield Example(opened.ranking, tuple(labels), "none" if silent else "closed"), opened.value
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

        Measured by the rankings' own clock: while the scorer stands still, feedback waits for it without limit of time.
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


class _Note(msgspec.Struct):
    """What travels with a commit: the number of the next example, and how far each partition was read once already.

    A record that does not decode and lies before `read` has had its dead letter, so a re-read writes no second one.
    """

    n: int = 0
    read: dict[str, int] = {}


class _Merge:
    """Takes messages of several partitions in the order of their event times.

    A partition without a message at hand holds the others back, so that the order is the log's own, until it has been
    silent for `idle_s`. Feedback alone never moves on while every ranking partition is silent for less than that.
    """

    def __init__(
        self, source: Source, tps: list[TopicPartition], settings: JoinSettings, clock: Callable[[], float]
    ) -> None:
        self._source = source
        self._settings = settings
        self._clock = clock
        self._heads: dict[TopicPartition, deque[tuple[Message, Ranking | Feedback | DecodeError]]] = {
            tp: deque() for tp in tps
        }
        self._seen_s = dict.fromkeys(tps, clock())
        self.read = dict(source.position())

    def take(
        self, ends: Mapping[TopicPartition, int] | None
    ) -> Iterator[tuple[Message, Ranking | Feedback | DecodeError]]:
        """Yields up to `batch` messages; when draining, a partition that stands at its end holds nobody back."""
        for _ in range(self._settings.batch):
            if not all(self._heads.values()):
                self._fill(ends)
            head = self._next(ends)
            if head is None:
                return
            message, record = self._heads[head].popleft()
            self.read[head] = message.offset + 1
            yield message, record

    def at_end(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether everything up to `ends` was taken."""
        return reached(self._source.position(), ends) and not any(self._heads.values())

    def _fill(self, ends: Mapping[TopicPartition, int] | None) -> None:
        for tp, head in self._heads.items():
            if head or (ends is not None and self._source.position()[tp] >= ends[tp]):
                continue
            for message in self._source.read_from(
                tp, self._settings.batch, 0.0 if any(self._heads.values()) else self._settings.wait_s
            ):
                head.append((message, _decode(message)))
            if head:
                self._seen_s[tp] = self._clock()
            else:
                self.read[tp] = max(self.read[tp], self._source.position()[tp])

    def _next(self, ends: Mapping[TopicPartition, int] | None) -> TopicPartition | None:
        now_s = self._clock()
        best: tuple[int, int, TopicPartition] | None = None
        for tp, head in self._heads.items():
            if not head:
                ended = ends is not None and self._source.position()[tp] >= ends[tp]
                if not ended and now_s - self._seen_s[tp] < self._settings.idle_s:
                    return None
                continue
            # A record that does not decode has no event time; it is handed out at once and takes no part in the order.
            # At equal times the ranking comes before its feedback.
            key = (_time_us(head[0][1]), int(tp.topic == "feedback"), tp)
            best = key if best is None else min(best, key)
        return best[2] if best else None


def run(
    log: Log,
    settings: JoinSettings,
    *,
    stop: threading.Event,
    drain: bool = False,
    flush: bool = False,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Counter[str]:
    """Joins until stopped, or until the ends seen at the start when draining.

    Args:
        log: Where `rankings` and `feedback` are read, and `examples` and dead letters written.
        settings: Window, labels, waits.
        stop: Set it and what is closed is committed, then the function returns.
        drain: Return when everything that the log held at the start is taken. Rankings with an open window stay in it.
        flush: With `drain`: close every window at the end; for a log that gets no more.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told the positions passed.
        clock: Seconds, monotonic; for `idle_s` alone.

    Returns:
        Counts: rankings, feedback, examples, labelled, late, unlabelled_action, outside_the_list, dead_letters.

    Raises:
        ConfigError: A label weight is negative, or the topics do not fit each other.
        StreamError: The log cannot be read or written, or another joiner took over.
    """
    inputs, lanes = _topics(log, settings)
    stage = log.stage("join", inputs)
    source = log.source(inputs, stage.position())
    try:
        window = Window(round(settings.window_s * 1e6), settings.labels)
        window.counts = counts if counts is not None else window.counts
        note = msgspec.json.decode(stage.note() or "{}", type=_Note)
        merge = _Merge(source, inputs, settings, clock)
        start, committed = source.position(), stage.position()
        ends = ends_of(source, inputs) if drain else None
        total = sum(end - start[tp] for tp, end in ends.items()) if ends else None
        finished = False
        while not finished and not stop.is_set():
            examples: list[tuple[Example, bytes]] = []
            dead: list[tuple[Message, DecodeError]] = []
            for message, record in merge.take(ends):
                if isinstance(record, Ranking):
                    window.add_ranking(record, message.tp, message.offset, message.value or b"")
                elif isinstance(record, Feedback):
                    window.add_feedback(record, message.tp, message.offset)
                elif message.offset >= note.read.get(str(message.tp), 0):
                    dead.append((message, record))
                examples.extend(window.closed_values())
            finished = ends is not None and merge.at_end(ends)
            if finished and flush:
                examples.extend(window.closed_values(flush=True))
            position = window.oldest_needed(merge.read)
            if examples or dead or position != committed:
                read = {str(tp): max(offset, note.read.get(str(tp), 0)) for tp, offset in merge.read.items()}
                note = _commit(stage, examples, dead, position, _Note(note.n, read), lanes)
                committed = position
                window.counts["dead_letters"] += len(dead)
            if progress:
                progress(sum(merge.read[tp] - start[tp] for tp in inputs), total)
    finally:
        source.close()
        stage.close()
    return window.counts


def _topics(log: Log, settings: JoinSettings) -> tuple[list[TopicPartition], int]:
    """The input partitions and the number of lanes, after a look at whether settings and topics fit."""
    for action, weight in settings.labels.items():
        if not weight >= 0:
            raise ConfigError(f"join.labels.{action}: is {weight}; a label weight is at least 0")
    topics = log.topics()
    missing = [name for name in ("rankings", "feedback", "examples") if name not in topics]
    if missing:
        raise StreamError(f"there is no topic {missing[0]!r}; make the topics with `recdistill topics create`")
    if topics["rankings"] != topics["feedback"]:
        raise ConfigError(
            f"rankings has {topics['rankings']} partitions and feedback {topics['feedback']}; "
            "they are joined by key and must have equal counts"
        )
    return [TopicPartition(name, p) for name in ("rankings", "feedback") for p in range(topics[name])], topics[
        "examples"
    ]


def _commit(
    stage: Stage,
    examples: list[tuple[Example, bytes]],
    dead: list[tuple[Message, DecodeError]],
    position: Mapping[TopicPartition, int],
    note: _Note,
    lanes: int,
) -> _Note:
    """Writes examples and dead letters with the position from which the rest can be rebuilt, all or nothing."""
    with stage.transaction() as transaction:
        for n, (example, ranking) in enumerate(examples, start=note.n):
            joined = encode_around(example, ranking)
            transaction.send("examples", joined, key=key_of(example), partition=n % lanes)
        for message, error in dead:
            value, headers = dead_letter(message, error, "join")
            transaction.send(DEAD_LETTERS, value, key=message.key, headers=headers)
        after = _Note(note.n + len(examples), note.read)
        transaction.commit_inputs(position, note=msgspec.json.encode(after).decode())
    for message, error in dead:
        log_.warning("dead letter from %s at %d: %s", message.tp, message.offset, error)
    return after


def _decode(message: Message) -> Ranking | Feedback | DecodeError:
    try:
        return decode(Ranking, message.value) if message.tp.topic == "rankings" else decode(Feedback, message.value)
    except DecodeError as e:
        return e


def _time_us(record: Ranking | Feedback | DecodeError) -> int:
    if isinstance(record, Ranking):
        return record.impression.time_us
    return record.time_us if isinstance(record, Feedback) else 0
