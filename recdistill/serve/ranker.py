"""Holds what serves now: which recommenders answer, in which role, and their version numbers in the registry.

There are two roles: champion and canary. While there is a canary, it answers a share of the users. The champion answers
all others. A hash of the user decides. So a user is always on the same side, in every process, and another canary has
other users. If a request does not name its user, the champion answers.

It does not know HTTP, logs or registries. The code that follows the registry calls `swap`.

Example:
    >>> ranker = Ranker()
    >>> ranker.sides() is None, ranker.gauges()
    (True, {'ready': 0.0, 'warm': 0.0, 'canary_share': 0.0, 'champion_refused': 0.0})
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

from recdistill.hops import Counts
from recdistill.serve.recommender import Recommender

CHAMPION: Final = "champion"
CANARY: Final = "canary"


def place_of(user: str, canary: str) -> float:
    """A number from 0 to 1 for a user and a canary, from a hash. If it is below the share, the canary answers.

    Args:
        user: The user.
        canary: Content hash of the canary's bundle.

    Example:
        >>> place_of("anna", "c0ffee") == place_of("anna", "c0ffee") != place_of("anna", "decaf")
        True
    """
    drawn = hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=8, key=canary.encode()[:64]).digest()
    return int.from_bytes(drawn, "big") / 2**64


@dataclass(frozen=True)
class Variant:
    """A recommender that serves.

    Args:
        recommender: The recommender that answers.
        version: Its number in the registry. It is empty when the bundle is served from a folder.
        since: When it began to serve, by `time.monotonic`.
        role: `champion` or `canary`.
    """

    recommender: Recommender
    version: str
    since: float
    role: str = CHAMPION


class Sides(NamedTuple):
    """The variants that answer at one moment.

    Args:
        champion: Answers all users whom the canary does not answer.
        canary: Answers a share of the users. None: there is no canary.
        share: That share.
    """

    champion: Variant
    canary: Variant | None = None
    share: float = 0.0

    def of(self, user: str) -> Variant:
        """The variant that answers a user. If `user` is empty, the user is not known."""
        if self.canary is None or not user or not self.share:
            return self.champion
        return self.canary if place_of(user, self.canary.recommender.content_hash) < self.share else self.champion


class Ranker:
    """The one reference to what serves, and its counts. Any thread may swap or read.

    Args:
        counts: Counts to add to. None: new counts.
        share: Share of the users whom a canary answers.
    """

    def __init__(self, counts: Counter[str] | None = None, share: float = 0.0) -> None:
        self._share = share
        self.counts: Counter[str] = Counts() if counts is None else counts
        self._variants: dict[str, Variant] = {}  # by role; always replaced as a whole, so readers need no lock
        self._writer = threading.Lock()  # champion and canary are followed by two threads
        self.stopping = False
        self.troubles: dict[str, str] = {}
        """What is wrong with the process: part -> one sentence. It still answers, but it is not ready."""
        self.notes: dict[str, str] = {}
        """What went wrong but does not stop answers: part -> one sentence. For example, a new champion that cannot be
        served, while the one before still serves. The process is ready, and `/readyz` shows the sentence."""
        self.warm = False
        """Whether the champion before this one is open, too. Then a rollback takes no time."""
        self.looked: float | None = None
        """When (`time.monotonic`) the last look at the registry ended."""
        self.caught_up: float | None = None
        """When (`time.monotonic`) the catalogue was last seen to hold all of `items`."""

    @property
    def champion(self) -> Variant | None:
        """The variant that was promoted. None: there is none yet."""
        return self._variants.get(CHAMPION)

    @property
    def variants(self) -> list[Variant]:
        """All that answer, the champion first."""
        return sorted(self._variants.values(), key=lambda variant: variant.role != CHAMPION)

    def sides(self) -> Sides | None:
        """Who answers the next request. None: nothing serves yet."""
        variants = self._variants
        champion, canary = variants.get(CHAMPION), variants.get(CANARY)
        return None if champion is None else Sides(champion, canary, self._share)

    def swap(self, recommender: Recommender, version: str = "", *, role: str = CHAMPION) -> None:
        """From the next request on, this recommender answers in the role."""
        with self._writer:
            self._variants = {**self._variants, role: Variant(recommender, version, time.monotonic(), role)}
            self.counts["swaps" if role == CHAMPION else "canaries"] += 1

    def drop(self, role: str) -> None:
        """From the next request on, no recommender has the role."""
        with self._writer:
            self._variants = {name: variant for name, variant in self._variants.items() if name != role}

    def gauges(self) -> dict[str, float]:
        """The gauges for Prometheus. The counts are not among them."""
        champion = self.champion
        found = {"ready": float(champion is not None and not self.stopping and not self.troubles)}
        if champion is not None:
            found |= {
                "overlay_position": float(champion.recommender.position),
                "catalogue_items": float(champion.recommender.live),
                "serving_seconds": time.monotonic() - champion.since,
            }
        found["warm"] = float(self.warm)
        found["canary_share"] = self._share if CANARY in self._variants else 0.0
        found["champion_refused"] = float("champion" in self.notes)
        if self.looked is not None:
            found["look_age_seconds"] = time.monotonic() - self.looked
        if self.caught_up is not None:
            found["items_age_seconds"] = time.monotonic() - self.caught_up
        return found
