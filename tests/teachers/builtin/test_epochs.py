"""The passes of a transformer: what they learn, and that a killed training ends with the same bytes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from support.circle import ITEMS, SPEC, asked, circle

from recdistill.errors import TeacherError
from recdistill.features import Catalogue, Field, Vocabulary
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.teachers.builtin import Training
from recdistill.teachers.builtin.epochs import CausalTraining, there
from recdistill.teachers.builtin.sequences import timelines
from recdistill.teachers.builtin.teacher import BuiltinTeacher, train_teacher
from recdistill.teachers.builtin.training import Times

SMALL = Training(
    kind="attention", dim=16, layers=1, heads=2, dropout=0.1, epochs=4, batch=8, learning_rate=5e-3, held_out=20
)


@pytest.mark.slow
def test_it_learns_what_follows_what(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SMALL, epochs=12, batch=16)
    told = train_teacher(
        circle(120), [Item(item) for item in ITEMS], SPEC, settings, tmp_path / "t", keep=tmp_path / "k"
    )
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


def test_an_item_that_somebody_had_before_its_record_was_always_there() -> None:
    catalogue = Catalogue(SPEC, Vocabulary(SPEC))
    for item in ITEMS:
        catalogue.apply(Item(item), admit=True)
    history = (Event("i0", 5), Event("i1", 50), Event("i2", 0))
    one = Impression("x", 90, history=history, candidates=(Candidate("i3"),))
    lines = timelines(SPEC, catalogue, [Example(Ranking(one, "", "", "rank", (0.0,), (False,)), (1.0,))])
    until = np.full(len(ITEMS), 99)
    found = there(Times(np.full(len(ITEMS), 20), until), lines)
    assert found.from_us_N.tolist() == [0, *[20] * (len(ITEMS) - 1)], "i1 came later, and the time of i2 is not known"
    assert found.until_us_N is until


class Killed(Exception):
    """As a kill: nothing is written after it."""


@pytest.mark.slow
def test_a_training_that_is_killed_anywhere_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def train(name: str, most: int | None, settings: Training = SMALL) -> Any:
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


def test_a_pass_that_diverged_is_not_the_best_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learns = CausalTraining._pass

    def diverges(training: CausalTraining, progress: Any) -> float:
        loss = learns(training, progress)
        if training.epoch == 1:
            for weights in (*training.parameters.values(), *training.average.values()):
                weights.data.fill_(torch.nan)
        return loss

    monkeypatch.setattr(CausalTraining, "_pass", diverges)
    settings = msgspec.structs.replace(SMALL, epochs=2)
    told = train_teacher(circle(30), [Item(item) for item in ITEMS], SPEC, settings, tmp_path / "t")
    assert told["held_ndcg@10"] <= 1
    teacher = BuiltinTeacher.load(tmp_path / "t")
    assert np.isfinite(teacher.catalogue_scores([asked("x", [0, 1])])).all()


def test_a_catalogue_with_other_attributes_is_another_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = msgspec.structs.replace(SPEC, item={"kind": Field("category", capacity=8, hashed=0)})
    one = msgspec.structs.replace(SMALL, epochs=1)
    before = [Item(item, attributes={"kind": "odd"}) for item in ITEMS]
    after = [Item(item, attributes={"kind": f"kind {n % 3}"}) for n, item in enumerate(ITEMS)]
    train_teacher(circle(60), before, spec, one, tmp_path / "a", keep=tmp_path / "k")
    with caplog.at_level(logging.WARNING):
        again = train_teacher(circle(60), after, spec, one, tmp_path / "b", keep=tmp_path / "k")
    assert "other records or settings" in caplog.text
    assert train_teacher(circle(60), after, spec, one, tmp_path / "c")["version"] == again["version"]


def test_a_later_pass_that_diverged_is_kept_as_a_row_and_the_best_one_is_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learns = CausalTraining._pass

    def diverges(training: CausalTraining, progress: Any) -> float:
        loss = learns(training, progress)
        if training.epoch == 0:
            return loss
        for weights in (*training.parameters.values(), *training.average.values()):
            weights.data.fill_(torch.nan)
        return float("nan")

    monkeypatch.setattr(CausalTraining, "_pass", diverges)
    settings = msgspec.structs.replace(SMALL, epochs=2)
    items = [Item(item) for item in ITEMS]
    told = train_teacher(circle(60), items, SPEC, settings, tmp_path / "t", keep=tmp_path / "k")
    assert told["epoch"] == 1
    rows = [msgspec.json.decode(row) for row in (tmp_path / "k" / "epochs.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row["loss"] is None) for row in rows] == [(1, False), (2, True)]
    BuiltinTeacher.load(tmp_path / "t")


@pytest.mark.parametrize("kind", ["attention", "towers"])
def test_a_training_that_diverged_makes_no_teacher_and_says_what_to_lower(tmp_path: Path, kind: Any) -> None:
    settings = msgspec.structs.replace(SMALL, kind=kind, epochs=1, learning_rate=1e20, pooled_dim=0)
    with pytest.raises(TeacherError, match="lower teacher_training.learning_rate"):
        train_teacher(circle(60), [Item(item) for item in ITEMS], SPEC, settings, tmp_path / "t", keep=tmp_path / "k")
    assert not (tmp_path / "t").exists()
