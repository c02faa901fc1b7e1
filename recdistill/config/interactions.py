"""The section `[interactions]`: how lists are made from a table of events.

It knows nothing of tables or lists.

Example:
    >>> InteractionSettings(length=20).length
    20
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class InteractionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[interactions]`: user, item, time -> lists, for `recdistill import --kind interactions`."""

    length: Annotated[int, Meta(ge=2, le=10_000, description="Candidates of a list, with the chosen one.")] = 64
    popular: Annotated[
        float, Meta(ge=0, le=1, description="Share of a list that is popular at that moment. The rest is random.")
    ] = 0.3125
    covisited: Annotated[
        float, Meta(ge=0, le=1, description="Share of a list that others chose together with the user's last items.")
    ] = 0.375
    history: Annotated[int, Meta(ge=1, le=10_000, description="Most events in a history.")] = 50
    min_history: Annotated[
        int, Meta(ge=0, description="A user's first so many events make no list; they are only history.")
    ] = 3
