"""A log on Apache Kafka (3.0 or later), through kafka-python 3.0.12 or later.

Reading: `assign` and `seek`, never a consumer group and never a reset; `read_committed`, so the end is the last stable
    offset
and aborted messages stay invisible; values stay bytes, because a deserializer that raises makes this client hang.

Writing: a transaction collects its messages in memory and talks to the broker when it commits, in this order: begin,
    send
all, add the input positions (`send_offsets_to_transaction`), commit. So a slow stage never holds a transaction open,
which would hold back every reader, and leaving the block with an exception costs nothing. The transactional id is the
stage's name: opening a stage aborts what an older one left half done, and fences it. The group of the same name holds
the positions, and the note is the metadata of that commit; lag dashboards see it like any other group.

A broker that restarts is waited for, with a line in the log; what takes longer than two minutes becomes a StreamError.
It knows nothing of what is inside a value.

Example:
    >>> KafkaLog("127.0.0.1:9092", options={"sasl_mecanism": "PLAIN"})
    Traceback (most recent call last):
    ...
    recdistill.errors.ConfigError: log.options.sasl_mecanism: no option of kafka-python (did you mean sasl_mechanism?)
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import TopicPartition as WirePartition
from kafka.errors import (
    InvalidProducerEpochError,
    KafkaError,
    LogTruncationError,
    OffsetOutOfRangeError,
    ProducerFencedError,
    RetriableError,
    TopicAlreadyExistsError,
)
from kafka.structs import OffsetAndMetadata

from recdistill.errors import ConfigError, Fenced, OutOfRange, RecdistillError, StreamError, WrongLog
from recdistill.stream.contract import (
    Headers,
    LogIdentity,
    Message,
    Position,
    TopicPartition,
    check_commit,
    check_message,
    expand,
    out_of_range,
    suggest,
)

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Options = Mapping[str, str | int | float | bool]

_PATIENCE_S = 120.0
"""How long a broker may be away before that is an error."""

_REMIND_S = 10.0
"""How often the log says that we are waiting."""

_AHEAD = 2_000
"""Messages of one partition kept in memory while waiting for another; beyond that the partition is paused."""

# What makes the contract hold, and what only objects could set: not for the settings file.
_OURS = frozenset(
    "bootstrap_servers group_id group_instance_id enable_auto_commit auto_offset_reset isolation_level "  # noqa: SIM905
    "default_offset_commit_callback key_deserializer value_deserializer key_serializer value_serializer "
    "partitioner partition_assignment_strategy transactional_id enable_idempotence acks retries "
    "allow_auto_create_topics consumer_timeout_ms kafka_client selector metric_reporters ssl_context "
    "sasl_oauth_token_provider socket_options api_version".split()
)
_CONSUMER = {"max_partition_fetch_bytes": 4 << 20, "metrics_enabled": False}
# The client's own backoff of 100 ms would be waited in each transaction, while the coordinator still closes the last.
_PRODUCER = {
    "compression_type": "lz4",
    "batch_size": 256 << 10,
    "linger_ms": 5,
    "retry_backoff_ms": 20,
    "metrics_enabled": False,
}
_DEFAULTS: dict[type, dict[str, Any]] = {KafkaConsumer: _CONSUMER, KafkaProducer: _PRODUCER}


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

    def __init__(self, brokers: str, *, prefix: str = "", options: _Options | None = None) -> None:
        self.prefix = prefix
        self._servers = [server.strip() for server in brokers.split(",") if server.strip()]
        self._options = dict(options or {})
        _check_options(self._options)
        if not self._servers:
            raise ConfigError("log.brokers: name at least one broker as host:port")
        if importlib.util.find_spec("crc32c") is None:
            _logger.warning("the package crc32c is missing: reading will be about ten times slower; pip install crc32c")
        self._lock = threading.Lock()
        with self.explained("reach"):
            self._admin = KafkaAdminClient(**self.client_settings(KafkaAdminClient, {}))
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
        deadline = time.monotonic() + _PATIENCE_S
        while any(not topic["partitions"] for topic in self._describe() if topic["name"] in wanted) or not set(
            partitions
        ) <= set(self.topics()):
            if time.monotonic() > deadline:
                raise StreamError(f"the new topics did not become usable on {self.where}; check the brokers' logs")
            time.sleep(0.05)
        return [name[len(self.prefix) :] for name in wanted]

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
                raise StreamError(f"topic {topic!r} is no longer on {self.where}; make the topics again")
        return LogIdentity(
            self.cluster,
            {topic: len(found[topic]["partitions"]) for topic in topics},
            {topic: str(found[topic]["topic_id"]) for topic in topics},
        )

    @property
    def where(self) -> str:
        """The brokers, for a person."""
        return f"Kafka at {','.join(self._servers)}"

    def client_settings(self, client: type, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Settings for one of the client's classes: our defaults, then the user's options, then what has to be."""
        defaults: Mapping[str, Any] = _DEFAULTS.get(client, {})
        known: dict[str, Any] = client.DEFAULT_CONFIG  # type: ignore[attr-defined]
        chosen = {name: value for name, value in self._options.items() if name in known}
        return {**defaults, **chosen, **ours, "bootstrap_servers": self._servers}

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """Turns what the client raises into one sentence that says what to do."""
        try:
            yield
        except (ProducerFencedError, InvalidProducerEpochError) as error:
            raise Fenced(f"a newer process has taken over this stage on {self.where}; this one must stop") from error
        except (RecdistillError, TopicAlreadyExistsError):
            raise
        except (KafkaError, OSError, RuntimeError, ValueError) as error:
            text = str(error) or type(error).__name__
            if "compression codec" in text:
                advice = "install recdistill[kafka], or set the log option compression_type to gzip"
            elif "uthenticat" in text or "uthoriz" in text or "SASL" in text or "SSL" in text:
                advice = "check the security options in log.options and the rights of this user"
            else:
                advice = "check log.brokers, and that the brokers are up and can be reached from here"
            raise StreamError(f"cannot {doing} {self.where}: {text}; {advice}") from error

    def retry(self, call: Callable[[], _T]) -> _T:
        """Calls until the broker answers, for two minutes at most; says so in the log while waiting."""
        started = time.monotonic()
        reminded = started
        while True:
            try:
                return call()
            except (RetriableError, OSError) as error:
                now = time.monotonic()
                if now - started > _PATIENCE_S:
                    raise
                if now - reminded >= _REMIND_S or reminded == started:
                    _logger.warning("%s does not answer (%s); trying again for %.0f s", self.where, error, _PATIENCE_S)
                    reminded = now
                time.sleep(0.2)

    def bounded(self, doing: str, call: Callable[[], object]) -> None:
        """Waits two minutes at most for a call of the client that would itself wait for ever.

        Raises:
            StreamError: It did not return; whatever it used must not be used again.
        """
        result: list[BaseException | None] = []

        def run() -> None:
            try:
                call()
                result.append(None)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                result.append(error)

        thread = threading.Thread(target=run, name="recdistill-kafka", daemon=True)
        thread.start()
        deadline = time.monotonic() + _PATIENCE_S
        while thread.is_alive():
            thread.join(min(_REMIND_S, max(0.0, deadline - time.monotonic())))
            if thread.is_alive():
                if time.monotonic() >= deadline:
                    raise StreamError(
                        f"cannot {doing} {self.where}: no answer within {_PATIENCE_S:.0f} s; check the brokers"
                    )
                _logger.warning("%s does not answer while we %s it; waiting %.0f s", self.where, doing, _PATIENCE_S)
        if result[0] is not None:
            raise result[0]

    def close(self) -> None:
        """Closes the administrative connection."""
        with self._lock:
            self._admin.close()

    def _ask(self, doing: str, call: Callable[[], Any]) -> Any:
        """One administrative request at a time: that client is not for several threads."""
        with self.explained(doing), self._lock:
            return self.retry(call)

    def _describe(self) -> list[dict[str, Any]]:
        # All topics, because asking a broker for one by name may make it.
        found = self._ask("ask", self._admin.describe_topics)
        return [topic for topic in found if not topic["is_internal"] and topic["name"].startswith(self.prefix)]


class KafkaSource:
    """Reads committed messages; see `recdistill.stream.contract.Source`."""

    def __init__(self, log: KafkaLog, tps: Sequence[TopicPartition], position: Position) -> None:
        self._log = log
        self._identity = log.identity(sorted({tp.topic for tp in tps}))
        self._wire = {tp: WirePartition(log.prefix + tp.topic, tp.partition) for tp in tps}
        self._plain = {wire: tp for tp, wire in self._wire.items()}
        self._kept: dict[TopicPartition, deque[Message]] = {tp: deque() for tp in tps}
        self._closed = False
        self._turn = 0
        self._answered = time.monotonic()
        with log.explained("reach"):
            self._consumer = KafkaConsumer(
                **log.client_settings(
                    KafkaConsumer,
                    {
                        "group_id": None,
                        "enable_auto_commit": False,
                        "auto_offset_reset": "none",
                        "isolation_level": "read_committed",
                        "allow_auto_create_topics": False,
                    },
                )
            )
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
        with self._log.explained("ask"):
            beginnings = self._log.retry(lambda: self._consumer.beginning_offsets(wires))
            ends = self._log.retry(lambda: self._consumer.end_offsets(wires))
        self._answered = time.monotonic()
        return {self._plain[wire]: (int(beginnings[wire]), int(ends[wire])) for wire in wires}

    def _take(self, tp: TopicPartition, most: int) -> list[Message]:
        kept = self._kept[tp]
        return [kept.popleft() for _ in range(min(most, len(kept)))]

    def _resume(self, tps: Iterable[TopicPartition]) -> None:
        paused = self._consumer.paused()
        self._consumer.resume(*(self._wire[tp] for tp in tps if self._wire[tp] in paused))

    def _poll(self, most: int, timeout_s: float) -> dict[TopicPartition, list[Message]]:
        with self._log.explained("read from"):
            try:
                found = self._consumer.poll(timeout_ms=max(0, round(timeout_s * 1000)), max_records=most)
            except (OffsetOutOfRangeError, LogTruncationError) as error:
                raise self._lost() from error
            except RetriableError as error:
                _logger.warning("%s does not answer (%s); trying again", self._log.where, error)
                found = {}
        if found:
            self._answered = time.monotonic()
        elif time.monotonic() - self._answered > 3 * _REMIND_S:
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
            f"{self._log.where} lost messages that were read before; start again from an older checkpoint"
        )


class KafkaStage:
    """The one writer of a name; see `recdistill.stream.contract.Stage`."""

    def __init__(self, log: KafkaLog, name: str, inputs: Sequence[TopicPartition]) -> None:
        self._log = log
        self._id = log.prefix + name
        self._inputs = tuple(inputs)
        self._counts = log.topics()
        self._turns = itertools.count()
        self._open = False
        self._closed = False
        self._broken: StreamError | None = None
        with log.explained("reach"):
            self._producer = KafkaProducer(
                **log.client_settings(
                    KafkaProducer, {"transactional_id": self._id, "acks": -1, "allow_auto_create_topics": False}
                )
            )
        try:
            # First this, which ends whatever an older stage left open; only then the positions are final.
            with log.explained("write to"):
                log.bounded("write to", self._producer.init_transactions)
            self._position, self._note = self._committed()
        except Exception:
            self.close()
            raise

    def position(self) -> dict[TopicPartition, int]:
        """Committed next offset of each input."""
        self._check_usable()
        return dict(self._position)

    def note(self) -> str:
        """The note of the last commit that had input positions."""
        self._check_usable()
        return self._note

    @contextmanager
    def transaction(self) -> Generator[KafkaTransaction]:
        """Opens a transaction; see the contract."""
        if self._open:
            raise StreamError("a stage has one transaction at a time; leave the open one first")
        self._check_usable()
        self._open = True
        transaction = KafkaTransaction(self, self._inputs, next(self._turns))
        try:
            yield transaction
            self._commit(transaction)
        finally:
            transaction.close()
            self._open = False

    def partitions(self, topic: str) -> int:
        """Partition count of a topic."""
        if topic not in self._counts:
            self._counts = self._log.topics()
        if topic not in self._counts:
            hint = suggest(topic, self._counts)
            raise StreamError(f"topic {topic!r} does not exist on {self._log.where}{hint}; make the topics first")
        return self._counts[topic]

    def close(self) -> None:
        """Closes the connection."""
        if not self._closed:
            self._closed = True
            # A producer that waits for a broker must not hold up the end of the process.
            self._producer.close(timeout=0 if self._broken else 10)

    def _check_usable(self) -> None:
        if isinstance(self._broken, Fenced):
            raise Fenced(str(self._broken))
        if self._broken is not None:
            raise StreamError(f"the stage {self._id!r} failed before and has to be opened again: {self._broken}")

    def _commit(self, transaction: KafkaTransaction) -> None:
        if not transaction.rows and transaction.committed is None:
            return
        position = dict(self._position)
        note = self._note
        if transaction.committed is not None:
            position.update(transaction.committed[0])
            note = transaction.committed[1]

        def send_all() -> None:
            producer = self._producer
            # Step 1: the messages.
            producer.begin_transaction()
            sent = [
                producer.send(self._log.prefix + topic, value, key, headers, partition, timestamp_ms)
                for topic, value, key, headers, partition, timestamp_ms in transaction.rows
            ]
            producer.flush()
            for future in sent:
                if future.failed():
                    raise future.exception
            # Step 2: the position of every input, so that each of them carries the same note.
            if transaction.committed is not None:
                producer.send_offsets_to_transaction(
                    {
                        WirePartition(self._log.prefix + tp.topic, tp.partition): OffsetAndMetadata(offset, note, -1)
                        for tp, offset in position.items()
                    },
                    self._id,
                )
            # Step 3: both become visible.
            producer.commit_transaction()

        try:
            with self._log.explained("write to"):
                self._log.bounded("write to", send_all)
        except BaseException as error:
            # Whether the broker took it is not known to us; a new stage of this name will know.
            self._broken = error if isinstance(error, StreamError) else StreamError("it was interrupted in a commit")
            with suppress(Exception):
                self._producer.close(timeout=0)
            raise
        self._position, self._note = position, note

    def _committed(self) -> tuple[dict[TopicPartition, int], str]:
        if not self._inputs:
            return {}, ""
        log = self._log
        with log.explained("ask"):
            consumer = KafkaConsumer(
                **log.client_settings(
                    KafkaConsumer,
                    {
                        "group_id": self._id,
                        "enable_auto_commit": False,
                        "auto_offset_reset": "none",
                        # Makes the broker answer only when no transaction of this group is still being closed.
                        "isolation_level": "read_committed",
                        "allow_auto_create_topics": False,
                    },
                )
            )
            try:
                wires = {tp: WirePartition(log.prefix + tp.topic, tp.partition) for tp in self._inputs}
                beginnings = log.retry(lambda: consumer.beginning_offsets(list(wires.values())))
                position = {tp: int(beginnings[wire]) for tp, wire in wires.items()}
                note = ""
                for tp, wire in wires.items():
                    found = log.retry(lambda wire=wire: consumer.committed(wire, metadata=True))  # type: ignore[misc]
                    if found is not None and found.offset >= 0:
                        position[tp], note = int(found.offset), str(found.metadata or "")
            finally:
                consumer.close(autocommit=False)
        return position, note


class KafkaTransaction:
    """Collects what one Kafka transaction will write; see `recdistill.stream.contract.Transaction`."""

    def __init__(self, stage: KafkaStage, inputs: Sequence[TopicPartition], turn: int) -> None:
        self._stage = stage
        self._inputs = inputs
        self._turn = turn
        self._closed = False
        self.rows: list[tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]], int, int]] = []
        self.committed: tuple[dict[TopicPartition, int], str] | None = None

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
        """Adds a message; see the contract."""
        self._check_open()
        partition = check_message(topic, value, key, partition, self._stage.partitions(topic), self._turn)
        timestamp_ms = time.time_ns() // 1_000_000 if time_us is None else time_us // 1000
        self.rows.append((topic, value, key, [(name, data) for name, data in headers], partition, timestamp_ms))

    def commit_inputs(self, position: Position, note: str = "") -> None:
        """Saves input positions with this transaction; see the contract."""
        self._check_open()
        check_commit(position, note, self._inputs)
        self.committed = (dict(position), note)

    def close(self) -> None:
        """Refuses further use."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StreamError("this transaction has ended; open another one")


def _message(tp: TopicPartition, record: Any) -> Message:
    headers = tuple((name, data or b"") for name, data in record.headers)
    return Message(tp, record.offset, record.key, record.value, record.timestamp * 1000, headers)


def _check_count(topic: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise WrongLog(
            f"topic {topic!r} exists with {found} partitions, not {wanted}; a count never changes: "
            f"ask for {found}, or choose another prefix or log"
        )


def _check_options(options: _Options) -> None:
    known = {
        name for client in (KafkaConsumer, KafkaProducer, KafkaAdminClient) for name in client.DEFAULT_CONFIG
    } - _OURS
    for name in options:
        if name in _OURS:
            raise ConfigError(f"log.options.{name}: recdistill sets this itself; remove it")
        if name not in known:
            raise ConfigError(f"log.options.{name}: no option of kafka-python{suggest(name, known)}")
