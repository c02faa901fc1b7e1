"""The requests that a bundle carries with their answers: like the stream's, and nobody's.

A bundle goes to every device, so no history in it may be somebody's. It knows nothing of students or of answers.

Example:
    >>> asked = [Impression(id="a", time_us=9, user="u", history=(Event("mine", 3, "click"),))]
    >>> [request] = anonymous(asked, [("popular", 1.0)], seed=0)
    >>> request.user, [event.item for event in request.history], request.history[0].time_us
    (None, ['popular'], 3)
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from recdistill.records import Event, Impression

COUNT = 8
"""Requests of a bundle."""


def anonymous(asked: Sequence[Impression], popular: Sequence[tuple[str, float]], *, seed: int) -> list[Impression]:
    """Requests like these without who asked and what was shown, with histories that are drawn.

    When and how something was done is as it was; what it was done to is drawn by popularity, each item once. A history
    is cut to as many events as there are popular items, the newest.

    Args:
        asked: The stream's.
        popular: Items and their weights; without any, histories are empty.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    weights = np.array([weight for _, weight in popular])
    found = []
    for one in asked:
        count = min(len(one.history), int(np.count_nonzero(weights)))
        history: tuple[Event, ...] = ()
        if count:
            drawn = random.choice(len(weights), count, replace=False, p=weights / weights.sum())
            events = zip(one.history[-count:], drawn, strict=True)
            history = tuple(msgspec.structs.replace(event, item=popular[at][0]) for event, at in events)
        found.append(Impression(id="golden", time_us=one.time_us, history=history, context=one.context))
    return found
