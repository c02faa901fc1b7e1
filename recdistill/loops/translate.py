"""Topics that a company already has -> impressions, feedback and items, each message exactly once.

A batch is read and translated. Then one transaction writes its records, its dead letters, and the position after the
batch, in somebody else's topics. After a crash before the commit nothing is written, and the batch is read again. What
cannot be understood goes to the dead letters, whole, with the reason. A schema registry that does not answer is waited
for. The others' topics are only read.

Messages are taken in the order of what they are about (`recdistill.loops.in_time`). A record has the time at which it
was written here: the time of a message in somebody else's topic says nothing of how long it is kept in ours.

It knows nothing of the form of messages, or of what a mapping says.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.records import Item, encoded
    >>> from recdistill.stream import open_log, standard_topics
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
    ...     _ = log.create_topics({**standard_topics(), "products": 1})
    ...     with log.stage("shop").transaction() as transaction:
    ...         transaction.send("products", b"sku-1")
    ...     theirs = {"products": lambda message: [encoded(Item(message.value.decode()))]}
    ...     done = [run(log, theirs, stop=threading.Event(), drain=True) for _ in range(2)]
    ...     log.close()
    >>> [dict(counts) for counts in done]
    [{'messages': 1, 'items': 1, 'batches': 1}, {}]
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Final, NamedTuple

from recdistill.data.foreign import Raw, Withdrawn
from recdistill.errors import ConfigError, DataError, SchemaAway, StreamError
from recdistill.loops import ends_of, reached
from recdistill.loops.begin import begun
from recdistill.loops.halt import Halt
from recdistill.loops.in_time import InTime
from recdistill.loops.patience import patiently
from recdistill.loops.workers import shared_out
from recdistill.progress import Progress
from recdistill.records import TOPIC_OF, Encoded
from recdistill.stream import (
    OUTSIDE,
    Delivery,
    Log,
    Message,
    Outgoing,
    Place,
    Source,
    TopicPartition,
    deliver,
    standard_topics,
)

log_ = logging.getLogger(__name__)

STAGE: Final = "translate"
_LEAST_READ: Final = 50
_MORE_S: Final = 5.0
"""Longest wait for a partition that is known to hold more."""


Translate = Callable[[Message], Sequence[Encoded | Withdrawn]]
"""A message -> its records; none where nobody means it. It raises DataError, or SchemaAway."""


def own_topic(name: str) -> str:
    """The sentence for a topic of recdistill that is named as one to translate."""
    return (
        f"translate.topics: {name!r} is a topic of recdistill itself; if another system has a topic of this name, set "
        'log.prefix, such as "recdistill.", so that the two are told apart'
    )


def raw_of(message: Message) -> Raw:
    """A message, for a translator."""
    return Raw(
        where=f"{message.tp.topic.removeprefix(OUTSIDE)}/{message.tp.partition} at {message.offset}",
        value=message.value,
        key=message.key,
        time_us=message.time_us,
        headers=message.headers,
    )


class _One(NamedTuple):
    message: Message
    records: Sequence[Encoded | Withdrawn]
    error: DataError | None


def run(
    log: Log,
    theirs: Mapping[str, Translate],
    *,
    batch: int = 1000,
    wait_s: float = 0.5,
    patience_s: float = 600.0,
    worker: int = 0,
    workers: int = 1,
    most_bad: tuple[int, int] = (0, 1000),
    begin: Place | None = None,
    stop: threading.Event,
    drain: bool = False,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
) -> Counter[str]:
    """Translates until stopped, or until the ends seen at the start when draining.

    Args:
        log: Where topics are read, and records and dead letters are written.
        theirs: What translates each topic, by the name by which the log calls it.
        batch: Most messages translated, and committed, at once.
        wait_s: Longest wait for the first message of a batch.
        patience_s: How long a schema registry that does not answer is waited for.
        worker: This worker's number.
        workers: How many workers share the partitions.
        most_bad: So many of the last so many records may be bad; 0: any.
        begin: Where to begin; None: where it stopped.
        stop: Set it and the batch in work is committed, then the function returns.
        drain: Return when everything that the log held at the start is translated.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told the positions passed.

    Returns:
        Counts: messages, impressions, feedback, items, withdrawn (items), passed_over (messages that no mapping means),
        dead_letters, batches, waits (for the schema registry).

    Raises:
        ConfigError: There is no topic to translate, or it is one of ours.
        TooManyBad: Too many of the last messages cannot be understood.
        SchemaAway: The schema registry did not answer for `patience_s`.
        StreamError: The log cannot be read or written, or another translator took over one of the partitions.
    """
    counts = Counter() if counts is None else counts
    inputs = _inputs(log, theirs, worker=worker, workers=workers)
    halt = Halt(STAGE, most=most_bad[0], of=most_bad[1])
    with begun(log, STAGE, STAGE, inputs, begin, shared=True) as (stage, source):
        reading = _Reading(source, inputs, theirs, batch, patience_s, stop, counts)
        start, ends = source.position(), ends_of(source, inputs)
        reading.ends = ends
        total = sum(ends[tp] - start[tp] for tp in inputs) if drain else None
        while not stop.is_set() and not (drain and reached(reading.position(), ends)):
            some = reading.take(wait_s)
            if some is None:  # stopped while waiting: nothing of this batch is written
                return counts
            position = reading.position()
            # Ends of transactions are passed too, though they are no messages.
            if not some and position == {**position, **stage.position()}:
                stage.keep()
                continue
            dead = [(one.message, one.error) for one in some if one.error is not None]
            halt.take([one.error for one in some])
            outgoing = [_outgoing(record, one.message) for one in some for record in one.records]
            refused = deliver(stage, STAGE, lambda _: Delivery(outgoing, dead, position, now=True))  # noqa: B023 - called at once
            _count(counts, some, outgoing, set(refused))
            if progress:
                progress(sum(position[tp] - start[tp] for tp in inputs), total)
    return counts


def _inputs(log: Log, theirs: Mapping[str, Translate], *, worker: int, workers: int) -> list[TopicPartition]:
    """This worker's partitions."""
    topics = log.topics()
    needed = {"items", "impressions", "feedback"}
    if lacking := sorted(needed - set(topics)):
        raise StreamError(f"there is no topic {lacking[0]!r}; make the topics with `recdistill topics create`")
    if not theirs:
        raise ConfigError(
            "translate.topics: there is no topic to translate; write a [[translate.topics]] with topic and mappings, "
            "or say --topic and --mapping"
        )
    for name in theirs:
        if name in standard_topics():
            raise ConfigError(own_topic(name))
    with closing(log.source(sorted(theirs))) as source:
        every = sorted(source.position())
    return shared_out(every, worker=worker, workers=workers, key="translate")


class _Reading:
    """Reads and translates ahead, and gives messages in the order of their times.

    Attributes:
        ends: Up to where the log is known to hold messages.
    """

    def __init__(
        self,
        source: Source,
        inputs: Sequence[TopicPartition],
        theirs: Mapping[str, Translate],
        batch: int,
        patience_s: float,
        stop: threading.Event,
        counts: Counter[str],
    ) -> None:
        self._source, self._inputs, self._theirs, self._batch = source, inputs, theirs, batch
        self._wait = partial(
            patiently,
            patience_s=patience_s,
            stop=stop,
            waited=partial(counts.update, ("waits",)),
            only=SchemaAway,
            who="the schema registry",
            setting="translate.patience_s",
        )
        self._each = max(_LEAST_READ, batch // max(1, len(inputs)))
        self._queue: InTime[_One] = InTime(inputs)
        self.ends: Mapping[TopicPartition, int] = {}

    def position(self) -> dict[TopicPartition, int]:
        """The next offset of each partition, after what was taken."""
        found = self._source.position()
        for tp in self._inputs:
            if (first := self._queue.first(tp)) is not None:
                found[tp] = first.message.offset
        return found

    def take(self, wait_s: float) -> list[_One] | None:
        """Up to a batch of messages; empty if none came. None: it was told to stop."""
        if not self._queue and reached(self._source.position(), self.ends):
            messages = self._source.read(self._batch, wait_s)
            if not self._put(messages):
                return None
            if len(messages) >= self._batch:  # much waits, so the order counts
                self.ends = ends_of(self._source, list(self._inputs))
        some: list[_One] = []
        for tp in self._inputs:
            if not self._fill(tp):
                return None
        while self._queue and len(some) < self._batch:
            tp, one = self._queue.pop()
            some.append(one)
            if not self._fill(tp):
                return None
        return some

    def _fill(self, tp: TopicPartition) -> bool:
        """Reads more of a partition that is known to hold more. False: it was told to stop."""
        if self._queue.empty(tp) and self._source.position()[tp] < self.ends.get(tp, 0):
            return self._put(self._source.read_from(tp, self._each, _MORE_S))
        return True

    def _put(self, messages: Sequence[Message]) -> bool:
        for message in messages:
            one = self._wait(partial(self._translated, message))
            if one is None:
                return False
            time_us = next((record.time_us for record in one.records if isinstance(record, Encoded)), 0)
            self._queue.put(message.tp, one, time_us or None)
        return True

    def _translated(self, message: Message) -> _One:
        try:
            return _One(message, self._theirs[message.tp.topic](message), None)
        except DataError as e:
            return _One(message, (), e)


def _outgoing(record: Encoded | Withdrawn, message: Message) -> Outgoing:
    if isinstance(record, Withdrawn):
        return Outgoing("items", None, key=record.id.encode(), source=message)
    return Outgoing(TOPIC_OF[record.kind], record.value, key=record.key, source=message)


def _count(counts: Counter[str], some: Sequence[_One], outgoing: Sequence[Outgoing], refused: set[int]) -> None:
    counts["messages"] += len(some)
    for place, one in enumerate(outgoing):
        counts["dead_letters" if place in refused else one.topic if one.value is not None else "withdrawn"] += 1
    for name, number in (
        ("passed_over", sum(not one.records and one.error is None for one in some)),
        ("dead_letters", sum(one.error is not None for one in some)),
        ("batches", 1),
    ):
        if number:
            counts[name] += number
