"""What a log holds already: its items, and the first records of a topic. Commits nothing.

It knows nothing of tables, models or terminals.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.loops.feed import feed
    >>> from recdistill.stream import open_log, standard_topics
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
    ...     _ = log.create_topics(standard_topics())
    ...     _ = feed(log, [Item("a", attributes={"genre": "war"}), Item("b"), Item("a", version=1)])
    ...     found = items_of(log)
    ...     log.close()
    >>> sorted(found), found["a"].version
    (['a', 'b'], 1)
"""

from __future__ import annotations

from typing import TypeVar

from recdistill.errors import DecodeError
from recdistill.loops.follow import new_items
from recdistill.loops.inspect import look
from recdistill.records import Feedback, Impression, Item, decode, newer
from recdistill.stream import Log, Message, TopicPartition

ITEMS = TopicPartition("items", 0)

R = TypeVar("R", Impression, Feedback)


def items_of(log: Log) -> dict[str, Item]:
    """The record that holds for each item of a log, withdrawn ones too. A record that does not decode is left out.

    Raises:
        StreamError: The log cannot be read.
    """
    found: dict[str, Item] = {}
    source = log.source([ITEMS])
    try:
        source.seek({ITEMS: source.bounds(ITEMS)[0]})
        for records in new_items(source, _pass_over):
            for item in records:
                if (holds := newer(found.get(item.id), item)) is not None:
                    found[item.id] = holds
    finally:
        source.close()
    return found


def first_of(log: Log, topic: str, kind: type[R], most: int) -> list[R]:
    """The first records of a topic that decode, at most so many.

    Raises:
        StreamError: There is no such topic, or the log cannot be read.
    """
    found = []
    for message in look(log, topic, most):
        try:
            found.append(decode(kind, message.value))
        except DecodeError:
            continue
    return found


def _pass_over(message: Message, error: Exception) -> None:
    """The scorer and the distiller count it; here it only cannot be used."""
