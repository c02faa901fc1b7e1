"""The previous student: the copy scores as the student did, is bounded, resumes exactly, and keeps what is not seen."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recdistill.config import LossSettings, StudentSettings, WatchSettings
from recdistill.data.simulated import SimulatorSettings
from recdistill.errors import CheckpointError
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.loops.trainers import make_trainer
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.train import Batch, Trainer
from recdistill.train.previous import PREFIX
from references.halves import halves, ndcg_of

SPEC = FeatureSpec(
    history=HistorySpec(length=5, actions=("click",)),
    id=IdSpec(capacity=60, hashed=4),
    item={
        "genre": Field("category", capacity=6, hashed=2, max_values=2),
        "title": Field("text", capacity=16, max_values=4),
        "price": Field("number", mean=5.0, std=3.0),
    },
    context={"country": Field("category", capacity=8, hashed=0)},
)
STUDENT = StudentSettings(dim=6, hidden=8, context_dim=4)
ITEMS = [
    Item(f"i{n}", attributes={"genre": [f"g{n % 9}"], "title": f"word{n % 4} x{n}", "price": float(n % 7)})
    for n in range(40)
]


def example(number: int, items: int = 40) -> Example:
    random = np.random.default_rng(number)
    drawn = random.permutation(items)
    history = tuple(Event(f"i{i}", t + 1, "click") for t, i in enumerate(drawn[: number % 5]))
    candidates = tuple(Candidate(f"i{i}") for i in [*drawn[6:13], 99])  # the last one nobody knows
    asked = Impression(f"r{number}", 10**9, None, history, {"country": f"c{number % 7}"}, candidates)
    scores = tuple(random.normal(size=8).tolist())
    return Example(Ranking(asked, "t", "1", "logit", scores, (True,) * 8), (1.0,) + (0.0,) * 7, "closed")


def trainer(items: int = 40, **loss: float) -> Trainer:
    made = make_trainer(SPEC, STUDENT, LossSettings(**loss), seed=1)  # type: ignore[arg-type]
    assert made.apply_items(ITEMS[:items]) == []
    return made


def test_the_copy_scores_as_the_student_did() -> None:
    made = trainer(30, previous=0.5, previous_every=5)
    for step in range(5):
        made.learn(made.encode([example(step * 8 + i, 30) for i in range(8)]))
    then = [example(1000 + i, 30) for i in range(16)]
    expected = made.score([one.ranking.impression for one in then], np.arange(30))
    made.apply_items(ITEMS[30:])
    for step in range(4):  # the student moves on, the copy does not; new items and countries come
        figures = made.learn(made.encode([example(2000 + step * 8 + i) for i in range(8)]))
        assert figures["previous"] > 0
    assert made.previous is not None
    lists = made.encode(then).lists
    scores, known = made.previous.scores(made.spec, made.catalogue, lists)
    for row, one in enumerate(then):
        slots = made.catalogue.slots([c.item for c in one.ranking.impression.candidates[:-1]])
        assert scores[row, :7] == pytest.approx(expected[row, slots], abs=1e-5)
    assert known[:, :7].all()
    assert not known[:, 7].any()
    lists = made.encode([example(3000 + i) for i in range(16)]).lists
    _, known = made.previous.scores(made.spec, made.catalogue, lists)
    assert (known == (lists.where_BL & (lists.candidate_slots_BL < 30))).all()
    assert 0 < known.mean() < 0.875


def test_without_weight_nothing_is_kept_and_nothing_changes() -> None:
    plain, kept = trainer(), trainer(previous=1e-30, previous_every=2)
    for step in range(6):
        batch = [example(step * 8 + i) for i in range(8)]
        plain.learn(plain.encode(batch))
        kept.learn(kept.encode(batch))
    assert plain.previous is None
    for key, value in plain.weights().items():
        assert kept.weights()[key] == pytest.approx(value, abs=1e-6), key
    assert sum(key.startswith(PREFIX) for key in kept.state()[0]) == len(plain.weights())
    assert not any(key.startswith(PREFIX) for key in plain.state()[0])


@pytest.mark.parametrize("at", [1, 4, 7])
def test_stopped_and_restored_ends_with_the_same_bytes(at: int) -> None:
    loss = {"previous": 1.0, "previous_every": 3}
    whole, part = trainer(30, **loss), trainer(30, **loss)
    for step in range(10):
        if step == at:
            tensors, state = part.state()
            part = make_trainer(SPEC, STUDENT, LossSettings(**loss), seed=1)  # type: ignore[arg-type]
            part.restore(tensors, json.loads(json.dumps(state)))
        for one in (whole, part):
            if step == 5:
                one.apply_items(ITEMS[30:])
            one.learn(one.encode([example(step * 8 + i, 30 if step < 5 else 40) for i in range(8)]))
    ours, theirs = whole.state(), part.state()
    assert ours[1] == theirs[1]
    assert {key: value.tobytes() for key, value in ours[0].items()} == {
        key: value.tobytes() for key, value in theirs[0].items()
    }


def test_a_damaged_copy_is_refused() -> None:
    loss = {"previous": 1.0, "previous_every": 1}
    made = trainer(**loss)
    made.learn(made.encode([example(i) for i in range(8)]))
    tensors, state = made.state()
    for name in [name for name in tensors if name.startswith(PREFIX)]:
        with pytest.raises(CheckpointError):
            trainer(**loss).restore({k: v for k, v in tensors.items() if k != name}, state)
        with pytest.raises(CheckpointError):
            trainer(**loss).restore(tensors | {name: tensors[name].astype(np.float64)}, state)
    with pytest.raises(CheckpointError):
        trainer(**loss).restore({k: v for k, v in tensors.items() if not k.startswith(PREFIX)}, state)
    with pytest.raises(CheckpointError):
        trainer(**loss).restore(tensors, {k: v for k, v in state.items() if k != "previous"})


class Shift:
    """A world whose lists are first of those who like one half of the topics, then of those who like the other."""

    def __init__(self, seed: int) -> None:
        world = SimulatorSettings(items=500, users=1200, impressions=6000, days=60, shortest=15, longest=30, history=20)
        random = np.random.default_rng(seed)
        self.spec, self.items, self.first, self.second = halves(world, seed, random)
        for part in (self.first, self.second):
            random.shuffle(part)  # type: ignore[arg-type]

    def train(self, parts: list[tuple[list[Example], str]], loss: LossSettings) -> Trainer:
        made = make_trainer(self.spec, StudentSettings(dim=16, hidden=32), loss, seed=0, watch=WatchSettings())
        made.apply_items(self.items)
        for part, teacher in parts:
            for start in range(0, len(part), 128):
                batch = part[start : start + 128]
                lists = made.encode(batch).lists
                names = [teacher] * len(batch)
                made.learn(Batch.of(lists, ["logit"] * len(batch), names, "standard"))
        return made


@pytest.mark.slow
def test_it_forgets_less_when_tastes_shift() -> None:
    """Tastes move from one half of the topics to the other; what was learnt of the first half is asked for again."""
    here = Shift(0)
    (first, held), (second, held_2) = ((part[400:], part[:400]) for part in (here.first, here.second))
    stream = [(first, "t@1"), (second, "t@1")]
    before = ndcg_of(here.train(stream[:1], LossSettings()), held)
    plain = here.train(stream, LossSettings())
    kept = here.train(stream, LossSettings(previous=1.0, previous_every=len(first) // 128))
    lost, saved = before - ndcg_of(plain, held), ndcg_of(kept, held) - ndcg_of(plain, held)
    assert lost > 0.02
    assert saved > 0.25 * lost
    assert ndcg_of(kept, held_2) > ndcg_of(plain, held_2) - 0.5 * saved  # and it costs less than it saves


@pytest.mark.slow
def test_a_new_teacher_finds_what_the_one_before_it_has_taught() -> None:
    """Teachers one after another: nothing to do. The student that knew the first is ahead of one that starts anew."""
    here = Shift(1)
    lists, held = here.first[400:1200], here.first[:400]
    more = here.first[1200:]
    warm = here.train([(more, "t@1"), (lists, "t@2")], LossSettings())
    cold = here.train([(lists, "t@2")], LossSettings())
    assert ndcg_of(warm, held) > ndcg_of(cold, held) + 0.01
