"""What a few clicks do not show, and a strong teacher knows: the structure of the world `deep`.

- Most of what an item is cannot be read from its attributes. The world sees to that.
- Each item has one of eight keys. The keys of the user's two newest items together say what the user wants now. There
  are 64 pairs, and each has a wish of its own. So neither item alone tells the wish, and their order counts.
- At one moment all tastes turn: what was wanted in one direction is wanted in another one from then on.

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

KEYS = 8
"""Number of keys: the signs of three hidden properties of an item."""

WISH = 0.9
"""Length of a wish. A taste has a length of about 1."""


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
        signs_N3 = own_ND @ random.standard_normal((dim, 3)) > 0
        self.key_N: Ints = signs_N3 @ np.array([1, 2, 4])
        # A half of each wish belongs to the newest key alone, and a half to the pair of both keys.
        wishes_KKD = random.standard_normal((KEYS, 1, dim)) + random.standard_normal((KEYS, KEYS, dim))
        self._wishes_KKD = WISH * wishes_KKD / np.linalg.norm(wishes_KKD, axis=-1, keepdims=True)
        turned_DD, _ = np.linalg.qr(random.standard_normal((dim, dim)))
        self._turned_DD = turned_DD
        self.turns_us = turns_us

    def taste(self, taste_D: Floats, had: Sequence[int], time_us: int) -> Floats:
        """What a user wants now, `[D]`.

        Args:
            taste_D: The user's lasting taste.
            had: The user's items, newest last.
            time_us: Now.
        """
        if len(had) >= 2:
            taste_D = taste_D + self._wishes_KKD[self.key_N[had[-1]], self.key_N[had[-2]]]
        if time_us >= self.turns_us:
            taste_D = taste_D @ self._turned_DD
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
