"""The watch: what it finds in made-up streams, how late, and how often it is wrong; then in real training."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from recdistill.config import WatchSettings
from recdistill.errors import CheckpointError
from recdistill.watch.units import standardised, temperature
from recdistill.watch.watch import MOST_TEACHERS, SHARPNESS_G, Watch, lowest

L = 20
QUARANTINE = WatchSettings(spread=2.0)


@dataclass
class Stream:
    """Lists of taste, a student that comes to know it, teachers that know it better, and a label for most lists."""

    seed: int
    noise: float = 0.7
    labels: float = 0.8
    length: int = L
    skill: float = 3000.0
    """Lists by which the student has lost half of its ignorance."""
    teacher: Callable[[int, np.ndarray, np.random.Generator], np.ndarray] = lambda at, scores, random: scores
    name: Callable[[int], str] = lambda at: "t@1"
    at: int = 0
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def batch(self, size: int) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rows: list[list[np.ndarray]] = []
        names = []
        for _ in range(size):  # one by one, so that the stream is the same for all sizes of batch
            random = self.random
            taste = random.normal(size=self.length)
            ignorance = 0.8 + 3 * 0.5 ** (self.at / self.skill)
            student = taste + ignorance * random.normal(size=self.length)
            scores = self.teacher(self.at, taste + self.noise * random.normal(size=self.length), random)
            taken = np.argmax(2 * taste + random.gumbel(size=self.length))
            labels = (np.arange(self.length) == taken) * float(random.random() < self.labels)
            where = np.arange(self.length) < (self.length if self.length < 4 else random.integers(4, self.length + 1))
            rows.append([scores, where, labels, where, student])
            names.append(self.name(self.at))
            self.at += 1
        scores, scored, labels, labelled, student = (np.array(column) for column in zip(*rows, strict=True))
        return names, scores, scored, labels, labelled, student


def shuffled_from(start: int, end: int = 10**9) -> Callable[[int, np.ndarray, np.random.Generator], np.ndarray]:
    return lambda at, scores, random: random.permutation(scores) if start <= at < end else scores


def watched(
    stream: Stream, lists: int, size: int = 100, settings: WatchSettings = QUARANTINE
) -> tuple[Watch, np.ndarray]:
    """The watch after so many lists, and the weight of each."""
    watch, weights = Watch(settings), []
    while stream.at < lists:
        weights.append(watch.weigh(*stream.batch(min(size, lists - stream.at))))
    return watch, np.concatenate(weights)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 64, 1000])
@pytest.mark.parametrize("labels", [0.0, 0.8])
def test_a_shuffled_teacher_is_quarantined_within_2000_lists(size: int, labels: float) -> None:
    watch, weights = watched(Stream(0, labels=labels, teacher=shuffled_from(3000)), 5000, size)
    assert (weights[:2000] == 1).all()
    first = int(np.argmin(weights))
    assert 2000 <= first < 3000 + 300
    assert (weights[max(first, 3000) :] == 0).all()
    assert watch.counts == {"quarantined_lists": (weights == 0).sum(), "quarantined_lists_order": (weights == 0).sum()}
    [said] = watch.news
    assert "teacher t@1 is quarantined" in said
    assert watch.standing() == ["teacher t@1 is quarantined: " + said.partition(": ")[2]]
    [masked] = watch.now.masked
    assert masked.start == pytest.approx(3000, abs=30)  # where it began, for later passes


def test_labels_convict_where_the_student_knows_too_little() -> None:
    """With the student far from the teacher all the time, labels are the witness."""
    stream = Stream(1, skill=1e9, teacher=shuffled_from(3000))
    watch, weights = watched(stream, 5000)
    assert 3000 <= np.argmin(weights) < 4000
    assert watch.counts["quarantined_lists_labels"] + watch.counts["quarantined_lists_order"] > 900


@pytest.mark.parametrize("seed", [pytest.param(n, marks=[pytest.mark.slow] * (n >= 4)) for n in range(20)])
def test_a_sound_teacher_is_left_alone(seed: int) -> None:
    """20 streams: few labels and many, short lists and long, weak teachers and strong, a student that learns or not."""
    random = np.random.default_rng(100 + seed)
    stream = Stream(
        seed,
        noise=float(random.choice([0.3, 1.0, 3.0])),
        labels=float(random.choice([0.0, 0.1, 0.9])),
        length=int(random.choice([2, 5, 20])),
        skill=float(random.choice([300.0, 5000.0])),
    )
    watch, weights = watched(stream, 6000, int(random.choice([16, 256])))
    assert watch.news == []
    assert watch.counts == {}
    assert weights.min() == 1


def test_an_order_that_comes_back_is_learnt_again() -> None:
    watch, weights = watched(Stream(2, teacher=shuffled_from(3000, 5000)), 8000)
    out = np.flatnonzero(weights == 0)
    assert 3000 <= out.min() < 3100
    assert 5000 <= out.max() < 5000 + 2 * QUARANTINE.release + 100
    assert len(out) == out.max() - out.min() + 1  # once out, once in
    assert [("quarantined" in said, "is learnt from" in said) for said in watch.news] == [(True, False), (False, True)]
    assert watch.standing() == []
    [masked] = watch.now.masked
    assert (masked.start, masked.end) == (pytest.approx(3000, abs=30), pytest.approx(5000, abs=310))


def test_a_student_that_has_moved_away_in_the_meantime_locks_no_teacher_out() -> None:
    """While nobody is learnt from, labels alone move the student; the less it knows a teacher the less it may ask."""
    stream = Stream(2, labels=0.0, teacher=shuffled_from(3000, 9000))
    plain = stream.batch

    def batch(size: int) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        moved = 2.5 * min(1.0, max(0.0, (stream.at - 3000) / 6000))
        names, scores, scored, labels, labelled, student = plain(size)
        return names, scores, scored, labels, labelled, student + moved * stream.random.normal(size=student.shape)

    stream.batch = batch  # type: ignore[method-assign]
    _, weights = watched(stream, 12_000)
    assert weights[3100:9000].max() == 0
    assert weights[9700:].min() == 1


def test_an_order_that_labels_speak_for_comes_back_by_itself() -> None:
    """A teacher that changes its mind, for the better, under the same version: the student will follow."""
    other = np.random.default_rng(5).permutation(L)

    def changes(at: int, scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return scores if at < 3000 else scores[other]

    stream = Stream(3, teacher=changes)
    plain = stream.batch

    def batch(size: int) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        late = stream.at >= 3000
        names, scores, scored, labels, labelled, student = plain(size)
        scored = labelled = np.ones_like(scored)
        return names, scores, scored, labels[:, other] if late else labels, labelled, student

    stream.batch = batch  # type: ignore[method-assign]
    watch, weights = watched(stream, 6000)
    out = np.flatnonzero(weights == 0)
    assert 0 < len(out) < 800
    assert watch.standing() == []


def test_tastes_that_change_for_student_and_teacher_alike_accuse_nobody() -> None:
    stream = Stream(4)
    plain = stream.batch

    def batch(size: int) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        late = stream.at >= 3000
        names, scores, scored, labels, labelled, student = plain(size)
        return (
            names,
            scores,
            scored,
            np.random.default_rng(size).permuted(labels, axis=1) if late else labels,
            labelled,
            student,
        )

    stream.batch = batch  # type: ignore[method-assign]
    watch, weights = watched(stream, 6000)
    assert weights.min() == 1
    assert watch.news == []


@pytest.mark.parametrize(("factor", "offset"), [(50.0, 0.0), (0.02, 0.0), (1.0, 100.0), (3.0, -7.0)])
def test_a_jump_of_scale_is_told_once_and_accuses_nobody(factor: float, offset: float) -> None:
    def jumps(at: int, scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return scores if at < 2500 else factor * scores + offset

    watch, weights = watched(Stream(5, teacher=jumps), 5000)
    assert weights.min() == 1
    assert watch.counts == {"normalised": 1}
    [said] = watch.news
    assert "the scale of teacher t@1 jumped by list 2699" in said
    assert "standardised" in said


def test_one_list_far_out_is_no_jump() -> None:
    watch, _ = watched(Stream(6, teacher=lambda at, scores, random: scores * (1e30 if at % 500 == 499 else 1)), 5000)
    assert watch.counts == {}


def versions(at: int) -> str:
    return "t@1" if at < 3000 else "t@2"


def test_a_new_version_that_is_better_is_learnt_after_its_probation() -> None:
    def better(at: int, scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return scores + (1.5 if at < 3000 else 0.0) * random.normal(size=len(scores))

    watch, weights = watched(Stream(7, name=versions, teacher=better), 5000)
    out = np.flatnonzero(weights == 0)
    assert out.tolist() == list(range(3000, 3000 + QUARANTINE.probation - 100))  # learnt in the batch that decides
    assert watch.counts == {"probation_lists": len(out)}
    assert watch.now.masked == []  # later passes learn those too
    assert ["probation" in said for said in watch.news] == [True, False]


@pytest.mark.parametrize("labels", [0.0, 0.8])
def test_a_new_version_that_is_random_is_never_learnt(labels: float) -> None:
    watch, weights = watched(Stream(8, labels=labels, name=versions, teacher=shuffled_from(3000)), 6000)
    assert (weights[:3000] == 1).all()
    assert (weights[3000:] == 0).all()
    assert watch.counts["probation_lists"] + watch.counts["quarantined_lists_chance"] == 3000
    assert "too little beside the teachers before it" in watch.news[-1]


def test_without_probation_a_new_version_is_learnt_at_once() -> None:
    settings = WatchSettings(probation=0)
    watch, weights = watched(Stream(9, name=versions), 4000, settings=settings)
    assert weights.min() == 1
    assert watch.news == []


def test_first_teachers_are_believed_until_they_are_no_better_than_chance() -> None:
    watch, weights = watched(Stream(10, name=lambda at: "ab"[at % 2] + "@1", labels=0.5), 4000)
    assert weights.min() == 1
    watch, weights = watched(Stream(10, teacher=shuffled_from(0)), 7000)
    first = int(np.argmin(weights))
    assert (weights[:first].min(), weights[first:].max()) == (1, 0)
    assert 1000 <= first <= 5000  # 1,000 lists, and 50 batches of 100
    assert "better than with chance" in watch.news[0]
    assert watch.now.masked[0].start == 0  # later passes learn none of it


def test_of_two_teachers_only_the_one_that_breaks_is_left_out() -> None:
    def breaks(at: int, scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return random.permutation(scores) if at >= 3000 and at % 2 else scores

    _, weights = watched(Stream(11, name=lambda at: "ab"[at % 2] + "@1", teacher=breaks), 5000)
    assert weights[::2].min() == 1
    assert weights[3301::2].max() == 0


def test_told_only_or_not_at_all() -> None:
    told, weights = watched(Stream(0, teacher=shuffled_from(3000)), 4000, settings=WatchSettings(act="notice"))
    assert weights.min() == 1
    assert "in name only" in told.news[0]
    assert told.counts == {}
    off, weights = watched(Stream(0, teacher=shuffled_from(3000)), 4000, settings=WatchSettings(act="off"))
    assert weights.min() == 1
    assert (off.news, off.now.known) == ([], {})


def test_what_is_missing_is_no_evidence() -> None:
    """Lists with fewer than two scores, and a student that answers with NaN, change nothing but the place."""
    stream = Stream(12)
    watch, _ = watched(stream, 1000)
    before = watch.state()
    names, scores, scored, labels, labelled, student = stream.batch(50)
    single = scored & (np.arange(L) == 0)
    assert watch.weigh(names, scores, single, labels, labelled, student).tolist() == [1.0] * 50
    assert watch.state() == before | {"at": 1050}
    figures = watch.now.known["t@1"].order.weight
    watch.weigh(names, scores, scored, labels, labelled, np.full_like(student, np.nan))
    assert watch.now.known["t@1"].order.weight == figures


def test_later_passes_leave_out_what_the_first_one_found() -> None:
    stream = Stream(13, teacher=shuffled_from(1500, 2500))
    watch, batches = Watch(QUARANTINE), [stream.batch(100) for _ in range(40)]
    for batch in batches:
        watch.weigh(*batch)
    for _ in range(2):
        watch.rewind()
        again = np.concatenate([watch.weigh_again(batch[0], batch[2]) for batch in batches])
        out = np.flatnonzero(again == 0)
        assert out.min() == pytest.approx(1500, abs=30)  # the delay is made good
        assert out.max() == pytest.approx(2500, abs=310)
    watch.forget_passes()
    assert watch.now.masked == []


@pytest.fixture(scope="module")
def batches() -> list[Any]:
    stream = Stream(14, name=lambda at: "t@1" if at < 5000 else "t@2", teacher=shuffled_from(3000, 4000))
    return [stream.batch(100) for _ in range(70)]


@pytest.mark.parametrize("at", [5, 31, 33, 60])
def test_restored_from_json_it_goes_on_to_the_same_bytes(batches: list[Any], at: int) -> None:
    settings = WatchSettings(spread=0)
    whole, part = Watch(settings), Watch(settings)
    for step, batch in enumerate(batches):
        if step == at:
            state = json.loads(json.dumps(part.state(), allow_nan=False, sort_keys=True))
            part = Watch(settings)
            part.restore(state)
        assert (whole.weigh(*batch) == part.weigh(*copy.deepcopy(batch))).all()
        names = ["t@1", "t@2"]
        assert whole.spreads(names).tobytes() == part.spreads(names).tobytes()
    assert json.dumps(whole.state(), sort_keys=True) == json.dumps(part.state(), sort_keys=True)


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(CheckpointError, match="state of the watch"):
        Watch(QUARANTINE).restore({"at": "now"})


def test_it_remembers_a_bounded_number_of_teachers() -> None:
    watch = Watch(QUARANTINE)
    watched_stream = Stream(15, name=lambda at: f"t@{at // 10}")
    for _ in range(MOST_TEACHERS + 20):
        watch.weigh(*watched_stream.batch(10))
    assert len(watch.now.known) == MOST_TEACHERS
    assert "t@0" not in watch.now.known
    assert f"t@{MOST_TEACHERS + 19}" in watch.now.known
    assert all(masked.teacher in watch.now.known for masked in watch.now.masked if masked.end < 0)


def test_the_spread_of_a_teacher_is_found_from_labels() -> None:
    settings = WatchSettings(spread=0)
    watch = Watch(settings)
    assert watch.spreads(["t@1"]).tolist() == [2.0]  # nothing is known yet
    stream = Stream(16, noise=0.1)
    batches = [stream.batch(64) for _ in range(30)]
    for names, scores, scored, labels, labelled, student in batches:
        units = standardised(scores, scored, teachers=names)
        watch.weigh(names, scores, scored, labels, labelled, student, units)
    _, scores, scored, labels, _, _ = (np.concatenate(column) for column in zip(*batches, strict=True))
    units = standardised(scores, scored, teachers=["t@1"] * len(scores))
    assert watch.spreads(["t@1"])[0] == pytest.approx(1 / temperature(units, labels, scored), rel=0.02)
    assert watch.spreads(["t@1"])[0] == pytest.approx(2.0, rel=0.1)  # the labels' own sharpness
    assert Watch(WatchSettings(spread=3.0)).spreads(["a", "b"]).tolist() == [3.0, 3.0]
    assert Watch(WatchSettings(comparable="scale")).spreads(["a"]).tolist() == [1.0]


def test_the_lowest_point_of_a_curve_at_its_ends() -> None:
    assert lowest(SHARPNESS_G, np.arange(49.0)) == SHARPNESS_G[0]
    assert lowest(SHARPNESS_G, -np.arange(49.0)) == SHARPNESS_G[-1]
