"""The size and the behaviour of a simulated world.

It knows nothing of how a world is made.

Example:
    >>> SimulatorSettings(kind="deep").shift
    0.4
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from recdistill.errors import ConfigError

Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class SimulatorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Size and behaviour of a world.

    Attributes:
        kind: `plain`: what an item is can be read from its attributes. `deep`: much of it cannot, see
            `recdistill.data.simulated.deep`. Its logged scores are those of a strong teacher.
        items: Number of all items that are ever in the catalogue.
        users: Number of all users that ever come.
        impressions: Number of requests of all users. A few users make many of them.
        days: How many days it runs, from 1 January 2026.
        shortest: Fewest candidates in a list.
        longest: Most candidates in a list.
        new_items: Share of items that are launched while it runs.
        new_users: Share of users that arrive while it runs, with no history.
        withdrawn: Share of items that are withdrawn while it runs.
        shuffled: Share of lists that are shown in random order (their candidates carry a propensity).
        click_rate: Share of lists with at least one click in the first days. It falls later by about a sixth, because
            users have had what they like best.
        narrow: Share of lists whose candidates all have nearly the same utility.
        shift: In the deep world, when all tastes turn, as a share of the days; 1: never.
        teacher_noise: In the deep world, the error of the logged scores.
        position_bias: Exponent of the examination of places.
        zipf: Exponent of popularity.
        strength: Strength of personal taste.
        mood: Strength of the user's present topic.
        noise: Error in what the product knows; with 0 it knows all.
        views: Mean number of items that a user finds alone between two requests.
        late: Share of feedback that arrives minutes late, and so out of order.
        duplicates: Share of feedback that arrives twice.
        dim: Latent dimensions.
        history: Most events in a history; the user's older items are in `exclude`.
    """

    items: Annotated[int, Meta(ge=20)] = 2000
    users: Annotated[int, Meta(ge=2)] = 3000
    impressions: Annotated[int, Meta(ge=10)] = 30_000
    days: Annotated[int, Meta(ge=2, le=3650)] = 180
    shortest: Annotated[int, Meta(ge=2)] = 50
    longest: Annotated[int, Meta(ge=2)] = 100
    new_items: Share = 0.2
    new_users: Share = 0.3
    withdrawn: Share = 0.02
    shuffled: Share = 0.3
    click_rate: Annotated[float, Meta(gt=0, lt=1)] = 0.7
    position_bias: Annotated[float, Meta(ge=0)] = 0.7
    zipf: Annotated[float, Meta(ge=0)] = 0.7
    strength: Annotated[float, Meta(ge=0)] = 5.0
    mood: Annotated[float, Meta(ge=0)] = 3.0
    noise: Annotated[float, Meta(ge=0)] = 1.0
    views: Annotated[float, Meta(ge=0)] = 1.5
    late: Share = 0.01
    duplicates: Share = 0.01
    dim: Annotated[int, Meta(ge=2)] = 16
    history: Annotated[int, Meta(ge=1)] = 50
    kind: Literal["plain", "deep"] = "plain"
    narrow: Share = 0.0
    shift: Share = 0.4
    teacher_noise: Annotated[float, Meta(ge=0)] = 0.3

    def check(self) -> None:
        """Makes sure that the values fit each other.

        Raises:
            ConfigError: They contradict each other.
        """
        try:
            msgspec.convert(msgspec.to_builtins(self), SimulatorSettings)  # made in code, so not checked yet
        except msgspec.ValidationError as e:
            raise ConfigError(f"simulator: {e}") from e
        if self.shortest > self.longest:
            raise ConfigError(f"simulator: shortest {self.shortest} is more than longest {self.longest}; raise longest")
        if 2 * self.longest > self.items:
            raise ConfigError(
                f"simulator: lists of up to {self.longest} need at least {2 * self.longest} items, not {self.items}"
            )
        if self.impressions > self.users * self.days:
            raise ConfigError(
                f"simulator: {self.impressions} impressions are more than one a day for {self.users} users "
                f"over {self.days} days; raise users or days"
            )
