"""Writes a share of the answers to the log, as impressions. Each holds the request, the answer and the bundle's name.

A person sees such an answer, so its origin is `served`. With exploration (`recdistill.serve.explore`) some of these
answers are changed a little, and each item has the chance that it came to its place. Other answers never change.

It does not know where impressions are written.

Example:
    >>> kept = []
    >>> write_back = WriteBack(1.0, lambda impression: kept.append(impression) is None)
    >>> given = {"items": ["a"], "scores": [1.0], "bundle": "9f", "overlay": 0}
    >>> answer = write_back(Request(), RecommendAnswer(**given, source="personal", unknown_history=0), 10)
    >>> answer.impression == kept[0].id, kept[0].origin
    (True, 'served')
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from typing import TypeVar

import msgspec

from recdistill.records import Candidate, Impression
from recdistill.serve.answers import RecommendAnswer
from recdistill.serve.explore import Explore, shown
from recdistill.serve.requests import Request

Given = TypeVar("Given", bound=RecommendAnswer)
Keep = Callable[[Impression], bool]


class WriteBack:
    """Keeps a share of the answers.

    Args:
        share: Share of the answers that is kept. Empty answers do not count.
        keep: Takes an impression, without waiting, and returns whether it did. None: nothing is kept.
        explore: How kept answers are changed. None: they are not changed.
    """

    def __init__(self, share: float, keep: Keep | None, explore: Explore | None = None) -> None:
        self._share, self._keep, self._explore = share, keep, explore or Explore()

    @property
    def more(self) -> int:
        """How many additional items an answer needs, so that it can be changed."""
        return self._explore.pool if self._keep is not None and self._explore.share > 0 else 0

    def __call__(self, request: Request, answer: Given, k: int | None = None) -> Given:
        """The answer. If it was kept, it has the id of its impression.

        Args:
            request: The request.
            answer: Its answer, with `more` additional items at its end.
            k: How many items the caller gets at most. None: the answer is not changed.
        """
        usual = answer if k is None or len(answer.items) <= k else _some(answer, list(range(k)))
        if self._keep is None or not answer.items or random.random() >= self._share:
            return usual
        name, chances = uuid.uuid4().hex, None
        if k is not None and self._explore.share > 0:
            order, chances = shown(self._explore, name, found=len(answer.items), k=k)
            answer = _some(answer, order)
        impression = Impression(
            id=name,
            # The clock of a client may be ahead, and no event may be later than its impression.
            time_us=request.time_us or max(time.time_ns() // 1000, *(event.time_us for event in request.history), 0),
            user=request.user or None,
            history=request.history,
            context=request.context,
            candidates=tuple(
                Candidate(item, score, None if chances is None else chances[place])
                for place, (item, score) in enumerate(zip(answer.items, answer.scores, strict=True))
            ),
            exclude=tuple(dict.fromkeys(request.exclude)),
            origin="served",
            served_by=answer.bundle,
        )
        return msgspec.structs.replace(answer, impression=name) if self._keep(impression) else usual


def _some(answer: Given, order: list[int]) -> Given:
    """The answer with only these items, in this order."""
    items, scores = [answer.items[n] for n in order], [answer.scores[n] for n in order]
    return msgspec.structs.replace(answer, items=items, scores=scores)
