"""Reads a Kafka log: one consumer that keeps its own position and never jumps.

It knows nothing of writing.

Example:
    >>> from recdistill.stream.contract import Source
    >>> {"read", "read_from", "bounds", "position", "seek"} <= set(dir(KafkaSource))
    True
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from kafka.errors import LogTruncationError, OffsetOutOfRangeError, RetriableError

from recdistill.errors import OutOfRange, StreamError
from recdistill.stream.contract import LogIdentity, Message, Position, TopicPartition
from recdistill.stream.kafka.client import GIVES_WAY_S, REMIND_S
from recdistill.stream.kafka.namespace import Namespace
from recdistill.stream.kafka.there import Topics
from recdistill.stream.problems import out_of_range

log_ = logging.getLogger(__name__)

_AHEAD = 2_000
"""So many messages of a partition are kept while waiting for another one. After that the partition is paused."""


_ASK_MS = 5_000
"""How long one question for an offset may take. It is asked again as long as a broker may be away."""


class KafkaSource:
    """Reads committed messages; see `recdistill.stream.contract.Source`."""

    def __init__(
        self, namespace: Namespace, identity: LogIdentity, tps: Sequence[TopicPartition], position: Position
    ) -> None:
        self._brokers = namespace.brokers
        self._identity = identity
        self._wire = {tp: namespace.wire(tp) for tp in tps}
        self._plain = {wire: tp for tp, wire in self._wire.items()}
        self._kept: dict[TopicPartition, deque[Message]] = {tp: deque() for tp in tps}
        self._closed = False
        self._turn = 0
        self._answered = time.monotonic()
        with self._brokers.explained("reach"):
            self._consumer = self._brokers.consumer()
        self._topics = Topics(self._consumer, namespace.prefix, identity)
        try:
            self._consumer.assign(list(self._plain))
            bounds = self._bounds(tps)
            self._seek({tp: beginning for tp, (beginning, _) in bounds.items()})
            self.seek(position)
        except Exception:
            self.close()
            raise

    def identity(self) -> LogIdentity:
        """What the positions of this source belong to, as it was when the source was opened."""
        return self._identity

    def read(self, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """Reads from all partitions that have messages."""
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
        """Reads from one partition. Messages that come from other partitions are kept for later."""
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
        try:
            return {
                tp: kept[0].offset if kept else int(self._consumer.position(self._wire[tp]))
                for tp, kept in self._kept.items()
            }
        except (OffsetOutOfRangeError, LogTruncationError) as error:  # what a fetch has found is said by the next call
            with self._brokers.explained("read from"):
                raise self._lost() from error

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
        with self._brokers.explained("ask"):
            beginnings = self._brokers.retry(lambda: self._asked(self._consumer.beginning_offsets, wires))
            ends = self._brokers.retry(lambda: self._asked(self._consumer.end_offsets, wires))
        self._answered = time.monotonic()
        return {self._plain[wire]: (int(beginnings[wire]), int(ends[wire])) for wire in wires}

    def _asked(self, question: Callable[..., dict[Any, int]], wires: list[Any]) -> dict[Any, int]:
        """Asks for a short time only, so that `retry` comes to look whether the topics are still there."""
        self._topics.check()
        return question(wires, timeout_ms=_ASK_MS)

    def _take(self, tp: TopicPartition, most: int) -> list[Message]:
        kept = self._kept[tp]
        return [kept.popleft() for _ in range(min(most, len(kept)))]

    def _resume(self, tps: Iterable[TopicPartition]) -> None:
        paused = self._consumer.paused()
        self._consumer.resume(*(self._wire[tp] for tp in tps if self._wire[tp] in paused))

    def _take_up(self) -> None:
        """Lets the client take up what it had set aside of partitions that were paused.

        Of a paused partition the client (kafka-python 3.0.12, `Fetcher.fetched_records`) keeps the records that it has
        read already. It goes on with them, and fetches that partition again, only when it has no other records in hand.
        By that it means None. But after it has handed out all, it holds an empty object. If no record of another
        partition came then, the paused one would stay silent for ever.
        """
        fetcher, name = self._consumer._fetcher, "_next_partition_records"  # noqa: SLF001 - there is no public way
        if getattr(fetcher, name) is not None and not getattr(fetcher, name):
            setattr(fetcher, name, None)

    def _poll(self, most: int, timeout_s: float) -> dict[TopicPartition, list[Message]]:
        with self._brokers.explained("read from"):
            self._topics.check()
            self._take_up()
            try:
                found = self._consumer.poll(timeout_ms=max(0, round(timeout_s * 1000)), max_records=most)
            except (OffsetOutOfRangeError, LogTruncationError) as error:
                raise self._lost() from error
            except RetriableError as error:
                log_.warning("%s does not answer (%s); trying again", self._brokers.where, error)
                found = {}
        if found:
            self._answered = time.monotonic()
        elif time.monotonic() - self._answered > (GIVES_WAY_S if self._brokers.stop() else 3 * REMIND_S):
            # An empty answer looks the same as no answer. So ask a question that always has an answer.
            self._bounds(list(self._wire)[:1])
        return {
            self._plain[wire]: [_message(self._plain[wire], each) for each in batch] for wire, batch in found.items()
        }

    def _lost(self) -> StreamError:
        """The error that names the partition whose position the log no longer holds.

        Raises:
            WrongLog: The topic was made again, so another one holds nothing that was read.
        """
        self._topics.ask()
        position: dict[TopicPartition, int] = {}
        for tp, wire in self._wire.items():
            with suppress(OffsetOutOfRangeError, LogTruncationError):  # it names itself below, or as one of all
                position[tp] = int(self._consumer.position(wire))
        for tp, (beginning, end) in self._bounds(list(position)).items():
            if not beginning <= position[tp] <= end:
                return out_of_range(tp, position[tp], beginning, end)
        return OutOfRange(
            f"{self._brokers.where} lost messages that were read before; start again from an older checkpoint"
        )


def _message(tp: TopicPartition, record: Any) -> Message:
    headers = tuple((name, data or b"") for name, data in record.headers)
    return Message(
        tp=tp,
        offset=record.offset,
        key=record.key,
        value=record.value,
        time_us=record.timestamp * 1000,
        headers=headers,
    )
