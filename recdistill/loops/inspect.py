"""Reads the first or the newest messages of a topic, for a person who wants to look at them. Commits nothing.

It knows nothing of how they are shown.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.loops.feed import feed
    >>> from recdistill.records import Item
    >>> from recdistill.stream import open_log, standard_topics
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
    ...     _ = log.create_topics(standard_topics())
    ...     _ = feed(log, [Item(name) for name in "abc"])
    ...     found = [message.key for message in look(log, "items", 2, newest=True)]
    ...     log.close()
    >>> found
    [b'b', b'c']
"""

from __future__ import annotations

from recdistill.errors import StreamError
from recdistill.stream import Log, Message, Source, TopicPartition

WAIT_S = 0.2
"""Longest wait for one read; whatever is asked for is in the log already."""

READ = 500
"""Messages read at a time."""


def look(log: Log, topic: str, n: int, *, newest: bool = False, partition: int | None = None) -> list[Message]:
    """The first or the newest `n` messages of a topic, or of one partition, in the order of their time stamps.

    Args:
        log: Where to look.
        topic: Its plain name.
        n: How many at most.
        newest: From the end instead of from the beginning.
        partition: This one only.

    Raises:
        StreamError: There is no such topic or partition, or the log cannot be read.
    """
    topics = log.topics()
    if topic in topics and partition is not None and not 0 <= partition < topics[topic]:
        raise StreamError(f"topic {topic!r} has no partition {partition}; it has 0 to {topics[topic] - 1}")
    source = log.source([topic] if partition is None else [TopicPartition(topic, partition)])
    try:
        found: list[Message] = []
        for tp in sorted(source.position()):
            found += _newest(source, tp, n) if newest else _between(source, tp, source.bounds(tp), n)
        # Stable: messages of one partition that were written in one moment keep their order.
        found.sort(key=lambda message: message.time_us)
        return found[-n:] if newest else found[:n]
    finally:
        source.close()


def _between(source: Source, tp: TopicPartition, bounds: tuple[int, int], n: int | None) -> list[Message]:
    """The first n messages at or behind one offset and before another; all of them when n is None."""
    start, end = bounds
    source.seek({tp: start})
    found: list[Message] = []
    while (n is None or len(found) < n) and source.position()[tp] < end:
        wanted = READ if n is None else min(READ, n - len(found))
        found += [message for message in source.read_from(tp, wanted, WAIT_S) if message.offset < end]
    return found


def _newest(source: Source, tp: TopicPartition, n: int) -> list[Message]:
    """The last n messages. Offsets have gaps, so a window at the end grows until it holds so many."""
    beginning, end = source.bounds(tp)
    width = n
    while True:
        start = max(beginning, end - width)
        found = _between(source, tp, (start, end), None)
        if len(found) >= n or start == beginning:
            return found[-n:]
        width *= 4
