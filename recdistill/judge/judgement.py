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
CONTROL = "student_no_kd"
PINNED = "pinned"
MAIN = "ndcg@10"
NO_TEACHER = "there is no teacher to compare with, neither one that scores nor scores in the examples"


class Quality(Struct, frozen=True, kw_only=True):
    """One contender over all lists.

    The next four are about the first ten places of its lists. None: it does not choose from the catalogue.

    - `coverage`: share of the catalogue that appears there.
    - `popularity`: mean percentile of the items there, by training popularity.
    - `novelty`: mean bits of surprise of the items there: −log2 of an item's share of the training interactions.
    - `diversity`: mean of 1 − cosine of the student's vectors, over the pairs of items of one list.
    - `seconds_per_1000`: seconds for a thousand requests.
    - `processor_s_per_1000`: seconds of processor time of this process for them, over all threads. A teacher behind
      HTTP uses another processor, which is not counted.
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
    """Figures of one slice, over its `n` lists. `metrics`: contender -> metric -> interval.

    `apart`: NDCG@10 of the student minus that of another, list by list. The keys are the champion and the teacher.
    """

    name: str
    meaning: str
    n: int
    metrics: dict[str, dict[str, Interval]]
    apart: dict[str, Interval] = {}


class Lead(Struct, frozen=True, kw_only=True):
    """How far the student and another contender are above chance in NDCG@10 on the same lists, and how sure that is.

    `student` and `other`: means. `var_student`, `var_other` and `covariance`: of these means. They take into account
    that lists of one user are alike.
    """

    student: float
    other: float
    var_student: float
    var_other: float
    covariance: float
    users: int
    lists: int


class Control(Struct, frozen=True, kw_only=True):
    """The control: the same student, taught by labels alone. Where there is one, it is a contender (`student_no_kd`).

    `content_hash`: that of its bundle; empty: there is no control. `kept`: what the student keeps of the teacher's gain
    over the control, (student − control) / (teacher − control). `why`: why there is no control, or no such share.
    """

    content_hash: str = ""
    kept: Interval | None = None
    why: str = ""


class Agreed(Struct, frozen=True, kw_only=True):
    """How alike the order of the teacher's scores is to the student's order and to the champion's, on held-out lists.

    It needs no label. `student` and `champion`: Kendall's tau of each with the teacher. `lead`: both as a lead over
    chance, which is 0 here.
    """

    lists: int
    student: Interval
    champion: Interval
    lead: Lead


class Shipped(Struct, frozen=True, kw_only=True):
    """The device file compared with the bundle, on the same requests.

    - `overlap`: share of the bundle's first ten items that are also in the file's first ten.
    - `kept`: compares the two first tens by the bundle's scores. Each has a mean score above that of items drawn at
      random. `kept` is the file's divided by the bundle's. Where the file's is higher, because the bundle's index is
      wrong, the ratio is turned round.
    - `finite`: whether all scores of the file were finite numbers.
    - `bytes`: size of the file.

    Items of almost equal score may change places without harm. They lower `overlap`, but not `kept`.
    """

    lists: int
    overlap: Interval
    kept: Interval
    finite: bool
    bytes: int


class RuleShare(Struct, frozen=True, kw_only=True):
    """The share of the items in the first ten places that have one value of an attribute."""

    attribute: str
    value: str
    share: float


class Answers(Struct, frozen=True, kw_only=True):
    """What the first ten places of the student's answers hold, over `lists` requests.

    `blocked`: items that must not be shown -> in how many answers they were. `rules`: shares by attribute.
    """

    lists: int
    blocked: dict[str, int] = {}
    rules: list[RuleShare] = []


class Agreement(Struct, frozen=True, kw_only=True):
    """How much teacher and student agree on the order of items.

    `overlap`: share of their first ten items that are the same, where both choose from the whole catalogue. The other
    two are about logged lists that have the teacher's scores in the stream. `tau`: Kendall's tau of both orders.
    `on_lists`: NDCG@10 of teacher and student.
    """

    overlap: Interval | None = None
    tau: Interval | None = None
    on_lists: dict[str, Interval] = {}


class Calibrated(Struct, frozen=True, kw_only=True):
    """Whether scores say how likely it is that a candidate is liked.

    Within each list, scores become shares (softmax), and labels become shares, too. Candidates are put into groups of
    similar share by score. `groups`: for each, the mean share by score, the mean share by label, and how many
    candidates it has. `error`: the mean distance of the two shares; a group counts by its number of candidates.
    """

    lists: int
    error: float
    groups: list[tuple[float, float, int]]


class Latency(Struct, frozen=True, kw_only=True):
    """Time of one request, in milliseconds, over `n` requests. They are asked one by one, in this process.

    `processor_ms`: mean processor time of one request, over all threads. None: it was not measured.
    """

    p50_ms: float
    p99_ms: float
    n: int
    processor_ms: float | None = None


class Disagreement(Struct, frozen=True, kw_only=True):
    """A real list on which teacher and student differ. Items are titles, the best first. The history is newest first.

    `tau`: Kendall's tau of both orders. None: they did not order what was shown, but chose from the catalogue.
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
    and money that the other scores would have cost, at the speed measured here. None: not known.
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

    - `learnt`: where the bundle stopped learning.
    - `begins`: where the judged part begins. It is later than `learnt` if another bundle in the comparison learnt more.
    - `ends`: where the judged part ends.
    - `first` and `last`: times of the earliest and the latest judged list.
    - `lists`: `held-out` (lists of users from whom no student learns) or `behind` (lists after the place where the
      bundle stopped learning). Empty in judgements of older versions.
    - `why`: why these lists were judged. Empty in judgements of older versions.
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
    """An estimate of what the lists of a contender would be worth, from served lists with known chances.

    `ips` and `snips`: labels for each list, by the two estimators of `offpolicy.py`. None: there is no estimate, and
    `why` says why.
    """

    name: str
    ips: Interval | None = None
    snips: Interval | None = None
    why: str = ""


class Served(Struct, frozen=True, kw_only=True):
    """What users did with lists that the endpoint served. Lists from which nobody took anything count, too.

    - `lists`: how many lists.
    - `explored`: how many of them have an item whose chance was below 1/2.
    - `value`: labels for each list, as the lists were served.
    - `orders`: estimates of the same for other contenders. They order only the places that exploration may change.
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
    - `part`: which part of the log was judged. None: the lists do not come from a log.
    - `served`: what users did with lists that the endpoint served. None: there were no such lists.
    - `leads`: contender -> the student's lead over chance with that contender's, for the teacher and the champion.
    - `control`: the student without a teacher. None: the caller did not look for one.
    - `agreed`: how alike student and champion are to the teacher. None: there were no such lists, or no champion.
    - `shipped`: the device file compared with the bundle. None: it was not judged.
    - `answers`: what the student's answers hold. None: the policy did not ask.
    - `calibration`: of student and teacher, on lists with labels. The teacher's only on lists that it has scored.
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
    control: Control | None = None
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
