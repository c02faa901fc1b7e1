"""The champion on lists from which nobody learns: each is scored by the bundle that served when the list came.

Held-out lists come whole, with their labels, when their window is over. Which bundle served at a time stands in the
registry's ledger, and a bundle does not change. So the score of then can be computed now. Nothing has to be kept: a
process that starts again counts the newest lists again, and finds the same.

It knows nothing of logs, of the registry, or of how a student learns.

Example:
    >>> served = [Served(at_us=10, content_hash="one"), Served(at_us=20, content_hash="two")]
    >>> [served_at(served, time_us) for time_us in (5, 10, 25)]
    ['', 'one', 'two']
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from recdistill.errors import BundleError, RegistryError, RequestError
from recdistill.loops.prequential.champion import Finds, Found
from recdistill.loops.prequential.lines import agreement, ndcg
from recdistill.loops.prequential.text import lines_of
from recdistill.loops.prequential.whole import CHAMPION, TEACHER, group_of, hash_of
from recdistill.loops.prequential.windows import Windows
from recdistill.records import Example

log_ = logging.getLogger(__name__)

_OPEN: Final = 2
"""So many bundles are open at once: the one that serves, and the one before."""


class Served(Struct, frozen=True):
    """A champion, and since when."""

    at_us: int
    content_hash: str


def served_since(at: str, content_hash: str) -> Served | None:
    """What an entry of the ledger says; None where its time cannot be read."""
    try:
        return Served(round(datetime.fromisoformat(at).timestamp() * 1e6), content_hash)
    except ValueError:
        return None


def in_turn(found: Iterable[Served | None]) -> list[Served]:
    """The champions in the order of the ledger, each not before the one that it follows: a clock may have gone back.

    Args:
        found: As the ledger has them, oldest first; None: one whose time cannot be read.
    """
    kept: list[Served] = []
    for one in found:
        if one is not None:
            kept.append(Served(max(one.at_us, kept[-1].at_us if kept else 0), one.content_hash))
    return kept


def served_at(served: Sequence[Served], time_us: int) -> str:
    """The champion of a time; empty: there was none. `served` is in the order of time."""
    place = bisect_right([one.at_us for one in served], time_us)
    return served[place - 1].content_hash if place else ""


class HeldAhead:
    """The evaluation on held-out lists.

    Args:
        finds: Where champions are.
        share: Share of the lists that are scored, by a hash of their ids.
        window_s: Length of a window, in the time of the lists. The newest two are told as they stand now.
    """

    def __init__(self, finds: Finds, *, share: float, window_s: float) -> None:
        self._finds, self._most, self._window_us = finds, round(share * 2**64), int(window_s * 1e6)
        self._windows = Windows()
        self._clock_us = 0
        self._opened: OrderedDict[str, Found | None] = OrderedDict()
        self._lines: list[str] = []
        self.counts: Counter[str] = Counter()

    def take(self, examples: Sequence[Example], served: Sequence[Served]) -> None:
        """Counts labelled held-out lists, oldest first.

        Args:
            examples: The lists.
            served: The champions so far, oldest first.
        """
        for example in examples:
            shown = example.ranking.impression
            key = hash_of(shown.id)
            labels_L = np.array(example.labels, np.float32)
            judged = (labels_L > 0).any() and not (labels_L > 0).all()
            if int.from_bytes(key, "big") >= self._most or not judged or not shown.time_us:
                continue
            if not (content_hash := served_at(served, shown.time_us)):
                continue
            if (found := self._open(content_hash)) is None or (own := _scores(found, example)) is None:
                continue
            self._clock_us = max(self._clock_us, shown.time_us)
            window, group = self._windows.at(self._clock_us, window_us=self._window_us), group_of(shown.user, key)
            window.lists += 1
            self.counts["prequential_lists"] += 1
            scores = {CHAMPION: own}
            if all(example.ranking.scored):
                scores[TEACHER] = np.array(example.ranking.scores, np.float32)
            for line, scores_L in scores.items():
                window.ndcg.add(line, group, float(ndcg([scores_L], [labels_L])[0]))
            if TEACHER in scores and np.isfinite(tau := float(agreement([own], [scores[TEACHER]])[0])):
                window.agreement.add(CHAMPION, group, tau)
        self._windows.close(before_us=self._clock_us - self._window_us)
        self._lines = list(lines_of(self._windows.now(), "held-out"))

    def told(self) -> dict[str, Any]:
        """The newest rows, oldest first, and how it stands now, as JSON says it."""
        return self._windows.told()

    def lines(self) -> Iterator[str]:
        """How it stands now, in the text form of Prometheus. Any thread may ask."""
        yield from self._lines

    def _open(self, content_hash: str) -> Found | None:
        if content_hash not in self._opened:
            try:
                self._opened[content_hash] = self._finds.open(content_hash)
            except (RegistryError, BundleError) as e:
                log_.warning("the lists of champion %s are not scored: %s", content_hash[:12], e)
                self._opened[content_hash] = None
            while len(self._opened) > _OPEN:
                self._opened.popitem(last=False)
        return self._opened[content_hash]


def _scores(found: Found, example: Example) -> npt.NDArray[np.float32] | None:
    """The bundle's score of each candidate, NaN where it does not know one; None: the context does not fit it."""
    from recdistill.serve import Request

    shown = example.ranking.impression
    items = [candidate.item for candidate in shown.candidates]
    request = Request(history=shown.history, context=shown.context, time_us=shown.time_us)
    try:
        answer = found.recommender.rank(request, items)
    except RequestError:
        return None
    given = dict(zip(answer.items, answer.scores, strict=True))
    return np.array([given.get(item, np.nan) for item in items], np.float32)
