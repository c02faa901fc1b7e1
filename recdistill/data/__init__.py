"""What a data source gives: items, impressions, feedback, a feature specification, and times to cut it at.

Every loader here (`movielens`, `tables`, `simulated`) returns a `Dataset`. So code that writes topics, trains or judges
need not know where the records came from. Impressions are built when they are read: a data set of 100,000 lists holds
arrays, not 17 million small objects. It can be read more than once.

It knows nothing of logs, models or metrics.

Example:
    >>> from recdistill.records import Impression
    >>> lists = LazyImpressions(3, lambda i: Impression(id=f"i{i}", time_us=i))
    >>> [one.id for one in lists[1:]], len(lists)
    (['i1', 'i2'], 3)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from typing import NamedTuple, overload

from recdistill.features import FeatureSpec
from recdistill.records import Feedback, Impression, Item

__all__ = ["Dataset", "LazyImpressions", "Parts"]


class LazyImpressions(Sequence[Impression]):
    """A sequence of impressions. Each one is built when it is read, and is always equal.

    Args:
        length: How many there are.
        build: Number -> impression. It must give equal impressions for equal numbers.
        time_us: Number -> time of that impression, without building it. With None the impression is built.
        numbers: The part of 0 … length - 1 that this sequence shows.
    """

    def __init__(
        self,
        length: int,
        build: Callable[[int], Impression],
        *,
        time_us: Callable[[int], int] | None = None,
        numbers: range | None = None,
    ) -> None:
        self._numbers = range(length) if numbers is None else numbers
        self._build = build
        self._time_us = time_us

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Impression: ...
    @overload
    def __getitem__(self, index: slice) -> LazyImpressions: ...
    def __getitem__(self, index: int | slice) -> Impression | LazyImpressions:
        if isinstance(index, slice):
            return LazyImpressions(0, self._build, time_us=self._time_us, numbers=self._numbers[index])
        return self._build(self._numbers[index])

    def __iter__(self) -> Iterator[Impression]:
        return map(self._build, self._numbers)

    def time_us(self, index: int) -> int:
        """Time of one impression, in microseconds."""
        number = self._numbers[index]
        return self._build(number).time_us if self._time_us is None else self._time_us(number)


class Parts(NamedTuple):
    """A data set's impressions, cut in time."""

    train: Sequence[Impression]
    valid: Sequence[Impression]
    test: Sequence[Impression]


@dataclass(frozen=True)
class Dataset:
    """Records of one source.

    Attributes:
        name: Its name in reports.
        items: Catalogue records, in the order of time. A changed or withdrawn item has another record later.
        impressions: In the order of time. They can be read more than once.
        feedback: In the order of arrival, which may differ from the order of `time_us`. A record may come twice.
        spec: What a model may see of them.
        cut_us: Start of the validation part and of the test part. Train is before the first; test is from
            the second on.
        labels: Action -> label weight, for the join of rankings and feedback.
        left_out: Events that became no impression: reason -> how many.
    """

    name: str
    items: list[Item]
    impressions: Sequence[Impression]
    feedback: list[Feedback]
    spec: FeatureSpec
    cut_us: tuple[int, int]
    labels: Mapping[str, float] = field(default_factory=lambda: {"click": 1.0})
    left_out: Mapping[str, int] = field(default_factory=dict)

    def parts(self) -> Parts:
        """Train, validation and test impressions, cut at `cut_us`."""
        one, two = (self._first_from(cut) for cut in self.cut_us)
        return Parts(self.impressions[:one], self.impressions[one:two], self.impressions[two:])

    def timeline(self) -> Iterator[Item | Impression | Feedback]:
        """All records in the order in which they would be written. At equal times, items come before impressions.

        Each kind keeps its order, so feedback that arrived out of order stays out of order.
        """
        latest = 0
        arrivals = []
        for one in self.feedback:  # a record arrives no earlier than the one before it
            latest = max(latest, one.time_us)
            arrivals.append(latest)
        kinds: tuple[Iterable[tuple[int, int, int, Item | Impression | Feedback]], ...] = (
            ((one.time_us, 0, n, one) for n, one in enumerate(self.items)),
            ((one.time_us, 1, n, one) for n, one in enumerate(self.impressions)),
            ((at, 2, n, one) for n, (at, one) in enumerate(zip(arrivals, self.feedback, strict=True))),
        )
        for _, _, _, record in merge(*kinds, key=lambda entry: entry[:3]):
            yield record

    def _first_from(self, cut_us: int) -> int:
        lists = self.impressions
        if isinstance(lists, LazyImpressions):
            return bisect_left(range(len(lists)), cut_us, key=lists.time_us)
        return bisect_left(lists, cut_us, key=lambda one: one.time_us)
