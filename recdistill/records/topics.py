"""The topics that carry records, and the topic for messages that are no records.

It knows nothing of logs or of how a record is written.

Example:
    >>> TOPICS["rankings"].__name__
    'Ranking'
"""

from __future__ import annotations

from typing import Final

from recdistill.records.structs import Example, Feedback, Impression, Item, Ranking, Record

TOPICS: Final[dict[str, type[Record]]] = {
    "items": Item,
    "impressions": Impression,
    "rankings": Ranking,
    "feedback": Feedback,
    "examples": Example,
    "held-out": Example,
}

TOPIC_OF: Final[dict[type[Record], str]] = {kind: topic for topic, kind in reversed(TOPICS.items())}
"""Where the records of a kind go. Of two topics with one kind it is the first: an example goes to `examples`."""

DEAD_LETTERS: Final = "dead-letters"
"""Original bytes and headers, not records."""
