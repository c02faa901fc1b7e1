"""What is asked of a recommender: who asks, and which items an answer may hold.

It does not know how an answer is found.

Example:
    >>> Request(history=(Event("item-1"),), exclude=("item-7",)).time_us
    0
"""

from __future__ import annotations

from msgspec import Struct

from recdistill.records import Event, Value


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks: history (oldest first), context, items not to be shown, time (µs; 0: unknown, and so are all ages)."""

    history: tuple[Event, ...] = ()
    context: dict[str, Value] = {}
    exclude: tuple[str, ...] = ()
    time_us: int = 0


class Filters(Struct, frozen=True, forbid_unknown_fields=True):
    """Which items an answer may hold.

    Args:
        exclude: None of these.
        allow: Only these; None for all.
        where: Attribute → value. The attribute must be the value, or hold it if it is a list; of several values in a
            list, one is enough.
    """

    exclude: frozenset[str] = frozenset()
    allow: frozenset[str] | None = None
    where: dict[str, Value] = {}
