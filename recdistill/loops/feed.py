"""Records -> topics: what an import, a simulation or a product's producer does.

Records are written in transactions of a few thousand, each record to the topic of its kind. Impressions and feedback
go to the partition of their key. Every Kafka client would choose the same one, so the two meet in the joiner. A record
that cannot be written goes to the dead letters, and the others are written.

`feed` writes what it is given. `feed_once` writes a whole set of records, once: its stage has the name of the set's
content, and how far it came is saved with each transaction. So two imports do not disturb each other, one that was
stopped or killed goes on where it stopped, and one that is done does not write anything again. Records that come
encoded are not encoded again.

It knows nothing of where the records came from.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.records import Item
    >>> from recdistill.stream import open_log, standard_topics
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
    ...     _ = log.create_topics(standard_topics())
    ...     counts = feed(log, [Item("a"), Item("b")])
    ...     both = survey([Item("c"), Item("d")])
    ...     done = [feed_once(log, [Item("c"), Item("d")], both) for _ in range(2)]
    ...     log.close()
    >>> dict(counts), [(dict(fed.counts), fed.before) for fed in done]
    ({'items': 2}, [({'items': 2}, 0), ({}, 2)])
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from recdistill.errors import DataError, StreamError
from recdistill.progress import Progress
from recdistill.records import TOPIC_OF, Encoded, Record, encoded, to_json
from recdistill.stream import Delivery, Log, Message, Outgoing, Position, Stage, TopicPartition, deliver

T = TypeVar("T")


class Whole(NamedTuple):
    """A set of records that is written as one.

    Attributes:
        records: How many there are.
        digest: Of all their bytes, in their order.
        topics: Topics that they go to.
    """

    records: int
    digest: str
    topics: tuple[str, ...]


class Fed(NamedTuple):
    """What `feed_once` did.

    Attributes:
        counts: Records written now, by topic, and dead_letters if there are any.
        before: Records that an earlier call had written.
        stopped: Whether it was stopped before all were written.
    """

    counts: Counter[str]
    before: int
    stopped: bool


class _Progress(msgspec.Struct, frozen=True):
    """The note of a stage: how many records were written, and the digest of those."""

    written: int = 0
    digest: str = ""


def feed(
    log: Log,
    records: Iterable[Record],
    *,
    stop: threading.Event | None = None,
    total: int | None = None,
    progress: Progress | None = None,
    batch: int = 2000,
) -> Counter[str]:
    """Writes records to their topics, in their order.

    Args:
        log: Where to; the topics must exist.
        records: Any mix of items, impressions, feedback and rankings.
        stop: Set it and the function returns after the batch in work; what was written stays.
        total: How many there will be, for the progress.
        progress: Told how many are written.
        batch: Records in one transaction.

    Returns:
        Records written, by topic, and dead_letters if there are any.

    Raises:
        StreamError: A topic is missing, or the log cannot be written.
    """
    topics, counts = log.topics(), Counter[str]()
    stage = log.stage("feed")
    try:
        for some in _batches(records, batch, stop):
            outgoing: list[Outgoing] = []
            dead: list[tuple[Message, Exception]] = []
            for record in some:
                try:
                    outgoing.append(_outgoing(encoded(record), topics))
                except DataError as e:
                    dead.append((unwritten(record), e))
            counts += _write(stage, outgoing, dead)
            if progress:
                progress(counts.total(), total)
    finally:
        stage.close()
    return counts


def unwritten(record: Record) -> Message:
    """A record that was never in a log, as a message for the dead letters: its JSON form if it has one."""
    try:
        value = to_json(record)
    except (ValueError, TypeError, OverflowError):
        value = repr(record).encode(errors="replace")
    tp = TopicPartition(TOPIC_OF[type(record)], -1)
    return Message(tp=tp, offset=-1, key=None, value=value, time_us=0)


def survey(
    records: Iterable[Record | Encoded], *, stop: threading.Event | None = None, progress: Progress | None = None
) -> Whole | None:
    """Reads a set of records, and checks each one that is not encoded yet.

    Args:
        records: The records, or their bytes.
        stop: Set it and the function returns None.
        progress: Told how many are read.

    Raises:
        DataError: A record breaks a rule.
    """
    chain = hashlib.blake2b(digest_size=16)
    topics: dict[str, None] = {}
    number = 0
    for number, record in enumerate(records, 1):
        one = _encoded(record)
        topics[TOPIC_OF[one.kind]] = None
        _add(chain, one)
        if progress and number % 1000 == 0:
            progress(number, None)
        if stop and stop.is_set():
            return None
    return Whole(number, chain.hexdigest(), tuple(topics))


def feed_once(
    log: Log,
    records: Iterable[Record | Encoded],
    whole: Whole,
    *,
    again: bool = False,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    batch: int = 2000,
) -> Fed:
    """Writes those of the records that no earlier call has written.

    Args:
        log: Where to; the topics must exist.
        records: The records that `whole` was made from, in the same order.
        whole: From `survey`.
        again: Whether to write all of them once more if all are written. What was stopped goes on in any case.
        stop: Set it and the function returns after the batch in work.
        progress: Told how many of them are in the log.
        batch: Records in one transaction.

    Raises:
        DataError: The records are other ones than those of `whole`, or than those that were written before.
        StreamError: A topic is missing, the log cannot be written, or the broker has forgotten how far a process came
            that died.
    """
    if not whole.records:
        return Fed(Counter(), 0, stopped=False)
    topics, counts, chain = log.topics(), Counter[str](), hashlib.blake2b(digest_size=16)
    place = TopicPartition(whole.topics[0], 0)  # notes are saved beside a position, and any partition will do
    stage = log.stage(f"import-{whole.digest}", [place])
    try:
        position, note = _began(stage, again=again)
        done = msgspec.json.decode(note, type=_Progress) if note else _Progress()
        if again and done.written == whole.records:
            done = _Progress()
        remaining = map(_encoded, records)
        for one in islice(remaining, done.written):
            _add(chain, one)
        if done.written and chain.hexdigest() != done.digest:
            raise _changed(done.written)
        written = done.written
        for some in _batches(remaining, batch, stop):
            outgoing = [_outgoing(one, topics) for one in some]
            for one in some:
                _add(chain, one)
            progress_now = _Progress(written + len(some), chain.hexdigest())
            if progress_now.written >= whole.records and progress_now != _Progress(whole.records, whole.digest):
                raise _changed(written)
            counts += _write(stage, outgoing, position=position, note=msgspec.json.encode(progress_now).decode())
            written = progress_now.written
            if progress:
                progress(written, whole.records)
    finally:
        stage.close()
    stopped = written < whole.records
    if stopped and not (stop and stop.is_set()):
        raise _changed(written)
    return Fed(counts, done.written, stopped)


def _began(stage: Stage, *, again: bool) -> tuple[Position, str]:
    """Position and note of the last commit, also where a broker has forgotten them since."""
    left = stage.left()
    if left is None:
        return stage.position(), stage.note()
    if left.stopped or again:
        return left.position, left.note if left.stopped else ""
    raise StreamError(
        "a process died in the middle of this import, and since then the broker has forgotten how far it came; look at "
        "what is there (`recdistill inspect`), and say --again to write all of it once more"
    )


def _encoded(record: Record | Encoded) -> Encoded:
    return record if isinstance(record, Encoded) else encoded(record)


def _batches(records: Iterable[T], batch: int, stop: threading.Event | None) -> Iterator[list[T]]:
    remaining = iter(records)
    while (some := list(islice(remaining, batch))) and not (stop and stop.is_set()):
        yield some


def _outgoing(one: Encoded, topics: Mapping[str, int]) -> Outgoing:
    """A record as a message for its topic."""
    topic = TOPIC_OF[one.kind]
    if topic not in topics:
        raise StreamError(f"there is no topic {topic!r}; make the topics with `recdistill topics create`")
    return Outgoing(topic, one.value, key=one.key)


def _write(
    stage: Stage,
    outgoing: Sequence[Outgoing],
    dead: Sequence[tuple[Message, Exception]] = (),
    position: Position | None = None,
    note: str = "",
) -> Counter[str]:
    """Writes one transaction. Returns what was written, by topic, and dead_letters if there are any."""
    refused = deliver(stage, "feed", lambda _: Delivery(outgoing, dead, position, note))
    written = Counter(one.topic for place, one in enumerate(outgoing) if place not in refused)
    if dead or refused:
        written["dead_letters"] = len(dead) + len(refused)
    return written


def _add(chain: hashlib.blake2b, one: Encoded) -> None:
    chain.update(f"{TOPIC_OF[one.kind]}:{len(one.value)}:".encode())
    chain.update(one.value)


def _changed(written: int) -> DataError:
    return DataError(
        f"the records changed while they were imported; {written:,} of the old ones are in the log. Leave the file "
        "alone while it is imported, and import it again: as another table, it is written from its beginning"
    )
