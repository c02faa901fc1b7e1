"""What every detector of drift must do, and one line for each kind of drift that it must find.

A new detector comes here with lines in `CASES`, and all of this is asked of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from support.drift_streams import Calm, cut, stream

from recdistill.watch.detectors import Drift, Drifts, Finding

AT = 8_000


@dataclass(frozen=True)
class Case:
    """What a detector must find: how the stream is from list `AT` on, within how many lists, and what it says."""

    detector: str
    shift: Calm
    within: int
    says: str


CASES = {
    "tastes turn": Case("inputs", Calm(fame=13), 2_200, "items (stability index"),
    "what people had turns": Case("inputs", Calm(fame=13), 2_200, "newest events"),
    "lists are half as long": Case("inputs", Calm(length=6), 2_200, "list lengths"),
    "requests come in the night": Case("inputs", Calm(hour=0), 2_200, "context.hour"),
    "people come from the east": Case("inputs", Calm(east=2.0), 2_200, "context.place"),
    "people no longer tell their age": Case("inputs", Calm(told=0.5), 2_200, "context.age"),
    "another action": Case("inputs", Calm(action=0.8), 2_200, "actions"),
    "a catalogue lags behind": Case("inputs", Calm(unknown=0.4), 2_200, "events of unknown items (0.02 before, now 0."),
    "a join breaks": Case("outcomes", Calm(rate=0.1), 2_200, "lists with a label (30% before, now 1"),
    "labels become many": Case("outcomes", Calm(rate=0.6), 2_200, "lists with a label (30% before, now "),
    "the page changes": Case("outcomes", Calm(depth=1.0), 4_000, "places of what was taken"),
    "labels come late": Case(
        "outcomes", Calm(delay_s=600.0), 2_200, "time from a list to its labels (59 s before, now "
    ),
    "the student falls behind": Case(
        "agreement", Calm(error=1.5), 2_200, "rank correlation with the teachers (0.76 before, now 0.4"
    ),
}
NAMES = [name for name, _ in Drifts()]
each = pytest.mark.parametrize("name", NAMES)


def made(name: str) -> Drift:
    detector: Drift = getattr(Drifts(), name)
    return detector


def found_by(detector: Drift, whole: Any, size: int = 100) -> list[tuple[int, Finding]]:
    """Where each batch with a finding ends, and the finding."""
    answers = [(int(one.at[-1]) + 1, detector.observe(one, block=50)) for one in cut(whole, size)]
    return [(at, finding) for at, finding in answers if finding is not None]


def test_each_detector_has_its_cases() -> None:
    assert {case.detector for case in CASES.values()} == set(NAMES)


@pytest.mark.parametrize("kind", CASES)
def test_a_planted_shift_is_found_within_so_many_lists_and_not_before(kind: str) -> None:
    """Every second list here is a label that came later. So 2,200 lists are 1,100 of either kind."""
    case = CASES[kind]
    found = found_by(made(case.detector), stream(3, AT + case.within, shift=case.shift, at=AT))
    assert found
    assert all(at > AT for at, _ in found)
    assert any(case.says in finding.why for _, finding in found), found
    assert all(finding.since is not None and AT - 1_100 <= finding.since <= at for at, finding in found)


def alarms(seeds: range, lists: int) -> dict[str, int]:
    """Of so many calm streams, how many made each detector alarm."""
    counts = dict.fromkeys(NAMES, 0)
    for seed in seeds:
        whole = stream(seed, lists)
        for name in NAMES:
            counts[name] += bool(found_by(made(name), whole, size=1_000))
    return counts


def test_a_calm_stream_is_calm() -> None:
    assert alarms(range(100, 106), 8_000) == dict.fromkeys(NAMES, 0)


@pytest.mark.slow
def test_of_a_hundred_calm_streams_nearly_none_alarms() -> None:
    """A detector is wrong in at most one stream of a hundred. By chance four would be seen once in fifty tests."""
    counts = alarms(range(100), 8_000)
    assert max(counts.values()) <= 3, counts


@each
def test_its_answers_do_not_depend_on_how_the_stream_is_cut(name: str) -> None:
    case = next(case for case in CASES.values() if case.detector == name)
    whole = stream(5, AT + case.within, shift=case.shift, at=AT)
    small, large = made(name), made(name)
    one, two = found_by(small, whole, size=37), found_by(large, whole, size=5_000)
    assert [finding.since for _, finding in one] == [finding.since for _, finding in two]
    assert [finding.why for _, finding in one] == [finding.why for _, finding in two]
    assert msgspec.json.encode(small) == msgspec.json.encode(large)


@each
def test_restored_at_any_point_it_answers_the_same(name: str) -> None:
    case = next(case for case in CASES.values() if case.detector == name)
    whole, part = made(name), made(name)
    found = 0
    for one in cut(stream(5, AT + case.within, shift=case.shift, at=AT), 500):
        text = json.dumps(msgspec.to_builtins(part), allow_nan=False)
        part = msgspec.convert(json.loads(text), type(part))
        answer = whole.observe(one, block=50)
        assert answer == part.observe(one, block=50)
        found += answer is not None
    assert found


@each
def test_a_drift_is_told_once_and_then_it_is_usual(name: str) -> None:
    case = next(case for case in CASES.values() if case.detector == name)
    found = found_by(made(name), stream(7, AT + 16_000, shift=case.shift, at=AT))
    assert found
    assert max(at for at, _ in found) < AT + 4_000


@each
def test_lists_that_say_nothing_are_no_evidence(name: str) -> None:
    """Of a student that answers NaN, without labels, without histories and without a context."""
    detector = made(name)
    whole = stream(1, 3_000)
    for one in cut(whole, 500):
        one.lists.label_known_B[:] = False
        one.requests.history_slots_BH[:] = -1
        one.requests.unknown_B[:] = 0
        one.student_BL[:] = np.nan
        assert detector.observe(one, block=50) is None
    json.dumps(msgspec.to_builtins(detector), allow_nan=False)


def test_all_of_them_are_told_in_a_sentence_and_the_newest_are_remembered() -> None:
    drifts, told = Drifts(), []
    for one in cut(stream(3, AT + 3_000, shift=Calm(length=6, rate=0.1, error=1.5), at=AT), 250):
        told += drifts.observe(one)
    assert {counted for _, counted in told} == {"drift_inputs", "drift_labels", "drift_agreement"}
    sentences = [str(found) for found, _ in told]
    assert any(one.startswith("the inputs have drifted from list 8") and "list lengths" in one for one in sentences)
    assert any(one.startswith("the labels have drifted from list ") for one in sentences)
    assert any(one.startswith("the student knows its teachers less well than before from list ") for one in sentences)
    assert [str(found) for found in drifts.found] == sentences[-8:]
    assert set(drifts.figures()) == set(NAMES)
