"""Holds what serves now: which recommenders answer, in which role, and their version numbers in the registry.

Today there is one role, the champion, and it answers every request. To add another role (a canary that gets a share of
the requests), change `choose` and `gauges`. The code that answers a request only calls `choose`.

It does not know HTTP, logs or registries. The code that follows the registry calls `swap`.

Example:
    >>> ranker = Ranker()
    >>> ranker.choose() is None, ranker.gauges()
    (True, {'ready': 0.0})
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from recdistill.hops import Counts
from recdistill.serve.recommender import Recommender

CHAMPION: Final = "champion"


@dataclass(frozen=True)
class Variant:
    """A recommender that serves.

    Args:
        recommender: The recommender that answers.
        version: Its number in the registry. It is empty when the bundle is served from a folder.
        since: When it began to serve, by `time.monotonic`.
    """

    recommender: Recommender
    version: str
    since: float


class Ranker:
    """The one reference to what serves, and its counts. Any thread may swap or read.

    Args:
        counts: Counts to add to. None: new counts.
    """

    def __init__(self, counts: Counter[str] | None = None) -> None:
        self.counts: Counter[str] = Counts() if counts is None else counts
        self._variants: dict[str, Variant] = {}  # by role; always replaced as a whole, so readers need no lock
        self.stopping = False
        self.troubles: dict[str, str] = {}
        """What is wrong with the process, one sentence by part. It answers, but nobody should send requests to it."""
        self.caught_up: float | None = None
        """When (`time.monotonic`) the catalogue was last seen to hold all of `items`."""

    @property
    def champion(self) -> Variant | None:
        """The variant that was promoted. None: there is none yet."""
        return self._variants.get(CHAMPION)

    def choose(self) -> Variant | None:
        """The variant that answers the next request. None: nothing serves yet."""
        return self._variants.get(CHAMPION)

    def swap(self, recommender: Recommender, version: str = "", *, role: str = CHAMPION) -> None:
        """From the next request on, this recommender answers in the role."""
        self._variants = {**self._variants, role: Variant(recommender, version, time.monotonic())}
        self.counts["swaps"] += 1

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
        if self.caught_up is not None:
            found["items_age_seconds"] = time.monotonic() - self.caught_up
        return found
