"""The topics of the loop: how many partitions each has, and how long its records stay.

It knows nothing of what is inside a record.

Example:
    >>> standard_topics(2)["feedback"], STANDARD_CONFIGS["checks"]["cleanup.policy"]
    (2, 'compact')
"""

from __future__ import annotations

from collections.abc import Mapping

from recdistill.errors import StreamError
from recdistill.stream.contract import TopicPartition

ITEMS = TopicPartition("items", 0)
"""The catalogue: one partition, so that its records have one order."""

BUNDLES = TopicPartition("bundles", 0)
"""The announcements of distillers: one partition, so that one bundle is the newest."""

HELD_OUT = TopicPartition("held-out", 0)
"""The lists of users from whom no student learns: one partition, so that one list is the newest."""

CHECKS = TopicPartition("checks", 0)
"""What a scorer asks its teacher again, with the first answers."""

LEDGER = TopicPartition("ledger", 0)
"""Who changed the champion, when and why: one partition, since each entry names the one before it."""

LOOK_NOW = TopicPartition("look-now", 0)
"""Says that followers of the registry should look at it now."""

STANDARD_CONFIGS: Mapping[str, Mapping[str, str]] = {
    "items": {"cleanup.policy": "compact", "min.compaction.lag.ms": str(7 * 24 * 3600 * 1000)},
    "checks": {"cleanup.policy": "compact"},
    "ledger": {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
    "look-now": {"retention.ms": str(24 * 3600 * 1000)},
}
"""Settings of the loop's topics, by Kafka's names.

The newest record of each item stays for ever. Older records of the last seven days stay too, because a scorer or a
distiller that resumes needs the catalogue of the time when it stopped. Seven days is how long a broker keeps the other
topics by default. `checks` holds what the scorer asks its teacher again: the newest record of each key stays for ever.
`ledger` is kept for ever, whole.
"""


def standard_topics(partitions: int = 1, lanes: int = 1) -> dict[str, int]:
    """Topics that the loop needs, with their partition counts.

    Args:
        partitions: For `impressions`, `rankings` and `feedback`. The count is equal, because all three have the
            impression id as key.
        lanes: For `examples`. It can never change for this topic.

    Raises:
        StreamError: A count is below 1.

    Example:
        >>> standard_topics(2)["feedback"]
        2
    """
    for name, count in (("partitions", partitions), ("lanes", lanes)):
        if count < 1:
            raise StreamError(f"{name} must be at least 1, not {count}")
    keyed = dict.fromkeys(("impressions", "rankings", "feedback"), partitions)
    single = dict.fromkeys(("bundles", "dead-letters", "checks", "held-out", "ledger", "look-now"), 1)
    return {"items": 1, **keyed, "examples": lanes, **single}
