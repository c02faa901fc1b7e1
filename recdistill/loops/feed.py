"""Records -> topics: what an import, a simulation or a product's producer does.

Records are written in transactions of a few thousand, each record to the topic of its kind. Impressions and feedback
go to the partition of their key. Every Kafka client would choose the same one, so the two meet in the joiner. A record
that cannot be written goes to the dead letters, and the others are written.

It knows nothing of where the records came from.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.records import Item
    >>> from recdistill.stream import open_log, standard_topics
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
    ...     _ = log.create_topics(standard_topics())
    ...     counts = feed(log, [Item("a"), Item("b")])
    ...     log.close()
    >>> dict(counts)
    {'items': 2}
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from functools import partial
from itertools import islice

from recdistill.errors import DataError, StreamError
from recdistill.progress import Progress
from recdistill.records import TOPICS, Record, encode, key_of, to_json
from recdistill.stream import Delivery, Log, Message, Outgoing, TopicPartition, deliver

TOPIC_OF = {kind: topic for topic, kind in TOPICS.items()}


def feed(
    log: Log,
    records: Iterable[Record],
    *,
    stop: threading.Event | None = None,
    total: int | None = None,
    progress: Progress | None = None,
    batch: int = 2000,
) -> Counter[str]:
    """Writes records to their topics, in their order.

    Args:
        log: Where to; the topics must exist.
        records: Any mix of items, impressions, feedback and rankings.
        stop: Set it and the function returns after the batch in work; what was written stays.
        total: How many there will be, for the progress.
        progress: Told how many are written.
        batch: Records in one transaction.

    Returns:
        Records written, by topic, and dead_letters if there are any.

    Raises:
        StreamError: A topic is missing, or the log cannot be written.
    """
    topics = log.topics()
    counts: Counter[str] = Counter()
    stage = log.stage("feed")
    remaining = iter(records)
    try:
        while (some := list(islice(remaining, batch))) and not (stop and stop.is_set()):
            outgoing: list[Outgoing] = []
            dead: list[tuple[Message, Exception]] = []
            for record in some:
                topic = TOPIC_OF[type(record)]
                if topic not in topics:
                    raise StreamError(f"there is no topic {topic!r}; make the topics with `recdistill topics create`")
                try:
                    outgoing.append(Outgoing(topic, encode(record), key=key_of(record)))
                except DataError as e:
                    dead.append((unwritten(record), e))
            refused = deliver(stage, "feed", partial(_delivery, outgoing, dead))
            counts.update(one.topic for place, one in enumerate(outgoing) if place not in refused)
            if dead or refused:
                counts["dead_letters"] += len(dead) + len(refused)
            if progress:
                progress(counts.total(), total)
    finally:
        stage.close()
    return counts


def unwritten(record: Record) -> Message:
    """A record that was never in a log, as a message for the dead letters: its JSON form if it has one."""
    try:
        value = to_json(record)
    except (ValueError, TypeError, OverflowError):
        value = repr(record).encode(errors="replace")
    tp = TopicPartition(TOPIC_OF[type(record)], -1)
    return Message(tp=tp, offset=-1, key=None, value=value, time_us=0)


def _delivery(outgoing: list[Outgoing], dead: list[tuple[Message, Exception]], _refused: object) -> Delivery:
    return Delivery(outgoing, dead)
