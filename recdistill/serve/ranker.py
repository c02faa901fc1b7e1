"""What serves now: which recommenders answer, in which role, under which number of the registry.

Today there is one role, the champion, and it answers every request. Who adds another (a canary with a share of the
requests) changes `choose` and `gauges`; whoever answers a request asks `choose` and needs to know nothing more.

It does not know HTTP, logs or registries: whoever follows them calls `swap`.

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

from recdistill.serve.recommender import Recommender

CHAMPION: Final = "champion"


@dataclass(frozen=True)
class Variant:
    """A recommender that serves.

    Args:
        recommender: What answers.
        version: Its number in the registry; empty when it is served from a folder.
        since: When it began to serve, by `time.monotonic`.
    """

    recommender: Recommender
    version: str
    since: float


class Ranker:
    """The one reference to what serves, and what is counted about it. Any thread may swap or read.

    Args:
        counts: Counts to add to; a new one when None.
    """

    def __init__(self, counts: Counter[str] | None = None) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._variants: dict[str, Variant] = {}  # by role; replaced whole, so that readers need no lock
        self.stopping = False
        self.caught_up: float | None = None
        """When (`time.monotonic`) the catalogue was last seen to hold all of `items`."""

    @property
    def champion(self) -> Variant | None:
        """The variant that was promoted; None until there is one."""
        return self._variants.get(CHAMPION)

    def choose(self) -> Variant | None:
        """The variant that answers the next request; None while nothing serves."""
        return self._variants.get(CHAMPION)

    def swap(self, recommender: Recommender, version: str = "", *, role: str = CHAMPION) -> None:
        """Makes a recommender the one that answers in a role, from the next request on."""
        self._variants = {**self._variants, role: Variant(recommender, version, time.monotonic())}
        self.counts["swaps"] += 1

    def gauges(self) -> dict[str, float]:
        """What Prometheus is told beside the counts."""
        champion = self.champion
        found = {"ready": float(champion is not None and not self.stopping)}
        if champion is not None:
            found |= {
                "overlay_position": float(champion.recommender.position),
                "catalogue_items": float(champion.recommender.live),
                "serving_seconds": time.monotonic() - champion.since,
            }
        if self.caught_up is not None:
            found["items_age_seconds"] = time.monotonic() - self.caught_up
        return found
