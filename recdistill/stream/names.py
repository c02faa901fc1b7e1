"""Names of topics: those under a log's prefix, and those of somebody else.

It knows nothing of what a topic holds.

Example:
    >>> outside("shop.", "web.views"), outside("shop.", "shop.items"), outside("", "web.views")
    ('/web.views', 'items', 'web.views')
    >>> full_name("shop.", "/web.views"), full_name("shop.", "items")
    ('web.views', 'shop.items')
"""

from __future__ import annotations

from typing import Final

OUTSIDE: Final = "/"
"""Begins the name of a topic that is not under the log's prefix: the rest is its whole name."""


def outside(prefix: str, whole: str) -> str:
    """The name by which a log calls a topic, from the whole name of that topic.

    Args:
        prefix: Of the log.
        whole: The name without which no other client finds the topic.
    """
    return whole[len(prefix) :] if whole.startswith(prefix) else OUTSIDE + whole


def full_name(prefix: str, topic: str) -> str:
    """The whole name of a topic, from the one by which a log calls it."""
    return topic.removeprefix(OUTSIDE) if topic.startswith(OUTSIDE) else prefix + topic
