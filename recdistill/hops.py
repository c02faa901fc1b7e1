r"""How old an event is when it passes each hop of the loop, as histograms: the freshness of each hop.

An event is one list that was shown; its time is the one that the product wrote. A hop notes when it has passed: the
teacher has scored it, the student has learnt from it, a bundle with it is made, judged, promoted, serves. Where a time
is not known, nothing is noted: a time is never guessed.

`Counts` also holds what the detectors of drift see.

A loop is given counts. Counts that are `Counts` take the freshness too; others take none.

It knows nothing of logs, bundles or HTTP.

Example:
    >>> counts = Counts(rankings=2)
    >>> passed(counts, "scored", [1_000_000, 5_000_000, 0], at_us=6_500_000)
    >>> scored = counts.hops["scored"]
    >>> scored.count, scored.sum_s, scored.newest_us
    (2, 7.0, 5000000)
    >>> print("\n".join(line for line in counts.lines() if 'le="2"' in line or "newest_event_seconds{" in line))
    recdistill_freshness_seconds_bucket{hop="scored",le="2"} 1
    recdistill_newest_event_seconds{hop="scored"} 5.000
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Hop = Literal["scored", "learnt", "exported", "judged", "promoted", "served"]
HOPS: Final[tuple[Hop, ...]] = ("scored", "learnt", "exported", "judged", "promoted", "served")
"""In the order in which an event passes them."""

BUCKETS_S: Final = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 21_600, 86_400, 604_800)
"""Upper ends of the buckets."""

FRESHNESS: Final = "recdistill_freshness_seconds"
NEWEST: Final = "recdistill_newest_event_seconds"
PASSED: Final = "recdistill_passed_at_seconds"
DRIFT: Final = "recdistill_drift"
HELP: Final = {
    DRIFT: "What a detector of drift sees: stability index, share, delay or agreement of the newest lists.",
    FRESHNESS: "Age of an event when it passes a hop: from the time of the list to now.",
    NEWEST: "Time of the newest event that has passed a hop, in seconds since 1970.",
    PASSED: "When an event passed a hop last, in seconds since 1970.",
}


class Passed:
    """What passed one hop.

    Attributes:
        counts: Events of each bucket; the last one has those that are older than all ends.
        sum_s: Sum of their ages.
        newest_us: Time of the newest event of those that passed last.
        at_us: When they passed.
    """

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(len(BUCKETS_S) + 1, np.int64)
        self.sum_s = 0.0
        self.newest_us = self.at_us = 0

    @property
    def count(self) -> int:
        """How many events passed."""
        return int(self.counts.sum())

    def take(self, events_us: npt.NDArray[np.int64], at_us: int) -> None:
        """Events pass. One of the future, as of a clock that is ahead, has the age 0."""
        ages_s = np.maximum(at_us - events_us, 0) / 1e6
        self.counts += np.bincount(np.searchsorted(BUCKETS_S, ages_s), minlength=len(self.counts))
        self.sum_s += float(ages_s.sum())
        self.newest_us, self.at_us = int(events_us.max()), at_us

    def cumulated(self) -> list[tuple[str, int]]:
        """Upper end of each bucket, as Prometheus writes it, and how many events are at most so old."""
        ends = [*(f"{end:g}" if end < 1e5 else str(int(end)) for end in BUCKETS_S), "+Inf"]
        return list(zip(ends, accumulate(self.counts.tolist()), strict=True))


class Counts(Counter[str]):
    """Counts of a loop, with the freshness of its hops.

    Attributes:
        hops: What passed each hop.
        more: Further lines of a loop by who says them, in the text form of Prometheus. Another thread calls them.
    """

    def __init__(self, **counts: int) -> None:
        super().__init__(counts)
        self.hops: dict[Hop, Passed] = {}
        self.drift: dict[tuple[str, str], float] = {}
        """What the detectors of drift see, by detector and quantity."""
        self.more: dict[str, Callable[[], Iterator[str]]] = {}

    def lines(self) -> Iterator[str]:
        """The freshness in the text form of Prometheus, nothing while no event has passed; then the rest."""
        yield from self._fresh()
        yield from self._drift()
        for lines in list(self.more.values()):
            yield from lines()

    def _drift(self) -> Iterator[str]:
        if self.drift:
            yield from (f"# HELP {DRIFT} {HELP[DRIFT]}", f"# TYPE {DRIFT} gauge")
            for (detector, of), value in sorted(dict(self.drift).items()):
                yield f'{DRIFT}{{detector="{detector}",of="{of}"}} {value:.6g}'

    def _fresh(self) -> Iterator[str]:
        hops = sorted(self.hops.items())
        if not hops:
            return
        yield from (f"# HELP {FRESHNESS} {HELP[FRESHNESS]}", f"# TYPE {FRESHNESS} histogram")
        for hop, passed in hops:
            for end, count in passed.cumulated():
                yield f'{FRESHNESS}_bucket{{hop="{hop}",le="{end}"}} {count}'
            yield f'{FRESHNESS}_sum{{hop="{hop}"}} {passed.sum_s:.6f}'
            yield f'{FRESHNESS}_count{{hop="{hop}"}} {passed.count}'
        for name, times_us in (
            (NEWEST, [passed.newest_us for _, passed in hops]),
            (PASSED, [passed.at_us for _, passed in hops]),
        ):
            yield from (f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge")
            for (hop, _), time_us in zip(hops, times_us, strict=True):
                yield f'{name}{{hop="{hop}"}} {time_us / 1e6:.3f}'


def passed(
    counts: Counter[str] | None,
    hop: Hop,
    events_us: int | Sequence[int] | npt.NDArray[np.int64],
    *,
    at_us: int | None = None,
) -> None:
    """Notes that events have passed a hop.

    Args:
        counts: Those of the loop. Only `Counts` take it.
        hop: Which.
        events_us: Times of the events in microseconds; those that are 0 are not known, and left out.
        at_us: When they passed; None: now.
    """
    if not isinstance(counts, Counts):
        return
    known_us = np.atleast_1d(np.asarray(events_us, np.int64))
    if (known_us := known_us[known_us > 0]).size:
        counts.hops.setdefault(hop, Passed()).take(known_us, time.time_ns() // 1000 if at_us is None else at_us)
