"""The head for the teacher's scores: by hand, in the checkpoint, in no bundle, and off unless it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recdistill.config import LossSettings, StudentSettings
from recdistill.errors import CheckpointError
from recdistill.features import FeatureSpec, HistorySpec, IdSpec
from recdistill.loops.trainers import make_trainer
from recdistill.records import Candidate, Event, Example, Impression, Item, LabelState, Ranking
from recdistill.train import Trainer
from recdistill.train.answers import vectors_of
from recdistill.train.head import Head
from recdistill.train.student import Items

SPEC = FeatureSpec(history=HistorySpec(length=3, actions=("view",)), id=IdSpec(capacity=20, hashed=1))
STUDENT = StudentSettings(dim=3, hidden=4, context_dim=2, id_dropout=0.0, dropout=0.0)
WITH = LossSettings(soft_head=True, replay_lists=8)


def trainer(loss: LossSettings = WITH) -> Trainer:
    made = make_trainer(SPEC, STUDENT, loss, seed=1)
    made.apply_items([Item(f"i{number}") for number in range(10)])
    return made


def example(number: int, state: LabelState) -> Example:
    random = np.random.default_rng(number)
    shown = random.permutation(10)[:4]
    history = tuple(Event(f"i{i}", 10**11 + i, "view") for i in random.integers(0, 10, 2).tolist())
    asked = Impression(f"r{number}", 10**12, history=history, candidates=tuple(Candidate(f"i{i}") for i in shown))
    scores = tuple(random.normal(size=4).tolist())
    labels = (1.0, 0.0, 0.0, 0.0) if state == "labels" else (0.0,) * 4
    return Example(Ranking(asked, "t", "1", "logit", scores, (True,) * 4), labels, state)


def learn(made: Trainer, steps: int, state: LabelState = "none") -> None:
    for step in range(steps):
        made.learn(made.encode([example(4 * step + place, state) for place in range(4)]))


def test_its_scores_are_those_of_its_formula() -> None:
    head = Head(dim=2, rate=0.1)
    head.restore(
        {"head/turn": np.array([[1.0, 0.0], [2.0, -1.0]], np.float32), "head/level": np.array([3.0], np.float32)}
    )
    output_UW = torch.tensor([[1.0, 2.0, 0.5, 9.0], [0.0, -1.0, 0.25, 9.0]])
    items = Items(output_UW, output_UW[:, :2], output_UW[:, 2])
    user_BD = torch.tensor([[3.0, 1.0]])
    # u · turn is [3 · 1 + 1 · 2, −1 · 1] = [5, −1], so u + u · turn is [8, 0].
    assert head.scores(user_BD, items, np.array([[0, 1]])).tolist() == [[8.0 + 3 * 0.5, 0.0 + 3 * 0.25]]


def test_the_loss_of_the_scores_is_taken_on_the_head_and_that_of_labels_on_the_served_score() -> None:
    made = trainer()
    assert made.head is not None
    learn(made, 3)
    learn(made, 3, "labels")
    turn_DD, level = np.array([[0.5, 1.0, 0.0], [0.0, -2.0, 0.0], [1.0, 0.0, 1.0]], np.float32), np.float32(0.5)
    made.head.restore({"head/turn": turn_DD, "head/level": np.array([level])})
    lists = [example(90 + place, "closed") for place in range(4)]
    lists = [Example(one.ranking, (0.0, 1.0, 0.0, 0.0), "closed") for one in lists]
    asked = [one.ranking.impression for one in lists]
    user_BD, slots = (
        vectors_of(made, asked)[0],
        [made.catalogue.slots([c.item for c in one.candidates]) for one in asked],
    )
    table = made.weights()["id"][made.catalogue.id_rows_N]
    head, served = [], []
    for u_D, slots_L, one in zip(user_BD, slots, lists, strict=True):
        v_LD, b_L = table[slots_L, :3], table[slots_L, 3]
        teacher_L = np.asarray(one.ranking.scores)
        p_L, s_L = np.exp(teacher_L / 2), v_LD @ (u_D + u_D @ turn_DD) + level * b_L
        head.append(-4 * (p_L / p_L.sum()) @ (s_L / 2 - np.log(np.exp(s_L / 2).sum())))
        all_N = table[:, :3] @ u_D + table[:, 3]
        rivals_N = np.setdiff1d(np.arange(10), made.catalogue.slots([e.item for e in one.ranking.impression.history]))
        rivals_N = np.union1d(rivals_N, slots_L[1:2])
        served.append(np.log(np.exp(all_N[rivals_N]).sum()) - (v_LD[1] @ u_D + b_L[1]))
    figures = made.learn(made.encode(lists))
    assert figures["soft"] == pytest.approx(np.mean(head), rel=1e-4)
    assert figures["label"] == pytest.approx(np.mean(served), rel=1e-4)


def test_labels_alone_leave_the_head_as_it_is_and_scores_teach_head_and_towers() -> None:
    labels, scores = trainer(), trainer()
    before = scores.weights()["id"].copy()
    learn(labels, 4, "labels")
    learn(scores, 4)
    assert labels.head is not None
    assert scores.head is not None
    assert float(labels.head.turn.abs().max()) == 0
    assert float(scores.head.turn.abs().max()) > 0
    assert float(np.abs(scores.weights()["id"] - before).max()) > 0.01


def bytes_of(made: Trainer) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in made.state()[0].items()}


def test_it_is_in_the_checkpoint_and_in_nothing_that_goes_out() -> None:
    whole, part = trainer(), trainer()
    learn(whole, 8)
    learn(part, 5)
    tensors, state = part.state()
    again = trainer()
    again.restore(tensors, state)
    for step in range(5, 8):
        again.learn(again.encode([example(4 * step + place, "none") for place in range(4)]))
    assert bytes_of(again) == bytes_of(whole)
    assert {"head/turn", "head/level", "head/exp_avg.turn"} <= set(tensors)
    assert not [name for name in whole.weights() if "head" in name]
    assert set(whole.weights()) == set(trainer(LossSettings()).weights())


def test_without_the_setting_there_is_none_and_it_may_come_and_go() -> None:
    plain, headed = trainer(LossSettings()), trainer()
    assert plain.head is None
    learn(plain, 2)
    learn(headed, 2)
    tensors, state = plain.state()
    assert not [name for name in tensors if name.startswith("head/")]
    later = trainer()
    later.restore(tensors, state)
    assert later.head is not None
    assert float(later.head.turn.abs().max()) == 0
    trainer(LossSettings()).restore(*headed.state())


def test_a_head_of_another_width_is_refused() -> None:
    made = trainer()
    learn(made, 1)
    tensors, state = made.state()
    with pytest.raises(CheckpointError, match=r"head/turn is not of this student"):
        trainer().restore(tensors | {"head/turn": np.zeros((2, 2), np.float32)}, state)
