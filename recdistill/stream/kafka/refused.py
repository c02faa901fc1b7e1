"""Sends the messages of a transaction, and finds those that the broker does not take.

A topic can have a smaller limit than a log promises. When a batch is refused, the client fails everything that waits
behind it, too. So it is not known which message was too large. Then the messages are sent once more, one by one.

It knows nothing of stages or of what is inside a message.

Example:
    >>> issubclass(MessageSizeTooLargeError, _REFUSED), issubclass(OutOfOrderSequenceNumberError, _REFUSED)
    (True, False)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumberError,
    RecordListTooLargeError,
)

from recdistill.errors import Unwritable
from recdistill.stream.kafka.namespace import Namespace
from recdistill.stream.transaction import Row, size_of

_REFUSED = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidRecordError, InvalidTimestampError)
"""Errors of one message."""

_SUSPECT = (*_REFUSED, OutOfOrderSequenceNumberError)
"""Errors after which messages go one by one. The client splits a batch that is too large, and loses count then."""

WAIT_S: Final = 20.0
"""How long one message may take."""


class Narrow(Exception):
    """The broker refuses something of a batch. Its messages have to be sent one by one."""


def send(
    namespace: Namespace, producer: Any, rows: Sequence[Row], also: Callable[[], Any] | None, *, one_by_one: bool
) -> list[Any]:
    """Sends messages in the producer's open transaction, and waits until the broker has them.

    Args:
        namespace: Where to.
        producer: The producer.
        rows: The messages.
        also: Sends one more message.
        one_by_one: Whether each message waits for the one before.

    Returns:
        The future of each row.

    Raises:
        Narrow: The broker refuses something, and they were not sent one by one.
        Unwritable: The broker does not take some of them.
        KafkaError: Something else failed.
    """
    sent = _one_by_one(namespace, producer, rows) if one_by_one else []
    rest: list[Any] = []
    try:
        for row in rows if not one_by_one else ():
            sent.append(_begin(namespace, producer, row))
        if also is not None:
            rest.append(also())
        producer.flush()
        for future in [*sent, *rest]:
            future.get(WAIT_S)
    except Exception as error:
        if not one_by_one and any(
            isinstance(each, _SUSPECT) for each in [error, *(f.exception for f in sent if f.failed())]
        ):
            raise Narrow from error
        raise
    return sent


def _one_by_one(namespace: Namespace, producer: Any, rows: Sequence[Row]) -> list[Any]:
    sent: list[Any] = []
    for place, row in enumerate(rows):
        try:
            sent.append(_begin(namespace, producer, row))
            producer.flush()
            sent[-1].get(WAIT_S)
        except _REFUSED as error:
            # The producer is of no more use. So those for which the same holds are not tried.
            later = [at for at in range(place, len(rows)) if rows[at].tp.topic == row.tp.topic]
            if isinstance(error, InvalidTimestampError):
                now_us = time.time_ns() // 1000
                as_far = [at for at in later if (rows[at].time_us > now_us) == (row.time_us > now_us)]
                raise _untimely(namespace, row, tuple(as_far)) from error
            as_large = [at for at in later if _size(rows[at]) >= _size(row)]
            raise _unwritable(namespace, row, error, tuple(as_large)) from error
    return sent


def _size(row: Row) -> int:
    return len(row.value or b"") + len(row.key or b"") + size_of(row.headers)


def _begin(namespace: Namespace, producer: Any, row: Row) -> Any:
    name, stamp = namespace.prefix + row.tp.topic, row.time_us // 1000
    return producer.send(name, row.value, row.key, list(row.headers), row.tp.partition, stamp)


def _unwritable(namespace: Namespace, row: Row, error: Exception, places: tuple[int, ...]) -> Unwritable:
    return Unwritable(
        f"{namespace.brokers.where} refuses a message of {_size(row):,} bytes for topic {row.tp.topic!r} "
        f"({type(error).__name__}); look at max.message.bytes of the topic",
        places,
    )


def _untimely(namespace: Namespace, row: Row, places: tuple[int, ...]) -> Unwritable:
    return Unwritable(
        f"{namespace.brokers.where} refuses the time {row.time_us // 1000} ms of a message for topic {row.tp.topic!r}; "
        "compare the clock of this machine with those of the brokers, or look at message.timestamp.after.max.ms and "
        "message.timestamp.before.max.ms of the topic",
        places,
        untimely=True,
    )
