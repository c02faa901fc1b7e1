"""A Kafka log as a whole: its topics, its identity, readers and writers.

It knows nothing of SQLite or what is inside a value.

Example:
    >>> from recdistill.stream.contract import Log
    >>> {"create_topics", "topics", "source", "stage", "sync", "witness", "check_witness"} <= set(dir(KafkaLog))
    True
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError

from recdistill.errors import StreamError
from recdistill.stream.contract import LogIdentity, Position, TopicPartition, expand
from recdistill.stream.kafka import left
from recdistill.stream.kafka.client import PATIENCE_S, Brokers, Options
from recdistill.stream.kafka.namespace import Namespace
from recdistill.stream.kafka.owners import OWNER
from recdistill.stream.kafka.policies import dangers, setting
from recdistill.stream.kafka.source import KafkaSource
from recdistill.stream.kafka.stage import MARKS, KafkaStage
from recdistill.stream.kafka.witness import check, take
from recdistill.stream.names import OUTSIDE, outside
from recdistill.stream.problems import check_count, check_growth, unwitnessed

log_ = logging.getLogger(__name__)

BESIDE = (OWNER, MARKS)
"""Groups beside that of a stage, by the ends of their names."""


class KafkaLog:
    """A log on Kafka; see `recdistill.stream.contract.Log`.

    Args:
        brokers: Bootstrap servers, `host:port,host:port`.
        prefix: Put before each topic name, group id and transactional id.
        options: Settings of kafka-python by its own names, among them `security_protocol`, `sasl_mechanism`,
            `sasl_plain_username`, `sasl_plain_password`,
            `ssl_cafile`, `ssl_certfile`, `ssl_keyfile`, `compression_type`.
        stop: See `open_log`.

    Raises:
        ConfigError: An option that does not exist, or that this module sets itself.
        StreamError: No broker answers.
    """

    def __init__(
        self,
        brokers: str,
        *,
        prefix: str = "",
        options: Options | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.prefix = prefix
        self.brokers = Brokers(brokers, options or {}, stop)
        self._namespace = Namespace(self.brokers, prefix)
        self._lock = threading.Lock()
        with self.brokers.explained("reach"):
            self._admin = self.brokers.opened(lambda: KafkaAdminClient(**self.brokers.settings(KafkaAdminClient, {})))
        self.cluster = str(self._ask("ask", self._admin.describe_cluster)["cluster_id"])
        self._warned = False

    def create_topics(
        self, partitions: Mapping[str, int], *, configs: Mapping[str, Mapping[str, str]] | None = None
    ) -> list[str]:
        """Makes the topics that do not exist yet; see the contract."""
        existing = self.topics()
        wanted: dict[str, dict[str, Any]] = {}
        for topic, count in partitions.items():
            if not topic or count < 1:
                raise StreamError(f"topic {topic!r} needs a name and at least 1 partition, not {count}")
            check_count(topic, existing.get(topic, count), count)
            if topic not in existing:
                wanted[self.prefix + topic] = {"num_partitions": count, "configs": dict((configs or {}).get(topic, {}))}
        self._make_place_of_stages()
        if not wanted:
            return []
        try:
            self._ask("make topics on", lambda: self._admin.create_topics(wanted, wait_for_metadata=True))
        except TopicAlreadyExistsError:
            # Another process made one of them in the meantime: check the counts, and make the rest.
            return self.create_topics(partitions, configs=configs)
        made = [name[len(self.prefix) :] for name in wanted]
        self._wait_for({topic: partitions[topic] for topic in made})
        return made

    def grow_topics(self, partitions: Mapping[str, int]) -> list[str]:
        """Gives topics more partitions; see the contract."""
        existing = self.topics()
        for topic, count in partitions.items():
            if topic not in existing:
                raise StreamError(f"topic {topic!r} does not exist on {self.brokers.where}; make the topics first")
            check_growth(topic, existing[topic], count)
        changed = {topic: count for topic, count in partitions.items() if existing[topic] < count}
        if changed:
            wanted = {self.prefix + topic: count for topic, count in changed.items()}
            self._ask("add partitions on", lambda: self._admin.create_partitions(wanted))
            self._wait_for(changed)
        return list(changed)

    def dangers(self) -> list[str]:
        """Topics whose settings lose records that the loop needs; see the contract."""
        names = [self.prefix + topic for topic in self.topics()]
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        found = self._ask("ask", lambda: self._admin.describe_configs(resources, config_filter="all"))
        return dangers(found, self.prefix)

    def topics(self) -> dict[str, int]:
        """Partition count of each topic under the prefix."""
        found = {topic["name"][len(self.prefix) :]: len(topic["partitions"]) for topic in self._describe()}
        found.pop(left.TOPIC, None)  # it belongs to this log alone
        return found

    def source(
        self, partitions: Sequence[TopicPartition] | Sequence[str], position: Position | None = None
    ) -> KafkaSource:
        """Opens a reader; see the contract."""
        tps = expand(partitions, self._readable(partitions))
        return KafkaSource(self._namespace, self.identity(sorted({tp.topic for tp in tps})), tps, position or {})

    def stage(
        self,
        name: str,
        inputs: Sequence[TopicPartition] = (),
        *,
        shared: bool = False,
        formerly: Sequence[str] = (),
    ) -> KafkaStage:
        """Opens the one writer of this name; see the contract."""
        if not name:
            raise StreamError("a stage needs a name")
        tps = expand(inputs, self._readable(inputs))
        if tps and not self._warned:
            self._warned = True
            self._say_dangers()
        leaves = bool(tps) and self._make_place_of_stages()
        return KafkaStage(
            self._namespace,
            name,
            tps,
            self.topics,
            self._ids,
            self._administrate,
            leaves=leaves,
            shared=shared,
            formerly=formerly if shared else (),
        )

    def identity(self, topics: Sequence[str]) -> LogIdentity:
        """Cluster, partition counts and topic ids of these topics."""
        found = {outside(self.prefix, topic["name"]): topic for topic in self._describe_all()}
        for topic in topics:
            if topic not in found:
                raise StreamError(f"topic {topic!r} is no longer on {self.brokers.where}; make the topics again")
        return LogIdentity(
            self.cluster,
            {topic: len(found[topic]["partitions"]) for topic in topics},
            {topic: str(found[topic]["topic_id"]) for topic in topics},
        )

    def positions(self) -> dict[str, dict[TopicPartition, int]]:
        """The committed positions of every stage that the brokers remember; see the contract."""
        start = len(self.prefix)
        listed = self._ask("ask", self._admin.list_groups)
        names = sorted(
            {
                str(one["group_id"])
                for one in listed
                if str(one["group_id"]).startswith(self.prefix) and not str(one["group_id"]).endswith(BESIDE)
            }
        )
        found = self._ask("ask", lambda: self._admin.list_group_offsets(names)) if names else {}
        return {
            name[start:]: {
                TopicPartition(wire.topic[start:], wire.partition): int(one.offset)
                for wire, one in found.get(name, {}).items()
                if wire.topic.startswith(self.prefix) and one.offset >= 0
            }
            for name in names
        }

    def noted(self, stage: str, inputs: Sequence[TopicPartition]) -> dict[TopicPartition, str]:
        """What the last commit of a stage noted for single inputs; see the contract."""
        found = self._namespace.committed(self.prefix + stage, inputs)
        lines = {tp: metadata.partition("\n")[2] for tp, (_, metadata) in found.items()}
        return {tp: line for tp, line in lines.items() if line}

    def kept_for(self, topics: Iterable[str]) -> dict[str, tuple[bool, int]]:
        """Whether each topic is compacted, and for how many microseconds it keeps a record; -1: for ever."""
        names = {self.prefix + topic: topic for topic in topics}
        if not names:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        found = self._ask("ask", lambda: self._admin.describe_configs(resources, config_filter="all"))
        kept: dict[str, tuple[bool, int]] = {}
        for name, settings in found.get("topic", {}).items():
            if name in names:
                policy, keep_ms = (setting(settings, key) for key in ("cleanup.policy", "retention.ms"))
                forever = keep_ms is None or int(keep_ms) < 0 or "delete" not in str(policy)
                kept[names[name]] = ("compact" in str(policy), -1 if forever else int(keep_ms) * 1000)
        return kept

    def delete_before(self, tp: TopicPartition, offset: int) -> None:
        """Deletes every record before an offset."""
        wire = self._namespace.wire(tp)
        self._ask("delete records of", lambda: self._admin.delete_records({wire: offset}))

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

    def _make_place_of_stages(self) -> bool:
        """Makes the topic on which stages say where they stopped. Returns whether it is there now."""
        name = self.prefix + left.TOPIC
        if any(topic["name"] == name for topic in self._describe()):
            return True
        wanted = {name: {"num_partitions": 1, "configs": dict(left.CONFIGS)}}
        try:
            self._ask("make topics on", lambda: self._admin.create_topics(wanted, wait_for_metadata=True))
        except TopicAlreadyExistsError:
            return True
        except StreamError as error:
            log_.warning(
                "the topic %s cannot be made, so a stage that is away for longer than the brokers keep its position "
                "would not be known again: %s",
                name,
                error,
            )
            return False
        return True

    def _say_dangers(self) -> None:
        try:
            for sentence in self.dangers():
                log_.warning("%s", sentence)
        except StreamError as error:  # a user without the right to read settings of topics may still work
            log_.info("the settings of the topics cannot be read: %s", error)

    def _wait_for(self, counts: Mapping[str, int]) -> None:
        """Waits until the brokers know of new topics and partitions. They learn of them one after the other."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            topics = self.topics()
            if all(topics.get(topic, 0) >= count for topic, count in counts.items()):
                return
            if time.monotonic() > deadline:
                raise StreamError(f"new topics do not become usable on {self.brokers.where}; check the brokers' logs")
            time.sleep(0.05)

    def _ask(self, doing: str, call: Callable[[], Any]) -> Any:
        """Makes one administrative request at a time: only one thread may use that client."""
        with self.brokers.explained(doing), self._lock:
            return self.brokers.retry(call)

    def _administrate(self, call: Callable[[KafkaAdminClient], Any]) -> Any:
        return self._ask("ask", lambda: call(self._admin))

    def _readable(self, partitions: Sequence[TopicPartition] | Sequence[str]) -> dict[str, int]:
        """Partition count of each topic that can be read: also of others' topics, where one of these is asked for."""
        names = [each if isinstance(each, str) else each.topic for each in partitions]
        if not any(name.startswith(OUTSIDE) for name in names):
            return self.topics()
        every = {outside(self.prefix, topic["name"]): len(topic["partitions"]) for topic in self._describe_all()}
        return {**every, **self.topics()}

    def _ids(self) -> dict[str, str]:
        """The id of each topic that can be read. A topic that is made again has another one."""
        return {outside(self.prefix, topic["name"]): str(topic["topic_id"]) for topic in self._describe_all()}

    def _describe(self) -> list[dict[str, Any]]:
        return [topic for topic in self._describe_all() if topic["name"].startswith(self.prefix)]

    def _describe_all(self) -> list[dict[str, Any]]:
        # Ask for all topics: asking a broker for one by name may make it.
        found = self._ask("ask", self._admin.describe_topics)
        return [topic for topic in found if not topic["is_internal"]]
