"""Reads a partition up to an offset. Where nothing comes although the log has it, that is said, and it ends.

A log may say where a partition ends, and then not send what lies before that end: a broker that accepts connections and
is silent, or one that has lost its disk.

It knows nothing of what is in a message.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.stream import open_log, standard_topics
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
    ...     _ = log.create_topics(standard_topics())
    ...     source = log.source(["items"])
    ...     tp = TopicPartition("items", 0)
    ...     print(list(up_to(source, tp, source.bounds(tp)[1])))
    ...     source.close(); log.close()
    []
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

from recdistill.errors import Interrupted, StreamError
from recdistill.stream.contract import Message, Source, TopicPartition

log_ = logging.getLogger(__name__)

PATIENCE_S: Final = 120.0
"""How long nothing may come. A broker may be away for so long."""

REMIND_S: Final = 10.0
"""After so long it is said."""

WAIT_S: Final = 0.2


def up_to(
    source: Source,
    tp: TopicPartition,
    end: int,
    most: int = 1000,
    *,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Message]:
    """The messages from a source's position up to an offset.

    Args:
        source: It stands at the offset afterwards.
        tp: The partition.
        end: The offset. The log must have everything before it.
        most: How many are read at a time.
        stop: Whether the process was told to stop.
        clock: Seconds, monotonic.

    Raises:
        StreamError: Nothing came for two minutes, or the log cannot be read.
        Interrupted: The process was told to stop.
    """
    since_s, said = clock(), False
    while (at := source.position()[tp]) < end:
        if stop():
            raise Interrupted(f"stopped while {tp} was read: it stands at offset {at} of {end}")
        messages = source.read_from(tp, min(most, end - at), WAIT_S)
        yield from (message for message in messages if message.offset < end)
        now_s = clock()
        if messages or source.position()[tp] != at:
            since_s, said = now_s, False
        elif now_s - since_s >= PATIENCE_S:
            raise StreamError(
                f"{tp}: the log says that it goes up to offset {end}, and nothing behind offset {at} came for "
                f"{PATIENCE_S:.0f} s; check the log, and start again"
            )
        elif now_s - since_s >= REMIND_S and not said:
            said = True
            log_.warning("%s: nothing comes behind offset %d of %d; waiting %.0f s", tp, at, end, PATIENCE_S)
