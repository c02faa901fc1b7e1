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
    """`[interactions]`: how lists are made from events (user, item, time), for `recdistill import`."""

    length: Annotated[
        int, Meta(ge=2, le=10_000, description="How many candidates a list has. The chosen item is one of them.")
    ] = 64
    popular: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of the candidates that are popular at that moment. What `popular` and "
            "`covisited` leave is drawn at random.",
        ),
    ] = 0.3125
    covisited: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of the candidates that other users chose together with the user's last items.",
        ),
    ] = 0.375
    history: Annotated[int, Meta(ge=1, le=10_000, description="Most events in a history.")] = 50
    min_history: Annotated[
        int,
        Meta(ge=0, description="The first events of a user make no list; they are only history. This says how many."),
    ] = 3
