"""A request to a recommender: who asks, and which items an answer may hold.

It does not know how an answer is found.

Example:
    >>> Request(history=(Event("item-1"),), exclude=("item-7",)).time_us
    0
"""

from __future__ import annotations

from msgspec import Struct

from recdistill.records import Event, Value


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """The user who asks: history (oldest first), context, and items that must not be shown.

    `time_us` is the time of the request in microseconds. 0: it is unknown, and then the ages of events are unknown too.
    `user` names the user. Empty: the user is not known. No student sees it. It decides whether a canary answers.
    """

    history: tuple[Event, ...] = ()
    context: dict[str, Value] = {}
    exclude: tuple[str, ...] = ()
    time_us: int = 0
    user: str = ""


class Filters(Struct, frozen=True, forbid_unknown_fields=True):
    """Which items an answer may hold.

    Args:
        exclude: Items that are not allowed.
        allow: Only these items are allowed. None: all are.
        where: Attribute → value. The item's attribute must be this value, or hold it if the attribute is a list. If
            the value here is a list, one of its members is enough.
    """

    exclude: frozenset[str] = frozenset()
    allow: frozenset[str] | None = None
    where: dict[str, Value] = {}
