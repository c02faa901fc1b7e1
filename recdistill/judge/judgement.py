"""The results of the judge, as plain structs that can be written to JSON and read back. Gates and report read them.

It knows nothing of how anything was measured.

Example:
    >>> Quality(name="student", metrics={}, coverage=0.5, popularity=0.7).coverage
    0.5
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from recdistill.errors import DataError
from recdistill.metrics import Interval

STUDENT, TEACHER, CHANCE, LOGGED, CHAMPION = "student", "teacher", "chance", "logged", "champion"
PINNED = "pinned"
MAIN = "ndcg@10"
NO_TEACHER = "there is no teacher to compare with, neither one that scores nor scores in the examples"


class Quality(Struct, frozen=True, kw_only=True):
    """One contender over all lists.

    `coverage`: share of the catalogue that appears in the first ten places of its lists. `popularity`: mean percentile,
    by training popularity, of the items there. `novelty`: mean bits of surprise of the items there, −log2 of the share
    of the training interactions that an item has. `diversity`: mean of 1 − cosine of the student's vectors, over the
    pairs of items of a first ten. None: it does not choose from the catalogue. `seconds_per_1000`: time
    that it took for a thousand requests. `processor_s_per_1000`: processor time of this process for them, all threads
    together; a teacher behind HTTP works elsewhere, so its figure here says little.
    """

    name: str
    metrics: dict[str, Interval]
    coverage: float | None = None
    popularity: float | None = None
    novelty: float | None = None
    diversity: float | None = None
    seconds_per_1000: float | None = None
    processor_s_per_1000: float | None = None


class Difference(Struct, frozen=True, kw_only=True):
    """`metric` of `a` minus `metric` of `b`, list by list."""

    a: str
    b: str
    metric: str
    interval: Interval


class SliceQuality(Struct, frozen=True, kw_only=True):
    """A slice: contender name to metric name to interval, over `n` lists.

    `apart`: NDCG@10 of the student minus that of the champion and of the teacher, list by list.
    """

    name: str
    meaning: str
    n: int
    metrics: dict[str, dict[str, Interval]]
    apart: dict[str, Interval] = {}


class Lead(Struct, frozen=True, kw_only=True):
    """How far the student and another stand above chance in NDCG@10 on the same lists, and how sure that is.

    `student` and `other`: means. `var_student`, `var_other` and `covariance`: of these means, where lists of one user
    move together.
    """

    student: float
    other: float
    var_student: float
    var_other: float
    covariance: float
    users: int
    lists: int


class Agreed(Struct, frozen=True, kw_only=True):
    """How alike the student and the champion order what the teacher has scored: Kendall's tau on held-out lists.

    It needs no label. `lead`: of both, where chance is 0.
    """

    lists: int
    student: Interval
    champion: Interval
    lead: Lead


class Shipped(Struct, frozen=True, kw_only=True):
    """The device file beside the bundle on the same requests.

    `overlap`: share of the bundle's first ten items that the file's first ten have too. `kept`: by the bundle's own
    scores, how far the file's first ten stand above items drawn at random, as a share of how far its own first ten do
    (or the other way round, where its own search finds the worse ones).
    Items of almost equal score may change places without harm: they lower `overlap`, and not `kept`. `finite`: whether
    all scores of the file were numbers. `bytes`: of the file.
    """

    lists: int
    overlap: Interval
    kept: Interval
    finite: bool
    bytes: int


class RuleShare(Struct, frozen=True, kw_only=True):
    """Which share of the items in first tens have one value of an attribute."""

    attribute: str
    value: str
    share: float


class Answers(Struct, frozen=True, kw_only=True):
    """What the student's first tens hold, over `lists` requests.

    `blocked`: items that nobody may be shown, and in how many lists they stood. `rules`: shares by attribute.
    """

    lists: int
    blocked: dict[str, int] = {}
    rules: list[RuleShare] = []


class Agreement(Struct, frozen=True, kw_only=True):
    """How much teacher and student agree on the order of items.

    `overlap`: share of the first ten items, out of the whole catalogue, that both have. The other two are about the
    logged candidate lists that have the teacher's scores in the stream. `tau`: Kendall's tau of both orders.
    `on_lists`: NDCG@10 of teacher and student.
    """

    overlap: Interval | None = None
    tau: Interval | None = None
    on_lists: dict[str, Interval] = {}


class Calibrated(Struct, frozen=True, kw_only=True):
    """Whether scores say how likely a candidate is the one that is liked.

    Within each list the scores become shares (softmax), and so do the labels. `error`: mean distance of both over
    groups of candidates of like score, each weighed by its candidates. `groups`: mean share that is said, mean share
    that is true, and how many candidates.
    """

    lists: int
    error: float
    groups: list[tuple[float, float, int]]


class Latency(Struct, frozen=True, kw_only=True):
    """Time of one request, in milliseconds, over `n` requests. They are asked one by one, in this process.

    `processor_ms`: mean processor time of one, all threads together. None: it was not measured.
    """

    p50_ms: float
    p99_ms: float
    n: int
    processor_ms: float | None = None


class Disagreement(Struct, frozen=True, kw_only=True):
    """A real list on which teacher and student differ. Items are titles, best first. The history is newest first.

    `tau`: Kendall's tau of both orders, where they order what was shown.
    """

    request: str
    overlap: float
    history: list[str]
    liked: list[str]
    teacher: list[str]
    student: list[str]
    tau: float | None = None


class Spending(Struct, frozen=True, kw_only=True):
    """How much the teacher was asked to score in the lists that the student learnt from.

    `candidates`: how many there were. `scored`: how many of them have the teacher's score. `seconds` and `cost`: time
    and money that the other scores would have cost, at the speed measured here. None: it is not known.
    """

    lists: int
    lists_scored: int
    candidates: int
    scored: int
    seconds: float | None = None
    cost: float | None = None

    @property
    def share(self) -> float:
        """Share of the candidates that were scored."""
        return self.scored / max(1, self.candidates)


class Part(Struct, frozen=True, kw_only=True):
    """Which part of the log was learnt, and which was judged. Positions are written as `--until` takes them.

    `learnt`: where the bundle stopped learning. `begins`: where the judged part begins; it is later if another bundle
    beside it has learnt more. `ends`: where it ends. `first` and `last`: times of the earliest and the latest list.
    `lists`: `held-out` (of users from whom no student learns) or `behind` (they come behind the place where the bundle
    stopped learning). `why`: why these. Both are empty in judgements of older versions.
    """

    learnt: str
    begins: str
    ends: str
    first: str
    last: str
    lists: str = ""
    why: str = ""

    @property
    def what(self) -> str:
        """Which lists were judged, in words."""
        return {"held-out": "of users from whom no student learns"}.get(
            self.lists, "behind the place where the bundle stopped learning"
        )


class OrderValue(Struct, frozen=True, kw_only=True):
    """What the lists of a contender would be worth, from served lists with known chances.

    `ips` and `snips`: labels a list, by both estimators of `offpolicy.py`. None: there is no estimate, and `why` says
    why not.
    """

    name: str
    ips: Interval | None = None
    snips: Interval | None = None
    why: str = ""


class Served(Struct, frozen=True, kw_only=True):
    """What came of lists that the endpoint served, also of those from which nobody took anything.

    `lists`: how many. `explored`: how many have an item whose chance is below 1/2. `value`: labels a list, as they were
    served. `orders`: the same for the orders of other contenders in the places that exploration may change.
    """

    lists: int
    explored: int
    value: Interval
    orders: list[OrderValue] = []


class Judgement(Struct, frozen=True, kw_only=True):
    """All results about one bundle.

    - `relevant_popularity`: mean popularity percentile of the items that users liked. A contender above it prefers
      popular items.
    - `protocol`: `catalogue` (each contender ranks the whole catalogue) or `shown` (each orders what was shown).
      `protocol_why` says why.
    - `retention`: what the student keeps of the teacher's NDCG@10, both counted above chance:
      (student − chance) / (teacher − chance). `retention_on` says on which lists. None: `retention_why` says why.
    - `above_chance`: False in judgements of older versions. There retention is student / teacher.
    - `notes`: what a reader of the figures must know.
    - `part`: which part of the log was judged, where the lists come from a log.
    - `served`: what came of lists that the endpoint served. None: there were none.
    - `leads`: the student's lead over chance beside that of the teacher and of the champion.
    - `agreed`: agreement with the teacher, of student and champion. None: there were no such lists, or no champion.
    - `shipped`: the device file beside the bundle. None: it was not judged.
    - `answers`: what the student's answers hold. None: nobody asked.
    - `calibration`: of the student and of the teacher, on lists with labels; the teacher only where it has scored them.
    - `age_s`: seconds from the newest event that the student learnt from to the newest judged list. None: not known.
    - `parity`: what was compared -> the largest absolute difference.
    - `skipped`: reason -> number of held-out examples that could not be judged.
    - `spending`: set when the training lists were scored under a budget.
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
    protocol: Literal["catalogue", "shown"] = "catalogue"
    protocol_why: str = ""
    retention_why: str = ""
    above_chance: bool = False
    part: Part | None = None
    notes: list[str] = []
    served: Served | None = None
    leads: dict[str, Lead] = {}
    agreed: Agreed | None = None
    shipped: Shipped | None = None
    answers: Answers | None = None
    calibration: dict[str, Calibrated] = {}
    age_s: float | None = None
    format: int = 1

    def quality(self, name: str) -> Quality | None:
        """The contender of that name."""
        return next((q for q in self.contenders if q.name == name), None)

    def difference(self, a: str, b: str, metric: str = MAIN) -> Interval | None:
        """The interval of `a` minus `b`. None: it was not measured."""
        found = (d.interval for d in self.differences if (d.a, d.b, d.metric) == (a, b, metric))
        return next(found, None)


def to_json(judgement: Judgement) -> bytes:
    """The judgement as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(judgement), indent=2)


def from_json(data: bytes) -> Judgement:
    """Reads what `to_json` wrote.

    Raises:
        DataError: It is not a judgement.
    """
    try:
        return msgspec.json.decode(data, type=Judgement)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise DataError(f"not a judgement as `recdistill evaluate` writes it: {e}") from e
