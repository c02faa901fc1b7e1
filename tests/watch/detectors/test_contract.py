"""What every detector must do, and one line for each that says what it must find.

A new detector comes here with a line in `CASES`, and all of this is asked of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import pytest
from support.teacher_streams import Change, Stream, rescaled_from, shuffled_from

from recdistill.watch.detectors import Detector, Detectors, Finding
from recdistill.watch.observation import Seen

SIZE = 50


@dataclass(frozen=True)
class Case:
    """What a detector must find: the change of a sound stream, where it begins, and within how many lists."""

    change: Change
    at: int
    within: int
    agreement: float | None = None
    """How well the changed teacher agrees with its first answers; None: nobody asks it again."""
    grows: bool = True
    """Whether its suspicion grows from list to list; else all that it ever saw speaks at once."""


CASES = {
    "scale": Case(rescaled_from(3000), 3000, 300),
    "itself": Case(shuffled_from(3000), 3000, 200, agreement=0.2),
    "order": Case(shuffled_from(3000), 3000, 300),
    "labels": Case(shuffled_from(3000), 3000, 600),
    "chance": Case(shuffled_from(0), 0, 5000, grows=False),
}

NAMES = [name for name, _ in Detectors()]
each = pytest.mark.parametrize("name", NAMES)


def made(name: str) -> Detector:
    detector: Detector = getattr(Detectors(), name)
    return detector


def batches(change: Change | None, lists: int, *, seed: int = 0, size: int = SIZE, **stream: Any) -> list[Seen]:
    """A stream of one teacher, cut into batches."""
    source = Stream(seed, teacher=change, **stream) if change else Stream(seed, **stream)
    found = [source.batch(size).of("t@1", first) for first in range(0, lists, size)]
    assert None not in found
    return [seen for seen in found if seen is not None]


def of_case(case: Case, *, size: int = SIZE) -> list[Seen]:
    """The stream that it must find something in."""
    stream = batches(case.change, case.at + case.within, size=size)
    if case.agreement is None:
        return stream
    return [replace(seen, agreement_B=np.where(seen.at_B < case.at, 1.0, case.agreement)) for seen in stream]


def answers(detector: Detector, stream: list[Seen], *, quiet: bool = False) -> list[Finding | None]:
    return [detector.observe(seen, quiet=quiet) for seen in stream]


def first(found: list[Finding | None]) -> int | None:
    """Where the first batch with a finding ends."""
    return next(((i + 1) * SIZE for i, finding in enumerate(found) if finding), None)


def through_json(detector: Detector) -> Any:
    text = json.dumps(msgspec.to_builtins(detector), allow_nan=False, sort_keys=True)
    return msgspec.convert(json.loads(text), type(detector))


def test_each_detector_has_its_case() -> None:
    assert set(CASES) == set(NAMES)


@each
def test_its_change_is_found_in_time_and_not_before(name: str) -> None:
    case = CASES[name]
    found = answers(made(name), of_case(case))
    at = first(found)
    assert at is not None
    assert case.at < at <= case.at + case.within
    [finding] = [finding for finding in found if finding][:1]
    assert finding.why
    assert finding.since is None or case.at - 100 <= finding.since <= at


@pytest.mark.many
@each
@pytest.mark.parametrize("seed", range(3))
def test_a_teacher_that_stays_as_it_is_is_not_accused(name: str, seed: int) -> None:
    """Of a student that learns: the stream is the teacher's, and that does not change."""
    for noise in (0.3, 1.5):
        assert first(answers(made(name), batches(None, 5000, seed=seed, noise=noise))) is None


@each
def test_restored_at_any_point_it_answers_the_same(name: str) -> None:
    case = CASES[name]
    stream = of_case(case)
    whole, part = made(name), made(name)
    for place, seen in enumerate(stream):
        part = through_json(part)
        assert whole.observe(seen) == part.observe(seen), place
    assert whole == part


@each
def test_the_same_lists_give_the_same_answers_and_the_same_state(name: str) -> None:
    case = CASES[name]
    one, other = made(name), made(name)
    for stream in (of_case(case), batches(case.change, 1000, seed=9)):
        assert answers(one, stream) == answers(other, [replace(seen) for seen in stream])
    assert msgspec.json.encode(one) == msgspec.json.encode(other)


@each
def test_it_changes_nothing_of_what_it_is_shown(name: str) -> None:
    [seen] = batches(None, SIZE)
    before = {side: value.copy() for side, value in vars(seen).items() if isinstance(value, np.ndarray)}
    made(name).observe(seen)
    for side, value in before.items():
        np.testing.assert_array_equal(getattr(seen, side), value)


@each
def test_made_quiet_it_finds_nothing(name: str) -> None:
    case = CASES[name]
    assert first(answers(made(name), of_case(case), quiet=True)) is None


@pytest.mark.many
@pytest.mark.parametrize("way", ["drop", "quiet"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.grows])
def test_a_suspicion_that_is_dropped_has_to_grow_anew(name: str, way: str) -> None:
    """A few lists before the finding; without it the next few lists bring it."""
    case, few = CASES[name], 5
    stream = of_case(case, size=few)
    found = [finding is not None for finding in answers(made(name), stream)].index(True)
    detector = made(name)
    assert not any(answers(detector, stream[: found - 1]))
    if way == "drop":
        assert detector.observe(stream[found - 1]) is None
        detector.drop()
    else:
        assert detector.observe(stream[found - 1], quiet=True) is None
    assert detector.observe(stream[found]) is None


@each
def test_lists_that_say_nothing_are_no_evidence(name: str) -> None:
    """Without labels, with a student that answers NaN, and with scores that are all equal."""
    stream = batches(None, 2000)
    detector = made(name)
    answers(detector, stream)
    mute = [
        replace(
            seen,
            scores_BL=np.full_like(seen.scores_BL, float(np.median(seen.scores_BL))),
            labels_BL=np.zeros_like(seen.labels_BL),
            student_BL=np.full_like(seen.student_BL, np.nan),
        )
        for seen in batches(None, 2000, seed=1)
    ]
    assert first(answers(detector, mute)) is None
    through_json(detector)  # and it can still be saved
