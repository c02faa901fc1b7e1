"""The passes of a transformer: what is held out, what they learn, and that a killed training ends with the same bytes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from recdistill.config import TeacherTraining
from recdistill.features import Catalogue, FeatureSpec, HistorySpec, IdSpec, Vocabulary
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.teachers.builtin.epochs import had, hold_out
from recdistill.teachers.builtin.sequences import Timelines, cut, timelines, windows
from recdistill.teachers.builtin.teacher import BuiltinTeacher, train_teacher

ITEMS = [f"i{n}" for n in range(12)]
SPEC = FeatureSpec(history=HistorySpec(length=6), id=IdSpec(capacity=12, hashed=1))
SMALL = TeacherTraining(
    kind="attention", dim=16, layers=1, heads=2, dropout=0.1, epochs=4, batch=8, learning_rate=5e-3, held_out=20
)


def asked(name: str, items: list[int], chosen: int | None = None) -> Impression:
    return Impression(
        name,
        0,
        user=name,
        history=tuple(Event(ITEMS[n], 0) for n in items),
        candidates=tuple(Candidate(ITEMS[n]) for n in ([] if chosen is None else [chosen])),
    )


def circle(users: int, length: int = 5) -> list[Example]:
    """Each user goes on from item to item, around a circle: the next one is sure, its popularity says nothing."""
    found = []
    for user in range(users):
        line = [(user + step) % len(ITEMS) for step in range(length + 1)]
        one = asked(f"u{user}", line[:-1], line[-1])
        found.append(Example(Ranking(one, "", "", "rank", (0.0,), (False,)), (1.0,)))
    return found


def lines_of(examples: list[Example]) -> Timelines:
    catalogue = Catalogue(SPEC, Vocabulary(SPEC))
    for item in ITEMS:
        catalogue.apply(Item(item), admit=True)
    return timelines(SPEC, catalogue, examples)


def test_the_last_choice_of_some_timelines_is_held_out_and_no_other() -> None:
    lines = lines_of(circle(40))
    learnt, held = hold_out(lines, 3, 3, np.random.default_rng(0))
    assert len(held.cuts) == 3
    # By hand: a timeline has 5 events and the choice, 6 questions; the held ones are the last, after the 3 newest events.
    for begin, end, first, last in held.cuts.tolist():
        assert last - first == 1
        assert last in lines.first_question_T1
        assert end in lines.first_T1
        assert end - begin == 3
    gone = {int(row[2]) for row in held.cuts}
    kept = [n for n in range(len(lines.question_slot_M)) if n not in gone]
    assert learnt.question_slot_M.tolist() == lines.question_slot_M[kept].tolist()
    assert np.diff(learnt.first_question_T1).tolist().count(5) == 3
    assert np.diff(learnt.first_question_T1).tolist().count(6) == 37
    assert len(hold_out(lines, 3, 1000, np.random.default_rng(0))[1].cuts) == 4  # a tenth at most


def test_without_overlap_each_question_comes_once_in_a_pass() -> None:
    lines = lines_of(circle(7, length=11))
    for seed in range(5):
        cuts = cut(lines, 4, np.random.default_rng(seed), overlapping=False)
        assert sorted(q for row in cuts.tolist() for q in range(row[2], row[3])) == list(range(len(lines.question_slot_M)))


def test_what_a_user_had_is_found_as_by_counting() -> None:
    lines = lines_of(circle(3, length=11))
    cuts = cut(lines, 4, np.random.default_rng(1))
    _, question_BQ = windows(lines, cuts, 100, np.random.default_rng(0))
    column_N = np.arange(12)
    column_N[5] = -1
    got = set(zip(*(a.tolist() for a in had(lines, cuts, question_BQ, column_N)), strict=True))
    wanted = set()
    for number, question in enumerate(q for row in question_BQ.tolist() for q in row if q >= 0):
        line = np.searchsorted(lines.first_question_T1, question, side="right") - 1
        first = lines.first_T1[line]
        for slot in lines.slots_E[first : first + lines.question_at_M[question]].tolist():
            if slot != 5:
                wanted.add((number, slot))
    assert got == wanted


@pytest.mark.slow
def test_it_learns_what_follows_what(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SMALL, epochs=12, batch=16)
    told = train_teacher(circle(120), [Item(item) for item in ITEMS], SPEC, settings, tmp_path / "t", keep=tmp_path / "k")
    assert told["held_ndcg@10"] > 0.95
    assert told["held_out"] == 12
    teacher = BuiltinTeacher.load(tmp_path / "t")
    scores_BN = teacher.catalogue_scores([asked("x", [n, (n + 1) % 12]) for n in range(12)])
    for n in range(12):  # what the user had is never offered, so nothing is learnt about it
        scores_BN[n, [teacher.item_ids.index(ITEMS[one % 12]) for one in (n, n + 1)]] = -np.inf
    assert [teacher.item_ids[n] for n in scores_BN.argmax(1)] == [ITEMS[(n + 2) % 12] for n in range(12)]
    rows = [msgspec.json.decode(row) for row in (tmp_path / "k" / "epochs.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert rows[-1]["loss"] < rows[0]["loss"]


class Killed(Exception):
    """As a kill: nothing is written after it."""


def test_a_training_that_is_killed_anywhere_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def train(name: str, most: int | None, settings: TeacherTraining = SMALL) -> Any:
        calls = 0

        def progress(done: int, total: int) -> None:
            nonlocal calls
            calls += 1
            if most is not None and calls > most:
                raise Killed

        return train_teacher(
            circle(60),
            [Item(item) for item in ITEMS],
            SPEC,
            settings,
            tmp_path / name,
            keep=tmp_path / f"{name}.training",
            progress=progress,
        )

    whole = train("whole", None)["version"]
    for most in (3, 9, 13):
        with pytest.raises(Killed):
            train("killed", most)
    assert len(list((tmp_path / "killed.training").glob("step-*"))) == 1 + 1
    assert train("killed", None)["version"] == whole
    # Older passes are the same training: more of them go on from there.
    more = msgspec.structs.replace(SMALL, epochs=5)
    longer = train("longer", None, more)["version"]
    (tmp_path / "killed").rename(tmp_path / "first")
    assert train("killed", None, more)["version"] == longer


def test_a_training_with_other_records_starts_again_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = [Item(item) for item in ITEMS]
    one = msgspec.structs.replace(SMALL, epochs=1)
    train_teacher(circle(60), items, SPEC, one, tmp_path / "a", keep=tmp_path / "k")
    with caplog.at_level(logging.WARNING):
        again = train_teacher(circle(61), items, SPEC, one, tmp_path / "b", keep=tmp_path / "k")
    assert "other records or settings" in caplog.text
    assert train_teacher(circle(61), items, SPEC, one, tmp_path / "c")["version"] == again["version"]


def test_it_stops_when_held_out_choices_are_ranked_no_better(tmp_path: Path) -> None:
    slow = msgspec.structs.replace(SMALL, epochs=50, patience=2, learning_rate=1e-9)
    told = train_teacher(circle(60), [Item(item) for item in ITEMS], SPEC, slow, tmp_path / "t", keep=tmp_path / "k")
    passes = len((tmp_path / "k" / "epochs.jsonl").read_text().splitlines())
    assert told["epoch"] == passes - 2
    assert passes < 50
    assert torch.get_num_threads() >= 1
