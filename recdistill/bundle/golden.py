"""The golden requests of a bundle: they look like requests of the stream, but they belong to no real user.

A bundle goes to every device, so it must not hold a real user's history. It knows nothing of students or of answers.

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
"""How many golden requests a bundle has."""


def anonymous(asked: Sequence[Impression], popular: Sequence[tuple[str, float]], *, seed: int) -> list[Impression]:
    """Makes such requests anonymous: no user, no shown items, and another history.

    An event keeps its time and its action. Its item is drawn by popularity, and no item is drawn twice for one history.
    So a history cannot be longer than the list of popular items: only its newest events are kept.

    Args:
        asked: Requests of the stream.
        popular: Items and their weights. Without any, histories are empty.
        seed: Seed of the draws.
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
