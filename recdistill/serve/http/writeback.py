"""Writes a share of the answers to the log, as impressions. Each says the request, the answer and the bundle.

It does not know where impressions are written.

Example:
    >>> kept = []
    >>> write_back = WriteBack(1.0, lambda impression: kept.append(impression) is None)
    >>> given = {"items": ["a"], "scores": [1.0], "bundle": "9f", "overlay": 0}
    >>> answer = write_back(Request(), RecommendAnswer(**given, source="personal", unknown_history=0))
    >>> answer.impression == kept[0].id
    True
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
from recdistill.serve.requests import Request

Given = TypeVar("Given", bound=RecommendAnswer)
Keep = Callable[[Impression], bool]


class WriteBack:
    """Keeps a share of the answers.

    Args:
        share: Share of the answers that is kept. Empty answers do not count.
        keep: Takes an impression, without waiting, and says whether it did. None: nothing is kept.
    """

    def __init__(self, share: float, keep: Keep | None) -> None:
        self._share, self._keep = share, keep

    def __call__(self, request: Request, answer: Given) -> Given:
        """The answer. If it was kept, it has the id of its impression."""
        if self._keep is None or not answer.items or random.random() >= self._share:
            return answer
        impression = Impression(
            id=uuid.uuid4().hex,
            time_us=request.time_us or time.time_ns() // 1000,
            history=request.history,
            context=request.context,
            candidates=tuple(Candidate(*pair) for pair in zip(answer.items, answer.scores, strict=True)),
            exclude=tuple(dict.fromkeys(request.exclude)),
            origin="student",
            served_by=answer.bundle,
        )
        return msgspec.structs.replace(answer, impression=impression.id) if self._keep(impression) else answer
