"""A log in memory, for tests that run a stage hundreds of times. It has what a joiner asks of a log, and no more.

It knows nothing of the stages that use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from recdistill.stream import LogIdentity, Message, TopicPartition
from recdistill.stream.transaction import Collected


class MemoryLog:
    """Topics, their messages and the positions of stages. Each transaction takes one offset more, as in a real log."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self.messages: dict[TopicPartition, list[Message]] = {
            TopicPartition(topic, n): [] for topic, count in partitions.items() for n in range(count)
        }
        self.ends = dict.fromkeys(self.messages, 0)
        self.saved: dict[str, tuple[dict[TopicPartition, int], str, dict[TopicPartition, str]]] = {}
        self._partitions = dict(partitions)

    def topics(self) -> dict[str, int]:
        return dict(self._partitions)

    def source(self, partitions: Sequence[Any], position: Mapping[TopicPartition, int] | None = None) -> MemorySource:
        return MemorySource(self, partitions, position or {})

    def stage(self, name: str, inputs: Sequence[TopicPartition] = (), **_: Any) -> MemoryStage:
        return MemoryStage(self, name, inputs)

    def write(self, rows: Sequence[Any]) -> None:
        written = set()
        for row in rows:
            message = Message(
                tp=row.tp,
                offset=self.ends[row.tp],
                key=row.key,
                value=row.value,
                time_us=row.time_us,
                headers=tuple(row.headers),
            )
            self.messages[row.tp].append(message)
            self.ends[row.tp] += 1
            written.add(row.tp)
        for tp in written:
            self.ends[tp] += 1

    def content(self, topic: str) -> list[list[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]]]:
        """Key, value and headers of each message, partition by partition."""
        return [
            [(one.key, one.value, one.headers) for one in self.messages[TopicPartition(topic, n)]]
            for n in range(self._partitions[topic])
        ]


class MemorySource:
    """Reads it."""

    def __init__(self, log: MemoryLog, tps: Sequence[TopicPartition], position: Mapping[TopicPartition, int]) -> None:
        self._log, self._position = log, {tp: position.get(tp, 0) for tp in tps}

    def identity(self) -> LogIdentity:
        return LogIdentity("memory", {tp.topic: self._log.topics()[tp.topic] for tp in self._position})

    def read_from(self, tp: TopicPartition, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        every, at = self._log.messages[tp], self._position[tp]
        found = [one for one in every if one.offset >= at][:max_messages]
        more = found and found[-1] is not every[-1]
        self._position[tp] = found[-1].offset + 1 if more else self._log.ends[tp]
        return found

    def bounds(self, tp: TopicPartition) -> tuple[int, int]:
        return 0, self._log.ends[tp]

    def position(self) -> dict[TopicPartition, int]:
        return dict(self._position)

    def seek(self, position: Mapping[TopicPartition, int]) -> None:
        self._position.update(position)

    def close(self) -> None:
        """Nothing is open."""


class MemoryStage:
    """Writes it."""

    def __init__(self, log: MemoryLog, name: str, inputs: Sequence[TopicPartition]) -> None:
        self._log, self._name, self._inputs = log, name, inputs

    def position(self) -> dict[TopicPartition, int]:
        saved = self._log.saved.get(self._name, ({}, "", {}))[0]
        return {tp: saved.get(tp, 0) for tp in self._inputs}

    def note(self) -> str:
        return self._log.saved.get(self._name, ({}, "", {}))[1]

    def notes(self) -> dict[TopicPartition, str]:
        return dict(self._log.saved.get(self._name, ({}, "", {}))[2])

    def left(self) -> None:
        return None

    def keep(self) -> None:
        """Nothing forgets it."""

    @contextmanager
    def transaction(self) -> Iterator[Collected]:
        made = Collected(lambda topic: self._log.topics()[topic], self._inputs, 0)
        yield made
        self._log.write(made.rows)
        if made.committed is not None:
            position, note, notes = made.committed
            self._log.saved[self._name] = dict(position), note, dict(notes)

    def close(self) -> None:
        """Nothing is open."""
