"""Sends the messages of a transaction, and finds those that the broker does not take.

A topic can have a smaller limit than a log promises. The client splits a batch that is too large. So only a single
message has such an error, and the others can be written without it.

It knows nothing of stages or of what is inside a message.

Example:
    >>> class Future:
    ...     def __init__(self, exception=None): self.exception = exception
    ...     def failed(self): return self.exception is not None
    >>> sorted(refused([Future(), Future(MessageSizeTooLargeError()), Future(KafkaError("away"))]))
    [1]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from recdistill.errors import Unwritable
from recdistill.stream.kafka.namespace import Namespace
from recdistill.stream.transaction import Row

_REFUSED = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidRecordError, InvalidTimestampError)
"""Errors of one message."""


def send(namespace: Namespace, producer: Any, rows: Sequence[Row], also: Callable[[], Any] | None) -> list[Any]:
    """Sends messages in the producer's open transaction, and waits until the broker has them.

    Args:
        namespace: Where to.
        producer: The producer.
        rows: The messages.
        also: Sends one more message.

    Returns:
        The future of each row.

    Raises:
        Unwritable: The broker does not take some of them.
        KafkaError: Something else failed.
    """
    sent: list[Any] = []
    more: list[Any] = []
    try:
        for row in rows:
            name, stamp = namespace.prefix + row.tp.topic, row.time_us // 1000
            sent.append(producer.send(name, row.value, row.key, list(row.headers), row.tp.partition, stamp))
        if also is not None:
            more.append(also())
        producer.flush()
    except Exception as error:
        # Once a message was refused, the client takes no more of this transaction.
        found = refused(sent) or ({len(sent): error} if isinstance(error, _REFUSED) and len(sent) < len(rows) else {})
        if not found:
            raise
    else:
        found = refused(sent)
    if found:
        raise _unwritable(namespace, rows, found)
    for future in [*sent, *more]:
        if future.failed():
            raise future.exception
    return sent


def refused(sent: Sequence[Any]) -> dict[int, Exception]:
    """Which messages the broker does not take, by their place, and why."""
    failed = {place: future.exception for place, future in enumerate(sent) if future.failed()}
    return {place: error for place, error in failed.items() if isinstance(error, _REFUSED)}


def _unwritable(namespace: Namespace, rows: Sequence[Row], found: Mapping[int, Exception]) -> Unwritable:
    place, error = next(iter(found.items()))
    row = rows[place]
    size = len(row.value or b"") + len(row.key or b"")
    reason = error.message if isinstance(error, KafkaError) and hasattr(error, "message") else type(error).__name__
    return Unwritable(
        f"{namespace.brokers.where} refuses a message of {size:,} bytes for topic {row.tp.topic!r} ({reason}); "
        "look at max.message.bytes of the topic",
        tuple(sorted(found)),
    )
