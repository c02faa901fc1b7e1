"""`[canary]`: a version that passed the gate first answers a share of the users.

It knows nothing of the other sections.

Example:
    >>> CanarySettings().share
    0.0
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class CanarySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[canary]`: for promoter and rankers alike. It needs `rank.write_back = 1`, and `user` in requests."""

    share: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="Share of the users whom the canary answers. A hash of the user decides who. A "
            "version that passed the gate is first the canary, and then the champion. 0: there is no canary.",
        ),
    ] = 0.0
    automatic: Annotated[
        bool,
        Meta(
            description="Whether the promoter ends a canary by itself: it promotes or withdraws it. "
            "If not, a person does."
        ),
    ] = True
    alpha: Annotated[
        float,
        Meta(
            gt=0,
            lt=0.5,
            description="Chance of a wrong end: to promote a canary that is worse by the margin, or to "
            "withdraw one that is as good as the champion. It does not grow if somebody looks often.",
        ),
    ] = 0.05
    margin: Annotated[
        float,
        Meta(gt=0, lt=1, description="How much lower the share of lists with a click may be. 0.01: one list of 100."),
    ] = 0.01
    most_users: Annotated[
        int, Meta(ge=1, description="If nothing is decided after so many users of the canary, it is withdrawn.")
    ] = 100_000
    shadow: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of the other requests on which the canary is asked too, in the background. Its answers "
            "are only compared with those of the champion.",
        ),
    ] = 0.0
