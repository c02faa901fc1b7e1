"""Rankings + feedback -> examples: each ranking once, with the labels that came within a window of event time.

The messages of all partitions are taken in the order of their event times. So what the joiner writes depends on the
log, not on which partition was faster. The clock is the greatest event time so far. When the clock has passed the
window of a ranking, its example is written, first in first out. Example n goes to lane n mod L.

Some lists were perhaps shown to nobody: those that the student answered or the prober asked for. Without feedback such
a list gets the label state `none`. So the student does not learn that every item in it is bad.

Nothing is kept outside the log. Each commit saves, for each ranking partition, the oldest ranking that is not written
yet; for each feedback partition, the oldest feedback that such a ranking still needs; and a note with n. From these a
restart rebuilds the window exactly.

It knows nothing of teachers or of training.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Final

import msgspec

from recdistill.errors import ConfigError, DataError, DecodeError, StreamError
from recdistill.limits import MAX_WEIGHT
from recdistill.loops import ends_of, reached
from recdistill.loops.begin import begun
from recdistill.loops.window import Window
from recdistill.progress import Progress
from recdistill.records import Example, Feedback, Ranking, decode, encode_around, key_of
from recdistill.stream import Delivery, Log, Message, Outgoing, Place, Source, Stage, TopicPartition, deliver

log_ = logging.getLogger(__name__)

LABELS: Final[Mapping[str, float]] = {"click": 1.0}
"""A click is a label, and nothing else is."""


Closed = tuple[Example, bytes, tuple[TopicPartition, int]]
"""An example, the value of its ranking, and where that was read."""


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
        self,
        source: Source,
        tps: list[TopicPartition],
        *,
        batch: int,
        wait_s: float,
        idle_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._batch, self._wait_s, self._idle_s = batch, wait_s, idle_s
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
        for _ in range(self._batch):
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
            for message in self._source.read_from(tp, self._batch, 0.0 if any(self._heads.values()) else self._wait_s):
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
                if not ended and now_s - self._seen_s[tp] < self._idle_s:
                    return None
                continue
            # A record that does not decode has no event time. It is handed out at once and takes no part in the order.
            # At equal times the ranking comes before its feedback.
            key = (_time_us(head[0][1]), int(tp.topic == "feedback"), tp)
            best = key if best is None else min(best, key)
        return best[2] if best else None


def run(
    log: Log,
    *,
    window_s: float = 1800.0,
    labels: Mapping[str, float] = LABELS,
    batch: int = 1000,
    wait_s: float = 0.5,
    idle_s: float = 30.0,
    begin: Place | None = None,
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
        window_s: Event time that feedback may take. Then the example is closed.
        labels: Weight of each action. An action that is not named gives no label.
        batch: Most messages read between two commits.
        wait_s: Longest wait for new messages.
        idle_s: A partition that is silent for so long no longer holds the order of the others back.
        begin: Where in `rankings` and `feedback` to begin; None: where it stopped.
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
    inputs, lanes = _topics(log, labels)
    with begun(log, "join", "join", inputs, begin, moved=_moved) as (stage, source):
        window = Window(round(window_s * 1e6), labels)
        window.counts = counts if counts is not None else window.counts
        note = msgspec.json.decode(stage.note() or "{}", type=_Note)
        merge = _Merge(source, inputs, batch=batch, wait_s=wait_s, idle_s=idle_s, clock=clock)
        start, committed = source.position(), stage.position()
        ends = ends_of(source, inputs) if drain else None
        total = sum(end - start[tp] for tp, end in ends.items()) if ends else None
        finished = False
        while not finished and not stop.is_set():
            examples: list[Closed] = []
            dead: list[tuple[Message, Exception]] = []
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
                note = _commit(stage, examples, dead, position, _Note(note.n, read), lanes, window.counts)
                committed = position
            else:
                stage.keep()
            if progress:
                progress(sum(merge.read[tp] - start[tp] for tp in inputs), total)
    return window.counts


def _topics(log: Log, labels: Mapping[str, float]) -> tuple[list[TopicPartition], int]:
    """The input partitions and the number of lanes, after a look at whether settings and topics fit."""
    for action, weight in labels.items():
        if not 0 <= weight <= MAX_WEIGHT:
            raise ConfigError(
                f"join.labels.{action}: is {weight}; a label weight is at least 0 and at most {MAX_WEIGHT:g}"
            )
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


def _moved(note: str) -> str:
    """The note for another position: the lanes go on in their turn, and nothing behind the position was read before."""
    return msgspec.json.encode(_Note(msgspec.json.decode(note or "{}", type=_Note).n)).decode()


def _commit(
    stage: Stage,
    examples: list[Closed],
    dead: list[tuple[Message, Exception]],
    position: Mapping[TopicPartition, int],
    note: _Note,
    lanes: int,
    counts: Counter[str],
) -> _Note:
    """Writes examples and dead letters with the position from which the rest can be rebuilt, all or nothing."""
    made: list[Outgoing] = []
    for example, ranking, (tp, offset) in examples:
        key = key_of(example)
        source = Message(tp=tp, offset=offset, key=key, value=ranking, time_us=0)
        try:
            made.append(Outgoing("examples", encode_around(example, ranking), key=key, source=source))
        except DataError as e:
            dead.append((source, e))

    def prepare(refused: Container[int]) -> Delivery:
        # An example takes the next lane when it is written, so one that is refused must not take one.
        written = (n for n in range(note.n, note.n + len(made)))
        turned = [
            one if place in refused else one._replace(partition=next(written) % lanes) for place, one in enumerate(made)
        ]
        after = _Note(next(written, note.n + len(made)), note.read)
        return Delivery(turned, dead, position, msgspec.json.encode(after).decode())

    refused = deliver(stage, "join", prepare)
    counts["dead_letters"] += len(dead) + len(refused)
    counts["examples"] -= len(examples) - len(made) + len(refused)
    return _Note(note.n + len(made) - len(refused), note.read)


def _decode(message: Message) -> Ranking | Feedback | DecodeError:
    try:
        return decode(Ranking, message.value) if message.tp.topic == "rankings" else decode(Feedback, message.value)
    except DecodeError as e:
        return e


def _time_us(record: Ranking | Feedback | DecodeError) -> int:
    if isinstance(record, Ranking):
        return record.impression.time_us
    return record.time_us if isinstance(record, Feedback) else 0
