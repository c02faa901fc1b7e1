"""What the watch has found in a step: it is counted, said once in the log, and handed on.

It knows nothing of what is done about it.

Example:
    >>> from recdistill.watch import Watch
    >>> watch, counts = Watch(), Counter[str]()
    >>> watch.counts["drift_inputs"] += 1
    >>> watch.drifted.append("the inputs have drifted from list 9 on: items")
    >>> heard(watch, counts)
    Heard(news=1, drifts=['the inputs have drifted from list 9 on: items'])
    >>> counts["drift_inputs"], watch.drifted
    (1, [])
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import NamedTuple

from recdistill.hops import Counts
from recdistill.watch import Watch

log_ = logging.getLogger(__name__)


class Heard(NamedTuple):
    """What was found.

    Attributes:
        news: How many findings, of teachers and of the stream.
        drifts: A sentence for each drift of the stream.
    """

    news: int
    drifts: list[str]


def heard(watch: Watch | None, counts: Counter[str]) -> Heard:
    """Takes what a watch has found since this was called last.

    Args:
        watch: The watch; None: nobody looks.
        counts: Get what it counts, and what its detectors of drift see.
    """
    if watch is None:
        return Heard(0, [])
    counts.update(watch.counts)
    found = Heard(len(watch.news) + len(watch.drifted), list(watch.drifted))
    for sentence in (*watch.news, *watch.drifted):
        log_.warning("%s", sentence)
    if isinstance(counts, Counts):
        counts.drift = watch.drift()
    watch.counts.clear()
    watch.news.clear()
    watch.drifted.clear()
    return found
