"""Whether the topics of a stage are still those that it began with: each topic has an id, and one made again another.

It knows nothing of messages or positions.

Example:
    >>> same = Same("shop.", lambda: {"items": "id-1"})
    >>> tp = TopicPartition("items", 0)
    >>> same.of([tp])
    {'items': 'id-1'}
    >>> before = Left({tp: 7}, "", stopped=True, at_us=5, ids={"items": "id-0"})
    >>> print(same.lost("score", before).facts)  # doctest: +ELLIPSIS
    topic 'items' was deleted and made again since the stage 'score' ran, ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kafka.errors import AuthorizationError, UnknownTopicOrPartitionError

from recdistill.errors import LostPosition, StreamError
from recdistill.stream.contract import Left, TopicPartition
from recdistill.stream.names import OUTSIDE
from recdistill.stream.problems import gone, made_again, made_again_since
from recdistill.stream.transaction import Row


class Same:
    """The topics of one stage.

    Args:
        prefix: Put before each topic on the wire.
        ask: Asks the brokers for the id of each topic.
    """

    def __init__(self, prefix: str, ask: Callable[[], Mapping[str, str]]) -> None:
        self._prefix, self._ask = prefix, ask
        self._ids = dict(ask())

    def of(self, tps: Iterable[TopicPartition]) -> dict[str, str]:
        """The ids of the topics of some partitions, as far as they are known."""
        return {tp.topic: self._ids[tp.topic] for tp in tps if tp.topic in self._ids}

    def lost(self, stage: str, said: Left) -> LostPosition | None:
        """The error for a stage of which a topic was made again since it said where it was; None: all are the same."""
        for topic, before in sorted(said.ids.items()):
            if self._ids.get(topic, before) != before:
                return made_again_since(topic, stage)
        return None

    def after(
        self,
        error: StreamError,
        inputs: Iterable[TopicPartition],
        rows: Iterable[Row],
        missing: Callable[[set[str]], str],
    ) -> None:
        """Asks the brokers, after an error, whether it comes from a topic that is not there any more.

        Args:
            error: The error.
            inputs: What was read.
            rows: What was written.
            missing: Names one of some topics of the loop that is not there.

        Raises:
            WrongLog: One of them was deleted, or made again.
            StreamError: The error itself, where trying again does not repair it.
        """
        if isinstance(error.__cause__, AuthorizationError):  # who may not see a topic cannot tell whether it is there
            raise error
        topics = {tp.topic for tp in inputs} | {row.tp.topic for row in rows}
        if lost := missing({topic for topic in topics if not topic.startswith(OUTSIDE)}):
            raise gone(lost) from error
        try:
            now = self._ask()
        except StreamError:  # no broker answers
            now = {}
        for topic in sorted(topics & now.keys()):
            if now[topic] != self._ids.get(topic, now[topic]):
                raise made_again(topic) from error
        if isinstance(error.__cause__, UnknownTopicOrPartitionError):
            raise error

    def written(self, rows: Iterable[Row], producer: Any) -> None:
        """Looks at what was written to, by what the client knows of them; it asks nobody.

        Args:
            rows: The messages.
            producer: The client's producer. It asks for its topics every few seconds.

        Raises:
            WrongLog: One of them was made again.
        """
        cluster = producer._metadata  # noqa: SLF001 - the client has no public call for the id of a topic
        for topic in {row.tp.topic for row in rows}:
            now = cluster.topic_id(self._prefix + topic)
            if now is not None and self._ids.setdefault(topic, str(now)) != str(now):
                raise made_again(topic)
