"""What a few clicks do not show, and a strong teacher knows: the structure of the world `deep`.

- Most of what an item is cannot be read from its attributes. The world sees to that.
- What a user wants now follows from the two newest items: each calls for items of another kind, and the newest one
  counts more. So the order of the history counts, and what an item calls for must be learnt. There are no moods.
- At one moment all tastes turn: from then on the older of the two items counts more.

All of it is a change of the user's taste, so the utility has the form that
`recdistill.data.simulated.world` defines.

It knows nothing of records, or of clicks.

Example:
    >>> utility_N = np.arange(100.0, dtype=np.float32)
    >>> found = near_equals(np.random.default_rng(0), utility_N, np.arange(100), 5)
    >>> len(found), int(np.ptp(utility_N[found]))
    (5, 4)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recdistill.data.simulated.world import Catalogue, Floats, Ints

WISH = 1.0
"""Length of what the newest item calls for. A lasting taste has a length of about 1."""

SECOND = 0.3
"""The same for the item before it, as a share."""

LASTING = 0.5
"""Share of a user's lasting taste that is left beside a wish."""


class Depths:
    """The hidden structure of one world.

    Args:
        random: Draws it.
        catalogue: The items.
        centre_KD: The typical item of each topic.
        turns_us: When all tastes turn.
    """

    def __init__(self, random: np.random.Generator, catalogue: Catalogue, centre_KD: Floats, turns_us: int) -> None:
        dim = centre_KD.shape[1]
        own_ND = catalogue.latent_ND - 0.4 * centre_KD[catalogue.topic_N]
        own_ND /= np.linalg.norm(own_ND, axis=1, keepdims=True)
        # What an item makes a user want next, when it is the newest one and when it is the one before.
        maps_2DD = [np.linalg.qr(random.standard_normal((dim, dim)))[0] for _ in range(2)]
        self._newest_ND, self._before_ND = (WISH * own_ND @ one for one in maps_2DD)
        self.turns_us = turns_us

    def taste(self, taste_D: Floats, had: Sequence[int], time_us: int) -> Floats:
        """What a user wants now, `[D]`.

        Args:
            taste_D: The user's lasting taste.
            had: The user's items, newest last.
            time_us: Now.
        """
        if len(had) >= 2:
            # When tastes turn, the two items change their parts.
            newest, before = (1.0, SECOND) if time_us < self.turns_us else (SECOND, 1.0)
            wish_D = newest * self._newest_ND[had[-1]] + before * self._before_ND[had[-2]]
            taste_D = LASTING * taste_D + wish_D
        return taste_D.astype(np.float32)


def near_equals(random: np.random.Generator, utility_N: Floats, rows: Ints, length: int) -> Ints:
    """Items with nearly the same utility, in random order: neighbours in the order of utility.

    Args:
        random: Draws where they are.
        utility_N: The utility of every item.
        rows: The items that may be shown.
        length: How many are wanted.
    """
    order = rows[np.argsort(utility_N[rows], kind="stable")]
    # The best tenth lies far apart, so it is left out where there are enough others.
    last = max(0, int(0.9 * len(order)) - length)
    start = int(random.integers(last + 1))
    found: Ints = random.permutation(order[start : start + length])
    return found
