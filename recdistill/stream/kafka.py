"""A log on Apache Kafka (3.0 or later), through kafka-python 3.0.12 or later.

Reading goes by `assign` and `seek`, never by a consumer group and never with a reset. It is `read_committed`, so the
end is the last stable offset and aborted messages stay invisible. Values stay bytes, because a deserializer that raises
makes this client hang.

A transaction collects its messages in memory and talks to the broker when it commits: begin, send all, add the input
positions, commit. So a slow stage never holds a transaction open, which would hold back every reader, and leaving the
block with an exception costs nothing. The transactional id is the stage's name: opening a stage aborts what an older
one left half done, and fences it. The group of the same name holds the positions, and the note is the metadata of that
commit; lag dashboards see it like any other group. Each transaction also leaves a mark of its own in the group
`<name>.marks`: when a broker goes away in the middle, a new connection sees by it whether the commit went through, and
sends all of it again if not.

A broker that restarts is waited for, with a line in the log; what takes longer than two minutes becomes a StreamError.
It knows nothing of what is inside a value.

Example:
    >>> KafkaLog("127.0.0.1:9092", options={"isolation_level": "read_uncommitted"})
    Traceback (most recent call last):
    ...
    recdistill.errors.ConfigError: log.options.isolation_level: recdistill sets this itself; remove it
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from kafka import KafkaAdminClient
from kafka import TopicPartition as WirePartition
from kafka.errors import (
    LogTruncationError,
    OffsetOutOfRangeError,
    RetriableError,
    TopicAlreadyExistsError,
)
from kafka.structs import OffsetAndMetadata

from recdistill.errors import OutOfRange, StreamError, WrongLog
from recdistill.stream.contract import (
    LogIdentity,
    Message,
    Position,
    TopicPartition,
    expand,
    out_of_range,
)
from recdistill.stream.kafka_client import PATIENCE_S, REMIND_S, Brokers, Options
from recdistill.stream.kafka_stage import KafkaStage

_logger = logging.getLogger(__name__)

_AHEAD = 2_000
"""Messages of one partition kept in memory while waiting for another; beyond that the partition is paused."""


class KafkaLog:
    """A log on Kafka; see `recdistill.stream.contract.Log`.

    Args:
        brokers: Bootstrap servers, `host:port,host:port`.
        prefix: Put before each topic name, group id and transactional id.
        options: Settings of kafka-python by its own names, among them `security_protocol`, `sasl_mechanism`,
            `sasl_plain_username`, `sasl_plain_password`, `ssl_cafile`, `ssl_certfile`, `ssl_keyfile`,
            `compression_type`.

    Raises:
        ConfigError: An option that does not exist, or that this module sets itself.
        StreamError: No broker answers.
    """

    def __init__(self, brokers: str, *, prefix: str = "", options: Options | None = None) -> None:
        self.prefix = prefix
        self.brokers = Brokers(brokers, options or {})
        self._lock = threading.Lock()
        with self.brokers.explained("reach"):
            self._admin = KafkaAdminClient(**self.brokers.settings(KafkaAdminClient, {}))
        self.cluster = str(self._ask("ask", self._admin.describe_cluster)["cluster_id"])

    def create_topics(
        self, partitions: Mapping[str, int], *, configs: Mapping[str, Mapping[str, str]] | None = None
    ) -> list[str]:
        """Makes the topics that do not exist yet; see the contract."""
        existing = self.topics()
        wanted: dict[str, dict[str, Any]] = {}
        for topic, count in partitions.items():
            if not topic or count < 1:
                raise StreamError(f"topic {topic!r} needs a name and at least 1 partition, not {count}")
            _check_count(topic, existing.get(topic, count), count)
            if topic not in existing:
                wanted[self.prefix + topic] = {"num_partitions": count, "configs": dict((configs or {}).get(topic, {}))}
        if not wanted:
            return []
        try:
            self._ask("make topics on", lambda: self._admin.create_topics(wanted, wait_for_metadata=True))
        except TopicAlreadyExistsError:
            # Somebody else made one of them in the meantime: check the counts, make the rest.
            return self.create_topics(partitions, configs=configs)
        made = [name[len(self.prefix) :] for name in wanted]
        deadline = time.monotonic() + PATIENCE_S
        # Brokers learn of a topic one after the other, and we do not know which one answers next.
        while not all(self.topics().get(topic) for topic in made):
            if time.monotonic() > deadline:
                raise StreamError(f"new topics do not become usable on {self.brokers.where}; check the brokers' logs")
            time.sleep(0.05)
        return made

    def topics(self) -> dict[str, int]:
        """Partition count of each topic under the prefix."""
        return {topic["name"][len(self.prefix) :]: len(topic["partitions"]) for topic in self._describe()}

    def source(
        self, partitions: Sequence[TopicPartition] | Sequence[str], position: Position | None = None
    ) -> KafkaSource:
        """Opens a reader; see the contract."""
        return KafkaSource(self, expand(partitions, self.topics()), position or {})

    def stage(self, name: str, inputs: Sequence[TopicPartition] = ()) -> KafkaStage:
        """Opens the one writer of this name; see the contract."""
        if not name:
            raise StreamError("a stage needs a name")
        return KafkaStage(self, name, expand(inputs, self.topics()))

    def identity(self, topics: Sequence[str]) -> LogIdentity:
        """Cluster, partition counts and topic ids of these topics."""
        found = {topic["name"][len(self.prefix) :]: topic for topic in self._describe()}
        for topic in topics:
            if topic not in found:
                raise StreamError(f"topic {topic!r} is no longer on {self.brokers.where}; make the topics again")
        return LogIdentity(
            self.cluster,
            {topic: len(found[topic]["partitions"]) for topic in topics},
            {topic: str(found[topic]["topic_id"]) for topic in topics},
        )

    def wire(self, tp: TopicPartition) -> WirePartition:
        """A partition under its name on the wire."""
        return WirePartition(self.prefix + tp.topic, tp.partition)

    def committed(self, group: str, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        """Offset and metadata that a group committed, of those partitions where it did."""
        result = {}
        with self.brokers.explained("ask"), closing(self.brokers.consumer(group)) as consumer:
            for tp in tps:
                found = self.brokers.retry(partial(consumer.committed, self.wire(tp), metadata=True))
                if found is not None and found.offset >= 0:
                    result[tp] = (int(found.offset), str(found.metadata or ""))
        return result

    def claim(self, group: str, tp: TopicPartition, name: str) -> None:
        """Writes a name as what a group committed, outside of any transaction."""
        with self.brokers.explained("write to"), closing(self.brokers.consumer(group)) as consumer:
            self.brokers.retry(partial(consumer.commit, {self.wire(tp): OffsetAndMetadata(0, name, -1)}))

    def beginnings(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """First offset of each partition."""
        if not tps:
            return {}
        with self.brokers.explained("ask"), closing(self.brokers.consumer()) as consumer:
            found = self.brokers.retry(partial(consumer.beginning_offsets, [self.wire(tp) for tp in tps]))
        return {tp: int(found[self.wire(tp)]) for tp in tps}

    def close(self) -> None:
        """Closes the administrative connection."""
        with self._lock:
            self._admin.close()

    def _ask(self, doing: str, call: Callable[[], Any]) -> Any:
        """One administrative request at a time: that client is not for several threads."""
        with self.brokers.explained(doing), self._lock:
            return self.brokers.retry(call)

    def _describe(self) -> list[dict[str, Any]]:
        # All topics, because asking a broker for one by name may make it.
        found = self._ask("ask", self._admin.describe_topics)
        return [topic for topic in found if not topic["is_internal"] and topic["name"].startswith(self.prefix)]


class KafkaSource:
    """Reads committed messages; see `recdistill.stream.contract.Source`."""

    def __init__(self, log: KafkaLog, tps: Sequence[TopicPartition], position: Position) -> None:
        self._log = log
        self._identity = log.identity(sorted({tp.topic for tp in tps}))
        self._wire = {tp: log.wire(tp) for tp in tps}
        self._plain = {wire: tp for tp, wire in self._wire.items()}
        self._kept: dict[TopicPartition, deque[Message]] = {tp: deque() for tp in tps}
        self._closed = False
        self._turn = 0
        self._answered = time.monotonic()
        with log.brokers.explained("reach"):
            self._consumer = log.brokers.consumer()
        try:
            self._consumer.assign(list(self._plain))
            bounds = self._bounds(tps)
            self._seek({tp: beginning for tp, (beginning, _) in bounds.items()})
            self.seek(position)
        except Exception:
            self.close()
            raise

    def identity(self) -> LogIdentity:
        """What the positions of this source belong to, as of when it was opened."""
        return self._identity

    def read(self, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """Reads from whichever partitions have something."""
        messages: list[Message] = []
        tps = list(self._kept)
        self._turn = (self._turn + 1) % max(1, len(tps))
        for tp in (*tps[self._turn :], *tps[: self._turn]):
            messages.extend(self._take(tp, max_messages - len(messages)))
        if not messages:
            self._resume(tps)
            for batch in self._poll(max_messages, timeout_s).values():
                messages.extend(batch)
        return messages

    def read_from(self, tp: TopicPartition, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """Reads from one partition; what comes from others meanwhile is kept for them."""
        self._check_ours(tp)
        deadline = time.monotonic() + timeout_s
        while not self._kept[tp]:
            full = [other for other, kept in self._kept.items() if other != tp and len(kept) >= _AHEAD]
            self._consumer.pause(*(self._wire[other] for other in full))
            self._resume([other for other in self._kept if other not in full])
            left_s = max(0.0, deadline - time.monotonic())
            for other, batch in self._poll(max(max_messages, _AHEAD), left_s).items():
                self._kept[other].extend(batch)
            if left_s == 0:
                break
        return self._take(tp, max_messages)

    def bounds(self, tp: TopicPartition) -> tuple[int, int]:
        """Beginning, and last stable offset, of a partition."""
        self._check_ours(tp)
        return self._bounds([tp])[tp]

    def position(self) -> dict[TopicPartition, int]:
        """Next offset of each partition."""
        return {
            tp: kept[0].offset if kept else int(self._consumer.position(self._wire[tp]))
            for tp, kept in self._kept.items()
        }

    def seek(self, position: Position) -> None:
        """Goes on reading at these offsets."""
        for tp in position:
            self._check_ours(tp)
        bounds = self._bounds(list(position))
        for tp, offset in position.items():
            beginning, end = bounds[tp]
            if not beginning <= offset <= end:
                raise out_of_range(tp, offset, beginning, end)
        self._seek(position)

    def close(self) -> None:
        """Closes the connection."""
        if not self._closed:
            self._closed = True
            self._consumer.close(autocommit=False)

    def _seek(self, position: Position) -> None:
        for tp, offset in position.items():
            self._kept[tp].clear()
            self._consumer.seek(self._wire[tp], offset)

    def _check_ours(self, tp: TopicPartition) -> None:
        if tp not in self._wire:
            raise StreamError(f"{tp} is not a partition of this source; it has {', '.join(map(str, self._wire))}")

    def _bounds(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        if not tps:
            return {}
        wires = [self._wire[tp] for tp in tps]
        with self._log.brokers.explained("ask"):
            beginnings = self._log.brokers.retry(lambda: self._consumer.beginning_offsets(wires))
            ends = self._log.brokers.retry(lambda: self._consumer.end_offsets(wires))
        self._answered = time.monotonic()
        return {self._plain[wire]: (int(beginnings[wire]), int(ends[wire])) for wire in wires}

    def _take(self, tp: TopicPartition, most: int) -> list[Message]:
        kept = self._kept[tp]
        return [kept.popleft() for _ in range(min(most, len(kept)))]

    def _resume(self, tps: Iterable[TopicPartition]) -> None:
        paused = self._consumer.paused()
        self._consumer.resume(*(self._wire[tp] for tp in tps if self._wire[tp] in paused))

    def _poll(self, most: int, timeout_s: float) -> dict[TopicPartition, list[Message]]:
        with self._log.brokers.explained("read from"):
            try:
                found = self._consumer.poll(timeout_ms=max(0, round(timeout_s * 1000)), max_records=most)
            except (OffsetOutOfRangeError, LogTruncationError) as error:
                raise self._lost() from error
            except RetriableError as error:
                _logger.warning("%s does not answer (%s); trying again", self._log.brokers.where, error)
                found = {}
        if found:
            self._answered = time.monotonic()
        elif time.monotonic() - self._answered > 3 * REMIND_S:
            # An empty answer looks the same as no answer: ask something that has to be answered.
            self._bounds(list(self._wire)[:1])
        return {
            self._plain[wire]: [_message(self._plain[wire], each) for each in batch] for wire, batch in found.items()
        }

    def _lost(self) -> StreamError:
        """The error that says which partition's position the log does not hold any more."""
        position = {tp: int(self._consumer.position(wire)) for tp, wire in self._wire.items()}
        for tp, (beginning, end) in self._bounds(list(self._wire)).items():
            if not beginning <= position[tp] <= end:
                return out_of_range(tp, position[tp], beginning, end)
        return OutOfRange(
            f"{self._log.brokers.where} lost messages that were read before; start again from an older checkpoint"
        )


def _message(tp: TopicPartition, record: Any) -> Message:
    headers = tuple((name, data or b"") for name, data in record.headers)
    return Message(tp, record.offset, record.key, record.value, record.timestamp * 1000, headers)


def _check_count(topic: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise WrongLog(
            f"topic {topic!r} exists with {found} partitions, not {wanted}; a count never changes: "
            f"ask for {found}, or choose another prefix or log"
        )
