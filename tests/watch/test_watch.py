"""The watch: what it does about teachers of made-up streams, how late, and how often it is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.teacher_streams import L, Stream, rescaled_from, shuffled_from

from recdistill.config import WatchSettings
from recdistill.errors import CheckpointError
from recdistill.watch import Observation, Watch, standardised
from recdistill.watch.watch import MOST_TEACHERS
from recdistill.watch.witnesses import temperature
from references.stories import Stories

RELEASE, PROBATION = 300, 200  # lists, by default


def watched(stream: Stream, lists: int, size: int = 100, **policy: Any) -> tuple[Watch, np.ndarray]:
    """The watch after so many lists, and the weight of each."""
    watch, weights = Watch(**{"act": "quarantine", **policy}), []
    while stream.at < lists:
        weights.append(watch.weigh(stream.batch(min(size, lists - stream.at))))
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


@pytest.mark.slow
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
    assert 5000 <= out.max() < 5000 + 2 * RELEASE + 100
    assert len(out) == out.max() - out.min() + 1  # once out, once in
    assert [("quarantined" in said, "is learnt from" in said) for said in watch.news] == [(True, False), (False, True)]
    assert watch.standing() == []
    [masked] = watch.now.masked
    assert (masked.start, masked.end) == (pytest.approx(3000, abs=30), pytest.approx(5000, abs=310))


def test_a_student_that_has_moved_away_in_the_meantime_locks_no_teacher_out() -> None:
    """While nobody is learnt from, labels alone move the student; the less it knows a teacher the less it may ask."""
    stream = Stream(2, labels=0.0, teacher=shuffled_from(3000, 9000))
    plain = stream.batch

    def batch(size: int) -> Observation:
        moved = 2.5 * min(1.0, max(0.0, (stream.at - 3000) / 6000))
        seen = plain(size)
        student = np.asarray(seen.student_BL)
        return replace(seen, student_BL=student + moved * stream.random.normal(size=student.shape))

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

    def batch(size: int) -> Observation:
        late = stream.at >= 3000
        seen = plain(size)
        every, labels = np.ones_like(seen.scored_BL), np.asarray(seen.labels_BL)
        return replace(seen, scored_BL=every, labelled_BL=every, labels_BL=labels[:, other] if late else labels)

    stream.batch = batch  # type: ignore[method-assign]
    watch, weights = watched(stream, 6000)
    out = np.flatnonzero(weights == 0)
    assert 0 < len(out) < 800
    assert watch.standing() == []


def test_tastes_that_change_for_student_and_teacher_alike_accuse_nobody() -> None:
    stream = Stream(4)
    plain = stream.batch

    def batch(size: int) -> Observation:
        late = stream.at >= 3000
        seen = plain(size)
        changed = np.random.default_rng(size).permuted(np.asarray(seen.labels_BL), axis=1)
        return replace(seen, labels_BL=changed) if late else seen

    stream.batch = batch  # type: ignore[method-assign]
    watch, weights = watched(stream, 6000)
    assert weights.min() == 1
    assert watch.news == []


@pytest.mark.parametrize(("factor", "offset"), [(50.0, 0.0), (0.02, 0.0), (1.0, 100.0), (3.0, -7.0)])
def test_a_jump_of_scale_is_told_once_and_accuses_nobody(factor: float, offset: float) -> None:
    watch, weights = watched(Stream(5, teacher=rescaled_from(2500, factor, offset)), 5000)
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
    assert out.tolist() == list(range(3000, 3000 + PROBATION - 100))  # learnt in the batch that decides
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
    watch, weights = watched(Stream(9, name=versions), 4000, probation=0)
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
    told, weights = watched(Stream(0, teacher=shuffled_from(3000)), 4000, act="notice")
    assert weights.min() == 1
    assert told.news[0].startswith("teacher t@1 may have changed, from list 3")
    assert told.news[0].endswith("and no longer does; it is still learnt from (watch.act is notice)")
    [standing] = told.standing()
    assert standing.startswith("teacher t@1 may have changed: its order agreed with the student at 0.")
    assert standing.endswith(", and no longer does (watch.act is notice)")
    assert told.counts == {}
    off, weights = watched(Stream(0, teacher=shuffled_from(3000)), 4000, act="off")
    assert weights.min() == 1
    assert (off.news, off.now.known) == ([], {})


def test_by_default_it_only_notices() -> None:
    assert Watch().act == WatchSettings().act == "notice"


def asked_again(stream: Stream, agreement: Callable[[int], float]) -> Stream:
    """The stream of a scorer that asks its teacher again."""
    plain = stream.batch

    def batch(size: int) -> Observation:
        seen = plain(size)
        at_B = range(stream.at - size, stream.at)
        return replace(seen, agreement_B=np.array([agreement(at) for at in at_B], np.float32))

    stream.batch = batch  # type: ignore[method-assign]
    return stream


@pytest.mark.slow
def test_a_teacher_that_answers_as_it_did_at_first_is_accused_by_nothing_in_the_stream() -> None:
    """The same stream in which a shuffled teacher is found: here it is the student and the labels that have gone."""
    watch, weights = watched(asked_again(Stream(0, teacher=shuffled_from(3000)), lambda at: 0.97), 8000)
    assert watch.news == []
    assert weights.min() == 1
    # A teacher that was random from the first day, and says the same each time.
    watch, weights = watched(asked_again(Stream(0, teacher=shuffled_from(0)), lambda at: 1.0), 8000)
    assert (watch.news, weights.min()) == ([], 1)
    # It says nothing of others: the same without an answer is found.
    watch, _ = watched(asked_again(Stream(0, teacher=shuffled_from(3000)), lambda at: math.nan), 8000)
    assert "its order agreed with the student" in watch.news[0]


SLOW = {"rate": 0.003, "replaced": 0.9, "burst": 1000.0}
"""Stories that come and go, and a student that learns slowly: what students say there is often wrong."""


def on_stories(seed: int, lists: int = 5000, act: str = "quarantine", **more: Any) -> tuple[Watch, np.ndarray]:
    watch, stories, weights = Watch(act=act), Stories(seed, **SLOW, **more), []  # type: ignore[arg-type]
    while stories.at < lists:
        weights.append(watch.weigh(stories.batch(64)))
    return watch, np.concatenate(weights)


@pytest.mark.slow
def test_where_stories_come_and_go_a_sound_teacher_is_accused_by_the_student_and_cleared_by_itself() -> None:
    """A teacher that never changes. The student alone accuses it; by default that is only told."""
    accused, weights = on_stories(0)
    assert "ranker@1 is quarantined" in accused.news[0]
    assert weights.min() == 0
    noticed, weights = on_stories(0, act=WatchSettings().act)
    assert "ranker@1 may have changed" in noticed.news[0]
    assert weights.min() == 1
    for seed in range(3):
        cleared, weights = on_stories(seed, asked_again=1.0)
        assert (cleared.news, weights.min()) == ([], 1)


@pytest.mark.slow
@pytest.mark.parametrize("length", [6, 30])
def test_where_stories_come_and_go_a_shuffled_teacher_is_found_within_2000_lists(length: int) -> None:
    def broken(at: int, scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return random.permutation(scores) if at >= 3000 else scores

    for seed in range(2):
        stories, watch = Stories(seed, length=length, change=broken), Watch()
        while stories.at < 3000:
            watch.weigh(stories.batch(50))
        assert watch.news == []
        while stories.at < 5000 and not watch.news:
            watch.weigh(stories.batch(50))
        assert "ranker@1 may have changed" in watch.news[0]


def test_a_teacher_that_no_longer_answers_as_at_first_is_accused_and_comes_back_with_its_answers() -> None:
    def agreement(at: int) -> float:
        return 0.1 if 3000 <= at < 5000 else 1.0

    watch, weights = watched(asked_again(Stream(0, teacher=shuffled_from(3000, 5000)), agreement), 7000)
    out = np.flatnonzero(weights == 0)
    assert (out.min(), out.max()) == (3000, 4999)
    assert len(out) == 2000
    first, last = watch.news
    assert first.startswith(
        "teacher t@1 is quarantined, from list 3000 on: asked again, it agrees with its own first answers at 0.10"
    )
    assert last.startswith("teacher t@1 is learnt from, from list 5000 on")
    assert last.endswith("asked again, it agrees with its own first answers at 1.00")
    assert watch.counts["quarantined_lists_itself"] == 2000
    # Another order that the student agrees with is learnt after a trial, and is not accused again.
    watch, weights = watched(asked_again(Stream(0), lambda at: 1.0 if at < 3000 else 0.1), 7000)
    assert 300 <= (weights == 0).sum() <= 600
    assert len(watch.news) == 2
    # Between alike and another teacher, the stream decides as it does without.
    watch, _ = watched(asked_again(Stream(0, teacher=shuffled_from(3000)), lambda at: 0.8), 4000)
    assert "its order agreed with the student" in watch.news[0]


def test_what_is_missing_is_no_evidence() -> None:
    """Lists with fewer than two scores, and a student that answers with NaN, change nothing but the place."""
    stream = Stream(12)
    watch, _ = watched(stream, 1000)
    before = watch.state()
    batch = stream.batch(50)
    single = replace(batch, scored_BL=batch.scored_BL & (np.arange(L) == 0))
    assert watch.weigh(single).tolist() == [1.0] * 50
    assert watch.state() == before | {"at": 1050}
    order = watch.now.known["t@1"].detectors.order
    weight = order.reference.weight
    watch.weigh(replace(batch, student_BL=np.full_like(batch.student_BL, np.nan)))
    assert order.reference.weight == weight


def test_later_passes_leave_out_what_the_first_one_found() -> None:
    stream = Stream(13, teacher=shuffled_from(1500, 2500))
    watch, batches = Watch(act="quarantine"), [stream.batch(100) for _ in range(40)]
    for batch in batches:
        watch.weigh(batch)
    for _ in range(2):
        watch.rewind()
        again = np.concatenate([watch.weigh_again(batch.teachers, batch.scored_BL) for batch in batches])
        out = np.flatnonzero(again == 0)
        assert out.min() == pytest.approx(1500, abs=30)  # the delay is made good
        assert out.max() == pytest.approx(2500, abs=310)
    watch.forget_passes()
    assert watch.now.masked == []


@pytest.fixture(scope="module")
def batches() -> list[Observation]:
    stream = Stream(14, name=lambda at: "t@1" if at < 5000 else "t@2", teacher=shuffled_from(3000, 4000))
    return [stream.batch(100) for _ in range(70)]


@pytest.mark.many
@pytest.mark.parametrize("at", [5, 31, 33, 60])
def test_restored_from_json_it_goes_on_to_the_same_bytes(batches: list[Observation], at: int) -> None:
    whole, part = Watch(spread=0, act="quarantine"), Watch(spread=0, act="quarantine")
    for step, batch in enumerate(batches):
        if step == at:
            state = json.loads(json.dumps(part.state(), allow_nan=False, sort_keys=True))
            part = Watch(spread=0, act="quarantine")
            part.restore(state)
        assert (whole.weigh(batch) == part.weigh(replace(batch))).all()
        names = ["t@1", "t@2"]
        assert whole.spreads(names).tobytes() == part.spreads(names).tobytes()
    assert json.dumps(whole.state(), sort_keys=True) == json.dumps(part.state(), sort_keys=True)


def of_three(at: int) -> str:
    """A first teacher that breaks off, one that is random, and from list 1,500 on a new one."""
    return ("t@1", "t@1", "u@1", "v@1" if at >= 1500 else "t@1")[at % 4]


def close(found: Any, expected: Any) -> None:
    """The same JSON, but for the last digits of its numbers."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            close(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, other)
    else:
        assert found == (pytest.approx(expected, rel=1e-9, abs=1e-9) if isinstance(expected, float) else expected)


def _without_old_counts(state: Any) -> Any:
    """That version dropped a suspicion's sum, and kept its count of lists in a row; without a sum it says nothing."""
    if not isinstance(state, dict):
        return state
    cleared = {f"{side}_{kind}": 0 for side in ("low", "high") for kind in ("run", "onset") if state.get(side) == 0}
    return {key: cleared.get(key, _without_old_counts(value)) for key, value in state.items()}


@pytest.mark.slow
def test_a_state_of_an_older_version_goes_on_as_that_version_did() -> None:
    """The file was written by the version in which the watch was one class (commit 073a1ce): see `state` and the rest.

    At list 2,000 t@1 is quarantined, u@1 is believed and unproven, v@1 is on probation. Then 7,000 lists more.
    """
    recorded = json.loads((Path(__file__).parent / "state_of_an_older_version.json").read_text())

    def teacher(at: int, scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
        name = of_three(at)
        out_of_order = name == "u@1" or (name == "t@1" and 1500 <= at < 3000)
        return random.permutation(scores) if out_of_order else scores

    stream = Stream(23, name=of_three, teacher=teacher)
    here, restored = Watch(spread=0, act="quarantine"), Watch(spread=0, act="quarantine")
    while stream.at < 2000:
        here.weigh(stream.batch(50))
    restored.restore(recorded["state"])
    close(_without_old_counts(restored.state()), _without_old_counts(here.state()))
    weights: dict[str, list[float]] = {"t@1": [], "u@1": [], "v@1": []}
    while stream.at < 9000:
        batch = stream.batch(50)
        for name, weight in zip(batch.teachers, restored.weigh(batch).tolist(), strict=True):
            weights[name].append(weight)
    for name, runs in recorded["weights"].items():
        assert weights[name] == [weight for weight, lists in runs for _ in range(lists)], name
    assert restored.news == recorded["news"]
    assert restored.counts == recorded["counts"]
    assert restored.spreads(["t@1", "u@1", "v@1"]).tolist() == pytest.approx(recorded["spreads"], rel=1e-6)


@pytest.mark.parametrize(
    "state", [{"at": "now"}, None, {"known": {"t@1": 3}}, {"known": {"t@1": {"first": 0, "order": 7}}}, {"known": []}]
)
def test_a_state_that_is_none_is_refused(state: Any) -> None:
    with pytest.raises(CheckpointError, match="state of the watch"):
        Watch().restore(state)


def test_it_remembers_a_bounded_number_of_teachers() -> None:
    watch = Watch()
    watched_stream = Stream(15, name=lambda at: f"t@{at // 10}")
    for _ in range(MOST_TEACHERS + 20):
        watch.weigh(watched_stream.batch(10))
    assert len(watch.now.known) == MOST_TEACHERS
    assert "t@0" not in watch.now.known
    assert f"t@{MOST_TEACHERS + 19}" in watch.now.known
    assert all(masked.teacher in watch.now.known for masked in watch.now.masked if masked.end < 0)


def test_the_spread_of_a_teacher_is_found_from_labels() -> None:
    watch = Watch(spread=0, act="quarantine")
    assert watch.spreads(["t@1"]).tolist() == [2.0]  # nothing is known yet
    stream = Stream(16, noise=0.1)
    batches = [stream.batch(64) for _ in range(30)]
    for batch in batches:
        watch.weigh(replace(batch, units_BL=standardised(batch.scores_BL, batch.scored_BL, teachers=batch.teachers)))
    scores, scored, labels = (
        np.concatenate([getattr(batch, side) for batch in batches]) for side in ("scores_BL", "scored_BL", "labels_BL")
    )
    units = standardised(scores, scored, teachers=["t@1"] * len(scores))
    assert watch.spreads(["t@1"])[0] == pytest.approx(1 / temperature(units, labels, scored), rel=0.02)
    assert watch.spreads(["t@1"])[0] == pytest.approx(2.0, rel=0.1)  # the labels' own sharpness
    assert Watch(spread=3.0).spreads(["a", "b"]).tolist() == [3.0, 3.0]
    assert Watch(comparable="scale").spreads(["a"]).tolist() == [1.0]
