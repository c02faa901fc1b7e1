"""A row that was given back and taken again starts anew, and nothing else notices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from recdistill.bundle import build
from recdistill.config import LossSettings, StudentSettings
from recdistill.errors import CheckpointError, UsageError
from recdistill.features import (
    Catalogue,
    FeatureSpec,
    Field,
    HistorySpec,
    IdSpec,
    Vocabulary,
    VocabularySpec,
    encode_requests,
)
from recdistill.loops.trainers import make_trainer
from recdistill.model import forward
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.train import Trainer, state_of_bundle

N = 12
SPEC = FeatureSpec(
    history=HistorySpec(length=4),
    id=IdSpec(capacity=20, hashed=3),
    item={"genre": Field("category", capacity=6, hashed=2), "title": Field("text", capacity=16, max_values=4)},
    context={"country": Field("category", capacity=5, hashed=0)},
)


def item(number: int, **more: Any) -> Item:
    return Item(f"i{number}", attributes={"genre": f"g{number % 4}", "title": f"word{number % 3}"}, **more)


def batch(number: int, among: list[str]) -> list[Example]:
    random = np.random.default_rng(number)
    made = []
    for row in range(6):
        drawn = [str(name) for name in random.permutation(among)]
        asked = Impression(
            f"r{number}-{row}",
            10**9,
            history=tuple(Event(name, 1 + place) for place, name in enumerate(drawn[5:8])),
            context={"country": f"c{random.integers(3)}"},
            candidates=tuple(Candidate(name) for name in drawn[:5]),
        )
        scores = tuple(random.normal(size=5).tolist())
        made.append(
            Example(Ranking(asked, "t", "1", "logit", scores, (True,) * 5), (1.0, 0.0, 0.0, 0.0, 0.0), "closed")
        )
    return made


# Fewer rows than there are items and values, so that rows are lost all the time.
TIGHT = FeatureSpec(
    history=HistorySpec(length=4),
    id=IdSpec(capacity=6, hashed=3),
    item={"genre": Field("category", capacity=2, hashed=2), "title": Field("text", capacity=16, max_values=4)},
    context={"country": Field("category", capacity=2)},
    vocabulary=VocabularySpec(half_life=30, keep_withdrawn=20),
)


def trainer(items: int = N, *, loss: LossSettings | None = None, spec: FeatureSpec = SPEC, **settings: Any) -> Trainer:
    student = StudentSettings(dim=5, hidden=6, context_dim=3, **settings)
    made = make_trainer(spec, student, loss or LossSettings(), seed=4)
    assert made.apply_items([item(number) for number in range(items)]) == []
    return made


NAMES = [f"i{n}" for n in range(N)]


def bytes_of(made: Trainer) -> dict[str, bytes]:
    tensors, state = made.state()
    return {name: value.tobytes() for name, value in tensors.items()} | {"state": json.dumps(state).encode()}


def again(made: Trainer, **more: Any) -> Trainer:
    """Another trainer, restored from the state of this one as a file would give it."""
    tensors, state = made.state()
    other = trainer(0, **more)
    for value in tensors.values():
        value.flags.writeable = False
    other.restore(tensors, json.loads(json.dumps(state)))
    return other


@pytest.mark.parametrize("followed", [True, False], ids=["seen in between", "at once"])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_row_that_is_taken_again_starts_as_a_row_that_nobody_had(followed: bool, resumed: bool) -> None:
    made, never = trainer(), trainer(0)
    for step in range(8):
        made.learn(made.encode(batch(step, NAMES)))
    row = made.vocabulary.row("id", "i5")
    tensors, _ = made.state()
    assert tensors["adagrad/id"][row].any()
    assert made.vocabulary.release("id", "i5") == row
    if followed:
        tensors, state = made.state()
        assert state["format"] == 2
        assert not tensors["weights/id"][row].any()  # it belongs to nobody
        assert not tensors["adagrad/id"][row].any()
    if resumed:
        made = again(made)
    made.apply_items([Item("new", attributes={"genre": "g1"})])
    never.apply_items([Item("new", attributes={"genre": "g1"})])
    assert made.vocabulary.row("id", "new") == row
    (tensors, state), (first, _) = made.state(), never.state()
    assert state["format"] == 1
    there = never.vocabulary.row("id", "new")
    assert tensors["weights/id"][row].tobytes() == first["weights/id"][there].tobytes()
    assert first["weights/id"][there].any()
    assert tensors["adagrad/id"][row].tobytes() == bytes(tensors["adagrad/id"][row].nbytes)
    # i5 is still in the catalogue, with the row that an unknown id has.
    slot = made.catalogue.slot("i5")
    assert made.catalogue.encoded([slot]).id_rows_N.tolist() == [made.vocabulary.shared_row("id", "i5")]


def test_other_rows_do_not_notice() -> None:
    made, same = trainer(), trainer()
    for one in (made, same):
        for step in range(5):
            one.learn(one.encode(batch(step, NAMES)))
    made.catalogue.release("i5")
    for key, value in (("item.genre", "g3"), ("context.country", "c1")):
        made.vocabulary.release(key, value)
    ours, theirs = made.weights(), same.weights()
    for name, value in theirs.items():
        gone = {
            "id": [same.vocabulary.row("id", "i5")],
            "item.genre": [same.vocabulary.row("item.genre", "g3")],
            "context.country": [same.vocabulary.row("context.country", "c1")],
        }.get(name, [])
        kept = np.setdiff1d(np.arange(len(value)), gone)
        assert np.array_equal(ours[name][kept], value[kept]), name
        assert not ours[name][gone].any()
        assert not gone or value[gone].any()


def test_an_item_in_a_slot_that_was_given_back_learns_as_one_at_the_end() -> None:
    """Against a student that keeps the item, withdrawn, and puts the new one behind all others."""
    still = {"id_dropout": 0.0, "dropout": 0.0}
    ours, theirs = trainer(**still), trainer(**still)
    for step in range(6):
        for made in (ours, theirs):
            made.learn(made.encode(batch(step, NAMES)))
    gone, new = ours.catalogue.slot("i5"), Item("new", attributes={"genre": "g2", "title": "word1 x"})
    ours.catalogue.release("i5")
    theirs.apply_items([item(5, withdrawn=True, version=1)])
    for made in (ours, theirs):
        made.apply_items([new])
    assert (ours.catalogue.slot("new"), theirs.catalogue.slot("new")) == (gone, N)
    names = [name for name in NAMES if name != "i5"] + ["new"]
    for step in range(6, 30):
        figures = [made.learn(made.encode(batch(step, names)))["loss"] for made in (ours, theirs)]
        assert figures[0] == pytest.approx(figures[1], rel=1e-4)
    asked = [one.ranking.impression for one in batch(99, names)]
    scores = [made.score(asked, made.catalogue.slots(names)) for made in (ours, theirs)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert np.abs(scores[0]).max() > 0.05


@pytest.mark.slow
def test_a_run_with_holes_that_was_stopped_goes_on_with_the_same_bytes() -> None:
    more: dict[str, Any] = {"loss": LossSettings(previous=0.5, previous_every=3), "id_dropout": 0.5}

    def life(made: Trainer, stop: int) -> Trainer:
        names = list(NAMES)
        for step in range(12):
            if step == stop:
                made = again(made, **more)
            if step in (4, 5, 9):
                made.catalogue.release(names.pop(step % 3))
            if step == 5:
                made.vocabulary.release("item.genre", "g1")
                made.vocabulary.release("context.country", "c0")
            if step in (6, 10):
                made.apply_items([Item(f"new{step}", attributes={"genre": f"fresh{step}"})])
                names.append(f"new{step}")
            made.learn(made.encode(batch(step, names)))
        return made

    whole = bytes_of(life(trainer(**more), 99))
    assert b'"format": 2' in whole["state"]
    for stop in (4, 5, 6, 7, 10, 11):
        assert bytes_of(life(trainer(**more), stop)) == whole, stop


def test_the_copy_of_the_earlier_student_forgets_what_was_given_back() -> None:
    made = trainer(loss=LossSettings(previous=0.5, previous_every=4), id_dropout=0.0)
    for step in range(4):
        made.learn(made.encode(batch(step, NAMES)))
    assert made.previous is not None
    lists = made.encode(batch(50, NAMES)).lists
    _, known_BL = made.previous.scores(SPEC, made.catalogue, lists)
    assert known_BL.all()
    slot, row = made.catalogue.slot("i5"), made.vocabulary.row("id", "i5")
    made.catalogue.release("i5")
    made.apply_items([Item("new", attributes={"genre": "g0", "title": "word2"})])
    assert (made.catalogue.slot("new"), made.vocabulary.row("id", "new")) == (slot, row)
    names = [name for name in NAMES if name != "i5"]
    lists = made.encode(batch(50, [*names, "new"])).lists
    _, known_BL = made.previous.scores(SPEC, made.catalogue, lists)
    assert (lists.candidate_slots_BL == slot).any()
    assert np.array_equal(known_BL, lists.candidate_slots_BL != slot)
    copied = made.previous.tensors(made.catalogue)
    assert not copied["previous/id"][row].any()
    assert made.previous.unknown == [slot]
    _, state = made.state()
    assert (state["format"], state["previous_unknown"]) == (2, [slot])  # no hole now, but the copy has one
    resumed = again(made, loss=LossSettings(previous=0.5, previous_every=4), id_dropout=0.0)
    assert bytes_of(resumed) == bytes_of(made)


def tight_life(made: Trainer, stop: int = 99, steps: int = 16, **more: Any) -> tuple[Trainer, int]:
    """Learns while items come and go and the countries change. Also says how many rows and slots were lost."""
    names = list(NAMES)
    lost = 0
    for step in range(steps):
        if step == stop:
            made = again(made, **more)
        if step % 3 == 2:
            made.apply_items([Item(names.pop(step % 5), 1, withdrawn=True)])
            made.apply_items([Item(f"new{step}", attributes={"genre": f"g{step}", "title": "word1"})])
            names.append(f"new{step}")
        # The names at the end of the list come up more often from step to step.
        among = names[step // 4 :]
        examples = batch(step, among)
        for row, one in enumerate(examples):
            one.ranking.impression.context["country"] = f"c{(step // 4 + row % 2) % 5}"
        before = made.vocabulary.released, len(made.catalogue.slot_of)
        made.learn(made.encode(examples))
        lost += made.vocabulary.released - before[0] + before[1] - len(made.catalogue.slot_of)
    return made, lost


@pytest.mark.slow
def test_a_run_that_loses_rows_and_was_stopped_goes_on_with_the_same_bytes() -> None:
    more: dict[str, Any] = {"loss": LossSettings(previous=0.5, previous_every=3), "id_dropout": 0.5, "spec": TIGHT}
    made, lost = tight_life(trainer(**more))
    assert lost > 12
    whole = bytes_of(made)
    for stop in (1, 4, 6, 9, 14):
        assert bytes_of(tight_life(trainer(**more), stop, **more)[0]) == whole, stop


def test_numpy_and_torch_agree_after_rows_were_lost_and_a_loser_is_as_one_that_never_had_a_row() -> None:
    made, _ = tight_life(trainer(spec=TIGHT))
    catalogue, own = made.catalogue, made.vocabulary.own("id")
    vectors_NW = forward.items(made.weights(), TIGHT, catalogue.encoded())
    asked = [one.ranking.impression for one in batch(77, [name for name in catalogue.ids if name])]
    requests = encode_requests(TIGHT, made.vocabulary, catalogue, asked)
    scores_BN = forward.scores(forward.users(made.weights(), TIGHT, vectors_NW, requests), vectors_NW)
    assert made.score(asked) == pytest.approx(scores_BN, abs=1e-5)
    without = [name for name in catalogue.ids if name and name not in own.row_of]
    assert without
    for name in without:
        never = Catalogue(TIGHT, Vocabulary.restore(TIGHT, made.vocabulary.snapshot()))
        never.apply(catalogue.item(catalogue.slot(name)), admit=False)
        vector = forward.items(made.weights(), TIGHT, never.encoded())[0]
        assert vector.tolist() == vectors_NW[catalogue.slot(name)].tolist()


def test_a_row_that_comes_late_starts_from_what_had_stood_for_it() -> None:
    spec = msgspec.structs.replace(TIGHT, id=IdSpec(capacity=12, hashed=3, min_seen=12))
    more: dict[str, Any] = {"spec": spec, "loss": LossSettings(previous=0.5, previous_every=1), "id_dropout": 0.0}
    made = trainer(**more)
    assert made.vocabulary.admitted("id") == []
    came = False
    for step in range(6):
        encoded = made.encode(batch(step, NAMES))
        before = set(made.vocabulary.admitted("id"))
        made.learn(encoded)
        tensors, _ = made.state()
        for name in set(made.vocabulary.admitted("id")) - before:
            row, shared = made.vocabulary.row("id", name), made.vocabulary.shared_row("id", name)
            assert tensors["weights/id"][row].tolist() == tensors["weights/id"][shared].tolist()
            assert tensors["weights/id"][row].any()
            assert tensors["previous/id"][row].tolist() == tensors["previous/id"][shared].tolist()
            assert not tensors["adagrad/id"][row].any()
            came = came or step > 0
    assert came


@pytest.mark.parametrize("capacity", [3, 6, 30])
def test_a_bundle_starts_a_student_with_more_rows_or_fewer(tmp_path: Path, capacity: int) -> None:
    made, _ = tight_life(trainer(spec=TIGHT))
    bundle = build.export(
        made.weights(),
        TIGHT,
        made.vocabulary,
        made.catalogue,
        tmp_path / "bundle",
        provenance={},
        popular=[],
        base_position=0,
    )
    spec = msgspec.structs.replace(
        TIGHT, id=IdSpec(capacity=capacity, hashed=3, min_seen=2), vocabulary=VocabularySpec(evict=False)
    )
    new = trainer(0, spec=spec)
    tensors, said = state_of_bundle(bundle, new, 7)
    new.restore(tensors, json.loads(json.dumps(said)))
    kept = made.vocabulary.snapshot()["id"][:capacity]
    assert new.vocabulary.snapshot()["id"] == kept
    names = [name for name in kept if name is not None and made.catalogue.is_live(made.catalogue.slot(name))]
    assert names
    rows = [[one.vocabulary.row("id", name) for name in names] for one in (made, new)]
    assert rows[0] == rows[1]
    assert new.weights()["id"][rows[1]].tolist() == made.weights()["id"][rows[0]].tolist()
    other = msgspec.structs.replace(spec, id=IdSpec(capacity=capacity, hashed=4))
    with pytest.raises(CheckpointError, match="Only the capacity of ids and categories, min_seen and"):
        state_of_bundle(bundle, trainer(0, spec=other), 7)
    before = len(new.vocabulary.own("id"))
    new.learn(new.encode(batch(3, [item.id for item in bundle.items])))  # and it goes on
    assert len(new.vocabulary.own("id")) == before + (capacity == 30) * (len(bundle.items) - len(names))


def test_a_batch_that_names_rows_of_others_is_refused() -> None:
    made = trainer(spec=TIGHT)
    old = made.encode(batch(0, NAMES))
    made, lost = tight_life(made)
    assert lost
    with pytest.raises(UsageError, match="rows were given back since this batch was encoded"):
        made.learn(old)


def test_a_later_pass_moves_no_row() -> None:
    made = trainer(spec=TIGHT)
    batches = [batch(step, NAMES) for step in range(4)]
    for one in batches:
        made.learn(made.encode(one))
    before = made.vocabulary.snapshot(), made.tenure.plain()
    for one in batches * 3:
        made.learn(made.encode(one).once_more())
    assert (made.vocabulary.snapshot(), made.tenure.plain()) == before


def test_a_state_of_another_format_is_refused() -> None:
    tensors, state = trainer().state()
    with pytest.raises(CheckpointError, match="format is 3, these settings say 1"):
        trainer(0).restore(tensors, state | {"format": 3})
