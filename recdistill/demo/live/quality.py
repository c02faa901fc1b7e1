"""Quality on what comes next: each contender orders a list when it is shown, before anybody clicks or learns from it.

The figure of a list is NDCG@10 of the order of its candidates, once its clicks are known. Lists without a click have
no figure. Equal scores are in no order: the figure is the mean over all orders of the ties.

It knows nothing of logs, processes or pages.

Example:
    >>> from recdistill.records import Candidate
    >>> seen = Quality({"last": lambda one: np.arange(len(one.candidates))}, wait_s=2.0, recent_s=30.0)
    >>> seen.shown(Impression("i", 5, candidates=(Candidate("a"), Candidate("b"))), 0.0)
    >>> seen.clicked(Feedback("f", "i", "b", "click", time_us=6), 1.0)
    >>> seen.settle(1.5), seen.settle(2.5)
    (0, 1)
    >>> seen.means(0.0, 10.0)["last"]
    1.0
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.loops.prequential import ndcg
from recdistill.records import Feedback, Impression

Scorer = Callable[[Impression], NDArray[Any] | None]
"""Scores of the candidates of a list, higher is better; NaN: unknown, comes last; None: there is no such contender yet.
"""

POPULARITY = "popularity"


class _Open:
    """A list that was shown, and whose clicks may still come."""

    def __init__(self, impression: Impression, at_s: float, scores: dict[str, NDArray[Any]]) -> None:
        self.items = {candidate.item: place for place, candidate in enumerate(impression.candidates)}
        self.at_s, self.scores = at_s, scores
        self.clicked: set[int] = set()


class Quality:
    """Figures of contenders over time.

    Args:
        contenders: Their names and scorers. Popularity of late is always one of them.
        wait_s: How long clicks of a list are waited for.
        recent_s: How far back popularity of late looks.
    """

    def __init__(self, contenders: Mapping[str, Scorer], *, wait_s: float, recent_s: float) -> None:
        self._contenders = {**contenders, POPULARITY: self._popularity}
        self._wait_s, self._recent_s = wait_s, recent_s
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._clicks: deque[tuple[float, str]] = deque()
        self._counts: Counter[str] = Counter()
        self.points: list[tuple[float, dict[str, float]]] = []

    @property
    def names(self) -> list[str]:
        """The contenders."""
        return list(self._contenders)

    def shown(self, impression: Impression, at_s: float) -> None:
        """A list was shown: every contender orders it now."""
        self._forget(at_s)
        scores = {}
        for name, scorer in self._contenders.items():
            found = scorer(impression)
            if found is not None:
                scores[name] = found
        self._open[impression.id] = _Open(impression, at_s, scores)

    def clicked(self, feedback: Feedback, at_s: float) -> None:
        """Feedback came, for a list that is measured or for any other one."""
        self._clicks.append((at_s, feedback.item))
        self._counts[feedback.item] += 1
        one = self._open.get(feedback.impression_id)
        if one is not None and (place := one.items.get(feedback.item)) is not None:
            one.clicked.add(place)

    def settle(self, now_s: float) -> int:
        """Takes the figures of the lists whose clicks are waited for no longer. Returns how many had a click."""
        found = 0
        while self._open:
            one = next(iter(self._open.values()))
            if now_s - one.at_s < self._wait_s:
                break
            self._open.popitem(last=False)
            if one.clicked:
                self.points.append((one.at_s, {name: _ndcg(scores, one) for name, scores in one.scores.items()}))
                found += 1
        return found

    def means(self, begin_s: float, end_s: float, *, least: int = 1) -> dict[str, float]:
        """The mean figure of each contender over the lists that were shown between two times.

        Args:
            begin_s: The first time.
            end_s: The second one.
            least: A contender with fewer lists is left out.
        """
        sums: defaultdict[str, float] = defaultdict(float)
        counts: Counter[str] = Counter()
        for at_s, figures in reversed(self.points):
            if at_s < begin_s:
                break
            if at_s < end_s:
                for name, value in figures.items():
                    sums[name] += value
                    counts[name] += 1
        return {name: sums[name] / counts[name] for name in counts if counts[name] >= least}

    def _popularity(self, impression: Impression) -> NDArray[Any]:
        return np.array([self._counts[candidate.item] for candidate in impression.candidates], np.float64)

    def _forget(self, now_s: float) -> None:
        while self._clicks and self._clicks[0][0] < now_s - self._recent_s:
            self._counts[self._clicks.popleft()[1]] -= 1


def _ndcg(scores_L: NDArray[Any], one: _Open) -> float:
    labels_L = np.zeros(len(scores_L))
    labels_L[list(one.clicked)] = 1.0
    return float(ndcg([scores_L], [labels_L])[0])
