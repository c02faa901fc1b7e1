"""The contracts of a log: what every stage of the loop may ask of any kind of log.

A log has topics, a topic has partitions, and a partition is a sequence of messages with rising offsets. Five things
surprise people who use a log for the first time. Both kinds (embedded and Kafka) do the same in each:

* offsets have gaps: the end of a transaction takes one offset, and an aborted transaction leaves only a gap;
* only messages of one partition have an order;
* a position is the *next* offset to read, never the last one read;
* old messages go away (retention): a position before the beginning is `OutOfRange`, never a silent jump;
* the last message of a partition is rarely at `end - 1`: compare `position()` with `bounds()` to see whether the
  end is reached.

A position that is saved outside the log needs two more things. `Log.witness` does both: it flushes the messages before
the position to the disk, and it returns a witness of them to save with the position. A log can lose its last messages
and then grow again. Offsets alone do not show this, but the witness does.

It knows nothing of SQLite, Kafka or what is inside a value.

Example:
    >>> identity = LogIdentity(cluster="a", partitions={"examples": 2})
    >>> check_identity(identity, LogIdentity(cluster="a", partitions={"examples": 4}))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    recdistill.errors.WrongLog: topic 'examples' has 4 partitions, but the saved position is for 2; go back to ...
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

import msgspec

from recdistill.errors import StreamError, WrongLog
from recdistill.text import near


class TopicPartition(NamedTuple):
    """One totally ordered sequence of messages."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


Position = Mapping[TopicPartition, int]
"""The next offset of each partition. There may be no message at that offset, because of gaps."""

Notes = Mapping[TopicPartition, str]
"""A short line of text for each of some inputs of a stage."""

Headers = Sequence[tuple[str, bytes]]


class Message(NamedTuple):
    """One committed message, as bytes."""

    tp: TopicPartition
    offset: int
    key: bytes | None
    value: bytes | None
    time_us: int
    headers: tuple[tuple[str, bytes], ...] = ()


TICK: Final = ("tick", b"")
"""Header of a mark in `examples`: all that came before its time stands before it."""


def is_tick(message: Message) -> bool:
    """Whether a message is a mark of the joiner. It has no value, so a reader that does not know of marks passes it."""
    return message.value is None and TICK in message.headers


class LogIdentity(msgspec.Struct, frozen=True):
    """The log that a saved position belongs to. It is saved with the position, and checked when a run resumes.

    Attributes:
        cluster: Id of the log, from when it was made.
        partitions: Partition count of each topic of the position.
        ids: Id of each topic. A topic that was deleted and made again has a new id.
    """

    cluster: str
    partitions: dict[str, int]
    ids: dict[str, str] = {}


class Left(msgspec.Struct, frozen=True):
    """What a stage says of itself where no broker forgets it.

    Attributes:
        position: Next offsets that it had committed.
        note: The note of that commit.
        stopped: Whether it was closed after that commit. Otherwise it may have gone on: it was killed, or it runs.
        at_us: When it said so.
        notes: The lines of that commit for single inputs.
        ids: Ids of the topics that it reads; nothing where an older version said it.
    """

    position: dict[TopicPartition, int]
    note: str
    stopped: bool
    at_us: int
    notes: dict[TopicPartition, str] = {}
    ids: dict[str, str] = {}


class Source(Protocol):
    """Reads committed messages of a fixed set of partitions. One thread may use it at a time."""

    def identity(self) -> LogIdentity:
        """What the positions of this source belong to."""
        ...

    def read(self, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """Reads from all partitions that have messages, each in the order of its offsets.

        Returns:
            1 to `max_messages` messages, as soon as there are any. An empty list if none came within `timeout_s`.

        Raises:
            OutOfRange: The position is before the beginning or after the end of a partition.
            WrongLog: The log or a topic was removed or replaced since, or a topic has more partitions now.
            StreamError: The log cannot be read.
        """
        ...

    def read_from(self, tp: TopicPartition, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """Reads as `read` does, from this partition only."""
        ...

    def bounds(self, tp: TopicPartition) -> tuple[int, int]:
        """Beginning and end of the committed messages: an offset o can be read when beginning <= o < end."""
        ...

    def position(self) -> dict[TopicPartition, int]:
        """Next offset of each partition, after all messages that were returned. At the end it equals `bounds()[1]`."""
        ...

    def seek(self, position: Position) -> None:
        """Goes on reading at these offsets. Partitions that are not named stay where they are.

        Raises:
            OutOfRange: An offset is outside of the bounds. The sentence has all three numbers.
        """
        ...

    def close(self) -> None:
        """Closes the source. It may be closed twice."""
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
            key: Chooses the partition when `partition` is None. If both are None, each transaction takes
                the next partition.
            partition: Partition to write to.
            headers: Name and bytes.
            time_us: Time stamp; None is now. Kafka keeps whole milliseconds, and refuses a time more than an hour
                ahead. It counts retention from this time. So leave it out for records about the past: they hold their
                own time.

        Raises:
            Unwritable: The message is too large. The transaction can go on without it.
            StreamError: The topic or the partition does not exist, or the message is empty.
        """
        ...

    def commit_inputs(self, position: Position, note: str = "", notes: Notes | None = None) -> None:
        """Saves the next offsets of inputs, and notes, with this transaction. Only the last call counts.

        A note for each input has room where one note for all has not: a stage may have thousands of inputs.

        Args:
            position: Next offsets. Inputs that are not named keep theirs.
            note: A short line of text that belongs to this position.
            notes: A short line for each of some inputs. Inputs that are not named have none from now on. The note and
                the line of an input have at most 4,000 bytes together.
        """
        ...


class Stage(Protocol):
    """The one writer of a step from log to log. Its positions are in the log, in the same transaction as its output."""

    def position(self) -> dict[TopicPartition, int]:
        """Committed next offset of each input, or the beginning of the partition if nothing was committed yet.

        Raises:
            LostPosition: This stage has committed before, and the log does not hold its position any more.
        """
        ...

    def note(self) -> str:
        """The note of the last commit that had input positions; empty if there was none."""
        ...

    def notes(self) -> dict[TopicPartition, str]:
        """What that commit noted for single inputs. Inputs without a line are not in it."""

    def left(self) -> Left | None:
        """What this stage said last, where its position is lost; None where it is not."""
        ...

    def keep(self) -> None:
        """Keeps the position alive. Call it again and again while there is nothing to commit.

        A Kafka broker forgets the position of a stage that has not committed for some days.
        """
        ...

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Opens a transaction.

        The end of the block commits it. An exception in the block aborts it, and is raised again.

        Raises:
            Fenced: A newer stage of this name exists. This is noticed at the commit at the latest, and nothing is
                written then.
            Unwritable: The log refuses some of the messages. Nothing was written, and the stage can go on without
                them; `recdistill.stream.letters` does so.
            StreamError: The commit failed, or it is not known whether it failed. Open the stage again
                and ask `position`.
        """
        ...

    def close(self) -> None:
        """Closes the stage. It may be closed twice."""
        ...


class Log(Protocol):
    """A log with its topics.

    Names of topics have no prefix here: it is added on the wire. A name that begins with `/` is that of somebody
    else's topic, which can be read (`outside`). Several threads may use it.
    """

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

    def grow_topics(self, partitions: Mapping[str, int]) -> list[str]:
        """Gives topics more partitions. No stage may run meanwhile. Nothing is moved.

        Args:
            partitions: Wanted partition count of each topic; each of them exists.

        Returns:
            Names of the topics that have more partitions now.

        Raises:
            WrongLog: A topic has more partitions than wanted; nothing was changed.
        """
        ...

    def dangers(self) -> list[str]:
        """One sentence for each topic whose settings lose records that the loop needs. The embedded log has none."""
        ...

    def topics(self) -> dict[str, int]:
        """Partition count of each topic under this log's prefix."""
        ...

    def source(self, partitions: Sequence[TopicPartition] | Sequence[str], position: Position | None = None) -> Source:
        """Opens a reader.

        Args:
            partitions: Partitions, or topics with all of their partitions.
            position: Where to start. Partitions that are not named start at their beginning; with None all do.
        """
        ...

    def stage(
        self,
        name: str,
        inputs: Sequence[TopicPartition] = (),
        *,
        shared: bool = False,
        formerly: Sequence[str] = (),
    ) -> Stage:
        """Opens the one writer of this name. An older one is fenced, also in another process.

        Args:
            name: Name of the stage.
            inputs: What it reads. Their positions stand under the name of the stage.
            shared: Several processes have this stage, each for some of its inputs. So each input has one owner, and its
                position goes along when another process takes it over. An older process is fenced if it has one of
                these inputs, whatever other inputs it has. Notes are then for single inputs only.
            formerly: Names under which the positions of a shared stage stood in older versions. An input without a
                position takes over the furthest one that stands under these names. This is decided once and written
                under the present name, and a process that works under the old name is fenced.
        """
        ...

    def positions(self) -> dict[str, dict[TopicPartition, int]]:
        """The committed positions of every stage that this log knows, by its name. It opens and fences nothing."""
        ...

    def noted(self, stage: str, inputs: Sequence[TopicPartition]) -> dict[TopicPartition, str]:
        """What the last commit of a stage noted for single inputs. It opens and fences nothing."""
        ...

    def sync(self) -> None:
        """Makes committed messages survive a loss of power, as far as this kind of log can.

        The embedded log flushes its file to the disk. A Kafka commit has already waited for every replica that is in
        sync (`acks=all`). A client can ask for no more, so this does nothing.
        """
        ...

    def witness(self, position: Position) -> dict[str, str]:
        """A witness of the messages before these positions, to be saved with them outside the log.

        It syncs the log first. So a saved position never depends on messages that a loss of power can still take. Code
        that saves a position outside the log needs to call only this.

        Args:
            position: Next offsets of one or more partitions.

        Returns:
            An entry for each partition, under its name (`examples/0`). There may be no entry if no message is left
            before the position.
        """
        ...

    def check_witness(self, position: Position, witness: Mapping[str, str] | None) -> None:
        """Checks that the log is still the one that the positions were saved for.

        It accepts that old messages went away (retention, `trim`), that records were removed, and compaction.

        Args:
            position: The saved positions.
            witness: What `witness` returned for them. None where none was saved: older versions saved none. Then it
                logs a warning and checks nothing.

        Raises:
            WrongLog: The log was cut back since, and has new messages now. The position would pass over some of them.
            OutOfRange: A position is outside of the bounds.
        """
        ...

    def close(self) -> None:
        """Closes the log. It does not close its sources and stages."""
        ...


def check_identity(saved: LogIdentity, actual: LogIdentity) -> None:
    """Compares a saved identity with that of the present log.

    Raises:
        WrongLog: Cluster, partition count or topic id differ. The sentence has both values, and says what can
            safely be done.
    """
    ways = "go back to the log it was saved on, or start again from the beginning in a new output folder"
    if saved.cluster != actual.cluster:
        raise WrongLog(f"this log is {actual.cluster!r}, but the saved position is for log {saved.cluster!r}", ways)
    for topic, count in saved.partitions.items():
        found = actual.partitions.get(topic)
        if found is None:
            raise WrongLog(f"topic {topic!r} of the saved position (with {count} partitions) is not in this log", ways)
        if found != count:
            raise WrongLog(f"topic {topic!r} has {found} partitions, but the saved position is for {count}", ways)
        old_id, new_id = saved.ids.get(topic), actual.ids.get(topic)
        if old_id and new_id and old_id != new_id:
            raise WrongLog(
                f"topic {topic!r} has id {new_id}, but the saved position is for id {old_id} "
                "(the topic was made again, or the prefix changed)",
                ways,
            )


def log_time(message: Message) -> int | None:
    """The log's time of a message, for what a stage makes of it; None, which is now, where the log knew none."""
    return message.time_us if message.time_us > 0 else None


def expand(partitions: Sequence[TopicPartition] | Sequence[str], topics: Mapping[str, int]) -> list[TopicPartition]:
    """Turns topics into all of their partitions. Checks that each topic and partition exists, and is named once.

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
    """A hint for an unknown name: the most similar known name, or an empty text."""
    found = near(name, known)
    return f" (did you mean {found}?)" if found else ""
