"""One prefix on one set of brokers: names on the wire, committed offsets of groups, and beginnings of partitions.

It knows nothing of messages, sources or stages.

Example:
    >>> from recdistill.stream.contract import TopicPartition
    >>> Namespace(Brokers("127.0.0.1:9092", {}), "shop.").wire(TopicPartition("items", 0))
    TopicPartition(topic='shop.items', partition=0)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial

from kafka import TopicPartition as WirePartition
from kafka.structs import OffsetAndMetadata

from recdistill.stream.contract import TopicPartition
from recdistill.stream.kafka.client import Brokers
from recdistill.stream.names import full_name

_ASK_MS = 10_000
"""How long one question to a group may take. By itself the client would wait for ever."""


class Namespace:
    """A prefix on a set of brokers.

    Args:
        brokers: The brokers.
        prefix: Put before each topic name, group id and transactional id.
    """

    def __init__(self, brokers: Brokers, prefix: str) -> None:
        self.brokers = brokers
        self.prefix = prefix

    def wire(self, tp: TopicPartition) -> WirePartition:
        """A partition under its name on the wire."""
        return WirePartition(full_name(self.prefix, tp.topic), tp.partition)

    def committed(self, group: str, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        """Offset and metadata that a group committed, for the partitions where it did."""

        def ask() -> list[OffsetAndMetadata | None]:
            # A new connection for each try: one that was opened while a broker starts again may never get its answer.
            with closing(self.brokers.consumer(group)) as consumer:
                return [consumer.committed(self.wire(tp), metadata=True, timeout_ms=_ASK_MS) for tp in tps]

        with self.brokers.explained("ask"):
            found = zip(tps, self.brokers.retry(ask), strict=True)
        return {
            tp: (int(one.offset), str(one.metadata or "")) for tp, one in found if one is not None and one.offset >= 0
        }

    def claim(self, group: str, tps: Sequence[TopicPartition], name: str) -> None:
        """Commits a name as metadata of a group, outside of any transaction."""
        names = {self.wire(tp): OffsetAndMetadata(0, name, -1) for tp in tps}
        with self.brokers.explained("write to"), closing(self.brokers.consumer(group)) as consumer:
            self.brokers.retry(partial(consumer.commit, names))

    def beginnings(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """First offset of each partition."""
        if not tps:
            return {}
        with self.brokers.explained("ask"), closing(self.brokers.consumer()) as consumer:
            found = self.brokers.retry(partial(consumer.beginning_offsets, [self.wire(tp) for tp in tps]))
        return {tp: int(found[self.wire(tp)]) for tp in tps}
