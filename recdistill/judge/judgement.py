"""What the judge found, as plain structs that go to JSON and back: the one thing that gates and the report read.

It knows nothing of how anything was measured.

Example:
    >>> Quality(name="student", metrics={}, coverage=0.5, popularity=0.7).coverage
    0.5
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from recdistill.errors import DataError
from recdistill.metrics import Interval

STUDENT, TEACHER = "student", "teacher"
MAIN = "ndcg@10"


class Quality(Struct, frozen=True, kw_only=True):
    """One contender over all lists.

    `coverage` is the share of the catalogue that its first ten places show in all; `popularity` the mean percentile, by
    training popularity, of what they show; `seconds_per_1000` the time it took for a thousand requests.
    """

    name: str
    metrics: dict[str, Interval]
    coverage: float
    popularity: float
    seconds_per_1000: float | None = None


class Difference(Struct, frozen=True, kw_only=True):
    """`metric` of `a` minus that of `b`, list by list."""

    a: str
    b: str
    metric: str
    interval: Interval


class SliceQuality(Struct, frozen=True, kw_only=True):
    """A slice: contender name to metric name to interval, over `n` lists."""

    name: str
    meaning: str
    n: int
    metrics: dict[str, dict[str, Interval]]


class Agreement(Struct, frozen=True, kw_only=True):
    """How alike teacher and student order things.

    `overlap` is the share of the first ten of the whole catalogue that both have. `tau` (Kendall's) and `on_lists` are
    about the logged candidate lists with the teacher's scores in the stream: NDCG@10 there of teacher and student.
    """

    overlap: Interval | None = None
    tau: Interval | None = None
    on_lists: dict[str, Interval] = {}


class Latency(Struct, frozen=True, kw_only=True):
    """One request at a time, in process, in milliseconds, over `n` requests."""

    p50_ms: float
    p99_ms: float
    n: int


class Disagreement(Struct, frozen=True, kw_only=True):
    """A real list on which teacher and student differ: titles, best first; the history newest first."""

    request: str
    overlap: float
    history: list[str]
    liked: list[str]
    teacher: list[str]
    student: list[str]


class Spending(Struct, frozen=True, kw_only=True):
    """What the teacher was asked for in the lists that the student learnt from.

    `candidates` is how many there were, `scored` how many have its score. `seconds` is what the others would have taken
    at the pace seen here, `cost` what they would have cost; None where nobody knows.
    """

    lists: int
    lists_scored: int
    candidates: int
    scored: int
    seconds: float | None = None
    cost: float | None = None

    @property
    def share(self) -> float:
        """Of the candidates, how many were scored."""
        return self.scored / max(1, self.candidates)


class Judgement(Struct, frozen=True, kw_only=True):
    """Everything that was found about one bundle.

    `relevant_popularity` is the mean popularity percentile of the items that users did like: a contender above it leans
    to what is popular. `retention` is the student's NDCG@10 as a share of the teacher's, on the whole catalogue, or on
    the logged lists (`retention_on` says which). `parity` maps what was compared to the largest absolute difference.
    `skipped` counts held-out examples that could not be judged, by reason. `spending` is there when the lists learnt
    from were scored under a budget.
    """

    content_hash: str
    made_at: str
    seed: int
    lists: int
    catalogue: int
    relevant_popularity: float
    contenders: list[Quality]
    differences: list[Difference]
    slices: list[SliceQuality]
    agreement: Agreement
    retention: Interval | None
    retention_on: str
    parity: dict[str, float]
    latency: Latency
    sizes: dict[str, int]
    disagreements: list[Disagreement]
    skipped: dict[str, int] = {}
    provenance: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    spending: Spending | None = None
    format: int = 1

    def quality(self, name: str) -> Quality | None:
        """The contender of that name."""
        return next((q for q in self.contenders if q.name == name), None)

    def difference(self, a: str, b: str, metric: str = MAIN) -> Interval | None:
        """The interval of `a` minus `b`, None when it was not measured."""
        found = (d.interval for d in self.differences if (d.a, d.b, d.metric) == (a, b, metric))
        return next(found, None)


def to_json(judgement: Judgement) -> bytes:
    """The judgement as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(judgement), indent=2)


def from_json(data: bytes) -> Judgement:
    """Reads what `to_json` wrote.

    Raises:
        DataError: It is no such thing.
    """
    try:
        return msgspec.json.decode(data, type=Judgement)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise DataError(f"not a judgement as `recdistill evaluate` writes it: {e}") from e
