"""The replay, the average and the counts: stopped and restored the same bytes, and what was given back is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recdistill import checkpoint
from recdistill.config import LossSettings, StudentSettings, WatchSettings
from recdistill.errors import CheckpointError
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec, VocabularySpec
from recdistill.loops.trainers import make_trainer
from recdistill.records import Candidate, Event, Example, Impression, Item, LabelState, Ranking
from recdistill.train import Batch, Trainer

SPEC = FeatureSpec(
    history=HistorySpec(length=4, actions=("view",)),
    id=IdSpec(capacity=40, hashed=2),
    context={"country": Field("category", capacity=8, max_values=1)},
)
STUDENT = StudentSettings(dim=4, hidden=8, context_dim=2, warmup_lists=40, forget_lists=100, average_lists=60)
LOSS = LossSettings(replay_lists=24, full_softmax_items=0, sampled_items=6)
BATCH = 8


def trainer(loss: LossSettings = LOSS, student: StudentSettings = STUDENT, spec: FeatureSpec = SPEC) -> Trainer:
    return make_trainer(spec, student, loss, seed=3, watch=WatchSettings(), batch=BATCH)


def example(number: int, state: LabelState | None = None) -> Example:
    random = np.random.default_rng(number)
    shown = random.permutation(20)[:6]
    asked = Impression(
        f"r{number}",
        10**12,
        history=tuple(Event(f"i{i}", 10**11 + t, "view") for t, i in enumerate(random.integers(0, 20, 3).tolist())),
        context={"country": f"c{random.integers(5)}"},
        candidates=tuple(Candidate(f"i{i}") for i in shown.tolist()),
    )
    scores = tuple((shown / 4 + random.normal(size=6)).tolist())
    labels = tuple(float(place == number % 6) for place in range(6))
    states: list[LabelState] = ["none", "labels", "closed"]
    return Example(Ranking(asked, "t", "1", "unbounded", scores, (True,) * 6), labels, state or states[number % 3])


BATCHES = [[example(BATCH * step + i) for i in range(BATCH)] for step in range(40)]
ITEMS = [Item(f"i{i}") for i in range(20)]


def bytes_of(made: Trainer) -> dict[str, bytes]:
    tensors, state = made.state()
    return {name: value.tobytes() for name, value in tensors.items()} | {"state": json.dumps(state).encode()}


@pytest.mark.slow
@pytest.mark.many
@pytest.mark.parametrize("at", [0, 1, 17, 33])
def test_stopped_and_restored_ends_with_the_same_bytes(tmp_path: Path, at: int) -> None:
    whole, part = trainer(), trainer()
    for made in (whole, part):
        made.apply_items(ITEMS[:12])
    for step, batch in enumerate(BATCHES):
        if step == at:
            checkpoint.save(tmp_path, part.step, *part.state())
            found = checkpoint.latest(tmp_path)
            assert found is not None
            part = trainer()
            part.restore(found.tensors, found.state)
        for made in (whole, part):
            if step == 5:
                made.apply_items(ITEMS[12:])
            made.learn(made.encode(batch))
    assert bytes_of(whole) == bytes_of(part)
    names = set(bytes_of(whole))
    assert {
        "average/id",
        "average.at/id",
        "popular",
        "replay/0/lists.where_BL",
        "replay/0/context.country",
    } <= names


@pytest.mark.slow
def test_what_goes_out_is_the_average() -> None:
    """The weights that are exported are the running mean of the student's, by hand, and the scores come from them."""
    made = trainer()
    made.apply_items(ITEMS)
    by_hand = {name: value.copy() for name, value in made.student.weights({}).items()}
    for taken, batch in enumerate(BATCHES, start=1):
        made.learn(made.encode(batch))
        keep = min(0.5 ** (1 / 8), (1 + taken) / (10 + taken))
        for name, value in made.student.weights({}).items():
            by_hand[name] = keep * by_hand[name] + (1 - keep) * value
    out = made.weights()
    assert out["id"] == pytest.approx(by_hand["id"][: len(out["id"])], abs=1e-6)
    assert out["user.w1"] == pytest.approx(by_hand["user.w1"], abs=1e-6)
    assert out["user.w1"] != pytest.approx(made.student.weights({})["user.w1"], abs=1e-4)
    judge = trainer(student=StudentSettings(dim=4, hidden=8, context_dim=2))
    tensors, state = made.state()
    plain = {name: value for name, value in tensors.items() if not name.startswith("weights/")}
    judge.restore(plain | {f"weights/{name}": value for name, value in out.items()}, state)
    asked = [BATCHES[0][0].ranking.impression]
    assert made.score(asked) == pytest.approx(judge.score(asked), abs=1e-5)


@pytest.mark.slow
def test_a_second_look_teaches_scores_and_no_labels() -> None:
    """With a replay the student knows more of the teacher after the same examples. Labels alone have none."""
    plain, second = (trainer(LossSettings(replay_lists=lists)) for lists in (0, 64))
    for made in (plain, second):
        made.apply_items(ITEMS)
        for batch in BATCHES:
            made.learn(made.encode(batch))
    held = [example(number, "none") for number in range(1000, 1064)]

    def loss(made: Trainer) -> float:
        return made.learn(made.encode(held))["soft"]

    assert loss(second) < loss(plain)
    one, other = (trainer(LossSettings(replay_lists=lists)) for lists in (0, 64))
    for made in (one, other):
        made.apply_items(ITEMS)
        for step in range(6):
            made.learn(made.encode([example(8 * step + i, "labels") for i in range(8)]))
    assert bytes_of(one)["weights/id"] == bytes_of(other)["weights/id"]


def test_it_keeps_no_more_than_it_may() -> None:
    made = trainer()
    made.apply_items(ITEMS)
    assert made.replay is not None
    for batch in BATCHES:
        made.learn(made.encode(batch))
        assert len(made.replay) <= 24
    assert len(made.replay) > 16


def test_a_checkpoint_without_them_opens_and_a_damaged_one_does_not() -> None:
    old = trainer(LossSettings(), StudentSettings(dim=4, hidden=8, context_dim=2))
    old.apply_items(ITEMS)
    old.learn(old.encode(BATCHES[0]))
    tensors, state = old.state()
    gone = {name: value for name, value in tensors.items() if name != "popular"}
    made = trainer()
    made.restore(gone, state)
    assert made.weights()["id"] == pytest.approx(old.weights()["id"])
    made.learn(made.encode(BATCHES[1]))
    tensors, state = made.state()
    for damaged in _damaged(tensors):
        with pytest.raises(CheckpointError, match=r"checkpoint: .*(whole|counts|not of this)"):
            trainer().restore(damaged, state)


def _damaged(tensors: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for lost in ("average/id", "replay/0/logits", "replay/0/lists.where_BL"):
        yield {name: value for name, value in tensors.items() if name != lost}
    yield tensors | {"popular": np.zeros(3)}
    yield tensors | {"average/id": tensors["average/id"].astype(np.float64)}


def test_what_was_given_back_takes_no_part() -> None:
    made = trainer()
    made.apply_items(ITEMS)
    for batch in BATCHES[:6]:
        made.learn(made.encode(batch))
    assert made.replay is not None
    slot = made.catalogue.slot_of["i3"]
    made.catalogue.release("i3")
    made.replay.follow(made.catalogue)
    tensors, _ = made.replay.state()
    candidates = [v for name, v in tensors.items() if name.endswith("candidate_slots_BL")]
    histories = [v for name, v in tensors.items() if name.endswith("history_slots_BH")]
    assert candidates
    assert not any((v == slot).any() for v in [*candidates, *histories])
    made.learn(made.encode(BATCHES[7]))


def test_what_a_checkpoint_has_taken_stays_as_it_was_when_something_is_given_back() -> None:
    """A thread writes these arrays while the student learns on."""
    made = trainer()
    made.apply_items(ITEMS)
    for batch in BATCHES[:6]:
        made.learn(made.encode(batch))
    found, _ = made.state(whole=False)
    made.settle_copies()
    wanted = {name: value.copy() for name, value in found.items()}
    named = [value for name, value in wanted.items() if name.endswith("context.country")]
    country = made.vocabulary.admitted("context.country")[0]
    row = made.vocabulary.row("context.country", country)
    assert any((value == row).any() for value in named)
    made.catalogue.release("i3")
    made.vocabulary.release("context.country", country)
    made.learn(made.encode(BATCHES[7]))
    assert made.replay is not None
    left = [value for name, value in made.replay.state()[0].items() if name.endswith("candidate_slots_BL")]
    assert len(left) > 1
    for name, value in wanted.items():
        assert np.array_equal(found[name], value), name


TIGHT = FeatureSpec(
    history=HistorySpec(length=4, actions=("view",)),
    id=IdSpec(capacity=8, hashed=2),
    context={"country": Field("category", capacity=2, max_values=1)},
    vocabulary=VocabularySpec(half_life=64, keep_withdrawn=40),
)
"""20 items want 8 rows, and 5 countries want 2."""


def tight_batch(made: Trainer, step: int) -> Batch:
    """Items go and come back, and lists name more values than there are rows."""
    if step in (4, 8, 12):
        made.apply_items([Item(f"i{i}", step, withdrawn=True) for i in range(step - 4, step)])
    if step in (20, 24):
        made.apply_items([Item(f"i{i}", step) for i in range(step - 20, step - 16)])
    return made.encode(BATCHES[step])


@pytest.mark.slow
def test_rows_that_change_hands_take_nothing_of_their_last_owner_along() -> None:
    made = trainer(spec=TIGHT)
    made.apply_items(ITEMS)
    assert made.average is not None
    assert made.replay is not None
    changed = {"id": 0, "context.country": 0}
    for step in range(40):
        encoded = tight_batch(made, step)
        marks = {key: made.vocabulary.mark(key) for key in changed}
        made.learn(encoded)  # afterwards rows are taken and given by what it has used
        for key, mark in marks.items():
            fresh, evicted, _ = made.vocabulary.changes(key, mark)
            rows = sorted({*fresh, *evicted})
            changed[key] += len(evicted)
            # What an average of the last owner would have been is gone: it starts as the student's row starts.
            assert made.average.values[key][rows].tolist() == made.student.tables[key][rows].tolist()
            gone = set(evicted) - set(fresh)
            assert not made.average.values[key][sorted(gone)].any()
        made.replay.follow(made.catalogue)
        tensors, _ = made.replay.state()
        countries = [value for name, value in tensors.items() if name.endswith("context.country")]
        own = set(range(made.vocabulary.own("context.country").first))
        own |= {made.vocabulary.row("context.country", name) for name in made.vocabulary.admitted("context.country")}
        assert {int(one) for value in countries for one in np.unique(value)} <= own | {-1}
    assert min(changed.values()) > 3, changed


@pytest.mark.slow
@pytest.mark.parametrize("at", [7, 22, 31])
def test_stopped_and_restored_while_rows_change_hands_it_ends_with_the_same_bytes(at: int) -> None:
    whole, part = trainer(spec=TIGHT), trainer(spec=TIGHT)
    for made in (whole, part):
        made.apply_items(ITEMS)
    for step in range(36):
        if step == at:
            tensors, state = part.state()
            part = trainer(spec=TIGHT)
            part.restore({name: value.copy() for name, value in tensors.items()}, json.loads(json.dumps(state)))
        for made in (whole, part):
            made.learn(tight_batch(made, step))
    assert bytes_of(whole) == bytes_of(part)
