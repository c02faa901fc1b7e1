"""The contracts of a log: what every stage of the loop may ask of it, whichever kind it is.

A log has topics, a topic has partitions, and a partition is a sequence of messages with rising offsets. Five things
surprise people who meet a log for the first time, and both kinds (embedded and Kafka) behave the same in each:

* offsets have gaps: the end of a transaction takes an offset of its own, and an aborted transaction leaves nothing but
  a gap;
* order holds inside one partition only;
* a position is the *next* offset to read, never the last one read;
* old messages go away (retention): a position before the beginning is `OutOfRange`, never a silent jump;
* the last message of a partition is rarely at `end - 1`: compare `position()` with `bounds()` to see whether the end is
  reached.

A position that is saved outside the log needs two more things. Both are in `Log.witness`: what stands before the
position is first brought to the disk, and a witness of it is saved beside the position. When a log has lost its last
messages and has grown again, offsets alone do not show it; the witness does.

It knows nothing of SQLite, Kafka or what is inside a value.

Example:
    >>> identity = LogIdentity(cluster="a", partitions={"examples": 2})
    >>> check_identity(identity, LogIdentity(cluster="a", partitions={"examples": 4}))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    recdistill.errors.WrongLog: topic 'examples' has 4 partitions, but the saved position is for 2; go back to ...
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import msgspec

from recdistill.errors import CheckpointError, OutOfRange, StreamError, WrongLog
from recdistill.text import near

log_ = logging.getLogger(__name__)


class TopicPartition(NamedTuple):
    """One totally ordered sequence of messages."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


Position = Mapping[TopicPartition, int]
"""The next offset of each partition: gaps are allowed, so it may name an offset that holds nothing."""

Headers = Sequence[tuple[str, bytes]]


ITEMS = TopicPartition("items", 0)
"""The catalogue: one partition, so that its records have one order."""

BUNDLES = TopicPartition("bundles", 0)
"""What distillers announce: one partition, so that one bundle is the newest."""


class Message(NamedTuple):
    """One committed message, as bytes."""

    tp: TopicPartition
    offset: int
    key: bytes | None
    value: bytes | None
    time_us: int
    headers: tuple[tuple[str, bytes], ...] = ()


class LogIdentity(msgspec.Struct, frozen=True):
    """What a saved position belongs to; it is saved beside the position and checked on resume.

    Attributes:
        cluster: Id that the log was given when it was made.
        partitions: Partition count of each topic concerned.
        ids: Id of each topic, so that one that was deleted and made again is not taken for the old one.
    """

    cluster: str
    partitions: dict[str, int]
    ids: dict[str, str] = {}


class Source(Protocol):
    """Reads committed messages of a fixed set of partitions. For one thread at a time."""

    def identity(self) -> LogIdentity:
        """What the positions of this source belong to."""
        ...

    def read(self, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """Reads from whichever partitions have something, in offset order for each of them.

        Returns:
            As soon as there is anything: between 1 and `max_messages` messages; none when nothing came within
            `timeout_s`.

        Raises:
            OutOfRange: The position is before the beginning or after the end of a partition.
            StreamError: The log cannot be read.
        """
        ...

    def read_from(self, tp: TopicPartition, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """Reads as `read` does, from this partition only."""
        ...

    def bounds(self, tp: TopicPartition) -> tuple[int, int]:
        """Beginning, and end of what is committed: an offset o can be read when beginning <= o < end."""
        ...

    def position(self) -> dict[TopicPartition, int]:
        """Next offset of each partition, after all messages that were returned; at the end it equals `bounds()[1]`."""
        ...

    def seek(self, position: Position) -> None:
        """Goes on reading at these offsets; partitions not named stay where they are.

        Raises:
            OutOfRange: An offset is outside of the bounds; the sentence has all three numbers.
        """
        ...

    def close(self) -> None:
        """Gives back what the source holds; closing twice is fine."""
        ...


class Transaction(Protocol):
    """Messages and input positions that become visible together or not at all."""

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = (),
        time_us: int | None = None,
    ) -> None:
        """Adds a message.

        Args:
            topic: Plain name of a topic that exists.
            value: Bytes; None is a tombstone.
            key: Chooses the partition when `partition` is None; with neither, the partitions take turns by transaction.
            partition: Partition to write to.
            headers: Name and bytes.
            time_us: Time stamp; now, when None. Kafka keeps whole milliseconds, refuses one more than an hour ahead,
                and counts retention from it: leave it out for records about the past, which carry their own time.
        """
        ...

    def commit_inputs(self, position: Position, note: str = "") -> None:
        """Saves the next offsets of inputs, and a note, with this transaction. Called again, the later call counts.

        Args:
            position: Next offsets; inputs not named keep theirs.
            note: Anything short (at most 4,000 bytes) that belongs to this position.
        """
        ...


class Stage(Protocol):
    """The one writer of a log-to-log step. Its positions live in the log, in the same transaction as its output."""

    def position(self) -> dict[TopicPartition, int]:
        """Committed next offset of each input; the beginning of the partition where nothing was committed yet."""
        ...

    def note(self) -> str:
        """The note of the last commit that had input positions; empty when there was none."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Opens a transaction: leaving the block commits, an exception in it aborts and goes on.

        Raises:
            Fenced: A newer stage of this name exists; at the latest when committing, and nothing is written then.
            StreamError: The commit failed, or nobody knows whether it failed: open the stage again and ask `position`.
        """
        ...

    def close(self) -> None:
        """Gives back what the stage holds; closing twice is fine."""
        ...


class Log(Protocol):
    """A log with its topics. Plain topic names throughout; the prefix goes on the wire only. Thread-safe."""

    def create_topics(
        self, partitions: Mapping[str, int], *, configs: Mapping[str, Mapping[str, str]] | None = None
    ) -> list[str]:
        """Makes the topics that do not exist yet.

        Args:
            partitions: Partition count of each topic.
            configs: Settings for some of the topics, by Kafka's names (`STANDARD_CONFIGS` has those of the loop). The
                embedded log keeps everything and ignores them.

        Returns:
            Names of the topics that were made now.

        Raises:
            WrongLog: A topic exists with another partition count; nothing was made.
        """
        ...

    def topics(self) -> dict[str, int]:
        """Partition count of each topic under this log's prefix."""
        ...

    def source(self, partitions: Sequence[TopicPartition] | Sequence[str], position: Position | None = None) -> Source:
        """Opens a reader.

        Args:
            partitions: Partitions, or topics with all of their partitions.
            position: Where to start; partitions not named, or all when None, start at their beginning.
        """
        ...

    def stage(self, name: str, inputs: Sequence[TopicPartition] = ()) -> Stage:
        """Opens the one writer of this name and fences an older one, also in another process."""
        ...

    def sync(self) -> None:
        """Makes what is committed survive a loss of power, as far as this kind of log can.

        The embedded log flushes its file to the disk. A Kafka commit has already waited for every replica that is in
        sync (`acks=all`); there is nothing more that a client can ask for, so this does nothing.
        """
        ...

    def witness(self, position: Position) -> dict[str, str]:
        """What stands before these positions, in a form to be saved beside them outside the log.

        It syncs the log first, so what is saved never rests on messages that a loss of power can still take. Whoever
        saves a position outside the log calls this and nothing else.

        Args:
            position: Next offsets of one or more partitions.

        Returns:
            An entry for each partition, under its name (`examples/0`). It may have none for a partition of which
            nothing is left before the position.
        """
        ...

    def check_witness(self, position: Position, witness: Mapping[str, str] | None) -> None:
        """Checks that the log still is the one that the positions were saved for.

        Old messages that went away (retention, `trim`), removed records and compaction are no reason to refuse.

        Args:
            position: The saved positions.
            witness: What `witness` returned for them; None where none was saved, as by older versions. Then a warning
                is logged and nothing is checked.

        Raises:
            WrongLog: The log was cut back since, and written anew: the position would pass over new messages.
            OutOfRange: A position is outside of the bounds.
        """
        ...

    def close(self) -> None:
        """Gives back what the log holds. Sources and stages are closed on their own."""
        ...


def check_identity(saved: LogIdentity, actual: LogIdentity) -> None:
    """Holds a saved identity against the log at hand.

    Raises:
        WrongLog: Cluster, partition count or topic id differ; one sentence with both values and the safe ways on.
    """
    ways = "go back to the log it was saved on, or start again from the beginning in a new output folder"
    if saved.cluster != actual.cluster:
        raise WrongLog(f"this log is {actual.cluster!r}, but the saved position is for log {saved.cluster!r}; {ways}")
    for topic, count in saved.partitions.items():
        found = actual.partitions.get(topic)
        if found is None:
            raise WrongLog(
                f"topic {topic!r} of the saved position (with {count} partitions) is not in this log; {ways}"
            )
        if found != count:
            raise WrongLog(f"topic {topic!r} has {found} partitions, but the saved position is for {count}; {ways}")
        old_id, new_id = saved.ids.get(topic), actual.ids.get(topic)
        if old_id and new_id and old_id != new_id:
            raise WrongLog(
                f"topic {topic!r} has id {new_id}, but the saved position is for id {old_id} "
                f"(the topic was made again, or the prefix changed); {ways}"
            )


def out_of_range(tp: TopicPartition, offset: int, beginning: int, end: int) -> OutOfRange:
    """The error for a position that a log does not hold, with all three numbers."""
    return OutOfRange(
        f"the position {offset} of {tp} is outside of what the log holds ({beginning} to {end}); "
        "go back to an older or newer checkpoint, or start again from the beginning"
    )


def cut_back(tp: TopicPartition, offset: int, cut: int, *, at_most: bool = False) -> WrongLog:
    """The error for a log that lost messages which were read before, and has grown again.

    Args:
        tp: The partition.
        offset: The saved position.
        cut: First offset that holds something else than when the position was saved.
        at_most: Whether the cut may also lie before `cut`.
    """
    where = f"{cut} at the latest" if at_most else str(cut)
    return WrongLog(
        f"{tp} was read up to {offset}, and then the log was cut back (by a power cut, a restored copy or a lost "
        f"disk): from {where} on it holds other messages now, and those before {offset} would never be read; go back "
        f"to a checkpoint that stands at {cut} or before, put the whole log back, or start again from the beginning "
        "in a new output folder"
    )


def unwitnessed(position: Position) -> bool:
    """Warns of positions that were saved without a witness; whether there was anything to warn of."""
    saved = [f"{tp} at {offset}" for tp, offset in position.items() if offset > 0]
    if saved:
        log_.warning(
            "the saved position (%s) has no witness, as an older version saved it: whether the log was cut back since "
            "cannot be checked; the next position that is saved has one",
            ", ".join(saved),
        )
    return bool(saved)


def bad_witness(tp: TopicPartition, text: str) -> CheckpointError:
    """The error for a witness that no log of this kind has written."""
    return CheckpointError(f"the witness {text!r} beside the saved position of {tp} is not one; use another checkpoint")


def dead_letter(message: Message, error: Exception, stage: str) -> tuple[bytes | None, tuple[tuple[str, bytes], ...]]:
    """Value and headers for the dead-letter topic: the original bytes, whole, and where they came from.

    A replay may write the same letter twice; `topic`, `partition` and `offset` together tell which ones are the same.

    Args:
        message: The message that could not be used.
        error: Why.
        stage: Name of the stage that gave up on it.
    """
    headers = [
        ("topic", message.tp.topic.encode()),
        ("partition", str(message.tp.partition).encode()),
        ("offset", str(message.offset).encode()),
        ("time_us", str(message.time_us).encode()),
        ("stage", stage.encode()),
        ("error", f"{type(error).__name__}: {error}".encode()[:2000]),
    ]
    if message.key is not None:
        headers.append(("key", message.key))
    headers.extend((f"original.{name}", value) for name, value in message.headers)
    return message.value, tuple(headers)


STANDARD_CONFIGS: Mapping[str, Mapping[str, str]] = {
    "items": {"cleanup.policy": "compact", "min.compaction.lag.ms": str(7 * 24 * 3600 * 1000)}
}
"""Settings of the loop's topics, by Kafka's names.

The newest record of each item stays for ever. Older ones of the last seven days (the time for which a broker keeps the
other topics by default) stay too, because a scorer or a distiller that goes on where it stopped needs the catalogue of
that time.
"""


def standard_topics(partitions: int = 1, lanes: int = 1) -> dict[str, int]:
    """Topics that the loop needs, with their partition counts.

    Args:
        partitions: For `impressions`, `rankings` and `feedback`: equal, because they are keyed by impression id alike.
        lanes: For `examples`; fixed for the life of the topic.

    Raises:
        StreamError: A count is below 1.

    Example:
        >>> standard_topics(2)["feedback"]
        2
    """
    for name, count in (("partitions", partitions), ("lanes", lanes)):
        if count < 1:
            raise StreamError(f"{name} must be at least 1, not {count}")
    keyed = dict.fromkeys(("impressions", "rankings", "feedback"), partitions)
    return {"items": 1, **keyed, "examples": lanes, "bundles": 1, "dead-letters": 1}


def expand(partitions: Sequence[TopicPartition] | Sequence[str], topics: Mapping[str, int]) -> list[TopicPartition]:
    """Turns topics into all of their partitions, and checks that everything named exists and is named once.

    Args:
        partitions: Topics or partitions.
        topics: Partition count of each topic that exists.

    Raises:
        StreamError: Something does not exist or is named twice.
    """
    if isinstance(partitions, str):
        raise StreamError(f"partitions must be a list of topics or partitions, not the text {partitions!r}")
    result: list[TopicPartition] = []
    for each in partitions:
        topic = each if isinstance(each, str) else each.topic
        if topic not in topics:
            raise StreamError(
                f"topic {topic!r} does not exist in this log{suggest(topic, topics)}; make the topics first"
            )
        if isinstance(each, str):
            result.extend(TopicPartition(topic, partition) for partition in range(topics[topic]))
        elif not 0 <= each.partition < topics[topic]:
            raise StreamError(f"topic {topic!r} has no partition {each.partition}; it has 0 to {topics[topic] - 1}")
        else:
            result.append(each)
    if len(set(result)) < len(result):
        raise StreamError("a partition is named twice")
    return result


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the most similar one that is known, or nothing."""
    found = near(name, known)
    return f" (did you mean {found}?)" if found else ""
