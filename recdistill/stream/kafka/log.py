"""A Kafka log as a whole: its topics, its identity, readers and writers.

It knows nothing of SQLite or what is inside a value.

Example:
    >>> from recdistill.stream.contract import Log
    >>> {"create_topics", "topics", "source", "stage", "sync", "witness", "check_witness"} <= set(dir(KafkaLog))
    True
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

from recdistill.errors import StreamError, WrongLog
from recdistill.stream.contract import LogIdentity, Position, TopicPartition, expand, unwitnessed
from recdistill.stream.kafka.client import PATIENCE_S, Brokers, Options
from recdistill.stream.kafka.namespace import Namespace
from recdistill.stream.kafka.source import KafkaSource
from recdistill.stream.kafka.stage import KafkaStage
from recdistill.stream.kafka.witness import check, take


class KafkaLog:
    """A log on Kafka; see `recdistill.stream.contract.Log`.

    Args:
        brokers: Bootstrap servers, `host:port,host:port`.
        prefix: Put before each topic name, group id and transactional id.
        options: Settings of kafka-python by its own names, among them `security_protocol`, `sasl_mechanism`,
            `sasl_plain_username`, `sasl_plain_password`,
            `ssl_cafile`, `ssl_certfile`, `ssl_keyfile`, `compression_type`.

    Raises:
        ConfigError: An option that does not exist, or that this module sets itself.
        StreamError: No broker answers.
    """

    def __init__(self, brokers: str, *, prefix: str = "", options: Options | None = None) -> None:
        self.prefix = prefix
        self.brokers = Brokers(brokers, options or {})
        self._namespace = Namespace(self.brokers, prefix)
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
            # Another process made one of them in the meantime: check the counts, and make the rest.
            return self.create_topics(partitions, configs=configs)
        made = [name[len(self.prefix) :] for name in wanted]
        deadline = time.monotonic() + PATIENCE_S
        # Brokers learn of a new topic one after the other, and any of them may answer next.
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
        tps = expand(partitions, self.topics())
        return KafkaSource(self._namespace, self.identity(sorted({tp.topic for tp in tps})), tps, position or {})

    def stage(self, name: str, inputs: Sequence[TopicPartition] = ()) -> KafkaStage:
        """Opens the one writer of this name; see the contract."""
        if not name:
            raise StreamError("a stage needs a name")
        return KafkaStage(self._namespace, name, expand(inputs, self.topics()), self.topics, self._administrate)

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

    def sync(self) -> None:
        """Does nothing: each commit has waited for all replicas in sync; see the contract."""

    def witness(self, position: Position) -> dict[str, str]:
        """A witness of the messages before these positions; see the contract and `recdistill.stream.kafka.witness`."""
        return take(self._namespace, position)

    def check_witness(self, position: Position, witness: Mapping[str, str] | None) -> None:
        """Checks that the log was not cut back since; see the contract."""
        if witness is None and unwitnessed(position):
            return
        check(self._namespace, position, witness or {})

    def close(self) -> None:
        """Closes the administrative connection."""
        with self._lock:
            self._admin.close()

    def _ask(self, doing: str, call: Callable[[], Any]) -> Any:
        """Makes one administrative request at a time: only one thread may use that client."""
        with self.brokers.explained(doing), self._lock:
            return self.brokers.retry(call)

    def _administrate(self, call: Callable[[KafkaAdminClient], Any]) -> Any:
        return self._ask("ask", lambda: call(self._admin))

    def _describe(self) -> list[dict[str, Any]]:
        # Ask for all topics: asking a broker for one by name may make it.
        found = self._ask("ask", self._admin.describe_topics)
        return [topic for topic in found if not topic["is_internal"] and topic["name"].startswith(self.prefix)]


def _check_count(topic: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise WrongLog(
            f"topic {topic!r} exists with {found} partitions, not {wanted}; a count never changes: "
            f"ask for {found}, or choose another prefix or log"
        )
